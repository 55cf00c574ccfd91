"""Where the log's database is, and whether it is still there.

If a file is removed or replaced under a running server, the server goes on writing to the old one,
and nobody will find those events. If another program writes into the log's own file, such as `cp`
over it, what is in it fits neither log. If it empties the write-ahead log, the next start finds
nothing of what follows. So the files are checked before anything is acknowledged.

Still not seen is what another program writes into the middle of either file while this process
writes to it, or in the same tick of the system's clock after that (some milliseconds), if the file
keeps its size and the write-ahead log its header; what it writes and then gives the old time; and
what it writes into the shared memory (``-shm``), which has no time of change.
"""

import ctypes
import os
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_HEADER = 32
_FORMAT = slice(0, 12)
_FIRST_SALT = slice(16, 20)
"""Parts of the header of a write-ahead log (https://www.sqlite.org/fileformat2.html#walformat)."""
_MAGIC = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
_FEW = 1 << 16

_SETTLED_NS = 1_000_000_000
"""How old the last change of a folder must be to be sure that the next one shows: the time of
change is as coarse as the system's clock.
"""


class Place:
    """The files of a database when it was opened: the log and the files that SQLite keeps
    beside it.
    """

    def __init__(self, path: Path) -> None:
        self._folder = os.fspath(path.parent)
        # If the log is a link, SQLite keeps the others beside what it leads to.
        real = os.path.realpath(path)
        self._files = [os.fspath(path), f"{real}-wal", f"{real}-shm"]
        self._opened = [_identity(file) for file in self._files]
        self._linked = any(map(os.path.islink, self._files))
        """A link leads to another folder, whose changes do not show in this one."""
        self._unchanged: tuple[int, int, int] | None = None
        """The folder when the files were last checked, if any later change in it will show. Then
        one look at the folder is enough: this is done for each commit.
        """

        self._writing = threading.Lock()
        self._foreign: str | None = None
        # SQLite has no locks on this file, so closing it here releases none.
        self._wal = _opened(self._files[1])
        self._left = self._state()
        self._wal_left = _content(self._wal)
        self._header = _header(self._wal)

    def close(self) -> None:
        with self._writing:
            if self._wal is not None:
                os.close(self._wal)
            self._wal = None

    @contextmanager
    def written(self) -> Iterator[str | None]:
        """Within it this process may write to the write-ahead log, and to the log's own file, which
        SQLite does only when it moves the write-ahead log there. Gives a sentence if another
        program wrote to either before. Ask `known` afterwards.
        """
        with self._writing:
            self._look_for_others()
            try:
                yield self._foreign
            finally:
                self._left = self._state()
                self._look_at_what_was_left()

    def _state(self) -> tuple[int, int] | None:
        """Size and time of the last change of the content, which only a writer changes. None if
        another file is there now.
        """
        try:
            found = os.stat(self._files[0])
        except OSError:
            return None
        if (found.st_dev, found.st_ino) != self._opened[0]:
            return None
        return found.st_size, found.st_mtime_ns

    def _look_for_others(self) -> None:
        if self._foreign is not None:
            return
        now = self._state()
        if now is not None and self._left is not None and now != self._left:
            self._foreign = _by_another(self._files[0])
        elif self._wal_left is not None and _content(self._wal) not in (None, self._wal_left):
            self._foreign = _by_another(self._files[1])

    def _look_at_what_was_left(self) -> None:
        """Remember the write-ahead log after a write of this process, which makes it longer or
        begins it again, and never makes it shorter.
        """
        content, header = _content(self._wal), _header(self._wal)
        if self._wal_left is not None and content is not None and self._foreign is None:
            shorter = content[0] < self._wal_left[0]
            if shorter or (header != self._header and not _follows(header, self._header)):
                self._foreign = _by_another(self._files[1])
        self._wal_left, self._header = content, header

    def lost(self) -> str | None:
        """A sentence if one of them is gone, was replaced or was written to by another program;
        None otherwise.
        """
        # During a write of this process a change says nothing.
        if self._writing.acquire(blocking=False):
            try:
                self._look_for_others()
                if self._foreign is None and _header(self._wal) not in (b"", self._header):
                    # In the same tick of the clock as the last write.
                    self._foreign = _by_another(self._files[1])
            finally:
                self._writing.release()
        return self.known()

    def known(self) -> str | None:
        """As `lost`, right after `written`, which has looked for other writers already."""
        return self._foreign or self._gone()

    def _gone(self) -> str | None:
        folder = _changed(self._folder)  # before the files: a change in between shows next time
        if folder is not None and folder == self._unchanged:
            return None
        for file, opened in zip(self._files, self._opened, strict=True):
            if opened is not None and _identity(file) != opened:
                return (
                    f"{file} was removed or replaced under the running server: whatever it writes "
                    "now would be lost. Put the same file back, or export the log "
                    "from the server before you stop it"
                )
        settled = folder is not None and folder[2] + _SETTLED_NS < time.time_ns()
        self._unchanged = folder if settled and not self._linked else None
        return None


def _by_another(file: str) -> str:
    return (
        f"{file} was written to by another program under the running server: "
        "nobody knows what is in it now. Stop the server, remove the log's three files, "
        "and put a backup there"
    )


def _follows(header: bytes, before: bytes) -> bool:
    """Whether a write-ahead log with this header may be the one with the header `before`, begun
    again: SQLite then counts its first salt up. Without a header it was not begun yet.
    """
    if before[:4] not in _MAGIC:
        return True
    if header[_FORMAT] != before[_FORMAT]:
        return False
    counted = int.from_bytes(header[_FIRST_SALT], "big") - int.from_bytes(
        before[_FIRST_SALT], "big"
    )
    return 0 < counted % (1 << 32) < _FEW


def _opened(file: str) -> int | None:
    try:
        return os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _content(descriptor: int | None) -> tuple[int, int] | None:
    """Size and time of the last change of the content, wherever the file is now."""
    if descriptor is None:
        return None
    if _statx is not None:
        found = ctypes.create_string_buffer(_STATX.size)
        if _statx(descriptor, b"", _AT_EMPTY_PATH, _SIZE_AND_TIME, found) == 0:
            size, seconds, nanoseconds = _STATX.unpack(found)
            return size, seconds * 1_000_000_000 + nanoseconds
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns


def _header(descriptor: int | None) -> bytes:
    if descriptor is None:
        return b""
    if _pread is not None:
        found = ctypes.create_string_buffer(_HEADER)
        count = _pread(descriptor, found, _HEADER, 0)
        if count >= 0:
            return found.raw[:count]
    return os.pread(descriptor, _HEADER, 0)


def _of_libc(name: str, *arguments: Any) -> Any:
    """A function of the C library that keeps the interpreter's lock, or None. Python's own give the
    lock up for each call, and beside a busy event loop it takes longer to get it back than to ask
    the system for what it has in memory.
    """
    if sys.platform != "linux" or ctypes.sizeof(ctypes.c_long) != 8:
        return None
    function = getattr(ctypes.PyDLL(None), name, None)
    if function is not None:
        function.argtypes, function.restype = arguments, ctypes.c_ssize_t
    return function


_int, _long, _text = ctypes.c_int, ctypes.c_long, ctypes.c_char_p
_pread = _of_libc("pread", _int, _text, ctypes.c_size_t, _long)
_statx = _of_libc("statx", _int, _text, _int, ctypes.c_uint, _text)
_STATX = struct.Struct("40xQ64xqI132x")
"""What `statx` writes (statx(2)): the size at 40, seconds and nanoseconds of the change at 112."""
_AT_EMPTY_PATH = 0x1000
_SIZE_AND_TIME = 0x200 | 0x40


def _identity(file: str) -> tuple[int, int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _changed(folder: str) -> tuple[int, int, int] | None:
    """Which folder it is, and when an entry of it was last made, removed or renamed."""
    try:
        found = os.stat(folder)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns
