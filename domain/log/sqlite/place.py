"""Where the log's database is, and whether it is still there.

If a file is removed or replaced under a running server, the server goes on writing to the old one,
and nobody will find those events. So the files are checked before anything is acknowledged.
"""

import os
import time
from pathlib import Path

_PARTS = ("", "-wal", "-shm")

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
        self._files = [os.fspath(path.with_name(f"{path.name}{part}")) for part in _PARTS]
        self._opened = [_identity(file) for file in self._files]
        self._linked = any(map(os.path.islink, self._files))
        """A link leads to another folder, whose changes do not show in this one."""
        self._unchanged: tuple[int, int, int] | None = None
        """The folder when the files were last checked, if any later change in it will show. Then
        one look at the folder is enough: this is done for each commit.
        """

    def lost(self) -> str | None:
        """A sentence if one of them is gone or was replaced; None otherwise."""
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
