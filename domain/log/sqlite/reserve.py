"""Room for the events that must be written even on a full disk: that a job is to end, and that it
ended. Otherwise a job that fills the disk could not be cancelled.

It needs two things. SQLite's write-ahead log gets its blocks beforehand, so writes that fit need no
new ones. And while less than this room is left on the disk, other events are refused.
"""

import os
import time
from pathlib import Path

SIZE = 4 * 1024 * 1024
"""Bytes. A cancel and an end take a hundredth of this."""

_LOOK_S = 0.05
"""In this time a log grows by few commits."""


class Reserve:
    """The reserve of a database in WAL mode."""

    def __init__(self, database: Path) -> None:
        self._wal = database.with_name(f"{database.name}-wal")
        self.held = False
        """Whether nothing is left to allocate."""
        self._enough_at = -_LOOK_S

    def hold(self) -> None:
        """Allocate the write-ahead log's blocks, once the file exists, and room for them."""
        if self.held or self.is_low():
            return
        try:
            file = os.open(self._wal, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return
        try:
            os.posix_fallocate(file, 0, SIZE)
            self.held = True
        except (AttributeError, OSError):
            pass  # the system or the disk cannot do it: then only the free space protects
        finally:
            os.close(file)

    def was_low(self) -> bool:
        """As `is_low`, for each commit: looks again unless there was enough a moment ago."""
        now = time.monotonic()
        if now - self._enough_at < _LOOK_S:
            return False
        if self.is_low():
            return True
        self._enough_at = now
        return False

    def is_low(self) -> bool:
        """Whether so little is left on the disk that the reserve is in use."""
        try:
            disk = os.statvfs(self._wal.parent)
        except OSError:
            return False  # unknown; a write that does not fit fails by itself
        free = disk.f_bfree if os.geteuid() == 0 else disk.f_bavail
        return disk.f_blocks > 0 and free * disk.f_frsize < SIZE
