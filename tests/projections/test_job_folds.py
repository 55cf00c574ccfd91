"""The changes that each event makes to the rows about jobs."""

from typing import Any

import pytest
from sqlalchemy import MetaData, create_engine, insert, select

from domain.event import Event
from domain.job.board import ARCHIVED, COLUMNS, column_of
from domain.job.events import (
    AttemptOutcome,
    JobApprovalAnswered,
    JobApprovalRequested,
    JobArchived,
    JobArtifactsDropped,
    JobArtifactStored,
    JobAttemptEnded,
    JobAttemptLost,
    JobBlockAsked,
    JobBlocked,
    JobCancelRequested,
    JobCommented,
    JobDeleted,
    JobFinished,
    JobFreed,
    JobLeaseExpired,
    JobMadeStale,
    JobMessaged,
    JobOutput,
    JobOutputDropped,
    JobPaused,
    JobProgressed,
    JobQueued,
    JobRedone,
    JobResultGiven,
    JobResumed,
    JobState,
    JobStranded,
    JobTrusted,
    JobUnarchived,
    JobUnblocked,
    Links,
    Outcome,
)
from projections.analytics import ANALYTICS
from projections.artifacts import ARTIFACTS
from projections.attempts import ATTEMPTS
from projections.comments import COMMENTS
from projections.jobs import JOBS, in_column
from projections.output import OUTPUT
from projections.projection import Projection
from projections.timeline import TIMELINE
from tests.kit.jobs import started, submitted
from tests.projections.folding import Step, at, check, check_strays, recorded

J = "job-j"
OUT = "job-j/output"


def left(attempt: int, exit_code: int | None) -> dict[str, Any]:
    """The fields of an attempt's end."""
    return {
        "attempt": attempt,
        "exit_code": exit_code,
        "reason": "r",
        "error_id": None,
        "run_ms": 5,
        "lines": 2,
        "output_bytes": 4,
    }


JOBS_STEPS: list[Step] = [
    Step(
        J,
        submitted(labels=["x"], links=Links(crew="c", schedule="s")),
        {
            "id": "j",
            "position": 1,
            "version": 1,
            "state": "held",
            "kind": "command",
            "label": "command",
            "labels": '["x"]',
            "title": "one",
            "owner": "operator",
            "argv": '["true"]',
            "cwd": "/",
            "crew": "c",
            "schedule": "s",
            "created_at": at(1),
            "updated_at": at(1),
        },
    ),
    Step(
        J,
        JobQueued(attempt=1),
        {
            "version": 2,
            "state": "queued",
            "queued_at": at(2),
            "queued_position": 2,
            "updated_at": at(2),
        },
    ),
    Step(
        J,
        started(1, "n"),
        {
            "version": 3,
            "state": "running",
            "attempt": 1,
            "node": "n",
            "started_at": at(3),
            "updated_at": at(3),
            "active": 1,
        },
    ),
    Step(
        OUT,
        JobOutput(attempt=1, first_line=1, lines=["a", "b"], end_offset=4),
        {"updated_at": at(4), "lines": 2, "output_bytes": 4},
    ),
    Step(
        OUT,
        JobOutputDropped(attempt=1, from_offset=4, bytes=7),
        {"updated_at": at(5), "dropped_bytes": 7},
    ),
    Step(
        J,
        JobProgressed(attempt=1, fraction="0.5", text="half"),
        {"version": 4, "updated_at": at(6), "progress": "0.5", "progress_text": "half"},
    ),
    Step(J, JobMessaged(text="hello"), {"version": 5, "updated_at": at(7)}),
    Step(J, JobPaused(attempt=1), {"version": 6, "state": "paused", "updated_at": at(8)}),
    Step(J, JobResumed(attempt=1), {"version": 7, "state": "running", "updated_at": at(9)}),
    Step(
        J,
        JobApprovalRequested(attempt=1, approval="p", description="May I?"),
        {"version": 8, "state": "waiting_for_approval", "updated_at": at(10), "pending": '["p"]'},
    ),
    Step(
        J,
        JobApprovalRequested(attempt=1, approval="q", description="And this?"),
        {"version": 9, "updated_at": at(11), "pending": '["p","q"]'},
    ),
    Step(
        J,
        JobApprovalAnswered(attempt=1, approval="p", resolution="approved", waiting=1),
        {"version": 10, "updated_at": at(12), "pending": '["q"]'},
    ),
    Step(
        J,
        JobApprovalAnswered(attempt=1, approval="q", resolution="approved"),
        {"version": 11, "state": "running", "updated_at": at(13), "pending": "[]"},
    ),
    Step(J, JobTrusted(), {"version": 12, "updated_at": at(14)}),
    Step(J, JobLeaseExpired(attempt=1), {"version": 13, "updated_at": at(15)}),
    Step(J, JobAttemptLost(attempt=1, reason="gone"), {"version": 14, "updated_at": at(16)}),
    Step(J, JobBlockAsked(attempt=1, reason="why"), {"version": 15, "updated_at": at(17)}),
    Step(
        J,
        JobAttemptEnded(outcome=AttemptOutcome.CRASHED, **left(1, 3)),
        {
            "version": 16,
            "updated_at": at(18),
            "exit_code": 3,
            "reason": "r",
            "run_ms": 5,
            "active": 0,
            "failures": 1,
        },
    ),
    Step(
        J,
        JobQueued(attempt=2),
        {
            "version": 17,
            "state": "queued",
            "queued_at": at(19),
            "queued_position": 19,
            "updated_at": at(19),
        },
    ),
    Step(
        J,
        started(2, "m"),
        {
            "version": 18,
            "state": "running",
            "attempt": 2,
            "node": "m",
            "started_at": at(20),
            "updated_at": at(20),
            "active": 1,
        },
    ),
    Step(
        J,
        JobAttemptEnded(outcome=AttemptOutcome.BLOCKED, **left(2, None)),
        {"version": 19, "updated_at": at(21), "exit_code": None, "active": 0},
    ),
    Step(
        J,
        JobBlocked(attempt=2, reason="stuck", gave_up=True),
        {
            "version": 20,
            "state": "blocked",
            "updated_at": at(22),
            "block_reason": "stuck",
            "gave_up": 1,
        },
    ),
    Step(
        J,
        JobUnblocked(),
        {
            "version": 21,
            "state": "held",
            "updated_at": at(23),
            "failures": 0,
            "block_reason": None,
            "gave_up": 0,
        },
    ),
    Step(
        J,
        JobApprovalRequested(attempt=0, approval="r", description="Start?"),
        {"version": 22, "state": "waiting_for_approval", "updated_at": at(24), "pending": '["r"]'},
    ),
    Step(
        J,
        JobApprovalAnswered(attempt=0, approval="r", resolution="approved"),
        {"version": 23, "state": "held", "updated_at": at(25), "pending": "[]"},
    ),
    Step(
        J,
        JobStranded(parent="k", reason="It failed."),
        {"version": 24, "updated_at": at(26), "stranded_by": "k"},
    ),
    Step(J, JobFreed(parent="k"), {"version": 25, "updated_at": at(27), "stranded_by": None}),
    Step(
        J,
        JobQueued(attempt=3),
        {
            "version": 26,
            "state": "queued",
            "queued_at": at(28),
            "queued_position": 28,
            "updated_at": at(28),
        },
    ),
    Step(
        J,
        started(3, "n"),
        {
            "version": 27,
            "state": "running",
            "attempt": 3,
            "node": "n",
            "started_at": at(29),
            "updated_at": at(29),
            "active": 1,
        },
    ),
    Step(
        J,
        JobResultGiven(attempt=3, result={"a": 1}),
        {"version": 28, "updated_at": at(30), "result": '{"a":1}'},
    ),
    Step(
        J,
        JobArtifactStored(
            attempt=3, artifact="f", name="f.txt", sha256="0" * 64, size=1, mime="text/plain"
        ),
        {"version": 29, "updated_at": at(31)},
    ),
    Step(
        J,
        JobArtifactsDropped(attempt=3, names=["g"], reason="too large"),
        {"version": 30, "updated_at": at(32)},
    ),
    Step(
        J,
        JobFinished(outcome=Outcome.COMPLETED, **left(3, 0)),
        {
            "version": 31,
            "state": "completed",
            "finished_at": at(33),
            "updated_at": at(33),
            "exit_code": 0,
            "active": 0,
        },
    ),
    Step(
        J,
        JobRedone(feedback="again"),
        {"version": 32, "state": "held", "finished_at": None, "updated_at": at(34), "result": None},
    ),
    Step(J, JobCommented(text="a word"), {"version": 33, "updated_at": at(35)}),
    Step(
        J,
        JobQueued(attempt=4),
        {
            "version": 34,
            "state": "queued",
            "queued_at": at(36),
            "queued_position": 36,
            "updated_at": at(36),
        },
    ),
    Step(
        J,
        started(4, "n"),
        {
            "version": 35,
            "state": "running",
            "attempt": 4,
            "started_at": at(37),
            "updated_at": at(37),
            "active": 1,
        },
    ),
    Step(
        J,
        JobMadeStale(attempt=4, parent="k"),
        {"version": 36, "state": "held", "updated_at": at(38), "active": 0},
    ),
    Step(
        J,
        JobCancelRequested(reason="enough"),
        {"version": 37, "updated_at": at(39), "cancel_requested_at": at(39)},
    ),
    Step(
        J,
        JobFinished(outcome=Outcome.CANCELLED, **left(4, -15)),
        {
            "version": 38,
            "state": "cancelled",
            "finished_at": at(40),
            "updated_at": at(40),
            "exit_code": -15,
        },
    ),
    Step(J, JobArchived(), {"version": 39, "updated_at": at(41), "archived_at": at(41)}),
    Step(J, JobUnarchived(), {"version": 40, "updated_at": at(42), "archived_at": None}),
    Step(J, JobDeleted(), {"version": 41, "updated_at": at(43), "deleted": 1}),
]

SENTENCES_SAID: list[tuple[Event, str]] = [
    (submitted(labels=["x"], links=Links(crew="c", schedule="s")), "Submitted: one"),
    (JobQueued(attempt=1), "Queued."),
    (started(1, "n"), "Attempt 1 started on n."),
    (
        JobOutputDropped(attempt=1, from_offset=4, bytes=7),
        "Output over the limit: 7 bytes from byte 4 on were dropped.",
    ),
    (JobProgressed(attempt=1, fraction="0.5", text="half"), "Progress 50%: half"),
    (JobMessaged(text="hello"), "Message: hello"),
    (JobPaused(attempt=1), "Attempt 1 paused."),
    (JobResumed(attempt=1), "Attempt 1 resumed."),
    (JobApprovalRequested(attempt=1, approval="p", description="May I?"), "Approval asked: May I?"),
    (
        JobApprovalRequested(attempt=1, approval="q", description="And this?"),
        "Approval asked: And this?",
    ),
    (
        JobApprovalAnswered(attempt=1, approval="p", resolution="approved", waiting=1),
        "Approval approved.",
    ),
    (JobTrusted(), "Trusted: what it asks from now on is approved."),
    (JobLeaseExpired(attempt=1), "Attempt 1 gave no sign of life within its lease."),
    (JobAttemptLost(attempt=1, reason="gone"), "Attempt 1 was lost: gone"),
    (JobBlockAsked(attempt=1, reason="why"), "Attempt 1 cannot go on: why"),
    (JobAttemptEnded(outcome=AttemptOutcome.CRASHED, **left(1, 3)), "Attempt 1 failed: r"),
    (JobQueued(attempt=2), "Queued again, for attempt 2."),
    (started(2, "m"), "Attempt 2 started on m."),
    (JobAttemptEnded(outcome=AttemptOutcome.BLOCKED, **left(2, None)), "Attempt 2 was blocked: r"),
    (JobBlocked(attempt=2, reason="stuck", gave_up=True), "Gave up: stuck"),
    (JobUnblocked(), "Unblocked."),
    (JobApprovalRequested(attempt=0, approval="r", description="Start?"), "Approval asked: Start?"),
    (JobStranded(parent="k", reason="It failed."), "Cannot start as things are: It failed."),
    (JobFreed(parent="k"), "Can start after all: what was in its way is being done."),
    (JobQueued(attempt=3), "Queued again, for attempt 3."),
    (started(3, "n"), "Attempt 3 started on n."),
    (JobResultGiven(attempt=3, result={"a": 1}), "Attempt 3 handed in its result."),
    (
        JobArtifactStored(
            attempt=3, artifact="f", name="f.txt", sha256="0" * 64, size=1, mime="text/plain"
        ),
        "Artifact f.txt kept, 1 bytes.",
    ),
    (
        JobArtifactsDropped(attempt=3, names=["g"], reason="too large"),
        "Artifacts not kept: g. too large",
    ),
    (JobFinished(outcome=Outcome.COMPLETED, **left(3, 0)), "Completed after 0.0 s: r"),
    (JobRedone(feedback="again"), "To be done again: again"),
    (JobCommented(text="a word"), "Comment: a word"),
    (JobQueued(attempt=4), "Queued again, for attempt 4."),
    (started(4, "n"), "Attempt 4 started on n."),
    (JobMadeStale(attempt=4, parent="k"), "Stale: its parent k is done again."),
    (JobCancelRequested(reason="enough"), "Cancellation requested: enough"),
    (
        JobFinished(outcome=Outcome.CANCELLED, **left(4, -15)),
        "Cancelled after 0.0 s, killed by signal 15: r",
    ),
    (JobArchived(), "Archived."),
    (JobUnarchived(), "Put back on the board."),
    (JobDeleted(), "Deleted."),
]

OUTPUT_STEPS: list[Step] = [
    Step(
        OUT,
        JobOutput(attempt=1, first_line=1, lines=["a", "b"], end_offset=4),
        {"position": 1, "job_id": "j", "attempt": 1, "first_line": 1, "lines": 2, "end_offset": 4},
    ),
]

ANALYTICS_STEPS: list[Step] = [
    Step(
        J,
        submitted(labels=["x"], links=Links(crew="c", schedule="s")),
        {
            "job_id": "j",
            "day": "2026-01-01",
            "created_at": at(1),
            "label": "command",
            "owner": "operator",
        },
    ),
    Step(J, JobQueued(attempt=1), {"queued_at": at(2)}),
    Step(J, started(1, "n"), {"wait_ms": 1000, "attempts": 1}),
    Step(J, JobQueued(attempt=2), {"queued_at": at(4)}),
    Step(J, started(2, "m"), {"attempts": 2}),
    Step(J, JobBlocked(attempt=2, reason="stuck", gave_up=True), {"outcome": "failed"}),
    Step(J, JobUnblocked(), {"outcome": None}),
    Step(J, JobQueued(attempt=3), {"queued_at": at(8)}),
    Step(J, started(3, "n"), {"attempts": 3}),
    Step(
        J,
        JobFinished(outcome=Outcome.COMPLETED, **left(3, 0)),
        {"outcome": "completed", "run_ms": 5, "lines": 2},
    ),
    Step(J, JobRedone(feedback="again"), {"outcome": None}),
    Step(J, JobQueued(attempt=4), {"queued_at": at(12)}),
    Step(J, started(4, "n"), {"attempts": 4}),
    Step(J, JobMadeStale(attempt=4, parent="k"), {}),
    Step(J, JobFinished(outcome=Outcome.CANCELLED, **left(4, -15)), {"outcome": "cancelled"}),
]

ATTEMPTS_STEPS: list[Step] = [
    Step(
        J,
        started(1, "n"),
        {"key": "j/1", "job_id": "j", "attempt": 1, "node": "n", "started_at": at(1)},
    ),
    Step(J, JobLeaseExpired(attempt=1), {"lease_expired": 1}),
    Step(
        J,
        JobAttemptEnded(outcome=AttemptOutcome.CRASHED, **left(1, 3)),
        {
            "outcome": "crashed",
            "ended_at": at(3),
            "exit_code": 3,
            "reason": "r",
            "run_ms": 5,
            "lines": 2,
        },
    ),
    Step(
        J,
        started(2, "m"),
        {"key": "j/2", "job_id": "j", "attempt": 2, "node": "m", "started_at": at(4)},
    ),
    Step(
        J,
        JobAttemptEnded(outcome=AttemptOutcome.BLOCKED, **left(2, None)),
        {"outcome": "blocked", "ended_at": at(5), "reason": "r", "run_ms": 5, "lines": 2},
    ),
    Step(J, JobBlocked(attempt=2, reason="stuck", gave_up=True), {"outcome": "gave_up"}),
    Step(
        J,
        started(3, "n"),
        {"key": "j/3", "job_id": "j", "attempt": 3, "node": "n", "started_at": at(7)},
    ),
    Step(J, JobResultGiven(attempt=3, result={"a": 1}), {"result": '{"a":1}'}),
    Step(
        J,
        JobFinished(outcome=Outcome.COMPLETED, **left(3, 0)),
        {
            "outcome": "completed",
            "ended_at": at(9),
            "exit_code": 0,
            "reason": "r",
            "run_ms": 5,
            "lines": 2,
        },
    ),
    Step(
        J,
        started(4, "n"),
        {"key": "j/4", "job_id": "j", "attempt": 4, "node": "n", "started_at": at(10)},
    ),
    Step(
        J,
        JobMadeStale(attempt=4, parent="k"),
        {"outcome": "stale", "ended_at": at(11), "reason": "A parent is done again."},
    ),
    Step(J, JobFinished(outcome=Outcome.CANCELLED, **left(4, -15)), {}),
]

COMMENTS_STEPS: list[Step] = [
    Step(
        J,
        JobCommented(text="a word"),
        {"position": 1, "job_id": "j", "author": "tester", "body": "a word", "at": at(1)},
    ),
]

ARTIFACTS_STEPS: list[Step] = [
    Step(
        J,
        JobArtifactStored(
            attempt=3, artifact="f", name="f.txt", sha256="0" * 64, size=1, mime="text/plain"
        ),
        {
            "id": "f",
            "position": 1,
            "job_id": "j",
            "attempt": 3,
            "name": "f.txt",
            "sha256": "0" * 64,
            "size": 1,
            "mime": "text/plain",
            "at": at(1),
        },
    ),
]


TABLES: list[tuple[Projection, list[Step]]] = [
    (JOBS, JOBS_STEPS),
    (OUTPUT, OUTPUT_STEPS),
    (ANALYTICS, ANALYTICS_STEPS),
    (ATTEMPTS, ATTEMPTS_STEPS),
    (COMMENTS, COMMENTS_STEPS),
    (ARTIFACTS, ARTIFACTS_STEPS),
]


def name(value: object) -> str:
    return value.name if isinstance(value, Projection) else ""


@pytest.mark.parametrize(("view", "steps"), TABLES, ids=name)
def test_the_fold_is_what_the_table_says(view: Projection, steps: list[Step]) -> None:
    check(view, steps)


@pytest.mark.parametrize("view", [JOBS, ANALYTICS, ATTEMPTS], ids=name)
def test_a_stray_event_makes_no_row(view: Projection) -> None:
    check_strays(view, next(steps for other, steps in TABLES if other is view))


def test_the_timeline_has_a_sentence_for_each_event() -> None:
    for position, (event, sentence) in enumerate(SENTENCES_SAID, 1):
        told = recorded(J, event, position, position)
        assert TIMELINE.folds[event.type](None, told) == {
            "position": position,
            "job_id": "j",
            "at": at(position),
            "actor": "tester",
            "type": event.type,
            "sentence": sentence,
        }
    assert {event.type for event, _ in SENTENCES_SAID} == TIMELINE.folds.keys()


def test_each_job_stands_in_one_column_of_the_board_and_in_the_one_that_is_said() -> None:
    row = JOBS.folds["job.submitted"](None, recorded(J, submitted(), 1, 1))
    assert row is not None
    standings = [
        (state, active, archived)
        for state in JobState
        for active in (0, 1)
        for archived in (None, at(1))
    ]
    engine = create_engine("sqlite://")
    metadata = MetaData()
    table = JOBS.table(1, metadata)
    metadata.create_all(engine)
    with engine.connect() as connection:
        for number, (state, active, archived) in enumerate(standings):
            stands = {"state": state.value, "active": active, "archived_at": archived}
            connection.execute(insert(table).values(**{**row, "id": str(number), **stands}))
        found: dict[int, list[str]] = {}
        for column in (*COLUMNS, ARCHIVED):
            ids = select(table.c.id).where(*in_column(table, column))
            for number in connection.scalars(ids):
                found.setdefault(int(number), []).append(column)
    engine.dispose()
    assert found == {
        number: [ARCHIVED if archived else column_of(state, active=bool(active))]
        for number, (state, active, archived) in enumerate(standings)
    }
