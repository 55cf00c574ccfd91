"""The crews view: what was committed together. How a crew stands follows from its jobs."""

from typing import Any

import orjson
from sqlalchemy import Column, Integer, String, and_, case, func, select

from domain.coverage import types
from domain.crew.events import STRANDED, CrewNotFound, crew_state
from domain.errors import InvalidCursor
from domain.job.events import JobState
from domain.log import Recorded
from projections.engine import Reading
from projections.projection import Projection, Row


def _columns() -> tuple[Column[Any], ...]:
    return (
        Column("id", String, primary_key=True),
        Column("position", Integer, nullable=False),
        Column("template", String, nullable=False),
        Column("name", String, nullable=False),
        Column("inputs", String, nullable=False),
        Column("owner", String, nullable=False),
        Column("schedule", String),
        Column("nominal", String),
        Column("not_before", String),
        Column("created_at", String, nullable=False),
        Column("members", String, nullable=False),
    )


def _committed(_: Row | None, event: Recorded) -> Row:
    data = event.data
    return {
        "id": event.subject[5:],
        "position": event.position,
        "template": data["template"],
        "name": data["name"],
        "inputs": orjson.dumps(data["inputs"]).decode(),
        "owner": data["owner"],
        "schedule": data["schedule"],
        "nominal": data["nominal"],
        "not_before": data["not_before"],
        "created_at": event.at,
        "members": orjson.dumps(data["jobs"]).decode(),
    }


CREWS = Projection(
    name="crews",
    version=1,
    columns=_columns,
    key=lambda event: event.subject[5:],
    folds={"crew.committed": _committed},
    passes_over=types(
        "approval email identity job operator request schedule token user",
    ),
    births=frozenset({"crew.committed"}),
    indexes=(("owner", "position"), ("position",), ("schedule",)),
)


def find_crew(reading: Reading, crew_id: str) -> Row:
    """The row of one crew. CrewNotFound for an unknown one."""
    crews = reading.table("crews")
    rows = reading.rows(select(crews).where(crews.c.id == crew_id))
    if not rows:
        raise CrewNotFound(crew_id)
    return rows[0]


def list_crews(
    reading: Reading, *, owner: str | None, cursor: str | None, limit: int
) -> tuple[list[Row], bool]:
    """The newest crews first, and whether there are more; the cursor is the id of the last one
    seen.
    """
    crews = reading.table("crews")
    statement = select(crews)
    if owner is not None:
        statement = statement.where(crews.c.owner == owner)
    if cursor is not None:
        seen = reading.rows(select(crews.c.position).where(crews.c.id == cursor))
        if not seen:
            raise InvalidCursor("The cursor names no crew of this server.")
        statement = statement.where(crews.c.position < seen[0]["position"])
    rows = reading.rows(statement.order_by(crews.c.position.desc()).limit(limit + 1))
    return rows[:limit], len(rows) > limit


def crew_counts(reading: Reading, crew_ids: list[str]) -> dict[str, dict[str, int]]:
    """How many jobs of each crew stand in which state. Deleted ones count for nothing; one that is
    held and cannot start as things are counts as ``stranded``.
    """
    jobs = reading.table("jobs")
    counts: dict[str, dict[str, int]] = {crew_id: {} for crew_id in crew_ids}
    stranded = and_(jobs.c.state == JobState.HELD.value, jobs.c.stranded_by.is_not(None))
    standing = case((stranded, STRANDED), else_=jobs.c.state)
    statement = (
        select(jobs.c.crew, standing, func.count())
        .where(jobs.c.crew.in_(crew_ids), jobs.c.deleted == 0)
        .group_by(jobs.c.crew, standing)
    )
    for crew_id, state, count in reading.connection.execute(statement):
        counts[crew_id][state] = count
    return counts


def state_of(counts: dict[str, int]) -> str:
    """The state of a crew with these jobs; ``deleted`` when none is left."""
    return crew_state(list(counts)) if counts else "deleted"
