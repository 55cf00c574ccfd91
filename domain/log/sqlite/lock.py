"""One process owns a data directory. A lock file names it; the kernel's lock on the file says
whether it lives.
"""

import fcntl
import json
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from domain.clock import format_time, system_clock
from domain.errors import LogRefused


class OwnerLock:
    """Holds an exclusive flock on `path` until closed. The kernel releases it if the process
    dies.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def acquire(self, purpose: str) -> Self:
        """Take the lock. Raises LogRefused with a sentence that names the owner."""
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            raise LogRefused(
                f"The data directory {self.path.parent} belongs to {self.owner()}. "
                "Stop that process first, or choose another directory with --data."
            ) from None
        self._file = file
        self._describe(purpose)
        return self

    def _describe(self, purpose: str) -> None:
        if self._file is None:
            return
        owner = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": format_time(system_clock()),
            "purpose": purpose,
        }
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, json.dumps(owner).encode(), 0)

    def owner(self) -> str:
        """A phrase for the process that wrote the lock file."""
        try:
            owner = json.loads(self.path.read_text())
            return (
                f"another process ({owner['purpose']}, pid {owner['pid']} on {owner['host']}, "
                f"since {owner['since']})"
            )
        except (OSError, ValueError, KeyError, TypeError):
            return "another process that has not written its name yet"

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
