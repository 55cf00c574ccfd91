"""Which jobs a list is to show: filters over the jobs view, in our own words."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Table, and_, func

from domain.job.events import JobState
from projections.engine import Reading
from projections.jobs import list_jobs
from projections.projection import Row

GAVE_UP = "gave_up"
"""How a blocked job stands whose retries are used up. ``blocked`` are the others."""

STANDINGS = (*(state.value for state in JobState), GAVE_UP)
"""What can be asked for as a state."""

Condition = Callable[[Table], ColumnElement[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """What a job must be to be shown; None and empty ask for nothing. Times are as the log writes
    them, and bounds are part of what they bound.
    """

    states: frozenset[str] = frozenset()
    """Of STANDINGS."""
    outcomes: frozenset[str] = frozenset()
    column: str | None = None
    """Of the board."""
    owner: str | None = None
    label: str | None = None
    crew: str | None = None
    template: str | None = None
    schedule: str | None = None
    kind: str | None = None
    text: str | None = None
    archived: bool | None = None
    created_after: str | None = None
    created_before: str | None = None
    ended_after: str | None = None
    ended_before: str | None = None

    def conditions(self) -> Iterator[Condition]:
        """What `list_jobs` has no parameter for."""
        if self.states:
            yield lambda jobs: _standing(jobs).in_(sorted(self.states))
        if self.outcomes:
            yield lambda jobs: jobs.c.state.in_(sorted(self.outcomes))
        if self.owner is not None:
            yield lambda jobs: jobs.c.owner == self.owner
        if self.kind is not None:
            yield lambda jobs: jobs.c.kind == self.kind
        if self.template is not None:
            # Jobs of a crew have their template as their label.
            yield lambda jobs: and_(jobs.c.label == self.template, jobs.c.plan.is_not(None))
        if self.created_after is not None:
            yield lambda jobs: jobs.c.created_at >= self.created_after
        if self.created_before is not None:
            yield lambda jobs: jobs.c.created_at <= self.created_before
        if self.ended_after is not None:
            yield lambda jobs: jobs.c.finished_at >= self.ended_after
        if self.ended_before is not None:
            yield lambda jobs: jobs.c.finished_at <= self.ended_before


def _standing(jobs: Table) -> ColumnElement[str]:
    blocked = and_(jobs.c.state == JobState.BLOCKED.value, jobs.c.gave_up == 1)
    standing: ColumnElement[str] = func.iif(blocked, GAVE_UP, jobs.c.state)
    return standing


def filtered_jobs(
    reading: Reading,
    wanted: JobFilter,
    *,
    owner: str | None,
    cursor: str | None,
    limit: int,
) -> tuple[list[Row], bool]:
    """The newest jobs first that `wanted` selects, as `list_jobs` gives them; `owner` is to whom
    the list is limited.
    """
    return list_jobs(
        reading,
        status=wanted.column,
        text=wanted.text,
        label=wanted.label,
        archived=wanted.archived,
        owner=owner,
        crew=wanted.crew,
        schedule=wanted.schedule,
        conditions=tuple(wanted.conditions()),
        cursor=cursor,
        limit=limit,
    )
