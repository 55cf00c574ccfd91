"""Connections to the log's file: those of the library, with fixed choices where it leaves them
open.

docs/adr/0002-sqlite-recorder.md lists the differences and the reasons.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eventsourcing.persistence import InterfaceError, OperationalError
from eventsourcing.sqlite import (
    SQLiteConnection,
    SQLiteConnectionPool,
    SQLiteCursor,
    SQLiteDatastore,
    SQLiteTransaction,
)

_LOCK_TIMEOUT_S = 5.0


class _ImmediateTransaction(SQLiteTransaction):
    """Takes the write lock at once. A deferred transaction that reads first can fail when it starts
    to write.
    """

    def __enter__(self) -> SQLiteCursor:
        cursor = self.connection.cursor()
        try:
            cursor.execute("BEGIN IMMEDIATE" if self.commit else "BEGIN")
        except sqlite3.Error as error:
            raise OperationalError(error) from error
        return cursor

    def __exit__(self, *error: Any) -> None:
        try:
            super().__exit__(*error)
        finally:
            # After a failed commit (a full disk) the transaction stays open, and the next BEGIN
            # would fail.
            if self.connection._sqlite_conn.in_transaction:
                self.connection.rollback()


class _Connection(SQLiteConnection):
    @contextmanager
    def transaction(self, *, commit: bool) -> Iterator[SQLiteCursor]:
        with _ImmediateTransaction(self, commit=commit) as cursor, cursor:
            yield cursor


class _Pool(SQLiteConnectionPool):
    """Connections of one kind: the one that writes and checkpoints, or those that only read."""

    def __init__(self, *, writes: bool, **options: Any) -> None:
        super().__init__(**options)
        self._writes = writes

    def _create_connection(self) -> SQLiteConnection:
        try:
            raw = sqlite3.connect(
                self.db_name,
                uri=True,
                check_same_thread=False,
                isolation_level=None,
                timeout=_LOCK_TIMEOUT_S,
                # The library passes True, which means a cache of one: each statement would be
                # compiled anew.
                cached_statements=512,
            )
        except sqlite3.Error as error:
            raise InterfaceError(error) from error
        try:
            self._configure(raw)
        except sqlite3.Error as error:
            raw.close()
            raise InterfaceError(error) from error
        return _Connection(raw, max_age=None)

    def _configure(self, raw: sqlite3.Connection) -> None:
        if self._writes:
            raw.execute("PRAGMA journal_mode=WAL")
            # Acknowledged means durable. FULL is the library's default; it is stated here.
            raw.execute("PRAGMA synchronous=FULL")
        else:
            raw.execute("PRAGMA query_only=1")
            raw.execute("PRAGMA wal_autocheckpoint=0")


class Datastore(SQLiteDatastore):
    """One SQLite file, through either its one writing connection or its readers."""

    def __init__(self, path: Path, *, writes: bool, connections: int = 1) -> None:
        # A connection must fail if the file is gone: an empty new file is not the log.
        name = f"{path.resolve().as_uri()}?mode={'rw' if writes else 'ro'}"
        super().__init__(name, originator_id_type="text", pool_size=connections, max_overflow=0)
        self.pool.close()
        self.pool = _Pool(
            writes=writes,
            db_name=name,
            pool_size=connections,
            max_overflow=0 if writes else 16,
            pool_timeout=30.0,
        )
