"""The tables of the views in their database, and beside each how far it is: rows and position are
one transaction.
"""

import logging
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    delete,
    inspect,
    select,
    text,
)
from sqlalchemy.types import TypeEngine

from projections.database import upsert
from projections.filling import Filling
from projections.projection import Projection
from projections.slot import Slot

logger = logging.getLogger("crewlog.views")

_FORMAT = "1"
_ZERO = f"{0:032x}"
_COLUMNS = ("name", "generation", "version", "live", "position", "digest", "unknown")
_LIVE = text("SELECT name, generation, position FROM fillings WHERE live = 1")


class Generations:
    """The generations of each projection's table, on a connection that the caller commits."""

    def __init__(self) -> None:
        self._metadata = MetaData()
        self._states = Table(
            "fillings",
            MetaData(),
            Column("name", String, primary_key=True),
            Column("generation", Integer, primary_key=True),
            Column("version", Integer, nullable=False),
            Column("live", Integer, nullable=False),
            Column("position", Integer, nullable=False),
            Column("digest", String, nullable=False),
            Column("unknown", Integer, nullable=False),
        )

    def load(self, connection: Connection, slots: Iterable[Slot], log_id: str, head: int) -> None:
        """Take over what an earlier run left, if it belongs to this log and to the present
        versions.
        """
        identity = f"{_FORMAT}:{log_id}"
        connection.execute(text("CREATE TABLE IF NOT EXISTS about (log TEXT NOT NULL)"))
        self._states.create(connection, checkfirst=True)
        about = connection.execute(text("SELECT log FROM about")).scalar()
        furthest = max(
            (row.position for row in connection.execute(select(self._states))), default=0
        )
        if about != identity or furthest > head:
            if about is not None:
                _warn_of_loss(str(about).rpartition(":")[2], furthest, log_id, head)
            self._forget_all(connection)
            connection.execute(text("INSERT INTO about VALUES (:log)"), {"log": identity})
        for slot in slots:
            self._take_up(connection, slot)

    def _forget_all(self, connection: Connection) -> None:
        for row in connection.execute(select(self._states)).all():
            connection.execute(text(f"DROP TABLE IF EXISTS {row.name}_{row.generation}"))
        connection.execute(delete(self._states))
        connection.execute(text("DELETE FROM about"))

    def _take_up(self, connection: Connection, slot: Slot) -> None:
        projection = slot.projection
        found = connection.execute(
            select(self._states).where(self._states.c.name == projection.name)
        ).all()
        live: Filling | None = None
        following: Filling | None = None
        slot.outdated = False
        for row in found:
            table = self.table(projection, row.generation)
            old = row.version != projection.version
            if old and not (row.live and _has_columns(connection, table)):
                self.drop(connection, projection.name, row.generation)
                continue
            filling = Filling(projection, row.generation, table)
            filling.resume(row.position, row.digest, row.unknown)
            if row.live:
                live, slot.outdated = filling, old
            else:
                following = filling
        if following is None and (live is None or slot.outdated):
            newest = max((row.generation for row in found), default=0)
            following = self.begin(connection, projection, newest + 1)
        slot.take(live, following)

    def begin(self, connection: Connection, projection: Projection, generation: int) -> Filling:
        table = self.table(projection, generation)
        table.create(connection)
        connection.execute(
            self._states.insert().values(
                name=projection.name,
                generation=generation,
                version=projection.version,
                live=0,
                position=0,
                digest=_ZERO,
                unknown=0,
            )
        )
        return Filling(projection, generation, table)

    def drop(self, connection: Connection, name: str, generation: int) -> None:
        connection.execute(text(f"DROP TABLE IF EXISTS {name}_{generation}"))
        connection.execute(
            delete(self._states).where(
                self._states.c.name == name, self._states.c.generation == generation
            )
        )

    def save(self, connection: Connection, fillings: Sequence[Filling]) -> None:
        """Store how far these are. `begin` has made their rows."""
        statement = upsert(
            connection,
            "fillings",
            _COLUMNS,
            keys=("name", "generation"),
            replaced=("position", "digest", "unknown"),
            rows=len(fillings),
        )
        rows = [
            (
                f.projection.name,
                f.generation,
                f.projection.version,
                0,
                f.position,
                f.digest,
                f.unknown,
            )
            for f in fillings
        ]
        connection.exec_driver_sql(statement, tuple(chain.from_iterable(rows)))

    def replace(self, connection: Connection, live: Filling | None, ready: Filling) -> None:
        """Let readers find `ready` in the place of `live`, and drop `live`."""
        if live is not None:
            self.drop(connection, live.projection.name, live.generation)
        connection.execute(
            self._states.update()
            .where(
                self._states.c.name == ready.projection.name,
                self._states.c.generation == ready.generation,
            )
            .values(live=1)
        )

    def resume(self, connection: Connection, slots: Iterable[Slot]) -> None:
        """Set every filling back to what the database holds."""
        saved = {(r.name, r.generation): r for r in connection.execute(select(self._states))}
        for slot in slots:
            for filling in slot.fillings():
                row = saved.get((slot.projection.name, filling.generation))
                if row is not None:
                    filling.resume(row.position, row.digest, row.unknown)

    def live(self, connection: Connection) -> list[tuple[str, int, int]]:
        """Name, generation and position of each table that readers use."""
        return [(row.name, row.generation, row.position) for row in connection.execute(_LIVE)]

    def table(self, projection: Projection, generation: int) -> Table:
        return projection.table(generation, self._metadata)


def _warn_of_loss(seen: str, furthest: int, log_id: str, head: int) -> None:
    """The views remember a log that is not here, or more of this one: who has put a backup in its
    place knows it, and everybody else must be told.
    """
    if seen != log_id:
        logger.warning(
            "The views were made from another log (%s, %d events) than the one that is here "
            "(%s, %d events). If nobody has replaced it, events are lost.",
            seen,
            furthest,
            log_id,
            head,
        )
    elif furthest > head:
        logger.warning(
            "The views have seen %d events of this log, and it has %d. "
            "If nobody has put a backup in its place, events are lost.",
            furthest,
            head,
        )


def _has_columns(connection: Connection, table: Table) -> bool:
    """Whether the stored table of that name has these columns."""

    def shape(columns: Iterable[tuple[str, TypeEngine[Any], bool]]) -> list[tuple[str, str, bool]]:
        dialect = connection.dialect
        return [(name, type_.compile(dialect), nullable) for name, type_, nullable in columns]

    inspector = inspect(connection)
    if not inspector.has_table(table.name):
        return False
    stored = inspector.get_columns(table.name)
    return shape((c["name"], c["type"], c["nullable"]) for c in stored) == shape(
        (c.name, c.type, bool(c.nullable)) for c in table.columns
    )
