"""The crews view: jobs that were committed together. The state of a crew follows from its jobs."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import (
    Column,
    ColumnElement,
    Integer,
    Select,
    String,
    and_,
    case,
    func,
    or_,
    select,
)

from domain.coverage import types
from domain.crew.events import STRANDED, CrewNotFound, crew_state
from domain.errors import InvalidCursor
from domain.job.events import JobState
from domain.log import Recorded
from projections.jobs import has_label
from projections.projection import Projection, Row
from projections.reading import Reading

_LOOKED_AT = 200
_LOOKS = 10
"""How many crews are examined at once, and how often, to find those in a state."""


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
        Column("number", Integer),
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
        "number": None,
    }


CREWS = Projection(
    name="crews",
    version=2,  # numbers the crews of a template
    columns=_columns,
    key=lambda event: event.subject[5:],
    folds={"crew.committed": _committed},
    passes_over=types(
        "approval delivery email identity job operator request schedule token user",
    ),
    births=frozenset({"crew.committed"}),
    indexes=(("owner", "position"), ("position",), ("schedule",), ("template", "number")),
    numbered=("number", "template"),
)


def first_crew_row(events: Iterable[Recorded], number: int) -> Row:
    """The row of a new crew, from the append that made it and the number that the view gives it."""
    committed = next(event for event in events if event.type in CREWS.births)
    return {**_committed(None, committed), "number": number}


def newest_number(reading: Reading, template: str) -> tuple[int, int]:
    """The number of the newest crew of a template that the view has, or 0, and the view's
    position.
    """
    crews = reading.table("crews")
    newest = select(func.max(crews.c.number)).where(crews.c.template == template)
    return reading.connection.execute(newest).scalar() or 0, reading.positions["crews"]


def find_crew(reading: Reading, crew_id: str) -> Row:
    """The row of one crew. Raises CrewNotFound."""
    crews = reading.table("crews")
    rows = reading.rows(select(crews).where(crews.c.id == crew_id))
    if not rows:
        raise CrewNotFound(crew_id)
    return rows[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class CrewFilter:
    """Which crews to show. None and empty select all. Times are in the log's form, and
    bounds are inclusive.
    """

    states: frozenset[str] = frozenset()
    """As `state_of` gives them."""
    owner: str | None = None
    template: str | None = None
    number: int | None = None
    schedule: str | None = None
    label: str | None = None
    """A label of one of its jobs."""
    text: str | None = None
    """Text in its name or template, or the beginning of its id."""
    created_after: str | None = None
    created_before: str | None = None


EVERY_CREW = CrewFilter()


def list_crews(
    reading: Reading,
    wanted: CrewFilter = EVERY_CREW,
    *,
    owner: str | None,
    cursor: str | None,
    limit: int,
) -> tuple[list[Row], str | None]:
    """The newest crews first, and the cursor of the next page: the id of the last crew that was
    examined. `owner` limits the list to one owner. Raises InvalidCursor for an id of none
    of that owner's crews.

    States follow from jobs. The work of one page is bounded: with a rare state the page may be
    short and still have a cursor.
    """
    crews = reading.table("crews")
    statement = select(crews).where(*_conditions(reading, wanted, owner))
    size = _LOOKED_AT if wanted.states else limit
    found: list[Row] = []
    for _ in range(_LOOKS):
        rows = _crews_after(reading, statement, owner, cursor, size + 1)
        more = len(rows) > size
        rows = rows[:size]
        if rows:
            cursor = rows[-1]["id"]
        if wanted.states:
            counts = crew_counts(reading, [row["id"] for row in rows])
            rows = [row for row in rows if state_of(counts[row["id"]]) in wanted.states]
        found += rows
        if len(found) >= limit:
            beyond = more or len(found) > limit
            return found[:limit], found[limit - 1]["id"] if beyond else None
        if not more:
            return found, None
    return found, cursor


def _crews_after(
    reading: Reading, statement: Select[Any], owner: str | None, cursor: str | None, size: int
) -> list[Row]:
    crews = reading.table("crews")
    if cursor is not None:
        named = select(crews.c.position).where(crews.c.id == cursor)
        seen = reading.rows(named if owner is None else named.where(crews.c.owner == owner))
        if not seen:
            raise InvalidCursor("The cursor is not a crew of this server.")
        statement = statement.where(crews.c.position < seen[0]["position"])
    return reading.rows(statement.order_by(crews.c.position.desc()).limit(size))


def _conditions(
    reading: Reading, wanted: CrewFilter, owner: str | None
) -> list[ColumnElement[bool]]:
    crews = reading.table("crews")
    equal = (
        (crews.c.owner, owner),
        (crews.c.owner, wanted.owner),
        (crews.c.template, wanted.template),
        (crews.c.number, wanted.number),
        (crews.c.schedule, wanted.schedule),
    )
    where: list[ColumnElement[bool]] = [column == one for column, one in equal if one is not None]
    if wanted.created_after is not None:
        where.append(crews.c.created_at >= wanted.created_after)
    if wanted.created_before is not None:
        where.append(crews.c.created_at <= wanted.created_before)
    if wanted.text is not None:
        where.append(
            or_(
                crews.c.id.istartswith(wanted.text, autoescape=True),
                crews.c.name.icontains(wanted.text, autoescape=True),
                crews.c.template.icontains(wanted.text, autoescape=True),
            )
        )
    if wanted.label is not None:
        jobs = reading.table("jobs")
        labelled = select(jobs.c.crew).where(
            jobs.c.deleted == 0, jobs.c.crew.is_not(None), has_label(jobs, wanted.label)
        )
        where.append(crews.c.id.in_(labelled))
    return where


def crew_counts(reading: Reading, crew_ids: list[str]) -> dict[str, dict[str, int]]:
    """The number of jobs of each crew in each state. Deleted jobs do not count. A held job that
    cannot start counts as ``stranded``.
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


def counts_of(jobs: Iterable[Row]) -> dict[str, int]:
    """The same for one crew, from the rows of its jobs."""
    return dict(
        Counter(
            STRANDED
            if job["state"] == JobState.HELD.value and job["stranded_by"] is not None
            else job["state"]
            for job in jobs
            if not job["deleted"]
        )
    )


def state_of(counts: dict[str, int]) -> str:
    """The state of a crew with these jobs; ``deleted`` if there are none."""
    return crew_state(list(counts)) if counts else "deleted"
