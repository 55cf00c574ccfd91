"""The job's state machine: every command in every state, and properties that hold on any walk."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import CrewlogError, Invalid, JobAlreadyEnded, StaleAttempt, WrongState
from domain.event import Event
from domain.job.aggregate import Job, evolve
from domain.job.events import (
    ENDED,
    JobArchived,
    JobAttemptLost,
    JobCancelRequested,
    JobDeleted,
    JobFinished,
    JobMessaged,
    JobOutput,
    JobPaused,
    JobProgressed,
    JobQueued,
    JobStarted,
    JobState,
    Outcome,
)
from tests.kit.jobs import finished, started, submitted

AT = "2026-01-01T00:00:00.000000Z"


def walked(*events: Event) -> Job:
    job = Job("j")
    for version, event in enumerate(events, 1):
        job = evolve(job, event, version, AT)
    return job


QUEUED = walked(submitted(), JobQueued(attempt=1))
RUNNING = walked(submitted(), JobQueued(attempt=1), started())
PAUSED = evolve(RUNNING, JobPaused(attempt=1), 4, AT)
ENDS = {outcome: evolve(RUNNING, finished(1, outcome), 4, AT) for outcome in Outcome}


def then(job: Job, events: list[Event]) -> Job:
    for event in events:
        job = evolve(job, event, job.version + 1, AT)
    return job


def test_a_queued_job_is_started_with_the_next_attempt() -> None:
    (event,) = QUEUED.start("node-1")
    assert event == JobStarted(attempt=1, node="node-1", timeout_ms=0)
    assert then(QUEUED, [event]).state is JobState.RUNNING


@pytest.mark.parametrize("job", [RUNNING, PAUSED, walked(submitted())])
def test_only_a_queued_job_is_started(job: Job) -> None:
    with pytest.raises(WrongState):
        job.start("n")


@pytest.mark.parametrize("job", ENDS.values())
@pytest.mark.parametrize(
    "command",
    [
        lambda job: job.start("n"),
        lambda job: job.request_cancel("r"),
        lambda job: job.end_attempt(finished(1)),
        lambda job: job.lose_attempt(1, "r", "e"),
        lambda job: job.report(JobProgressed(attempt=1, fraction=None, text="")),
        lambda job: job.message("hello"),
    ],
)
def test_nothing_more_happens_to_a_job_that_has_ended(
    job: Job, command: Callable[[Job], list[Event]]
) -> None:
    with pytest.raises(JobAlreadyEnded, match=f"Job is already {job.state}"):
        command(job)


def test_cancelling_before_the_start_ends_the_job_at_once() -> None:
    events = QUEUED.request_cancel("by test")
    assert [type(event) for event in events] == [JobCancelRequested, JobFinished]
    assert then(QUEUED, events).state is JobState.CANCELLED


@pytest.mark.parametrize("job", [RUNNING, PAUSED])
def test_cancelling_a_running_job_asks_and_a_second_time_only_acknowledges(job: Job) -> None:
    events = job.request_cancel("by test")
    assert events == [JobCancelRequested(reason="by test")]
    asked = then(job, events)
    assert asked.state is job.state
    assert asked.request_cancel("again") == []


@pytest.mark.parametrize("attempt", [0, 2, -1])
def test_an_attempt_that_is_not_current_is_fenced(attempt: int) -> None:
    with pytest.raises(StaleAttempt):
        RUNNING.end_attempt(finished(attempt))
    with pytest.raises(StaleAttempt):
        RUNNING.report(JobOutput(attempt=attempt, first_line=1, lines=["x"], end_offset=1))
    with pytest.raises(StaleAttempt):
        RUNNING.lose_attempt(attempt, "r", "e")


def test_no_attempt_can_report_before_there_was_one() -> None:
    with pytest.raises(StaleAttempt):
        QUEUED.end_attempt(finished(0))


def test_a_lost_attempt_fails_the_job_or_cancels_it_where_that_was_wanted() -> None:
    events = RUNNING.lose_attempt(1, "the runner is gone", "e1")
    assert events[0] == JobAttemptLost(attempt=1, reason="the runner is gone")
    assert then(RUNNING, events).state is JobState.FAILED
    asked = then(RUNNING, RUNNING.request_cancel("r"))
    assert then(asked, asked.lose_attempt(1, "gone", "e2")).state is JobState.CANCELLED


def test_only_ended_jobs_are_archived_and_deleted_and_twice_changes_nothing() -> None:
    for job in (QUEUED, RUNNING, PAUSED):
        with pytest.raises(WrongState):
            job.archive()
        with pytest.raises(WrongState):
            job.delete()
    ended = ENDS[Outcome.FAILED]
    assert ended.archive() == [JobArchived()]
    assert then(ended, ended.archive()).archive() == []
    assert ended.delete() == [JobDeleted()]
    assert then(ended, ended.delete()).delete() == []


def test_a_message_needs_words() -> None:
    with pytest.raises(Invalid):
        RUNNING.message("  ")
    assert RUNNING.message("go on") == [JobMessaged(text="go on")]


COMMANDS: dict[str, Callable[[Job], list[Event]]] = {
    "start": lambda job: job.start("n"),
    "cancel": lambda job: job.request_cancel("r"),
    "complete": lambda job: job.end_attempt(finished(job.attempt)),
    "fail": lambda job: job.end_attempt(finished(job.attempt, Outcome.FAILED)),
    "stale": lambda job: job.end_attempt(finished(job.attempt - 1)),
    "lose": lambda job: job.lose_attempt(job.attempt, "r", "e"),
    "progress": lambda job: job.report(
        JobProgressed(attempt=job.attempt, fraction="0.5", text="half")
    ),
    "message": lambda job: job.message("m"),
    "archive": Job.archive,
    "unarchive": Job.unarchive,
    "delete": Job.delete,
}


@given(st.lists(st.sampled_from(sorted(COMMANDS)), max_size=30))
def test_along_any_walk_a_job_ends_once_and_stays_ended(walk: list[str]) -> None:
    job = QUEUED
    history: list[Event] = [submitted(), JobQueued(attempt=1)]
    for name in walk:
        try:
            events = COMMANDS[name](job)
        except CrewlogError:
            continue
        was_ended = job.state in ENDED
        job = then(job, events)
        history += events
        assert not was_ended or job.state in ENDED
    ends = [event for event in history if isinstance(event, JobFinished)]
    starts = [event for event in history if isinstance(event, JobStarted)]
    assert len(ends) <= 1
    assert len(starts) <= 1
    assert job.ended == bool(ends)
    assert job.version == len(history)
    assert walked(*history) == job
