"""Rows of the log in SQLite: the library's recorder of trackings, and beside it a table of events
with a dense position, a subject, an actor and a hash.

The library's recorder of events is not used: its position is the implicit rowid, which SQLite may
renumber, and it reads only by stream or by position (docs/adr/0002-sqlite-recorder.md).
"""

import sqlite3
from collections.abc import Callable, Sequence
from itertools import chain
from sys import getsizeof
from typing import Any

from eventsourcing.persistence import (
    IntegrityError,
    OperationalError,
    StoredEvent,
    Tracking,
)
from eventsourcing.sqlite import SQLiteCursor, SQLiteTrackingRecorder

from domain.log.envelope import PAGE_BYTES, subject_of
from domain.log.leaf import leaf_hash
from domain.log.sqlite.indexes import not_found
from domain.log.store import Page, Query

_MOST_ROWS = 256
_INSERT_MANY = [
    "INSERT INTO events "
    "(position, originator_id, originator_version, topic, state, subject, actor, hash) "
    "VALUES " + ",".join(["(?,?,?,?,?,?,?,?)"] * count)
    for count in range(_MOST_ROWS + 1)
]
"""The statement for this many rows. The first entry is for none."""

_ROW = "position, originator_id, originator_version, topic, state"


class LogRecorder(SQLiteTrackingRecorder):
    """Reads and writes rows. The caller gives the positions: it is the only writer and knows
    the head.
    """

    def construct_create_table_statements(self) -> list[str]:
        return [
            "CREATE TABLE IF NOT EXISTS events ("
            "position INTEGER PRIMARY KEY AUTOINCREMENT, "
            "originator_id TEXT NOT NULL, "
            "originator_version INTEGER NOT NULL, "
            "topic TEXT NOT NULL, "
            "state BLOB NOT NULL, "
            "subject TEXT NOT NULL, "
            "actor TEXT NOT NULL, "
            "hash BLOB NOT NULL, "
            "UNIQUE (originator_id, originator_version))",
            "CREATE INDEX IF NOT EXISTS events_by_subject ON events (subject)",
            "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
            *super().construct_create_table_statements(),
        ]

    def insert(
        self,
        events: Sequence[StoredEvent],
        actors: Sequence[str],
        first: int,
        trackings: Sequence[Tracking] = (),
    ) -> None:
        """Insert events at consecutive positions from `first`, with trackings, in one transaction.
        They are durable once this returns. `actors` has one entry for each event.

        A batch of ordinary size is one statement and so a transaction by itself. Begin, insert and
        fsync are one call that holds no interpreter lock, so callers can prepare the next batch
        meanwhile.
        """
        count = len(events)
        if not 0 < count <= _MOST_ROWS or trackings:
            with self.datastore.transaction(commit=True) as cursor:
                self.insert_rows(cursor, events, actors, first)
                for tracking in trackings:
                    self._insert_tracking(cursor, tracking)
            return
        rows = _rows(events, actors, first)
        with self.datastore.get_connection(commit=True) as connection:
            try:
                connection._sqlite_conn.execute(
                    _INSERT_MANY[count], list(chain.from_iterable(rows))
                )
            except sqlite3.IntegrityError as error:
                raise IntegrityError(error) from error
            except sqlite3.Error as error:
                raise OperationalError(error) from error

    def insert_rows(
        self,
        cursor: SQLiteCursor,
        events: Sequence[StoredEvent],
        actors: Sequence[str],
        first: int,
    ) -> None:
        """The same, within the open transaction."""
        cursor.executemany(_INSERT_MANY[1], _rows(events, actors, first))

    def select(self, query: Query) -> Page:
        """The matching rows, up to the query's limit or bytes."""
        where, params = _conditions(query)
        order = "position" if query.stream is None else "originator_version"
        with self.datastore.transaction(commit=False) as cursor:
            cursor.execute(
                f"SELECT {_ROW}{', hash' if query.hashed else ''} FROM events WHERE {where} "
                f"ORDER BY {order} {'DESC' if query.newest_first else 'ASC'} LIMIT ?",
                [*params, -1 if query.limit is None else query.limit],
            )
            found, ended = page_of(cursor.sqlite_cursor, query.page_bytes)
        whole = ended and len(found) != query.limit
        if query.hashed:
            return Page([row[:5] for row in found], whole, [row[5] for row in found])
        return Page(found, whole)

    def head(self) -> int:
        """The newest position; 0 if there is none."""
        with self.datastore.transaction(commit=False) as cursor:
            cursor.execute("SELECT MAX(position) FROM events")
            return cursor.fetchone()[0] or 0

    def stream_versions(self, streams: Sequence[str]) -> dict[str, int]:
        """The newest version of each stream; 0 if it does not exist."""
        found = dict.fromkeys(streams, 0)
        with self.datastore.transaction(commit=False) as cursor:
            for stream in streams:
                cursor.execute(
                    "SELECT MAX(originator_version) FROM events WHERE originator_id=?", (stream,)
                )
                found[stream] = cursor.fetchone()[0] or 0
        return found

    def readable(self, after: int, to: int) -> int:
        """The number of rows with ``after < position <= to``, each read to its end in the table
        itself: the hash is the last column, so SQLite goes through all pages of a long event.
        """
        with self.datastore.transaction(commit=False) as cursor:
            cursor.execute(
                "SELECT count(hash >= x'') FROM events NOT INDEXED "
                "WHERE position>? AND position<=?",
                (after, to),
            )
            return int(cursor.fetchone()[0])

    def not_found(self, index: str, after: int, to: int) -> int | None:
        """The first event with ``after < position <= to`` to which the index does not lead."""
        with self.datastore.transaction(commit=False) as cursor:
            cursor.execute(not_found(index), (after, to))
            found: int | None = cursor.fetchone()[0]
            return found

    def tables(self) -> set[str]:
        """The tables in the file."""
        with self.datastore.transaction(commit=False) as cursor:
            cursor.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            return {row[0] for row in cursor.fetchall()}

    def meta(self) -> dict[str, str]:
        """What the log says about itself."""
        with self.datastore.transaction(commit=False) as cursor:
            return _meta(cursor)

    def amend_meta(self, change: Callable[[dict[str, str]], dict[str, str]]) -> dict[str, str]:
        """Replace the log's description by what `change` makes of it."""
        with self.datastore.transaction(commit=True) as cursor:
            before = _meta(cursor)
            after = change(dict(before))
            if after != before:
                write_meta(cursor, after)
            return after

    def rewrite_meta(self) -> None:
        """A durable write that changes nothing."""
        with self.datastore.transaction(commit=True) as cursor:
            write_meta(cursor, _meta(cursor))


def _conditions(query: Query) -> tuple[str, list[Any]]:
    clauses: list[str] = []
    params: list[Any] = []
    if query.stream is not None:
        clauses.append("originator_id=? AND originator_version>?")
        params += query.stream, query.after_version
    if query.stream is None or query.after:
        clauses.append("position>?")
        params.append(query.after)
    if query.before is not None:
        clauses.append("position<?")
        params.append(query.before)
    if query.subject is not None:
        clauses.append("subject=?")
        params.append(query.subject)
    if query.types:
        # The unary plus keeps SQLite on the index by position, subject or stream.
        clauses.append(f"+topic IN ({','.join('?' * len(query.types))})")
        params += query.types
    if query.actor is not None:
        clauses.append("actor=?")
        params.append(query.actor)
    return " AND ".join(clauses), params


def _meta(cursor: SQLiteCursor) -> dict[str, str]:
    cursor.execute("SELECT key, value FROM meta")
    return dict(cursor.fetchall())


def write_meta(cursor: SQLiteCursor, values: dict[str, str]) -> None:
    """Write the description, within the open transaction."""
    cursor.executemany("INSERT OR REPLACE INTO meta VALUES (?,?)", list(values.items()))


def page_of(cursor: sqlite3.Cursor, page_bytes: int | None = PAGE_BYTES) -> tuple[list[Any], bool]:
    """The rows of a cursor until their states (the fifth column) reach `page_bytes`, and whether
    these are all.
    """
    if page_bytes is None:
        return cursor.fetchall(), True
    rows, size = [], 0
    for row in cursor:
        rows.append(row)
        # Not `len`: a damaged log may hold a number here, which `verify` must report.
        size += getsizeof(row[4])
        if size >= page_bytes:
            return rows, False
    return rows, True


def _rows(
    events: Sequence[StoredEvent], actors: Sequence[str], first: int
) -> list[tuple[Any, ...]]:
    return [
        (
            position,
            event.originator_id,
            event.originator_version,
            event.topic,
            event.state,
            subject_of(str(event.originator_id)),
            actor,
            leaf_hash(str(event.originator_id), event.originator_version, event.topic, event.state),
        )
        for position, (event, actor) in enumerate(zip(events, actors, strict=True), first)
    ]


def sqlite_version() -> str:
    """The version of the SQLite library in this process."""
    return sqlite3.sqlite_version
