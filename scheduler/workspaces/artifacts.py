"""Artifacts: files that attempts leave, stored by the SHA-256 of their bytes.

A blob is ``ROOT/ab/abcdef...``, complete or not there, and never changed. Jobs write the folders of
artifacts, so nothing in them is trusted: links are not followed, only regular files are read, and a
directory that is replaced by a link during the walk leads nowhere.
"""

import errno
import hashlib
import mimetypes
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

from scheduler.executors.passing import PASSING
from scheduler.executors.shim.regular_file import NotRegular, open_regular

CHUNK = 1_048_576
MOST_DROPPED_NAMES = 100
"""Names of dropped files that are listed one by one. Further ones are counted."""
DEEPEST = 32
"""Deepest nesting of folders."""
LONGEST_NAME = 1_024
"""Most characters of a file's path below the folder."""

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_READ_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DRAFT = ".draft"

_NOT_A_FILE = "links, devices and pipes are not kept"
_UNREADABLE = "could not be read"
_BAD_NAME = f"a name must be UTF-8 and have at most {LONGEST_NAME} characters"
_TOO_DEEP = f"folders go {DEEPEST} deep at most"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A stored file. `name` is its path below the folder, with ``/``; `size` in bytes."""

    name: str
    sha256: str
    size: int
    mime: str


@dataclass(frozen=True, slots=True)
class Collected:
    """The result for a folder. `dropped` names up to `MOST_DROPPED_NAMES` files that were not
    stored, and `reason` says why, for all together; both are empty if all were stored.
    """

    files: list[StoredFile]
    dropped: list[str] = field(default_factory=list)
    reason: str = ""


class ArtifactStore:
    """Blobs below `root`, which only this process uses. Methods block on the disk.

    Of one folder at most `limit_files` files with `limit_bytes` bytes together are stored. Raises
    OSError if the store cannot be written.
    """

    def __init__(self, root: Path, *, limit_bytes: int, limit_files: int = 1_000) -> None:
        self._root = root
        self._limit_bytes = limit_bytes
        self._limit_files = limit_files
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in root.glob(f"*{_DRAFT}"):  # from a server that was killed
            with suppress(IsADirectoryError):  # somebody made one that is named so
                left.unlink(missing_ok=True)

    def path(self, sha256: str) -> Path | None:
        """The path of the bytes; None if there are none of that hash."""
        if not _SHA256.fullmatch(sha256):
            return None
        path = self._root / sha256[:2] / sha256
        return path if path.is_file() else None

    def collect(self, folder: Path, *, dir_fd: int | None = None) -> Collected:
        """Store every regular file below `folder`, by name. A missing folder counts as empty; one
        that is a link, or cannot be read, is dropped as a whole. When this returns, all stored
        files survive a power cut.

        `dir_fd` is an open directory that contains a relative `folder`.
        """
        try:
            top = os.open(folder, _READ_FOLDER, dir_fd=dir_fd)
        except FileNotFoundError:
            return Collected([])
        except OSError as error:
            return unreadable(f"{folder.name}/", error)
        collecting = _Collecting(self, self._limit_bytes, self._limit_files)
        try:
            entries = os.listdir(top)
        except OSError as error:
            os.close(top)
            return unreadable(f"{folder.name}/", error)
        try:
            collecting.walk(top, entries, "", 0)
        finally:
            os.close(top)
        for touched in {file.sha256[:2] for file in collecting.files}:
            _sync(self._root / touched)
        if collecting.files:
            _sync(self._root)
        return collecting.collected()

    def keep(self, file: int, name: str, limit: int) -> StoredFile | None:
        """Store the bytes of an open file; None if they are more than `limit`.

        They are hashed while they are copied, so it does not matter if a process still writes to
        the file.
        """
        draft = self._root / f"{token_hex(16)}{_DRAFT}"
        copy = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            sha256, size, head = hashlib.sha256(), 0, b""
            for chunk in _chunks(file):
                size += len(chunk)
                if size > limit:
                    return None
                head = head or chunk[:8_192]
                sha256.update(chunk)
                _write(copy, chunk)
            stored = StoredFile(name, sha256.hexdigest(), size, mime_of(name, head))
            self._put(draft, copy, stored)
        finally:
            os.close(copy)
            draft.unlink(missing_ok=True)
        return stored

    def _put(self, draft: Path, copy: int, stored: StoredFile) -> None:
        there = self._root / stored.sha256[:2] / stored.sha256
        if there.is_file() and there.stat().st_size == stored.size:
            return
        os.fsync(copy)
        there.parent.mkdir(mode=0o700, exist_ok=True)
        draft.replace(there)


class _Collecting:
    """One walk through a folder, always from an open directory to its direct entries."""

    def __init__(self, store: ArtifactStore, limit_bytes: int, limit_files: int) -> None:
        self._store = store
        self._limit_bytes = limit_bytes
        self._limit_files = limit_files
        self._room = limit_bytes
        self.files: list[StoredFile] = []
        self._dropped: list[str] = []
        self._reasons: Counter[str] = Counter()

    def collected(self) -> Collected:
        reasons = [f"{why} ({count})" for why, count in sorted(self._reasons.items())]
        files = sorted(self.files, key=lambda file: file.name)
        return Collected(files, self._dropped, "; ".join(reasons))

    def walk(self, folder: int, entries: list[str], prefix: str, depth: int) -> None:
        for entry in sorted(entries):
            name = prefix + entry
            if not _can_be_said(name):
                self._drop(name, _BAD_NAME)
                continue
            try:
                self._take(folder, entry, name, depth)
            except OSError as error:
                if error.errno in PASSING:
                    raise  # nothing more can be stored now: the problem is not this one file
                strange = isinstance(error, NotRegular) or error.errno == errno.ELOOP
                self._drop(name, _NOT_A_FILE if strange else _UNREADABLE)

    def _take(self, folder: int, entry: str, name: str, depth: int) -> None:
        mode = os.stat(entry, dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            self._enter(folder, entry, name, depth)
        elif not stat.S_ISREG(mode):
            self._drop(name, _NOT_A_FILE)
        elif len(self.files) >= self._limit_files:
            self._drop(name, f"at most {self._limit_files} files are kept")
        else:
            file = open_regular(entry, dir_fd=folder)  # perhaps replaced since it was listed
            try:
                self._keep(file, name)
            finally:
                os.close(file)

    def _enter(self, folder: int, entry: str, name: str, depth: int) -> None:
        if depth >= DEEPEST:
            self._drop(f"{name}/", _TOO_DEEP)
            return
        inner = os.open(entry, _READ_FOLDER, dir_fd=folder)
        try:
            self.walk(inner, os.listdir(inner), f"{name}/", depth + 1)
        finally:
            os.close(inner)

    def _keep(self, file: int, name: str) -> None:
        stored = self._store.keep(file, name, self._room)
        if stored is None:
            self._drop(name, f"over the limit of {self._limit_bytes} bytes in all")
        else:
            self._room -= stored.size
            self.files.append(stored)

    def _drop(self, name: str, reason: str) -> None:
        self._reasons[reason] += 1
        if len(self._dropped) < MOST_DROPPED_NAMES:
            shown = os.fsencode(name).decode("utf-8", "backslashreplace")
            self._dropped.append(shown[:LONGEST_NAME])


def unreadable(folder: str, error: OSError) -> Collected:
    """The result for a folder that cannot be read. Raises an error that may pass."""
    if error.errno in PASSING:
        raise error
    return Collected([], [folder], f"the folder {_UNREADABLE} ({error.strerror})")


def mime_of(name: str, head: bytes) -> str:
    """The media type by the name's ending; otherwise by the first bytes."""
    kind, encoding = _TYPES.guess_type(name.rpartition("/")[2], strict=False)
    if encoding is not None:
        return _ENCODED.get(encoding, "application/octet-stream")
    return kind or ("text/plain" if _looks_like_text(head) else "application/octet-stream")


def _types() -> mimetypes.MimeTypes:
    """Only the types in this file and in the standard library: the same on every machine."""
    types = mimetypes.MimeTypes(())
    for ending, kind in _ENDINGS.items():
        types.add_type(kind, ending)
    return types


_ENDINGS = {
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".log": "text/plain",
    ".diff": "text/x-diff",
    ".patch": "text/x-diff",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".toml": "application/toml",
    ".jsonl": "application/jsonl",
    ".ndjson": "application/x-ndjson",
    ".webp": "image/webp",
}
_ENCODED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}
_TYPES = _types()


def _looks_like_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.start >= len(head) - 3 and len(head) > 3  # a character cut in two
    return True


def _can_be_said(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return len(name) <= LONGEST_NAME


def _chunks(file: int) -> Iterator[bytes]:
    while chunk := os.read(file, CHUNK):
        yield chunk


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _sync(folder: Path) -> None:
    directory = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
