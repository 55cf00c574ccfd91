"""Where the log's database is, and whether it is still there.

If a file is removed or replaced under a running server, the server goes on writing to the old one,
and nobody will find those events. So the files are checked before anything is acknowledged.
"""

import os
from pathlib import Path

_PARTS = ("", "-wal", "-shm")


class Place:
    """The files of a database when it was opened: the log and the files that SQLite keeps
    beside it.
    """

    def __init__(self, path: Path) -> None:
        self._files = [path.with_name(f"{path.name}{part}") for part in _PARTS]
        self._opened = [_identity(file) for file in self._files]

    def lost(self) -> str | None:
        """A sentence if one of them is gone or was replaced; None otherwise."""
        for file, opened in zip(self._files, self._opened, strict=True):
            if opened is not None and _identity(file) != opened:
                return (
                    f"{file} was removed or replaced under the running server: whatever it writes "
                    "now would be lost. Put the same file back, or export the log "
                    "from the server before you stop it"
                )
        return None


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino
