"""The comments view: what people and workers wrote on a job."""

from typing import Any

from sqlalchemy import Column, Integer, String, select

from domain.coverage import types
from domain.job.events import job_id_of
from domain.log import Recorded
from projections.projection import Projection, Row
from projections.reading import Reading


def _columns() -> tuple[Column[Any], ...]:
    return (
        Column("position", Integer, primary_key=True),
        Column("job_id", String, nullable=False),
        Column("author", String, nullable=False),
        Column("body", String, nullable=False),
        Column("at", String, nullable=False),
    )


def _commented(_: Row | None, event: Recorded) -> Row:
    return {
        "position": event.position,
        "job_id": job_id_of(event.subject),
        "author": event.actor,
        "body": event.data["text"],
        "at": event.at,
    }


COMMENTS = Projection(
    name="comments",
    version=1,
    columns=_columns,
    key=lambda event: event.position,
    folds={"job.commented": _commented},
    passes_over=types(
        "approval crew delivery email identity operator request schedule token user",
        job=(
            "approval_answered approval_requested archived artifact_stored artifacts_dropped "
            "attempt_ended attempt_lost block_asked blocked cancel_requested deleted finished "
            "freed lease_expired made_stale messaged output output_dropped paused progressed "
            "queued redone result_given resumed started stranded submitted trusted unarchived "
            "unblocked"
        ),
    ),
    births=frozenset({"job.commented"}),
    indexes=(("job_id", "position"),),
)


def job_comments(
    reading: Reading, job_id: str, newest: int, *, before: int | None = None
) -> tuple[list[Row], bool]:
    """The newest comments on one job before a position, oldest first, and whether there are
    earlier ones.
    """
    comments = reading.table("comments")
    statement = select(comments).where(comments.c.job_id == job_id)
    if before is not None:
        statement = statement.where(comments.c.position < before)
    rows = reading.rows(statement.order_by(comments.c.position.desc()).limit(newest + 1))
    return rows[newest - 1 :: -1], len(rows) > newest


def comment_at(reading: Reading, position: int) -> Row:
    """The comment whose event is at a position of the log."""
    comments = reading.table("comments")
    (row,) = reading.rows(select(comments).where(comments.c.position == position))
    return row
