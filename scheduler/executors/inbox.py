"""The inbox of an attempt: a file of numbered frames that a server appends to and a process reads.

Both sides may be killed at any moment. A frame is in the inbox once `Outbox.put` has returned. An
incomplete frame is never read, and the next `put` overwrites it. A frame whose number is not above
the last one is ignored. So a sender that does not know whether a frame has arrived puts it again.

It uses only the standard library, for programs that read their inbox.

| file | written by | what |
|---|---|---|
| `inbox` | server | the frames, each with its number, its length and a checksum before it |
| `inbox.read` | process | the number of the last frame that it is done with |
| `inbox.bell` | server | FIFO: a byte says "look again" |
"""

import fcntl
import os
import select
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from scheduler.executors.shim.regular_file import open_regular

LARGEST_FRAME = 16 * 1_048_576
"""Most bytes of a frame."""

LOOK_INTERVAL_S = 0.5
"""Seconds after which a reader looks again if the bell is silent."""

_HEADER = struct.Struct(">QII")
_READ_SIZE = 262_144


@dataclass(frozen=True, slots=True)
class Frame:
    """A message to a process. Numbers start at 1 and grow; gaps are allowed."""

    number: int
    data: bytes

    def __post_init__(self) -> None:
        if not 0 < self.number < 1 << 64:
            raise ValueError("The number of a frame must be at least 1.")
        if len(self.data) > LARGEST_FRAME:
            raise ValueError(f"A frame may have at most {LARGEST_FRAME} bytes.")


def make(path: Path) -> None:
    """Make an empty inbox, if there is none."""
    os.close(open_regular(str(path), os.O_WRONLY | os.O_CREAT))
    with suppress(FileExistsError):
        os.mkfifo(_bell(path), 0o600)


class Outbox:
    """The server's side. Methods block on the disk, and raise OSError if it refuses."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._end = 0
        self._last = 0

    def put(self, frame: Frame) -> None:
        """Make the frame durable, unless it was put before."""
        with self._locked() as file:
            if frame.number <= self._last:
                return
            data = memoryview(_encode(frame))
            at = self._end
            while data:
                written = os.pwrite(file, data, at)
                at, data = at + written, data[written:]
            os.fsync(file)
            self._end, self._last = at, frame.number
        _ring(self._path)

    def last(self) -> int:
        """The number of the last frame; 0 if there is none."""
        with self._locked():
            return self._last

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The open file, cut after its last complete frame."""
        file = open_regular(str(self._path), os.O_RDWR)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            for frame, end in _frames(file, self._end):
                self._last, self._end = frame.number, end
            if os.fstat(file).st_size > self._end:
                os.ftruncate(file, self._end)
            yield file
        finally:
            os.close(file)


class Inbox:
    """The process's side: one reader at a time.

    Each reader gets the frames after the last number that `done` was called with. If a reader is
    killed after it acted on a frame and before `done`, the next one gets the frame again. If the
    action must not be repeated, store the number together with the action, and begin `after` that
    number.
    """

    def __init__(self, path: Path, after: int | None = None) -> None:
        self._path = path
        self._after = _read_cursor(path) if after is None else after
        self._at = 0
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._bell = os.open(_bell(path), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        """The descriptor that is readable when `take` should be called again."""
        return self._bell

    def take(self) -> Frame | None:
        """The next frame; None if there is none yet. Returns at once."""
        with suppress(BlockingIOError):
            os.read(self._bell, 65_536)
        for frame, end in _frames(self._file, self._at):
            self._at = end
            if frame.number > self._after:
                self._after = frame.number
                self._look_again()
                return frame
        return None

    def next(self, timeout_s: float | None = None) -> Frame | None:
        """The next frame; None if there was none in this time."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        while (frame := self.take()) is None:
            left = LOOK_INTERVAL_S if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return None
            poll.poll(1000 * min(left, LOOK_INTERVAL_S))
        return frame

    def done(self, number: int) -> None:
        """Remember durably that all frames up to this one were handled."""
        path = _cursor(self._path)
        draft = path.with_name(f"{path.name}.new")
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, b"%d\n" % number)
            os.fsync(file)
        finally:
            os.close(file)
        draft.replace(path)

    def _look_again(self) -> None:
        """Empty the bell: one byte may stand for several frames."""
        with suppress(BlockingIOError):
            os.write(self._bell, b".")

    def close(self) -> None:
        os.close(self._file)
        os.close(self._bell)


def _frames(file: int, at: int) -> Iterator[tuple[Frame, int]]:
    """The complete frames from an offset on, each with the offset after it."""
    while True:
        header = os.pread(file, _HEADER.size, at)
        if len(header) < _HEADER.size:
            return
        number, length, checksum = _HEADER.unpack(header)
        if not number or length > LARGEST_FRAME:
            return
        data = _read(file, length, at + _HEADER.size)
        if len(data) < length or zlib.crc32(data, number & 0xFFFF_FFFF) != checksum:
            return
        at += _HEADER.size + length
        yield Frame(number, data), at


def _read(file: int, length: int, at: int) -> bytes:
    whole = bytearray()
    while len(whole) < length:
        data = os.pread(file, min(_READ_SIZE, length - len(whole)), at + len(whole))
        if not data:
            break
        whole += data
    return bytes(whole)


def _encode(frame: Frame) -> bytes:
    checksum = zlib.crc32(frame.data, frame.number & 0xFFFF_FFFF)
    return _HEADER.pack(frame.number, len(frame.data), checksum) + frame.data


def _read_cursor(path: Path) -> int:
    try:
        return int(_cursor(path).read_text())
    except FileNotFoundError:
        return 0


def _ring(path: Path) -> None:
    try:
        bell = os.open(_bell(path), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return  # nobody listens: a new reader looks before it waits
    try:
        os.write(bell, b".")
    except OSError:
        pass  # full: the reader has enough bytes to wake up; or it has just gone
    finally:
        os.close(bell)


def _cursor(path: Path) -> Path:
    return path.with_name(f"{path.name}.read")


def _bell(path: Path) -> Path:
    return path.with_name(f"{path.name}.bell")
