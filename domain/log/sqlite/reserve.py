"""Room that the log keeps for what must be written also when the disk is full: that a job is to
end, and that it did. A job that fills the disk could not be cancelled otherwise.

Two things together: SQLite's write-ahead log is given its blocks beforehand, so that what fits in
there needs no new ones; and while less than that is left on the disk, nothing else is taken.
"""

import os
from pathlib import Path

SIZE = 4 * 1024 * 1024
"""Bytes. A cancel and an end take a hundredth of it."""


class Reserve:
    """Room for a database in WAL mode."""

    def __init__(self, database: Path) -> None:
        self._wal = database.with_name(f"{database.name}-wal")
        self._held = False

    def hold(self) -> None:
        """Give the write-ahead log its blocks, once there is one, and room for them."""
        if self._held or self.is_low():
            return
        try:
            file = os.open(self._wal, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return
        try:
            os.posix_fallocate(file, 0, SIZE)
            self._held = True
        except (AttributeError, OSError):
            pass  # a system or a disk that cannot: then there is only what is left free
        finally:
            os.close(file)

    def is_low(self) -> bool:
        """Whether so little is left on the disk that it is kept."""
        try:
            said = os.statvfs(self._wal.parent)
        except OSError:
            return False  # then what is tried will fail by itself
        free = said.f_bfree if os.geteuid() == 0 else said.f_bavail
        return said.f_blocks > 0 and free * said.f_frsize < SIZE
