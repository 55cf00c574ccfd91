"""The inbox of an attempt: a file of numbered frames that a server appends to and a process reads.

Both sides may be killed at any moment. A frame is in the inbox once `Outbox.put` has returned; one
that was written by half is written anew by whoever puts the next one, and read by nobody. A number
that is not above the last one is passed over, so who does not know whether a frame has arrived puts
it again.

It is of the standard library only, for programs that read their inbox.

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

LARGEST_FRAME = 16 * 1_048_576
"""Bytes of a frame."""

LOOK_INTERVAL_S = 0.5
"""How often a reader looks when nobody rings."""

_HEADER = struct.Struct(">QII")
_READ_SIZE = 262_144


@dataclass(frozen=True, slots=True)
class Frame:
    """What is said to a process. Numbers start at 1 and grow; they may leave gaps."""

    number: int
    data: bytes

    def __post_init__(self) -> None:
        if not 0 < self.number < 1 << 64:
            raise ValueError("Frames are counted from 1.")
        if len(self.data) > LARGEST_FRAME:
            raise ValueError(f"A frame has at most {LARGEST_FRAME} bytes.")


def make(path: Path) -> None:
    """An empty inbox, where there is none."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    with suppress(FileExistsError):
        os.mkfifo(_bell(path), 0o600)


class Outbox:
    """The end of the server. Methods block on the disk; OSError when it refuses."""

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
        """The number of the last frame that was put; 0 where there is none."""
        with self._locked():
            return self._last

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The open file, with nothing in it behind its last whole frame."""
        file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
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
    """The end of the process: one reader at a time.

    A frame is given again to the next reader until `done` was told of it. Who was killed after it
    did what a frame asks, and before that, is so given it twice: who must not do it twice writes
    down the number together with what it does, and begins `after` that.
    """

    def __init__(self, path: Path, after: int | None = None) -> None:
        self._path = path
        self._after = _read_cursor(path) if after is None else after
        self._at = 0
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._bell = os.open(_bell(path), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        """Can be read when `take` is to be called again."""
        return self._bell

    def take(self) -> Frame | None:
        """The next frame, or None where there is none yet; at once."""
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
        """The next frame; None when there was none for so long."""
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
        """Remember durably that all frames up to this one need not be given again."""
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
        """There may be more than one frame for a byte of the bell."""
        with suppress(BlockingIOError):
            os.write(self._bell, b".")

    def close(self) -> None:
        os.close(self._file)
        os.close(self._bell)


def _frames(file: int, at: int) -> Iterator[tuple[Frame, int]]:
    """The whole frames from an offset on, each with the offset behind it."""
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
        return  # nobody listens: whoever begins to, looks first
    try:
        os.write(bell, b".")
    except BlockingIOError:
        pass  # full: the reader has more than enough to wake up
    finally:
        os.close(bell)


def _cursor(path: Path) -> Path:
    return path.with_name(f"{path.name}.read")


def _bell(path: Path) -> Path:
    return path.with_name(f"{path.name}.bell")
