"""The target of `crewlog log export`: a file that appears complete or not at all, or another thing
that a name stands for.
"""

import errno
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from domain.errors import CrewlogError

STDIO = Path("-")

_DESCRIPTOR = re.compile(r"/dev/fd/(\d+)|/proc/self/fd/(\d+)|/dev/std(in|out|err)")
_NUMBERS = {"in": 0, "out": 1, "err": 2}
_OF_A_PROCESS = re.compile(r"/proc/(\d+)(?:/task/\d+)?/fd")
_MOST_LINKS = 40


class FileTrouble(CrewlogError):
    """A file cannot be read or written."""


@contextmanager
def written(path: str) -> Iterator[IO[bytes]]:
    """The file to write to, for `path`; stdout for ``-``.

    A regular file gets its name, or replaces the old one, only when it is complete. So does the
    file behind a link. A device, a pipe or an open descriptor of the shell is written directly,
    also behind links.
    """
    if path == str(STDIO):
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        if path.endswith("/") and not os.path.isdir(path):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        descriptor = _open_as_it_is(Path(path))
        if descriptor is not None:
            with open(descriptor, "wb") as file:
                yield file
            return
        with _drafted(Path(os.path.realpath(path))) as file:
            yield file
    except OSError as error:
        raise FileTrouble(f"{path} cannot be written: {error.strerror}.") from error
    except OverflowError as error:  # no system counts its descriptors so far
        raise FileTrouble(f"{path} cannot be written: {os.strerror(errno.EBADF)}.") from error


def _open_as_it_is(path: Path) -> int | None:
    """A thing that is not a regular file, opened for writing; None for a regular file or a
    free name.
    """
    held = _open_descriptor(str(path))
    if held is not None:
        return held
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISREG(mode):
        return None
    return os.open(path, os.O_WRONLY | os.O_CLOEXEC)


def _open_descriptor(path: str) -> int | None:
    """The open descriptor that a name stands for, itself or behind links; None if it is another
    thing.

    Links are followed one by one: the last one would lead to the file behind the descriptor.
    """
    for _ in range(_MOST_LINKS):
        named = _DESCRIPTOR.fullmatch(path)
        if named is not None:
            # Opening it by name would start at its beginning, and overwrite what is there.
            number = named[1] or named[2]
            return os.dup(int(number) if number is not None else _NUMBERS[named[3]])
        folder, name = os.path.split(path)
        folder = os.path.realpath(folder)
        process = _OF_A_PROCESS.fullmatch(folder)
        if process is not None and name.isdecimal():
            if int(process[1]) == os.getpid():
                return os.dup(int(name))
            # Another process's cannot be had, only what it has open.
            return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            path = os.path.join(folder, os.readlink(os.path.join(folder, name)))
        except OSError:
            return None
    return None


@contextmanager
def _drafted(target: Path) -> Iterator[IO[bytes]]:
    # The temporary name is unique and short, however long the target's is. The mode is 0600,
    # because the log holds everything that jobs said.
    descriptor, draft = tempfile.mkstemp(prefix=".crewlog-", dir=target.parent)
    try:
        with open(descriptor, "wb") as file:
            yield file
        # A name that is too long is noticed here at the latest.
        os.replace(draft, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(draft)
        raise
