"""Upgrades a log of an older format when it is opened.

Format 2 keeps a leaf hash beside each event. The column is added first, in the transaction that
sets the format to 2, so no older version can open a half-upgraded log. Then the hashes are written
page by page, each page together with how far they reach. If it is killed, it goes on from there.
"""

from collections.abc import Callable
from typing import Any

from domain.log.description import FORMAT
from domain.log.leaf import leaf_hash
from domain.log.sqlite.recorder import LogRecorder, page_of, write_meta

HASHED = "hashed"
"""The key, present only during the upgrade, that says up to which position events have hashes."""

_PAGE = 2_000

Progress = Callable[[int, int], None]
"""Called with how many positions are done, of how many."""


def upgrade(writer: LogRecorder, progress: Progress) -> None:
    """Upgrade an older log to the present format. A new or present one is left alone."""
    if not _has_hashes(writer):
        with writer.datastore.transaction(commit=True) as cursor:
            cursor.execute("ALTER TABLE events ADD COLUMN hash BLOB")
            write_meta(cursor, {"format": str(FORMAT), HASHED: "0"})
    done = writer.meta().get(HASHED)
    if done is None:
        return
    head, position = writer.head(), int(done)
    progress(position, head)
    while position < head:
        position = _hash_page(writer, position)
        progress(position, head)
    with writer.datastore.transaction(commit=True) as cursor:
        cursor.execute("DELETE FROM meta WHERE key = ?", (HASHED,))


def _has_hashes(recorder: LogRecorder) -> bool:
    with recorder.datastore.transaction(commit=False) as cursor:
        cursor.execute("SELECT name FROM pragma_table_info('events')")
        return "hash" in {row[0] for row in cursor.fetchall()}


def _hash_page(writer: LogRecorder, after: int) -> int:
    """Write the hashes of the page after `after`. Returns the last position of the page."""
    with writer.datastore.transaction(commit=True) as cursor:
        cursor.execute(
            "SELECT position, originator_id, originator_version, topic, state FROM events "
            "WHERE position > ? ORDER BY position LIMIT ?",
            (after, _PAGE),
        )
        rows, _ = page_of(cursor.sqlite_cursor)
        end: int = rows[-1][0]
        cursor.executemany(
            "UPDATE events SET hash = ? WHERE position = ?",
            [(_hash_of(*row[1:]), row[0]) for row in rows],
        )
        write_meta(cursor, {HASHED: str(end)})
    return end


def _hash_of(stream: Any, version: Any, type_name: Any, state: Any) -> bytes | None:
    """None if the row is not a valid event any more: `verify` names its position."""
    try:
        return leaf_hash(stream, version, type_name, state)
    except (TypeError, ValueError, AttributeError):
        return None
