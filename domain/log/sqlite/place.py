"""Where the log's database is, and whether it is still there.

If a file is removed or replaced under a running server, the server goes on writing to the old one,
and nobody will find those events. If another program writes into the log's own file, such as `cp`
over it, what is in it fits neither log. So the files are checked before anything is acknowledged.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
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

        self._writing = threading.Lock()
        self._foreign: str | None = None
        self._left = self._state()

    @contextmanager
    def written(self) -> Iterator[str | None]:
        """Within it this process may write to the log's own file, which SQLite does only when it
        moves the write-ahead log there. Gives a sentence if another program wrote to it before.
        """
        with self._writing:
            self._look_for_others()
            try:
                yield self._foreign
            finally:
                self._left = self._state()

    def _state(self) -> tuple[int, int] | None:
        """Size and time of the last change of the content, which only a writer changes. None if
        another file is there now.
        """
        try:
            found = os.stat(self._files[0])
        except OSError:
            return None
        if (found.st_dev, found.st_ino) != self._opened[0]:
            return None
        return found.st_size, found.st_mtime_ns

    def _look_for_others(self) -> None:
        now = self._state()
        if now is None or self._foreign is not None:
            return
        if self._left is not None and now != self._left:
            self._foreign = (
                f"{self._files[0]} was written to by another program under the running server: "
                "nobody knows what is in it now. Stop the server, remove the log's three files, "
                "and put a backup there"
            )

    def lost(self) -> str | None:
        """A sentence if one of them is gone, was replaced or was written to by another program;
        None otherwise.
        """
        # During a write of this process a change says nothing.
        if self._writing.acquire(blocking=False):
            try:
                self._look_for_others()
            finally:
                self._writing.release()
        return self._foreign or self._gone()

    def _gone(self) -> str | None:
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
