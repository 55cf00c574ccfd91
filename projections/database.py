"""The file of the views: opens it, notices its loss, and makes it anew. It may be deleted at
any time.
"""

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import QueuePool

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def make_engine(path: Path) -> Engine:
    if not path.exists():
        # Old files beside a missing database would be taken for the newest part of this one.
        remove(path)
    path.touch(mode=0o600)
    # A connection must fail if the file is gone: an empty new file is not the views.
    address = f"{path.resolve().as_uri()}?mode=rw"
    engine = create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(address, uri=True, check_same_thread=False, timeout=10.0),
        poolclass=QueuePool,
        pool_size=8,
        max_overflow=16,
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _: Any) -> None:
        # The driver's own transaction handling leaves reads outside any transaction; begin them
        # explicitly.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        # The views can be made again from the log, so the last rows need not survive a power cut.
        connection.execute("PRAGMA synchronous=NORMAL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def _files_of(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]


def identities(path: Path) -> list[tuple[int, int] | None]:
    """The identity of each file of the database; None for a missing one."""
    found: list[tuple[int, int] | None] = []
    for file in _files_of(path):
        try:
            stat = os.stat(file)
        except FileNotFoundError:
            found.append(None)
        else:
            found.append((stat.st_dev, stat.st_ino))
    return found


def remove(path: Path) -> None:
    for file in _files_of(path):
        file.unlink(missing_ok=True)


def damage(error: Exception) -> str | None:
    """What is wrong with the content of the file; None if that is not what the error says."""
    cause = getattr(error, "orig", None)
    if not isinstance(cause, sqlite3.Error):
        return None
    damaged = getattr(cause, "sqlite_errorcode", 0) & 0xFF in _DAMAGED
    return str(cause) if damaged or str(cause).startswith("no such ") else None


def upsert(
    connection: Connection,
    table: str,
    columns: Sequence[str],
    *,
    keys: Sequence[str],
    replaced: Sequence[str],
    rows: int,
) -> str:
    """The statement that inserts rows, or sets the columns `replaced` of those whose `keys` are
    there. It is SQL for the driver: SQLAlchemy's own way for many rows takes longer.
    """
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    row = f"({', '.join([mark] * len(columns))})"
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([row] * rows)} "
        f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET "
        + ", ".join(f"{name} = excluded.{name}" for name in replaced)
    )
