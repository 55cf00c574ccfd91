"""Standard output and error, which may be full, closed, or read by nobody."""

import io
import logging
import os
import sys
import threading
import time
from collections import deque
from contextlib import suppress

from domain.errors import CrewlogError

MOST_RECORDS = 4_096
"""Log records that may wait to be written. Further ones are dropped and counted."""

STDOUT, STDERR = 1, 2


class CannotWrite(CrewlogError):
    """Standard output cannot be written. The text says why."""


class _Stdout(io.FileIO):
    """Turns errors that are not this program's fault into CannotWrite: a reader may leave, a disk
    may be full.
    """

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            raise CannotWrite(f"The output cannot be written: {error.strerror}.") from None


def guard() -> None:
    """From now on a failed write to standard output raises CannotWrite."""
    for descriptor in (0, STDOUT, STDERR):
        _occupy(descriptor)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for as long as the program runs
    if sys.stdout is sys.__stdout__:  # and nobody has redirected it within this process
        raw = _Stdout(STDOUT, "w", closefd=False)
        encoding = "utf-8" if sys.stdout is None else sys.stdout.encoding
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(raw), encoding=encoding, line_buffering=raw.isatty()
        )
    for stream in (sys.stdout, sys.stderr):
        # A line of a job may hold a character that the terminal's encoding lacks.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _occupy(descriptor: int) -> None:
    """Occupy a closed standard descriptor, so that no later file gets its number. Writing to it
    fails, as it should: this end can only be read.
    """
    try:
        os.fstat(descriptor)
    except OSError:
        opened = os.open(os.devnull, os.O_RDONLY)
        if opened != descriptor:
            os.dup2(opened, descriptor)
            os.close(opened)


def give_up_stdout() -> None:
    """After a CannotWrite: drop the buffered output, so that the end of the program does not
    fail.
    """
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, STDOUT)
    os.close(null)


def say(text: str, timeout_s: float = 1.0) -> None:
    """Write to standard output, but give up if nobody reads it in time."""

    def write() -> None:
        with suppress(OSError):
            os.write(STDOUT, text.encode(errors="backslashreplace"))

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    thread.join(timeout_s)


class RecordWriter(logging.Handler):
    """Writes log records to a descriptor in a thread of its own, so that nothing waits for its
    reader. Records beyond `most` are dropped, and their number is logged once there is room.
    """

    def __init__(self, descriptor: int = STDERR, most: int = MOST_RECORDS) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._most = most
        self._waiting: deque[str] = deque()
        self._dropped = 0
        self._writing = False
        self._news = threading.Condition()
        threading.Thread(target=self._write_all, name="log-records", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # as the standard handlers do: a record must not end its request
            line = f"A record of {record.name} could not be formatted."
        with self._news:
            if len(self._waiting) < self._most:
                self._waiting.append(line)
            else:
                self._dropped += 1
            self._news.notify_all()

    def drain(self, timeout_s: float = 1.0) -> None:
        """Wait until everything is written, but at most this long."""
        with self._news:
            self._news.wait_for(
                lambda: not (self._waiting or self._dropped or self._writing), timeout_s
            )

    def _write_all(self) -> None:
        while True:
            with self._news:
                self._writing = False
                self._news.notify_all()
                self._news.wait_for(lambda: self._waiting or self._dropped)
                lines = [*self._waiting]
                self._waiting.clear()
                dropped, self._dropped = self._dropped, 0
                self._writing = True
            if dropped:
                lines.append(f"{dropped} records were dropped: nobody took them in time.")
            lost = self._write("".join(f"{line}\n" for line in lines).encode(errors="replace"))
            if lost:
                with self._news:
                    self._dropped += len(lines) - 1 + dropped
                time.sleep(1.0)

    def _write(self, data: bytes) -> bool:
        """Whether the write failed."""
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                time.sleep(0.05)
            except OSError:
                return True
        return False
