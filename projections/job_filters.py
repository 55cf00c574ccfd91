"""Filters of job lists over the jobs view, in the native terms."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Table, and_, func

from domain.job.events import JobState
from projections.jobs import list_jobs
from projections.projection import Row
from projections.reading import Reading

GAVE_UP = "gave_up"
"""A blocked job whose retries are used up. ``blocked`` selects the other blocked jobs."""

STANDINGS = (*(state.value for state in JobState), GAVE_UP)
"""The states that a filter takes."""

Condition = Callable[[Table], ColumnElement[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs to show. None and empty select all. Times are in the log's form, and bounds
    are inclusive.
    """

    ids: frozenset[str] = frozenset()
    states: frozenset[str] = frozenset()
    """From STANDINGS."""
    outcomes: frozenset[str] = frozenset()
    column: str | None = None
    """A column of the board."""
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

    @property
    def rare(self) -> bool:
        """Whether few jobs may match, so that every job may have to be looked at. No event loop
        should wait for that.
        """
        return self != JobFilter(ids=self.ids, owner=self.owner, crew=self.crew)

    def conditions(self) -> Iterator[Condition]:
        """The conditions for which `list_jobs` has no parameter."""
        if self.ids:
            yield lambda jobs: jobs.c.id.in_(sorted(self.ids))
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
    """The newest jobs that `wanted` selects, as `list_jobs` returns them. `owner` limits the list
    to one owner.
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
