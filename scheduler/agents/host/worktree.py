"""Reads and writes files for an agent, inside the worktree only.

Some agents ask for it although the host does not offer it. The host may have more rights than the
agent, so a path is first resolved, links included, and then opened folder by folder without
following links: a link that is put there meanwhile is refused too.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

LARGEST_FILE = 16 * 1_048_576
"""Most bytes of a file that is read."""

_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK


class NotAllowed(Exception):
    """The file must not be touched. The message is a sentence for a person."""


class Worktree:
    """The folder that an agent works in."""

    def __init__(self, root: str) -> None:
        self._root = Path(os.path.realpath(root))

    def read(self, path: str, line: int | None, limit: int | None) -> str:
        """The text from a line on (1-based), at most `limit` lines. Raises NotAllowed, OSError."""
        with self._open(path, os.O_RDONLY) as fd:
            if os.fstat(fd).st_size > LARGEST_FILE:
                raise NotAllowed(f"{path} is larger than {LARGEST_FILE} bytes.")
            with os.fdopen(os.dup(fd), encoding="utf-8", errors="replace", newline="") as file:
                if line is None and limit is None:
                    return file.read()
                first = max((line or 1) - 1, 0)
                last = None if limit is None else first + max(limit, 0)
                return "".join(islice(file, first, last))

    def write(self, path: str, text: str) -> None:
        """Replace the text of a file, or make the file. Raises NotAllowed, OSError."""
        data = memoryview(text.encode(errors="replace"))
        with self._open(path, os.O_WRONLY | os.O_CREAT) as fd:
            os.ftruncate(fd, 0)
            while data:
                data = data[os.write(fd, data) :]

    @contextmanager
    def _open(self, path: str, flags: int) -> Iterator[int]:
        folders, name = self._inside(path, bool(flags & os.O_CREAT))
        folder = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in folders:
                if flags & os.O_CREAT:
                    _make_folder(part, folder)
                inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | _FLAGS, dir_fd=folder)
                os.close(folder)
                folder = inner
            fd = os.open(name, flags | _FLAGS, 0o666, dir_fd=folder)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise NotAllowed(f"{path} is not a plain file in the worktree.") from None
            raise
        finally:
            os.close(folder)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise NotAllowed(f"{path} is not a plain file.")
            yield fd
        finally:
            os.close(fd)

    def _inside(self, path: str, is_write: bool) -> tuple[tuple[str, ...], str]:
        """The folders below the root, and the name. Raises NotAllowed."""
        if not os.path.isabs(path) or "\0" in path:
            raise NotAllowed("The path must be absolute.")
        resolved = Path(os.path.realpath(path))
        if resolved == self._root or not resolved.is_relative_to(self._root):
            raise NotAllowed(f"{path} is outside the worktree {self._root}.")
        *folders, name = resolved.relative_to(self._root).parts
        # What git reads there can name programs that git then runs.
        if is_write and any(part.lower() == ".git" for part in (*folders, name)):
            raise NotAllowed(f"{path} belongs to git.")
        return tuple(folders), name


def _make_folder(name: str, folder: int) -> None:
    try:
        os.mkdir(name, dir_fd=folder)
    except FileExistsError:
        return
