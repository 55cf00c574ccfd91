"""The output index: the place in the log of each line of a job, so that a reader can start
at any line.
"""

from typing import Any

from sqlalchemy import Column, Integer, String, select

from domain.coverage import types
from domain.job.events import (
    job_id_of,
)
from domain.log import Recorded
from projections.projection import Projection, Row
from projections.reading import Reading


def _columns() -> tuple[Column[Any], ...]:
    return (
        Column("position", Integer, primary_key=True),
        Column("job_id", String, nullable=False),
        Column("attempt", Integer, nullable=False),
        Column("first_line", Integer, nullable=False),
        Column("lines", Integer, nullable=False),
        Column("end_offset", Integer, nullable=False),
    )


def _entry(_: Row | None, event: Recorded) -> Row:
    data = event.data
    return {
        "position": event.position,
        "job_id": job_id_of(event.subject),
        "attempt": data["attempt"],
        "first_line": data["first_line"],
        "lines": len(data["lines"]),
        "end_offset": data["end_offset"],
    }


OUTPUT = Projection(
    name="output",
    version=1,
    columns=_columns,
    key=lambda event: event.position,
    folds={"job.output": _entry},
    passes_over=types(
        "approval crew delivery email identity operator request schedule token user",
        job=(
            "approval_answered approval_requested archived artifact_stored artifacts_dropped "
            "attempt_ended attempt_lost block_asked blocked cancel_requested commented deleted "
            "finished freed lease_expired made_stale messaged output_dropped paused progressed "
            "queued redone result_given resumed started stranded submitted trusted unarchived "
            "unblocked"
        ),
    ),
    births=frozenset({"job.output"}),
    indexes=(("job_id", "first_line"),),
)


def position_of_line(reading: Reading, job_id: str, line: int) -> tuple[int, int] | None:
    """The position of the event with this line (from 1), and the number of the event's first line;
    None after the end.
    """
    output = reading.table("output")
    found = reading.rows(
        select(output)
        .where(output.c.job_id == job_id, output.c.first_line <= line)
        .order_by(output.c.first_line.desc())
        .limit(1)
    )
    if not found or line >= found[0]["first_line"] + found[0]["lines"]:
        return None
    return found[0]["position"], found[0]["first_line"]
