"""The timeline: a job's events in order, each with its actor and a sentence for people."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Column, Integer, String, select

from domain.coverage import types
from domain.event import Json
from domain.job.events import (
    job_id_of,
)
from domain.log import Recorded
from projections.projection import Projection, Row
from projections.reading import Reading

Sentence = Callable[[Json], str]


def _finished(data: Json) -> str:
    seconds = data["run_ms"] / 1000
    ran = f" after {seconds:.1f} s" if data["attempt"] else ""
    ended = {
        "completed": f"Completed{ran}",
        "cancelled": f"Cancelled{ran}",
        "timed_out": f"Timed out{ran}",
        "failed": f"Failed{ran}",
    }[data["outcome"]]
    code = data["exit_code"]
    if code is not None and code < 0:
        ended += f", killed by signal {-code}"
    elif code:
        ended += f", exit code {code}"
    return f"{ended}: {data['reason']}" if data["reason"] else f"{ended}."


def _progressed(data: Json) -> str:
    if data["fraction"] is None:
        return f"Progress: {data['text']}"
    return f"Progress {float(data['fraction']):.0%}: {data['text']}"


_ATTEMPTS = {"crashed": "failed", "timed_out": "timed out", "blocked": "was blocked"}


def _code(data: Json) -> str:
    code = data["exit_code"]
    if code is None:
        return "."
    return f", killed by signal {-code}." if code < 0 else f", exit code {code}."


SENTENCES: dict[str, Sentence] = {
    "job.submitted": lambda d: f"Submitted: {d['title']}",
    "job.queued": lambda d: (
        "Queued." if d["attempt"] == 1 else f"Queued again, for attempt {d['attempt']}."
    ),
    "job.started": lambda d: f"Attempt {d['attempt']} started on {d['node']}.",
    "job.output_dropped": lambda d: (
        f"Output over the limit: {d['bytes']} bytes from byte {d['from_offset']} on were dropped."
    ),
    "job.progressed": _progressed,
    "job.messaged": lambda d: f"Message: {d['text']}",
    "job.cancel_requested": lambda d: f"Cancellation requested: {d['reason']}",
    "job.paused": lambda d: f"Attempt {d['attempt']} paused.",
    "job.resumed": lambda d: f"Attempt {d['attempt']} resumed.",
    "job.attempt_lost": lambda d: f"Attempt {d['attempt']} was lost: {d['reason']}",
    "job.finished": _finished,
    "job.attempt_ended": lambda d: (
        f"Attempt {d['attempt']} {_ATTEMPTS[d['outcome']]}"
        + (f": {d['reason']}" if d["reason"] else _code(d))
    ),
    "job.blocked": lambda d: ("Gave up: " if d["gave_up"] else "Blocked: ") + d["reason"],
    "job.unblocked": lambda _: "Unblocked.",
    "job.redone": lambda d: (
        f"To be done again: {d['feedback']}" if d["feedback"] else "To be done again."
    ),
    "job.made_stale": lambda d: f"Stale: its parent {d['parent']} is done again.",
    "job.stranded": lambda d: f"Cannot start as things are: {d['reason']}",
    "job.freed": lambda _: "Can start after all: what was in its way is being done.",
    "job.commented": lambda d: f"Comment: {d['text']}",
    "job.result_given": lambda d: f"Attempt {d['attempt']} handed in its result.",
    "job.block_asked": lambda d: f"Attempt {d['attempt']} cannot go on: {d['reason']}",
    "job.artifact_stored": lambda d: f"Artifact {d['name']} kept, {d['size']} bytes.",
    "job.artifacts_dropped": lambda d: (
        f"Artifacts not kept: {', '.join(d['names'])}. {d['reason']}"
    ),
    "job.approval_requested": lambda d: f"Approval asked: {d['description']}",
    "job.approval_answered": lambda d: f"Approval {d['resolution']}.",
    "job.trusted": lambda _: "Trusted: what it asks from now on is approved.",
    "job.lease_expired": lambda d: f"Attempt {d['attempt']} gave no sign of life within its lease.",
    "job.archived": lambda _: "Archived.",
    "job.unarchived": lambda _: "Put back on the board.",
    "job.deleted": lambda _: "Deleted.",
}
"""The sentence for each event. Output has a view of its own."""


def _columns() -> tuple[Column[Any], ...]:
    return (
        Column("position", Integer, primary_key=True),
        Column("job_id", String, nullable=False),
        Column("at", String, nullable=False),
        Column("actor", String, nullable=False),
        Column("type", String, nullable=False),
        Column("sentence", String, nullable=False),
    )


def _entry(_: Row | None, event: Recorded) -> Row:
    return {
        "position": event.position,
        "job_id": job_id_of(event.subject),
        "at": event.at,
        "actor": event.actor,
        "type": event.type,
        "sentence": SENTENCES[event.type](event.data),
    }


TIMELINE = Projection(
    name="timeline",
    version=2,
    columns=_columns,
    key=lambda event: event.position,
    folds=dict.fromkeys(SENTENCES, _entry),
    passes_over=types(
        "approval crew delivery email identity operator request schedule token user",
        job="output",
    ),
    births=frozenset(SENTENCES),
    indexes=(("job_id", "position"),),
)


def job_timeline(reading: Reading, job_id: str, after: int, limit: int) -> list[Row]:
    """Entries of one job after a position, oldest first."""
    timeline = reading.table("timeline")
    return reading.rows(
        select(timeline)
        .where(timeline.c.job_id == job_id, timeline.c.position > after)
        .order_by(timeline.c.position)
        .limit(limit)
    )


def newest_of_job(reading: Reading, job_id: str, limit: int) -> tuple[list[Row], bool]:
    """The last entries of one job, oldest first, and whether there are earlier ones."""
    timeline = reading.table("timeline")
    rows = reading.rows(
        select(timeline)
        .where(timeline.c.job_id == job_id)
        .order_by(timeline.c.position.desc())
        .limit(limit + 1)
    )
    return rows[:limit][::-1], len(rows) > limit
