"""The jobs view: one row a job, what lists and status are answered from."""

from typing import Any

import orjson
from sqlalchemy import Column, Integer, String, func, or_, select

from domain.errors import InvalidCursor, JobNotFound
from domain.job import JobState, job_id_of
from domain.log import Recorded
from projections.engine import Reading
from projections.projection import Projection, Row


def _columns() -> tuple[Column[Any], ...]:
    return (
        Column("id", String, primary_key=True),
        Column("position", Integer, nullable=False),
        Column("version", Integer, nullable=False),
        Column("state", String, nullable=False),
        Column("kind", String, nullable=False),
        Column("label", String, nullable=False),
        Column("labels", String, nullable=False),
        Column("title", String, nullable=False),
        Column("owner", String, nullable=False),
        Column("argv", String, nullable=False),
        Column("cwd", String, nullable=False),
        Column("env_names", String, nullable=False),
        Column("timeout_ms", Integer, nullable=False),
        Column("parent", String),
        Column("crew", String),
        Column("schedule", String),
        Column("request", String),
        Column("attempt", Integer, nullable=False),
        Column("node", String),
        Column("created_at", String, nullable=False),
        Column("queued_at", String),
        Column("queued_position", Integer),
        Column("started_at", String),
        Column("finished_at", String),
        Column("updated_at", String, nullable=False),
        Column("cancel_requested_at", String),
        Column("exit_code", Integer),
        Column("reason", String),
        Column("error_id", String),
        Column("run_ms", Integer),
        Column("lines", Integer, nullable=False),
        Column("output_bytes", Integer, nullable=False),
        Column("dropped_bytes", Integer, nullable=False),
        Column("progress", String),
        Column("progress_text", String),
        Column("archived_at", String),
        Column("deleted", Integer, nullable=False),
    )


def _key(event: Recorded) -> str:
    return job_id_of(event.subject) or event.subject


def _submitted(_: Row | None, event: Recorded) -> Row:
    data = event.data
    links = data["links"]
    return {
        "id": _key(event),
        "position": event.position,
        "version": event.version,
        "state": JobState.HELD.value,
        "kind": data["kind"],
        "label": data["label"],
        "labels": orjson.dumps(data["labels"]).decode(),
        "title": data["title"],
        "owner": data["owner"],
        "argv": orjson.dumps(data["argv"]).decode(),
        "cwd": data["cwd"],
        "env_names": orjson.dumps(data["env_names"]).decode(),
        "timeout_ms": data["timeout_ms"],
        "parent": links["parent"],
        "crew": links["crew"],
        "schedule": links["schedule"],
        "request": links["request"],
        "attempt": 0,
        "node": None,
        "created_at": event.at,
        "queued_at": None,
        "queued_position": None,
        "started_at": None,
        "finished_at": None,
        "updated_at": event.at,
        "cancel_requested_at": None,
        "exit_code": None,
        "reason": None,
        "error_id": None,
        "run_ms": None,
        "lines": 0,
        "output_bytes": 0,
        "dropped_bytes": 0,
        "progress": None,
        "progress_text": None,
        "archived_at": None,
        "deleted": 0,
    }


def _moved(row: Row | None, event: Recorded, **changes: Any) -> Row | None:
    """The row with changes by an event of the job's own stream. None stays None: a stray event
    makes no job.
    """
    if row is None:
        return None
    return {**row, "version": event.version, "updated_at": event.at, **changes}


def _queued(row: Row | None, event: Recorded) -> Row | None:
    return _moved(
        row,
        event,
        state=JobState.QUEUED.value,
        queued_at=event.at,
        queued_position=event.position,
        cancel_requested_at=None,
        finished_at=None,
    )


def _started(row: Row | None, event: Recorded) -> Row | None:
    data = event.data
    return _moved(
        row,
        event,
        state=JobState.RUNNING.value,
        attempt=data["attempt"],
        node=data["node"],
        started_at=event.at,
    )


def _output(row: Row | None, event: Recorded) -> Row | None:
    if row is None:
        return None
    data = event.data
    return {
        **row,
        "updated_at": event.at,
        "lines": data["first_line"] + len(data["lines"]) - 1,
        "output_bytes": data["end_offset"],
    }


def _dropped(row: Row | None, event: Recorded) -> Row | None:
    if row is None:
        return None
    return {**row, "updated_at": event.at, "dropped_bytes": event.data["bytes"]}


def _progressed(row: Row | None, event: Recorded) -> Row | None:
    data = event.data
    return _moved(row, event, progress=data["fraction"], progress_text=data["text"])


def _cancel_requested(row: Row | None, event: Recorded) -> Row | None:
    return _moved(row, event, cancel_requested_at=event.at)


def _finished(row: Row | None, event: Recorded) -> Row | None:
    data = event.data
    return _moved(
        row,
        event,
        state=data["outcome"],
        finished_at=event.at,
        exit_code=data["exit_code"],
        reason=data["reason"],
        error_id=data["error_id"],
        run_ms=data["run_ms"],
    )


def _archived(row: Row | None, event: Recorded) -> Row | None:
    return _moved(row, event, archived_at=event.at)


def _unarchived(row: Row | None, event: Recorded) -> Row | None:
    return _moved(row, event, archived_at=None)


def _deleted(row: Row | None, event: Recorded) -> Row | None:
    return _moved(row, event, deleted=1)


JOBS = Projection(
    name="jobs",
    version=1,
    columns=_columns,
    key=_key,
    folds={
        "job.submitted": _submitted,
        "job.queued": _queued,
        "job.started": _started,
        "job.output": _output,
        "job.output_dropped": _dropped,
        "job.progressed": _progressed,
        "job.messaged": _moved,
        "job.cancel_requested": _cancel_requested,
        "job.paused": lambda row, event: _moved(row, event, state=JobState.PAUSED.value),
        "job.resumed": lambda row, event: _moved(row, event, state=JobState.RUNNING.value),
        "job.attempt_lost": _moved,
        "job.finished": _finished,
        "job.archived": _archived,
        "job.unarchived": _unarchived,
        "job.deleted": _deleted,
    },
    births=frozenset({"job.submitted"}),
    indexes=(("state", "queued_position"), ("deleted", "position")),
)


def find_job(reading: Reading, job_id: str) -> Row:
    """The row of one job. JobNotFound for an unknown or deleted one."""
    jobs = reading.table("jobs")
    rows = reading.rows(select(jobs).where(jobs.c.id == job_id, jobs.c.deleted == 0))
    if not rows:
        raise JobNotFound(job_id)
    return rows[0]


def list_jobs(
    reading: Reading,
    *,
    states: frozenset[str] = frozenset(),
    label: str | None = None,
    archived: bool | None = None,
    cursor: str | None = None,
    limit: int,
) -> tuple[list[Row], bool]:
    """The newest jobs first, and whether there are more; the cursor is the id of the last one seen.

    Keyset on the position of submission, so a deep page costs what the first one does.
    InvalidCursor for an id that names no job.
    """
    jobs = reading.table("jobs")
    statement = select(jobs).where(jobs.c.deleted == 0)
    if states:
        statement = statement.where(jobs.c.state.in_(sorted(states)))
    if label is not None:
        statement = statement.where(
            or_(jobs.c.label == label, func.instr(jobs.c.labels, orjson.dumps(label).decode()) > 0)
        )
    if archived is not None:
        statement = statement.where(
            jobs.c.archived_at.is_not(None) if archived else jobs.c.archived_at.is_(None)
        )
    if cursor is not None:
        seen = select(jobs.c.position).where(jobs.c.id == cursor).scalar_subquery()
        statement = statement.where(jobs.c.position < seen)
    rows = reading.rows(statement.order_by(jobs.c.position.desc()).limit(limit + 1))
    if cursor is not None and not rows:
        _check_cursor(reading, cursor)
    return rows[:limit], len(rows) > limit


def _check_cursor(reading: Reading, job_id: str) -> None:
    """Tell the end of the list from a cursor that names no job. InvalidCursor for the latter."""
    jobs = reading.table("jobs")
    if not reading.rows(select(jobs.c.id).where(jobs.c.id == job_id)):
        raise InvalidCursor("The cursor names no job of this server.")


def open_jobs(reading: Reading) -> tuple[list[Row], list[Row]]:
    """The queued jobs in the order of queueing, and those that an attempt holds."""
    jobs = reading.table("jobs")
    queued = reading.rows(
        select(jobs).where(jobs.c.state == JobState.QUEUED.value).order_by(jobs.c.queued_position)
    )
    held = (JobState.RUNNING.value, JobState.PAUSED.value, JobState.WAITING_FOR_APPROVAL.value)
    running = reading.rows(select(jobs).where(jobs.c.state.in_(held)).order_by(jobs.c.position))
    return queued, running
