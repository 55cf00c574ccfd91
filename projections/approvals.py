"""The approvals view: questions, the people who may answer, and the answers."""

from collections.abc import Callable, Collection
from typing import Any

import orjson
from sqlalchemy import Column, ColumnElement, Integer, Select, String, Table, func, or_, select

from domain.account.email import spellings
from domain.approval.aggregate import (
    ApprovalNotFound,
    ApprovalState,
    approval_id_of,
    approval_stream,
    changes_by,
)
from domain.clock import elapsed_ms
from domain.coverage import types
from domain.errors import InvalidCursor
from domain.job.events import JobState
from domain.log import EventLog, Recorded
from projections.projection import Projection, Row
from projections.reading import Reading


def _columns() -> tuple[Column[Any], ...]:
    return (
        Column("id", String, primary_key=True),
        Column("position", Integer, nullable=False),
        Column("job_id", String, nullable=False),
        Column("attempt", Integer, nullable=False),
        Column("owner", String, nullable=False),
        Column("description", String, nullable=False),
        Column("proposed_action", String),
        Column("explicit", Integer, nullable=False),
        Column("approvers", String, nullable=False),
        Column("state", String, nullable=False),
        Column("comment", String),
        Column("requested_at", String, nullable=False),
        Column("requested_by", String, nullable=False),
        Column("expires_at", String),
        Column("resolved_at", String),
        Column("resolved_by", String),
        Column("by_trust", Integer, nullable=False),
        Column("wait_ms", Integer),
    )


def _key(event: Recorded) -> str:
    return approval_id_of(event.subject) or event.subject


def _columns_of(event: Recorded) -> Row:
    """What the event changes of an approval, as columns."""
    return {
        "job_id" if name == "job" else name: _STORED[name](value) if name in _STORED else value
        for name, value in changes_by(event).items()
    }


_STORED: dict[str, Callable[[Any], Any]] = {
    "state": lambda state: state.value,
    "explicit": int,
    "approvers": lambda approvers: orjson.dumps(approvers).decode(),
}


def _requested(_: Row | None, event: Recorded) -> Row:
    return {
        "id": _key(event),
        "position": event.position,
        "proposed_action": event.data["proposed_action"],
        "comment": None,
        "requested_at": event.at,
        "requested_by": event.actor,
        "resolved_at": None,
        "resolved_by": None,
        "by_trust": 0,
        "wait_ms": None,
        **_columns_of(event),
    }


def _over(row: Row | None, event: Recorded) -> Row | None:
    """None stays None: an event without an earlier request makes no approval."""
    if row is None:
        return None
    over = {
        "resolved_at": event.at,
        "resolved_by": event.actor,
        "by_trust": int(event.data.get("by_trust", False)),
        "wait_ms": elapsed_ms(row["requested_at"], event.at),
    }
    return {**row, **over, **_columns_of(event)}


APPROVALS = Projection(
    name="approvals",
    version=1,
    columns=_columns,
    key=_key,
    folds={
        "approval.requested": _requested,
        "approval.resolved": _over,
        "approval.expired": _over,
        "approval.withdrawn": _over,
    },
    passes_over=types(
        "crew delivery email identity job operator request schedule token user",
    ),
    births=frozenset({"approval.requested"}),
    indexes=(("job_id", "position"), ("state", "position"), ("owner", "position")),
)


def find_approval(reading: Reading, approval_id: str) -> Row:
    """One approval. Raises ApprovalNotFound if there is none or its job was deleted."""
    rows = reading.rows(_of_jobs(reading).where(reading.table("approvals").c.id == approval_id))
    if not rows:
        raise ApprovalNotFound(approval_id)
    return rows[0]


def approvers_of(row: Row) -> list[str]:
    """Who may answer: ``owner`` or e-mail addresses."""
    named: list[str] = orjson.loads(row["approvers"])
    return named


def approval_of_log(log: EventLog, approval_id: str) -> Row:
    """The row that the view has, or will have, of an approval: made from the log with the view's
    folds, so that a command sees its own change. Raises ApprovalNotFound. Blocks on the disk.
    """
    row: Row | None = None
    for event in log.blocking.stream(approval_stream(approval_id)):
        row = APPROVALS.folds[event.type](row, event)
    if row is None:
        raise ApprovalNotFound(approval_id)
    return row


def job_approvals(
    reading: Reading, job_id: str, *, cursor: str | None = None, limit: int | None = None
) -> tuple[list[Row], bool]:
    """The approvals of one job, oldest first, and whether there are more. The cursor is the id of
    the last one on the page before. Raises InvalidCursor for an id of none of them.
    """
    approvals = reading.table("approvals")
    statement = _of_jobs(reading).where(approvals.c.job_id == job_id)
    if cursor is not None:
        last = select(approvals.c.position).where(
            approvals.c.id == cursor, approvals.c.job_id == job_id
        )
        if not reading.rows(last):
            raise InvalidCursor("The cursor is not an approval of this job.")
        statement = statement.where(approvals.c.position > last.scalar_subquery())
    statement = statement.order_by(approvals.c.position)
    if limit is None:
        return reading.rows(statement), False
    rows = reading.rows(statement.limit(limit + 1))
    return rows[:limit], len(rows) > limit


def list_approvals(
    reading: Reading,
    *,
    states: Collection[str] = (),
    owner: str | None = None,
    approver: str | None = None,
    job_id: str | None = None,
    crew: str | None = None,
    cursor: str | None = None,
    limit: int,
) -> tuple[list[Row], bool]:
    """The newest approvals first, and whether there are more. The cursor is the id of the last one
    on the page before.

    With `owner` only approvals of that owner's jobs and, with the e-mail address `approver`, those
    that name this person. Raises InvalidCursor for an id of none of them, in any
    state.
    """
    approvals = reading.table("approvals")
    statement = _inbox(reading, states, owner, approver, job_id, crew)
    if cursor is not None:
        # In any state: an answer since then may have taken it out of the list.
        named = select(approvals.c.position).where(approvals.c.id == cursor)
        seen = reading.rows(named.where(*_concerning(approvals, owner, approver)))
        if not seen:
            raise InvalidCursor("The cursor is not an approval of this server.")
        statement = statement.where(approvals.c.position < seen[0]["position"])
    rows = reading.rows(statement.order_by(approvals.c.position.desc()).limit(limit + 1))
    return rows[:limit], len(rows) > limit


def count_approvals(
    reading: Reading,
    *,
    states: Collection[str] = (),
    owner: str | None = None,
    approver: str | None = None,
    job_id: str | None = None,
    crew: str | None = None,
) -> int:
    """The number of approvals that `list_approvals` lists on all pages."""
    listed = _inbox(reading, states, owner, approver, job_id, crew).subquery()
    return int(reading.connection.execute(select(func.count()).select_from(listed)).scalar_one())


def approvals_with_expiry(reading: Reading) -> list[Row]:
    """Pending approvals with an expiry, as ``id`` and ``expires_at``."""
    approvals = reading.table("approvals")
    return reading.rows(
        select(approvals.c.id, approvals.c.expires_at).where(
            approvals.c.state == ApprovalState.PENDING.value, approvals.c.expires_at.is_not(None)
        )
    )


def approvals_nobody_waits_for(reading: Reading) -> list[str]:
    """The ids of pending approvals whose job does not wait for an answer."""
    approvals, jobs = reading.table("approvals"), reading.table("jobs")
    rows = reading.rows(
        select(approvals.c.id)
        .join(jobs, jobs.c.id == approvals.c.job_id)
        .where(
            approvals.c.state == ApprovalState.PENDING.value,
            jobs.c.state != JobState.WAITING_FOR_APPROVAL.value,
        )
    )
    return [str(row["id"]) for row in rows]


def _inbox(
    reading: Reading,
    states: Collection[str],
    owner: str | None,
    approver: str | None,
    job_id: str | None,
    crew: str | None,
) -> Select[Any]:
    approvals = reading.table("approvals")
    statement = _of_jobs(reading)
    if job_id is not None:
        statement = statement.where(approvals.c.job_id == job_id)
    if crew is not None:
        statement = statement.where(reading.table("jobs").c.crew == crew)
    if states:
        statement = statement.where(approvals.c.state.in_(sorted(states)))
    return statement.where(*_concerning(approvals, owner, approver))


def _concerning(
    approvals: Table, owner: str | None, approver: str | None
) -> list[ColumnElement[bool]]:
    """The condition that limits a list to one person; none without an owner."""
    if owner is None:
        return []
    mine: list[ColumnElement[bool]] = [approvals.c.owner == owner]
    if approver is not None:
        # SQLite folds only ASCII case, which is how addresses are compared.
        for spelling in sorted(spellings(approver)):
            quoted = orjson.dumps(spelling).decode()
            mine.append(approvals.c.approvers.icontains(quoted, autoescape=True))
    return [or_(*mine)]


def _of_jobs(reading: Reading) -> Select[Any]:
    """All approvals except those of deleted jobs."""
    approvals, jobs = reading.table("approvals"), reading.table("jobs")
    return select(approvals).join(jobs, jobs.c.id == approvals.c.job_id).where(jobs.c.deleted == 0)
