"""The spool file of a channel."""

# ruff: noqa: SIM105

import errno
import os
import time

from scheduler.executors.passing import PASSING

RETRY_INTERVAL_S = 0.5


class Spool:
    """Keeps the first `limit` bytes. Bytes that a full disk does not accept are held until
    it does.
    """

    __slots__ = ("fd", "held", "kept", "limit", "path", "retry_at")

    def __init__(self, path: str, limit: int) -> None:
        self.path = path
        self.limit = limit
        self.kept = 0
        self.held = b""
        self.retry_at = 0.0
        self.fd = self._open()

    def _open(self) -> int:
        # A job may have put a pipe there: opening it must not wait. The server sees what it is.
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK, 0o600)

    def write(self, data: bytes) -> None:
        self.held += data[: self.limit - self.kept - len(self.held)]
        self.flush()

    def flush(self) -> None:
        try:
            while self.held:
                written = os.write(self.fd, self.held)
                self.kept += written
                self.held = self.held[written:]
        except OSError as error:
            if error.errno == errno.EFBIG:
                self.limit, self.held = self.kept, b""
            else:
                self.retry_at = time.monotonic() + RETRY_INTERVAL_S

    def retry(self) -> None:
        try:
            fresh = self._open()
        except OSError as error:
            if error.errno in PASSING:
                self.retry_at = time.monotonic() + RETRY_INTERVAL_S
            else:
                self.limit, self.held = self.kept, b""  # the directory is gone or unusable
            return
        os.close(self.fd)
        self.fd = fresh
        self.flush()

    def sync(self) -> None:
        if not self.kept:
            return
        try:
            os.fsync(self.fd)
        except OSError:
            pass  # the kept bytes can be read; nothing more can be done
