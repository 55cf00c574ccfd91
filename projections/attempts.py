"""The attempts view: one row for each attempt of a job."""

from typing import Any

import orjson
from sqlalchemy import Column, Integer, String, select

from domain.coverage import types
from domain.job.events import job_id_of
from domain.log import Recorded
from projections.projection import Fold, Projection, Row
from projections.reading import Reading


def _columns() -> tuple[Column[Any], ...]:
    return (
        Column("key", String, primary_key=True),
        Column("job_id", String, nullable=False),
        Column("attempt", Integer, nullable=False),
        Column("node", String, nullable=False),
        Column("outcome", String),
        Column("started_at", String, nullable=False),
        Column("ended_at", String),
        Column("exit_code", Integer),
        Column("reason", String),
        Column("error_id", String),
        Column("run_ms", Integer),
        Column("lines", Integer),
        Column("result", String),
        Column("lease_expired", Integer, nullable=False),
    )


def _key(event: Recorded) -> str:
    return f"{job_id_of(event.subject)}/{event.data['attempt']}"


def _started(_: Row | None, event: Recorded) -> Row:
    return {
        "key": _key(event),
        "job_id": job_id_of(event.subject),
        "attempt": event.data["attempt"],
        "node": event.data["node"],
        "outcome": None,
        "started_at": event.at,
        "ended_at": None,
        "exit_code": None,
        "reason": None,
        "error_id": None,
        "run_ms": None,
        "lines": None,
        "result": None,
        "lease_expired": 0,
    }


def _ended(row: Row | None, event: Recorded) -> Row | None:
    """A job that ends between two attempts names the one before, which has already ended."""
    if row is None or row["ended_at"] is not None:
        return row
    data = event.data
    return {
        **row,
        "outcome": data["outcome"],
        "ended_at": event.at,
        "exit_code": data["exit_code"],
        "reason": data["reason"],
        "error_id": data["error_id"],
        "run_ms": data["run_ms"],
        "lines": data["lines"],
    }


def _gave_up(row: Row | None, event: Recorded) -> Row | None:
    return row and ({**row, "outcome": "gave_up"} if event.data["gave_up"] else row)


def _made_stale(row: Row | None, event: Recorded) -> Row | None:
    if row is None or row["ended_at"] is not None:
        return row
    return {**row, "outcome": "stale", "ended_at": event.at, "reason": "A parent is done again."}


def _result_given(row: Row | None, event: Recorded) -> Row | None:
    return row and {**row, "result": orjson.dumps(event.data["result"]).decode()}


def _lease_expired(row: Row | None, _: Recorded) -> Row | None:
    return row and {**row, "lease_expired": 1}


_FOLDS: dict[str, Fold] = {
    "job.started": _started,
    "job.attempt_ended": _ended,
    "job.finished": _ended,
    "job.blocked": _gave_up,
    "job.made_stale": _made_stale,
    "job.result_given": _result_given,
    "job.lease_expired": _lease_expired,
}

ATTEMPTS = Projection(
    name="attempts",
    version=1,
    columns=_columns,
    key=_key,
    folds=_FOLDS,
    passes_over=types(
        "approval crew delivery email identity operator request schedule token user",
        job=(
            "approval_answered approval_requested archived artifact_stored artifacts_dropped "
            "attempt_lost block_asked cancel_requested commented deleted freed messaged output "
            "output_dropped paused progressed queued redone resumed stranded submitted trusted "
            "unarchived unblocked"
        ),
    ),
    births=frozenset({"job.started"}),
    indexes=(("job_id", "attempt"),),
)


def job_attempts(
    reading: Reading, job_id: str, *, after: int, limit: int
) -> tuple[list[Row], bool]:
    """The attempts of one job, first to last, and whether there are more. `after` is the number of
    the last one on the page before.
    """
    attempts = reading.table("attempts")
    rows = reading.rows(
        select(attempts)
        .where(attempts.c.job_id == job_id, attempts.c.attempt > after)
        .order_by(attempts.c.attempt)
        .limit(limit + 1)
    )
    return rows[:limit], len(rows) > limit


def newest_attempts(reading: Reading, job_id: str, limit: int) -> tuple[list[Row], bool]:
    """The last attempts of one job, first to last, and whether there are earlier ones."""
    attempts = reading.table("attempts")
    rows = reading.rows(
        select(attempts)
        .where(attempts.c.job_id == job_id)
        .order_by(attempts.c.attempt.desc())
        .limit(limit + 1)
    )
    return rows[:limit][::-1], len(rows) > limit
