"""The jobs view: one row for each job, from which lists and status are answered."""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
from sqlalchemy import (
    Column,
    ColumnElement,
    Integer,
    Select,
    String,
    Table,
    and_,
    case,
    func,
    or_,
    select,
)

from domain.coverage import types
from domain.errors import InvalidCursor, JobNotFound
from domain.job.board import ARCHIVED, COLUMNS, column_of
from domain.job.events import (
    ENDED,
    JobState,
    job_id_of,
)
from domain.job.transitions import OF_NO_CONSEQUENCE, TRANSITIONS, changes_by
from domain.log import Recorded
from projections.projection import Fold, Projection, Row
from projections.reading import Reading


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
        Column("cwd", String, nullable=False),
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
        Column("active", Integer, nullable=False),
        Column("failures", Integer, nullable=False),
        Column("block_reason", String),
        Column("gave_up", Integer, nullable=False),
        Column("stranded_by", String),
        Column("pending", String, nullable=False),
        Column("brief", String),
        # Large columns are last: SQLite reads a row up to the last column that is asked for.
        Column("argv", String, nullable=False),
        Column("env_names", String, nullable=False),
        Column("plan", String),
        Column("result", String),
    )


_SHORT_TEXT = 300
_SHORT_LIST = 20
_LONGEST = 2_000
"""Most characters of a list, a plan or a result that job lists show unshortened."""


def _brief(argv: list[str], env_names: list[str], plan: dict[str, Any] | None) -> str | None:
    """The short forms of these columns for job lists, and under ``cut`` the names of those that are
    not whole; None if all are short.
    """
    brief: dict[str, Any] = {"argv": argv, "env_names": env_names, "plan": plan}
    cut = [name for name in ("argv", "env_names") if _length(brief[name]) > _LONGEST]
    for name in cut:
        brief[name] = [shortened(text) for text in brief[name][:_SHORT_LIST]]
    if plan is not None and len(orjson.dumps(plan)) > _LONGEST:
        cut.append("plan")
        schema = plan["result_schema"]
        kept = schema is not None and len(orjson.dumps(schema)) <= _LONGEST
        body = shortened(plan["body"])
        brief["plan"] = {**plan, "body": body, "result_schema": schema if kept else None}
    return orjson.dumps({**brief, "cut": cut}).decode() if cut else None


def _length(texts: list[str]) -> int:
    return sum(map(len, texts)) + 4 * len(texts)


def exit_code(row: Row) -> int | None:
    """The exit code of the last attempt, while the job is in the state in which that attempt left
    it; None while it waits for another attempt, or has one running.
    """
    state = JobState(row["state"])
    code: int | None = row["exit_code"]
    return code if state in ENDED or state is JobState.BLOCKED else None


def failure(row: Row) -> str | None:
    """Why a job has failed or timed out, as a sentence; None if it has not."""
    state = JobState(row["state"])
    if state is JobState.TIMED_OUT:
        return row["reason"] or "The time limit passed."
    if state is not JobState.FAILED:
        return None
    if row["reason"]:
        return str(row["reason"])
    code = row["exit_code"]
    if code is not None and code < 0:
        return f"Killed by signal {-code}."
    return f"Exit code {code}."


def shortened(text: str) -> str:
    """The text, or its beginning with an ellipsis."""
    return text if len(text) <= _SHORT_TEXT else text[:_SHORT_TEXT] + "…"


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
        "active": 0,
        "plan": None if data["plan"] is None else orjson.dumps(data["plan"]).decode(),
        "failures": 0,
        "block_reason": None,
        "gave_up": 0,
        "stranded_by": None,
        "pending": "[]",
        "brief": _brief(data["argv"], data["env_names"], data["plan"]),
        "result": None,
    }


class _Stands:
    """A job's state by its row, for the transitions; most of them read nothing of it."""

    __slots__ = ("_row",)

    def __init__(self, row: Row) -> None:
        self._row = row

    @property
    def state(self) -> JobState:
        return JobState(self._row["state"])

    @property
    def active(self) -> bool:
        return bool(self._row["active"])

    @property
    def failures(self) -> int:
        return int(self._row["failures"])

    @property
    def pending(self) -> tuple[str, ...]:
        return tuple(orjson.loads(self._row["pending"]))


def _json(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value).decode()


_STORED: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "state": ("state", lambda state: state.value),
    "active": ("active", int),
    "gave_up": ("gave_up", int),
    "deleted": ("deleted", int),
    "pending": ("pending", _json),
    "given": ("result", _json),
}
"""Column and stored form of the job's fields that are not stored as they are."""


def _moved(row: Row | None, event: Recorded) -> Row | None:
    """The row after an event of the job's own stream. None stays None: an event without a
    submission makes no job.
    """
    if row is None:
        return None
    after = {**row, "version": event.version, "updated_at": event.at}
    for name, value in changes_by(event, _Stands(row)).items():
        stored = _STORED.get(name)
        if stored is None:
            after[name] = value
        else:
            after[stored[0]] = stored[1](value)
    shown = _SHOWN.get(event.type)
    return after if shown is None else after | shown(event)


def _ended(event: Recorded) -> Row:
    data = event.data
    return {name: data[name] for name in ("exit_code", "reason", "error_id", "run_ms")}


_SHOWN: dict[str, Callable[[Recorded], Row]] = {
    "job.queued": lambda event: {"queued_at": event.at, "queued_position": event.position},
    "job.progressed": lambda event: {
        "progress": event.data["fraction"],
        "progress_text": event.data["text"],
    },
    "job.attempt_ended": _ended,
    "job.finished": lambda event: {"block_reason": None, **_ended(event)},
    "job.blocked": lambda event: {"block_reason": event.data["reason"]},
    "job.unblocked": lambda _: {"block_reason": None},
    "job.redone": lambda _: {"block_reason": None},
    "job.made_stale": lambda _: {"block_reason": None},
}
"""Columns that only the view needs, beside the shared transitions."""


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


_FOLDS: dict[str, Fold] = {
    **dict.fromkeys((*TRANSITIONS, *OF_NO_CONSEQUENCE), _moved),
    "job.submitted": _submitted,
    "job.output": _output,
    "job.output_dropped": _dropped,
}

JOBS = Projection(
    name="jobs",
    version=4,
    columns=_columns,
    key=_key,
    folds=_FOLDS,
    passes_over=types(
        "approval crew delivery email identity operator request schedule token user",
    ),
    births=frozenset({"job.submitted"}),
    indexes=(
        ("state", "queued_position"),
        ("deleted", "position"),
        ("owner", "position"),
        ("crew",),
        ("schedule", "state"),
    ),
)


def first_row(events: Sequence[Recorded]) -> Row:
    """The row of a job after its first events; see `first_rows`."""
    return next(iter(first_rows(events).values()))


def first_rows(events: Iterable[Recorded]) -> dict[str, Row]:
    """The rows of new jobs by id, in the order of their submission, after an append that made them.
    The view's own folds make them, so that the caller need not wait for the view.
    """
    rows: dict[str, Row] = {}
    for event in events:
        fold = JOBS.folds.get(event.type)
        if fold is not None:
            job_id = JOBS.key(event)
            row = fold(rows.get(job_id), event)
            assert row is not None
            rows[job_id] = row
    return rows


def find_job(reading: Reading, job_id: str) -> Row:
    """The row of one job. Raises JobNotFound for an unknown or deleted one."""
    jobs = reading.table("jobs")
    rows = reading.rows(select(jobs).where(jobs.c.id == job_id, jobs.c.deleted == 0))
    if not rows:
        raise JobNotFound(job_id)
    return rows[0]


def list_jobs(
    reading: Reading,
    *,
    states: frozenset[str] = frozenset(),
    status: str | None = None,
    text: str | None = None,
    label: str | None = None,
    archived: bool | None = None,
    owner: str | None = None,
    crew: str | None = None,
    schedule: str | None = None,
    conditions: Sequence[Callable[[Table], ColumnElement[bool]]] = (),
    cursor: str | None = None,
    limit: int,
) -> tuple[list[Row], bool]:
    """The newest jobs first, and whether there are more. The cursor is the id of the last job on
    the page before. `states` are from STATES. The rows are short ones: see `in_list`.

    A page starts at a position of submission, so a deep page costs what the first one does. Raises
    InvalidCursor for an id of no job, or of a job of another owner.
    """
    jobs = reading.table("jobs")
    statement = in_list(jobs).where(jobs.c.deleted == 0)
    if states:
        statement = statement.where(or_(*(STATES[state](jobs) for state in sorted(states))))
    if status is not None:
        statement = statement.where(*in_column(jobs, status))
    if text:
        statement = statement.where(_says(reading, text))
    if label is not None:
        statement = statement.where(has_label(jobs, label))
    for column, wanted in ((jobs.c.owner, owner), (jobs.c.crew, crew), (jobs.c.schedule, schedule)):
        if wanted is not None:
            statement = statement.where(column == wanted)
    if archived is not None:
        statement = statement.where(
            jobs.c.archived_at.is_not(None) if archived else jobs.c.archived_at.is_(None)
        )
    statement = statement.where(*(condition(jobs) for condition in conditions))
    if cursor is not None:
        seen = _named(jobs, cursor, owner)
        statement = statement.where(jobs.c.position < seen.scalar_subquery())
    rows = reading.rows(statement.order_by(jobs.c.position.desc()).limit(limit + 1))
    # The end of the list, or no cursor of it.
    if cursor is not None and not rows and not reading.rows(_named(jobs, cursor, owner)):
        raise InvalidCursor("The cursor is not a job of this server.")
    return list(map(_overlaid, rows[:limit])), len(rows) > limit


def _named(jobs: Table, job_id: str, owner: str | None) -> Select[Any]:
    """Where a job is, if the owner has it; one that was deleted is still a cursor."""
    found = select(jobs.c.position).where(jobs.c.id == job_id)
    return found if owner is None else found.where(jobs.c.owner == owner)


@lru_cache(maxsize=8)  # to make it costs as much as to execute it
def in_list(jobs: Table, *, result: bool = False) -> Select[Any]:
    """A select of short rows: each costs the same, however large the job's data.

    `_overlaid` makes rows of its result, with ``shortened``: the columns that are not whole.
    """
    large = {"argv", "env_names", "plan"}
    columns: list[Any] = [column for column in jobs.c if column.name not in large | {"result"}]
    columns += [case((jobs.c.brief.is_(None), jobs.c[name])).label(name) for name in sorted(large)]
    fits = func.length(jobs.c.result) <= _LONGEST
    if result:
        columns.append(jobs.c.result)
    else:
        columns.append(case((fits, jobs.c.result)).label("result"))
        columns.append(case((fits, 0), (jobs.c.result.is_not(None), 1), else_=0).label("cut"))
    return select(*columns)


def _overlaid(row: Row) -> Row:
    cut = ["result"] if row.pop("cut", 0) else []
    if row["brief"] is not None:
        brief = orjson.loads(row["brief"])
        cut += brief["cut"]
        row["argv"] = orjson.dumps(brief["argv"]).decode()
        row["env_names"] = orjson.dumps(brief["env_names"]).decode()
        row["plan"] = None if brief["plan"] is None else orjson.dumps(brief["plan"]).decode()
    row["shortened"] = cut
    return row


def has_label(jobs: Table, label: str) -> ColumnElement[bool]:
    listed = func.instr(jobs.c.labels, orjson.dumps(label).decode()) > 0
    return or_(jobs.c.label == label, listed)


def _says(reading: Reading, text: str) -> ColumnElement[bool]:
    """Whether a job has this text in its id, titles, labels, names or command. Case counts only for
    letters beyond ASCII.
    """
    jobs, crews = reading.table("jobs"), reading.table("crews")
    named = select(crews.c.id).where(crews.c.name.icontains(text, autoescape=True))
    inside = orjson.dumps(text).decode()[1:-1]  # as it is in a JSON column
    return or_(
        jobs.c.id.istartswith(text, autoescape=True),
        *(
            column.icontains(text, autoescape=True)
            for column in (jobs.c.title, jobs.c.label, jobs.c.cwd)
        ),
        *(
            column.icontains(inside, autoescape=True)
            for column in (jobs.c.labels, jobs.c.argv, jobs.c.plan)
        ),
        jobs.c.crew.in_(named),
    )


def _in(*states: JobState) -> Callable[[Table], ColumnElement[bool]]:
    return lambda jobs: jobs.c.state.in_([state.value for state in states])


def _blocked_and(gave_up: int) -> Callable[[Table], ColumnElement[bool]]:
    return lambda jobs: and_(jobs.c.state == JobState.BLOCKED.value, jobs.c.gave_up == gave_up)


STATES: dict[str, Callable[[Table], ColumnElement[bool]]] = {
    "held": _in(JobState.HELD),
    "queued": _in(JobState.QUEUED),
    "running": _in(JobState.RUNNING, JobState.PAUSED),
    "waiting_for_approval": _in(JobState.WAITING_FOR_APPROVAL),
    "blocked": _blocked_and(0),
    "review": _in(JobState.REVIEW),
    "completed": _in(JobState.COMPLETED),
    "failed": lambda jobs: or_(
        _in(JobState.FAILED, JobState.TIMED_OUT)(jobs), _blocked_and(1)(jobs)
    ),
    "timed_out": _in(JobState.TIMED_OUT),
    "cancelled": _in(JobState.CANCELLED),
}
"""The states that filters use. ``failed`` includes jobs that gave up or timed out; the latter can
also be asked for by themselves.
"""


def in_column(jobs: Table, column: str) -> list[ColumnElement[bool]]:
    """The condition for a column of the board."""
    if column == ARCHIVED:
        return [jobs.c.archived_at.is_not(None)]
    idle = {state for state in JobState if column_of(state, active=False) == column}
    active = {state for state in JobState if column_of(state, active=True) == column}
    where: list[ColumnElement[bool]] = [
        jobs.c.archived_at.is_(None),
        jobs.c.state.in_(sorted(idle | active)),
    ]
    for states, flag in ((idle - active, 0), (active - idle, 1)):
        if states:
            where.append(or_(jobs.c.state.not_in(sorted(states)), jobs.c.active == flag))
    return where


def jobs_of_ids(reading: Reading, job_ids: list[str]) -> list[Row]:
    """Short rows of these jobs, but with the whole result. Includes deleted ones; in no order."""
    if not job_ids:
        return []
    jobs = reading.table("jobs")
    rows = reading.rows(in_list(jobs, result=True).where(jobs.c.id.in_(job_ids)))
    return list(map(_overlaid, rows))


def jobs_of_kind(reading: Reading, kind: str, after: int) -> list[Row]:
    """The jobs of a kind that were submitted after a position, in that order, as ``id``,
    ``position``, ``label`` and ``argv``. Reads only what was submitted since.
    """
    jobs = reading.table("jobs")
    statement = select(jobs.c.id, jobs.c.position, jobs.c.label, jobs.c.argv).where(
        jobs.c.deleted == 0, jobs.c.position > after, jobs.c.kind == kind
    )
    return reading.rows(statement.order_by(jobs.c.position))


class BoardColumn(NamedTuple):
    """A column of the board."""

    size: int
    """How many jobs it has."""
    waits: bool
    """Whether one of them waits for a person."""
    newest: list[Row]


_CALLING = [JobState.WAITING_FOR_APPROVAL.value, JobState.BLOCKED.value]


def board_jobs(
    reading: Reading,
    *,
    owner: str | None,
    text: str | None = None,
    crew: str | None = None,
    limit: int,
) -> dict[str, BoardColumn]:
    """The columns of the board, each with its newest jobs."""
    jobs = reading.table("jobs")
    shown: dict[str, BoardColumn] = {}
    for status in (*COLUMNS, ARCHIVED):
        where = [jobs.c.deleted == 0, *in_column(jobs, status)]
        if owner is not None:
            where.append(jobs.c.owner == owner)
        if crew is not None:
            where.append(jobs.c.crew == crew)
        if text:
            where.append(_says(reading, text))
        count = reading.connection.execute(
            select(func.count()).select_from(jobs).where(*where)
        ).scalar_one()
        if not count:
            shown[status] = BoardColumn(0, False, [])
            continue
        newest = in_list(jobs).where(*where).order_by(jobs.c.position.desc()).limit(limit)
        calling = select(jobs.c.id).where(*where, jobs.c.state.in_(_CALLING)).limit(1)
        waits = status != ARCHIVED and bool(reading.rows(calling))
        shown[status] = BoardColumn(count, waits, list(map(_overlaid, reading.rows(newest))))
    return shown


def jobs_held_until(reading: Reading, now: str) -> list[Row]:
    """Jobs with a start time, as ``id`` and ``not_before``: all held ones, and all whose time is in
    the future, because any job may be done again.
    """
    jobs = reading.table("jobs")
    until = func.json_extract(jobs.c.plan, "$.not_before")
    statement = select(jobs.c.id, until.label("not_before")).where(
        jobs.c.plan.is_not(None),
        until.is_not(None),
        or_(jobs.c.state == JobState.HELD.value, until > now),
    )
    return reading.rows(statement)


class OpenJobs(NamedTuple):
    """What a dispatcher needs at its start."""

    queued: list[Row]
    """In the order of queueing."""
    active: list[Row]
    """An attempt holds them."""


def open_jobs(reading: Reading) -> OpenJobs:
    jobs = reading.table("jobs")
    queued = in_list(jobs).where(jobs.c.state == JobState.QUEUED.value)
    holding = (
        JobState.RUNNING.value,
        JobState.PAUSED.value,
        JobState.WAITING_FOR_APPROVAL.value,
    )
    return OpenJobs(
        reading.rows(queued.order_by(jobs.c.queued_position)),
        reading.rows(in_list(jobs).where(jobs.c.state.in_(holding), jobs.c.active == 1)),
    )
