"""The SQLite recorder: the eventsourcing library's, with an explicit dense position and a subject.

What differs from the library and why (docs/adr/0002-sqlite-recorder.md): its position is the
implicit rowid, which SQLite may renumber; it begins deferred transactions; and every pooled
connection may write.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from sys import getsizeof
from typing import Any

from eventsourcing.persistence import (
    IntegrityError,
    InterfaceError,
    Notification,
    OperationalError,
    StoredEvent,
    Tracking,
)
from eventsourcing.sqlite import (
    SQLiteConnection,
    SQLiteConnectionPool,
    SQLiteCursor,
    SQLiteDatastore,
    SQLiteProcessRecorder,
    SQLiteTransaction,
)

from domain.log.envelope import PAGE_BYTES, subject_of
from domain.log.leaf import leaf_hash

Row = tuple[int, str, int, str, bytes]
"""position, stream, version, type, state."""

_LOCK_TIMEOUT_S = 5.0

_MOST_ROWS = 256
_INSERT_MANY = [
    "INSERT INTO events "
    "(position, originator_id, originator_version, topic, state, subject, actor, hash) "
    "VALUES " + ",".join(["(?,?,?,?,?,?,?,?)"] * count)
    for count in range(_MOST_ROWS + 1)
]
"""The statement for so many rows; the first stands for none."""

_ROW = "position, originator_id, originator_version, topic, state"


class _ImmediateTransaction(SQLiteTransaction):
    """Takes the write lock at once: a deferred one that reads first fails when
    it comes to write.
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
            # A commit that failed (a full disk) leaves its transaction open, and the next BEGIN
            # fails.
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
                # The library passes True, which is a cache of one: every statement anew each time.
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
            # Acknowledged means durable: FULL is the default of the library, and is stated.
            raw.execute("PRAGMA synchronous=FULL")
        else:
            raw.execute("PRAGMA query_only=1")
            raw.execute("PRAGMA wal_autocheckpoint=0")


class Datastore(SQLiteDatastore):
    """One SQLite file through either its one writing connection or its readers."""

    def __init__(self, path: Path, *, writes: bool, connections: int = 1) -> None:
        # Whoever connects when the file is gone must fail: an empty one is not the log.
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


class SQLiteLogRecorder(SQLiteProcessRecorder):
    """Rows of the log. Positions are given by the caller, who is alone in writing and knows the
    head.
    """

    def __init__(self, datastore: SQLiteDatastore) -> None:
        super().__init__(datastore, events_table_name="events")
        self.insert_events_statement = _INSERT_MANY[1]
        self.select_max_notification_id_statement = "SELECT MAX(position) FROM events"

    def construct_create_table_statements(self) -> list[str]:
        tracking = super().construct_create_table_statements()[1:]
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
            *tracking,
        ]

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **options: Any
    ) -> Sequence[int] | None:
        """Insert events in a transaction of their own, durable once this returns.

        A batch of ordinary size is one statement, and so one transaction by itself: begin, insert
        and fsync happen in one call that holds no interpreter lock, beside callers who prepare the
        next.
        """
        count = len(stored_events)
        if not 0 < count <= _MOST_ROWS or options.get("trackings"):
            return super().insert_events(stored_events, **options)
        first: int = options["first_position"]
        rows = _rows(stored_events, first, options["actors"])
        with self.datastore.get_connection(commit=True) as connection:
            try:
                connection._sqlite_conn.execute(
                    _INSERT_MANY[count], list(chain.from_iterable(rows))
                )
            except sqlite3.IntegrityError as error:
                raise IntegrityError(error) from error
            except sqlite3.Error as error:
                raise OperationalError(error) from error
        return range(first, first + count)

    def _insert_events(
        self, c: SQLiteCursor, stored_events: Sequence[StoredEvent], **options: Any
    ) -> Sequence[int]:
        """Insert at consecutive positions from `first_position`; `actors` runs
        beside the events.
        """
        first: int = options["first_position"]
        actors: Sequence[str] = options["actors"]
        c.executemany(self.insert_events_statement, _rows(stored_events, first, actors))
        trackings: Sequence[Tracking] = options.get("trackings", ())
        for tracking in trackings:
            self._insert_tracking(c, tracking)
        return range(first, first + len(stored_events))

    def select_events(
        self,
        originator_id: Any,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        return [
            StoredEvent(row[1], row[2], row[3], row[4])
            for row in self.select_stream(originator_id, gt=gt, lte=lte, desc=desc, limit=limit)
        ]

    def select_stream(
        self,
        stream: str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
        types: Sequence[str] = (),
    ) -> list[Row]:
        """Rows of one stream by version."""
        of_types = f"AND topic IN ({','.join('?' * len(types))}) " if types else ""
        with self.datastore.transaction(commit=False) as c:
            c.execute(
                f"SELECT {_ROW} FROM events WHERE originator_id=? AND originator_version>? "
                f"AND originator_version<=? {of_types}"
                f"ORDER BY originator_version {'DESC' if desc else 'ASC'} LIMIT ?",
                (
                    stream,
                    0 if gt is None else gt,
                    (1 << 62) if lte is None else lte,
                    *types,
                    -1 if limit is None else limit,
                ),
            )
            rows: list[Row] = c.fetchall()
            return rows

    def select_rows(
        self,
        after: int,
        limit: int,
        *,
        before: int | None = None,
        subject: str | None = None,
        types: Sequence[str] = (),
        actor: str | None = None,
        newest_first: bool = False,
        page_bytes: int = PAGE_BYTES,
    ) -> tuple[list[Row], bool]:
        """Rows with ``after < position < before`` in the order of position, and whether these are
        all: they end at `limit` (-1: none), or once they come to `page_bytes`.
        """
        clauses, params = ["position>?"], [after]
        filters: list[Any] = []
        if before is not None:
            clauses.append("position<?")
            params.append(before)
        if subject is not None:
            clauses.append("subject=?")
            filters.append(subject)
        if types:
            # The unary plus keeps SQLite on the position or subject index.
            clauses.append(f"+topic IN ({','.join('?' * len(types))})")
            filters.extend(types)
        if actor is not None:
            clauses.append("actor=?")
            filters.append(actor)
        with self.datastore.transaction(commit=False) as c:
            c.execute(
                f"SELECT {_ROW} FROM events WHERE {' AND '.join(clauses)} "
                f"ORDER BY position {'DESC' if newest_first else 'ASC'} LIMIT ?",
                [*params, *filters, limit],
            )
            rows, ended = page_of(c.sqlite_cursor, page_bytes)
        return rows, ended and len(rows) != limit

    def select_hashed(
        self, after: int, limit: int, *, before: int, subject: str | None = None
    ) -> list[tuple[Row, bytes | None]]:
        """A page of ``after < position < before``, each row with its leaf hash."""
        clause = "position>? AND position<?" + ("" if subject is None else " AND subject=?")
        bounds = [after, before, *([] if subject is None else [subject])]
        with self.datastore.transaction(commit=False) as c:
            c.execute(
                f"SELECT {_ROW}, hash FROM events WHERE {clause} ORDER BY position LIMIT ?",
                [*bounds, limit],
            )
            return [(row[:5], row[5]) for row in page_of(c.sqlite_cursor)[0]]

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        after = 0 if start is None else start - 1 if inclusive_of_start else start
        before = None if stop is None else stop + 1
        return [
            Notification(
                id=position,
                originator_id=stream,
                originator_version=version,
                topic=topic,
                state=state,
            )
            for position, stream, version, topic, state in self.select_rows(
                after, limit, before=before, types=topics
            )[0]
        ]

    def _max_notification_id(self, c: SQLiteCursor) -> int:
        return int(super()._max_notification_id(c) or 0)

    def stream_versions(self, streams: Sequence[str]) -> dict[str, int]:
        """The newest version of each stream; 0 for one that does not exist."""
        found = dict.fromkeys(streams, 0)
        with self.datastore.transaction(commit=False) as c:
            for stream in streams:
                c.execute(
                    "SELECT MAX(originator_version) FROM events WHERE originator_id=?", (stream,)
                )
                found[stream] = c.fetchone()[0] or 0
        return found

    def count(self, after: int, to: int) -> int:
        """How many rows there are of ``after < position <= to``, counted in the table itself."""
        with self.datastore.transaction(commit=False) as c:
            c.execute(
                "SELECT count(*) FROM events NOT INDEXED WHERE position>? AND position<=?",
                (after, to),
            )
            return int(c.fetchone()[0])

    def tables(self) -> set[str]:
        """What is in the file by now."""
        with self.datastore.transaction(commit=False) as c:
            c.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            return {row[0] for row in c.fetchall()}

    def meta(self) -> dict[str, str]:
        """What the log says of itself: its format and the event schemas that were written to it."""
        with self.datastore.transaction(commit=False) as c:
            c.execute("SELECT key, value FROM meta")
            return dict(c.fetchall())

    def rewrite_meta(self) -> None:
        """A durable write that changes nothing: the smallest proof that there is room again."""
        self.set_meta(self.meta())

    def set_meta(self, values: dict[str, str]) -> None:
        with self.datastore.transaction(commit=True) as c:
            write_meta(c, values)


def write_meta(cursor: SQLiteCursor, values: dict[str, str]) -> None:
    """Say this of the log, in the transaction at hand."""
    cursor.executemany("INSERT OR REPLACE INTO meta VALUES (?,?)", list(values.items()))


def page_of(cursor: sqlite3.Cursor, page_bytes: int = PAGE_BYTES) -> tuple[list[Any], bool]:
    """The rows of a cursor until their states, which are the fifth of each, come to `page_bytes`,
    and whether that was all.
    """
    rows, size = [], 0
    for row in cursor:
        rows.append(row)
        # Not `len`: where a damaged log holds a number, it is for `verify` to say so.
        size += getsizeof(row[4])
        if size >= page_bytes:
            return rows, False
    return rows, True


def _rows(
    events: Sequence[StoredEvent], first: int, actors: Sequence[str]
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
