"""Where the log's database lies, and whether it is still there.

A file that is removed or replaced under a running server is still written to by whoever has it
open, and nobody finds again what they write. So the files are looked at before anything is
acknowledged.
"""

import os
from pathlib import Path

_PARTS = ("", "-wal", "-shm")


class Place:
    """The files that a database had when it was opened: the log and what SQLite keeps beside it."""

    def __init__(self, path: Path) -> None:
        self._files = [path.with_name(f"{path.name}{part}") for part in _PARTS]
        self._opened = [_identity(file) for file in self._files]

    def lost(self) -> str | None:
        """A sentence if one of them is gone, or another has its name; None while all is well."""
        for file, opened in zip(self._files, self._opened, strict=True):
            if opened is not None and _identity(file) != opened:
                return (
                    f"{file} was removed or replaced under the running server: nothing that is "
                    "written now would be found again. Put the very file back, or export the log "
                    "from the server before you stop it"
                )
        return None


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino
