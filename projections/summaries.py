"""Sums over the crews, schedules and approvals of a period, made from their views."""

from typing import Any

from sqlalchemy import ColumnElement, Table, func, select

from domain.approval.aggregate import ApprovalState
from projections.approvals import count_approvals
from projections.crews import crew_counts, state_of
from projections.reading import Reading

_CREWS = 10_000
"""Crews whose states are counted. If there are more, the newest ones stand for all."""


def crews_summary(reading: Reading, since: str, owner: str | None = None) -> dict[str, Any]:
    """Crews committed since a time, by state and by template."""
    crews = reading.table("crews")
    period: list[ColumnElement[bool]] = [crews.c.created_at >= since]
    if owner is not None:
        period.append(crews.c.owner == owner)
    by_template = {
        template: int(count)
        for template, count in reading.connection.execute(
            select(crews.c.template, func.count()).where(*period).group_by(crews.c.template)
        )
    }
    newest = select(crews.c.id).where(*period).order_by(crews.c.position.desc()).limit(_CREWS)
    ids = [row["id"] for row in reading.rows(newest)]
    by_state: dict[str, int] = {}
    for start in range(0, len(ids), 500):
        for counts in crew_counts(reading, ids[start : start + 500]).values():
            state = state_of(counts)
            by_state[state] = by_state.get(state, 0) + 1
    total = sum(by_template.values())
    return {"total": total, "byState": by_state, "byTemplate": by_template}


def schedules_summary(reading: Reading, since: str, owner: str | None = None) -> dict[str, Any]:
    """Firings since a time: their outcomes, and how late they were in milliseconds.

    Lateness is only of firings at their time, and not of caught-up firings or firings by hand.
    """
    firings, schedules = reading.table("firings"), reading.table("schedules")
    period: list[ColumnElement[bool]] = [firings.c.nominal >= since]
    if owner is not None:
        mine = select(schedules.c.id).where(schedules.c.owner == owner)
        period.append(firings.c.schedule.in_(mine))
    by_outcome = {
        outcome or "open": int(count)
        for outcome, count in reading.connection.execute(
            select(firings.c.outcome, func.sum(firings.c.count))
            .where(*period)
            .group_by(firings.c.outcome)
        )
    }
    caught_up = reading.connection.execute(
        select(func.count()).select_from(firings).where(*period, firings.c.catch_up == 1)
    ).scalar_one()
    on_time = [
        *period,
        firings.c.catch_up == 0,
        firings.c.manual == 0,
        firings.c.late_ms.is_not(None),
    ]
    return {
        "firings": sum(n for outcome, n in by_outcome.items() if outcome != "missed"),
        "spawned": by_outcome.get("spawned", 0),
        "skipped": by_outcome.get("skipped", 0),
        "failed": by_outcome.get("failed", 0),
        "missed": by_outcome.get("missed", 0),
        "caughtUp": int(caught_up),
        "latenessMs": ranked(reading, firings.c.late_ms, on_time, {"p50": 50, "p99": 99}),
    }


def approvals_summary(
    reading: Reading, since: str, owner: str | None = None, approver: str | None = None
) -> dict[str, Any]:
    """Approvals asked since a time, by state, and the time until people answered, in milliseconds.
    `pending` are all that wait in the inbox now, whenever they were asked, including those that
    name the address `approver`.
    """
    approvals = reading.table("approvals")
    theirs: list[ColumnElement[bool]] = [] if owner is None else [approvals.c.owner == owner]
    period = [approvals.c.requested_at >= since, *theirs]
    by_state = {
        state: int(count)
        for state, count in reading.connection.execute(
            select(approvals.c.state, func.count()).where(*period).group_by(approvals.c.state)
        )
    }
    return {
        "total": sum(by_state.values()),
        "pending": count_approvals(
            reading, states=(ApprovalState.PENDING.value,), owner=owner, approver=approver
        ),
        "byState": by_state,
        "waitMs": ranked(
            reading, approvals.c.wait_ms, [*period, *_answered(approvals)], {"p50": 50, "p95": 95}
        ),
    }


def _answered(approvals: Table) -> list[ColumnElement[bool]]:
    """Answered by a person, and to the question itself: trust answers at once."""
    return [approvals.c.state.in_(["approved", "rejected"]), approvals.c.by_trust == 0]


def ranked(
    reading: Reading, column: Any, where: list[ColumnElement[bool]], ranks: dict[str, int]
) -> dict[str, Any]:
    """Percentiles of a column by nearest rank; nulls if there are no values."""
    count = int(
        reading.connection.execute(
            select(func.count()).where(*where).select_from(column.table)
        ).scalar_one()
    )
    found: dict[str, Any] = {"count": count}
    for name, percent in ranks.items():
        found[name] = None
        if count:
            offset = max(0, -(-percent * count // 100) - 1)
            found[name] = reading.connection.execute(
                select(column).where(*where).order_by(column).limit(1).offset(offset)
            ).scalar()
    return found
