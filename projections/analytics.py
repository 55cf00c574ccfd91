"""Analytics: one narrow row for each job, from which any period is summed up."""

from typing import Any

from sqlalchemy import Column, ColumnElement, Integer, String, and_, func, select

from domain.clock import elapsed_ms
from domain.coverage import types
from domain.job.events import (
    job_id_of,
)
from domain.log import Recorded
from projections.projection import Projection, Row
from projections.reading import Reading
from projections.summaries import (
    approvals_summary,
    crews_summary,
    ranked,
    schedules_summary,
)


def _columns() -> tuple[Column[Any], ...]:
    return (
        Column("job_id", String, primary_key=True),
        Column("day", String, nullable=False),
        Column("created_at", String, nullable=False),
        Column("label", String, nullable=False),
        Column("owner", String, nullable=False),
        Column("outcome", String),
        Column("queued_at", String),
        Column("wait_ms", Integer),
        Column("run_ms", Integer),
        Column("lines", Integer, nullable=False),
        Column("attempts", Integer, nullable=False),
    )


def _submitted(_: Row | None, event: Recorded) -> Row:
    return {
        "job_id": job_id_of(event.subject),
        "day": event.at[:10],
        "created_at": event.at,
        "label": event.data["label"],
        "owner": event.data["owner"],
        "outcome": None,
        "queued_at": None,
        "wait_ms": None,
        "run_ms": None,
        "lines": 0,
        "attempts": 0,
    }


def _queued(row: Row | None, event: Recorded) -> Row | None:
    return row and {**row, "queued_at": event.at, "outcome": None}


def _started(row: Row | None, event: Recorded) -> Row | None:
    if row is None:
        return None
    wait = elapsed_ms(row["queued_at"], event.at) if row["queued_at"] else 0
    return {**row, "wait_ms": wait, "attempts": event.data["attempt"]}


def _blocked(row: Row | None, event: Recorded) -> Row | None:
    # A job that gave up counts as failed, though a person may still have it done again.
    return row and {**row, "outcome": "failed" if event.data["gave_up"] else "blocked"}


def _open_again(row: Row | None, _: Recorded) -> Row | None:
    return row and {**row, "outcome": None}


def _finished(row: Row | None, event: Recorded) -> Row | None:
    data = event.data
    return row and {
        **row,
        "outcome": data["outcome"],
        "run_ms": data["run_ms"] if data["attempt"] else None,
        "lines": data["lines"],
    }


ANALYTICS = Projection(
    name="analytics",
    version=3,
    columns=_columns,
    key=lambda event: job_id_of(event.subject),
    folds={
        "job.submitted": _submitted,
        "job.queued": _queued,
        "job.started": _started,
        "job.blocked": _blocked,
        "job.unblocked": _open_again,
        "job.redone": _open_again,
        "job.made_stale": _open_again,
        "job.finished": _finished,
    },
    passes_over=types(
        "approval crew delivery email identity operator request schedule token user",
        job=(
            "approval_answered approval_requested archived artifact_stored artifacts_dropped "
            "attempt_ended attempt_lost block_asked cancel_requested commented deleted freed "
            "lease_expired messaged output output_dropped paused progressed result_given resumed "
            "stranded trusted unarchived"
        ),
    ),
    births=frozenset({"job.submitted"}),
    indexes=(("created_at",),),
)


def overview(
    reading: Reading, since: str, owner: str | None = None, approver: str | None = None
) -> dict[str, Any]:
    """Sums over jobs created since a time (ISO 8601 in UTC), of one owner or of all, by outcome,
    label and day. Times in milliseconds. `approver` is the owner's e-mail address.
    """
    facts = reading.table("analytics")
    period: ColumnElement[bool] = facts.c.created_at >= since
    if owner is not None:
        period = and_(period, facts.c.owner == owner)
    by_outcome = {
        outcome or "open": count
        for outcome, count in reading.connection.execute(
            select(facts.c.outcome, func.count()).where(period).group_by(facts.c.outcome)
        )
    }
    # A cancelled job says nothing about its quality.
    undecided = ("open", "blocked", "cancelled")
    judged = sum(count for outcome, count in by_outcome.items() if outcome not in undecided)
    completed = by_outcome.get("completed", 0)
    lines = reading.connection.execute(select(func.sum(facts.c.lines)).where(period)).scalar()
    return {
        "totalJobs": sum(by_outcome.values()),
        "byOutcome": by_outcome,
        "byLabel": _grouped(reading, facts.c.label, period, "label"),
        "byDay": _grouped(reading, facts.c.day, period, "day"),
        "successRate": round(completed / judged, 4) if judged else None,
        "queueWaitMs": _measured(reading, facts.c.wait_ms, period),
        "runTimeMs": _measured(reading, facts.c.run_ms, period),
        "outputLines": int(lines or 0),
        "crews": crews_summary(reading, since, owner),
        "schedules": schedules_summary(reading, since, owner),
        "approvals": approvals_summary(reading, since, owner, approver),
    }


def _grouped(
    reading: Reading, column: Any, period: ColumnElement[bool], name: str
) -> list[dict[str, Any]]:
    facts = reading.table("analytics")
    groups: dict[str, dict[str, Any]] = {}
    rows = reading.connection.execute(
        select(column, facts.c.outcome, func.count(), func.sum(facts.c.lines))
        .where(period)
        .group_by(column, facts.c.outcome)
        .order_by(column)
    )
    for value, outcome, count, lines in rows:
        group = groups.setdefault(
            value, {name: value, "total": 0, "byOutcome": {}, "outputLines": 0}
        )
        group["total"] += count
        group["byOutcome"][outcome or "open"] = count
        group["outputLines"] += lines
    return list(groups.values())


def _measured(reading: Reading, column: Any, period: ColumnElement[bool]) -> dict[str, Any]:
    return ranked(reading, column, [period, column.is_not(None)], {"p50": 50, "p95": 95})
