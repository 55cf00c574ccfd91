"""Whether every event is found through the indexes too. The table may be whole where an index is
not, and then a reader of one stream or subject sees an error, or fewer events than there are.
"""

_SUBJECT = "substr(t.originator_id, 1, instr(t.originator_id || '/', '/') - 1)"
"""Taken from the stream: the column comes after the state, which may be long."""

INDEXES = {
    "sqlite_autoindex_events_1": (
        "i.originator_id = t.originator_id AND i.originator_version = t.originator_version"
    ),
    "events_by_subject": f"i.subject = {_SUBJECT}",
}
"""What an entry of each index of the table of events must agree in with its event."""

STRETCH = 20_000
"""Positions that are looked up at once: a small part of a second."""


def not_found(index: str) -> str:
    """A statement for the first event with ``? < position <= ?`` to which the index does not lead.

    It looks each of them up, so it also fails where a part of the index cannot be read.
    """
    return (
        "SELECT MIN(t.position) FROM events AS t NOT INDEXED "
        "WHERE t.position > ? AND t.position <= ? AND NOT EXISTS "
        f"(SELECT 1 FROM events AS i INDEXED BY {index} "
        f"WHERE {INDEXES[index]} AND i.position = t.position)"
    )


def entries(index: str) -> str:
    """A statement for the number of entries up to a position."""
    return f"SELECT count(*) FROM events INDEXED BY {index} WHERE position <= ?"
