"""Reads a log beside its owner or without one. Locks nothing and writes nothing."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from domain.errors import LogDamaged, LogRefused
from domain.event import Catalogue
from domain.log.archive import Stored
from domain.log.description import FORMAT
from domain.log.sqlite.indexes import INDEXES, STRETCH, entries, not_found
from domain.log.sqlite.recorder import page_of
from domain.log.sqlite.upgrade import HASHED

_PAGE = 1_000
_LOWEST = -(1 << 63)
"""The lowest position that a store can hold. None should be below 1."""
_WAIT_S = 5.0
_SEQUENCE = "sqlite_sequence"
_SMALL_TABLES = ("meta", "tracking", _SEQUENCE)


class StoredLog:
    """The events of one file, up to its head at the time of opening."""

    def __init__(
        self, connection: sqlite3.Connection, meta: dict[str, str], catalogue: Catalogue
    ) -> None:
        self._catalogue = catalogue
        self._connection = connection
        self._hashed_to = _hashed_to(meta)
        self._unreadable: sqlite3.Error | None = None
        self.written = self._given_out()
        """The highest position that was ever given out; 0 if that is unknown."""
        self.head = self._number("SELECT MAX(position) FROM events") or self.written
        """The newest position at the time of opening."""
        self.indexes = [name for name in INDEXES if self._has(name)]
        """The indexes of the events. A server makes a missing one at its start."""

    def _given_out(self) -> int:
        """Without it the events are as whole as before: `lookups` tells if it cannot be read."""
        try:
            row = self._connection.execute(
                f"SELECT seq FROM {_SEQUENCE} WHERE name = 'events'"
            ).fetchone()
        except sqlite3.Error:
            return 0
        return row[0] if row and isinstance(row[0], int) else 0

    def _number(self, statement: str) -> int:
        try:
            row = self._connection.execute(statement).fetchone()
        except sqlite3.Error as error:
            self._unreadable = error
            return 0
        return int(row[0] or 0) if row else 0

    def _has(self, index: str) -> bool:
        try:
            found = self._connection.execute(
                "SELECT 1 FROM sqlite_master WHERE type = 'index' AND name = ?", (index,)
            )
            return found.fetchone() is not None
        except sqlite3.Error as error:
            self._unreadable = error
            return False

    def pages(self) -> Iterator[list[Stored]]:
        """The log by page. Raises LogDamaged with the first position at which the file is
        broken.
        """
        start = _LOWEST
        while True:
            try:
                page = self._page(start, _PAGE)
            except sqlite3.Error:
                # The damage is in this page. Read one by one: the readable events come first, then
                # the broken one is found.
                yield from self._one_by_one(start)
                return
            if not page:
                break
            if not _ascends(page):
                # So is this one damaged. A reader that looks for one event goes another way through
                # it than one that reads all, and may fail earlier.
                yield from self._one_by_one(max(1, start))
                return
            yield page
            start = page[-1].position + 1
        if self._unreadable is not None:
            raise _broken(max(1, start), self._unreadable)

    def lookups(self, to: int) -> Iterator[range]:
        """Looks each event up to `to` up in each index, and yields the positions of each stretch.

        Raises LogDamaged with the name of the part of the file that is damaged. The events must be
        sound: see `pages`.
        """
        for index in self.indexes:
            for after in range(0, to, STRETCH):
                stretch = range(after + 1, min(after + STRETCH, to) + 1)
                self._require_found(index, stretch)
                yield stretch
            if (there := self._ask(f"index {index}", entries(index), to)) != to:
                raise _beside(f"index {index}", f"it has {there} entries for {to} events")
        for table in _SMALL_TABLES:
            found = self._ask(f"table {table}", f"PRAGMA integrity_check({table})")
            if found != "ok":
                raise _beside(f"table {table}", str(found))

    def _require_found(self, index: str, stretch: range) -> None:
        ends = (stretch.start - 1, stretch.stop - 1)
        missing = self._ask(f"index {index}", not_found(index), *ends)
        if missing is not None:
            raise _beside(f"index {index}", f"it does not lead to the event at {missing}")

    def _ask(self, part: str, statement: str, *parameters: int) -> Any:
        try:
            return self._connection.execute(statement, parameters).fetchone()[0]
        except sqlite3.Error as error:
            raise _beside(part, f"{error}") from error

    def _one_by_one(self, start: int) -> Iterator[list[Stored]]:
        while True:
            try:
                page = self._page(start, 1)
            except sqlite3.Error as error:
                raise _broken(max(1, start), error) from error
            if not page:
                return
            yield page
            start = page[-1].position + 1

    def _page(self, start: int, limit: int) -> list[Stored]:
        hashes = "hash" if self._hashed_to is not None else "NULL"
        with closing(
            self._connection.execute(
                "SELECT position, originator_id, originator_version, topic, state, subject, actor, "
                f"{hashes} FROM events WHERE position >= ? ORDER BY position LIMIT ?",
                (start, limit),
            )
        ) as cursor:
            rows, _ = page_of(cursor)
        return [self._stored(row) for row in rows]

    def _stored(self, row: tuple[Any, ...]) -> Stored:
        hashed = self._hashed_to is not None and row[0] <= self._hashed_to
        return Stored(row[:5], row[7], self._catalogue, hashed=hashed, columns=(row[5], row[6]))


def _ascends(page: list[Stored]) -> bool:
    return all(one.position < other.position for one, other in pairwise(page))


def _broken(position: int, error: sqlite3.Error) -> LogDamaged:
    return LogDamaged(position, f"the file cannot be read: {error}.")


def _beside(part: str, what: str) -> LogDamaged:
    return LogDamaged(
        None,
        f"The {part} is damaged: {what}. The events themselves are whole. Start the server, export "
        "the log with 'crewlog log export', stop the server, and import the export into another "
        "directory.",
    )


def _hashed_to(meta: dict[str, str]) -> int | None:
    """Up to which position events have hashes: all, or as far as an upgrade has got. None
    before format 2.
    """
    if int(meta.get("format", "0")) < FORMAT:
        return None
    return int(meta.get(HASHED, 1 << 63))


@contextmanager
def stored_log(directory: Path, catalogue: Catalogue) -> Iterator[StoredLog]:
    """The log in a data directory, with or without a running server, even if nothing can be
    written.

    Raises LogRefused if there is none, if it is not a log, or if a newer version wrote it.
    """
    path = directory / "log.db"
    if not path.is_file():
        raise LogRefused(f"There is no log in {directory}.")
    try:
        connection, meta = _opened(path)
    except (sqlite3.Error, ValueError) as error:
        raise LogRefused(f"{path} is not a log of crewlog: {error}.") from error
    with closing(connection):
        try:
            wrote = int(meta.get("format", "0"))
        except ValueError as error:
            raise LogRefused(f"{path} is not a log of crewlog: {error}.") from error
        if wrote > FORMAT:
            raise LogRefused(
                f"The log {path} has format {wrote}; this version of crewlog reads up to "
                f"{FORMAT}. A newer version wrote it: use that one."
            )
        yield StoredLog(connection, meta, catalogue)


def _opened(path: Path) -> tuple[sqlite3.Connection, dict[str, str]]:
    """A connection that can read, and what the log says about itself.

    SQLite needs its shared memory file beside a log that may be written to. If there is none and
    none can be made, nobody is writing. Then the log is read without it, including the write-ahead
    log if there is one.
    """
    try:
        return _try(path, "mode=ro", exclusive=False)
    except sqlite3.OperationalError as error:
        if not error.sqlite_errorname.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY")):
            raise
        wal = path.with_name(f"{path.name}-wal")
        if wal.exists() and wal.stat().st_size:
            return _try(path, "mode=ro&vfs=unix-none", exclusive=True)
        return _try(path, "immutable=1", exclusive=False)


def _try(path: Path, how: str, *, exclusive: bool) -> tuple[sqlite3.Connection, dict[str, str]]:
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?{how}", uri=True, isolation_level=None, timeout=_WAIT_S
    )
    try:
        if exclusive:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        return connection, dict(connection.execute("SELECT key, value FROM meta").fetchall())
    except BaseException:
        connection.close()
        raise
