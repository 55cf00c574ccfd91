"""The column of the board that a job is in."""

import pytest

from domain.job.board import COLUMNS, column_of
from domain.job.events import JobState

STANDS = {
    JobState.HELD: "todo",
    JobState.QUEUED: "ready",
    JobState.RUNNING: "running",
    JobState.PAUSED: "running",
    JobState.WAITING_FOR_APPROVAL: "todo",
    JobState.BLOCKED: "blocked",
    JobState.REVIEW: "blocked",
    JobState.COMPLETED: "done",
    JobState.FAILED: "blocked",
    JobState.CANCELLED: "blocked",
    JobState.TIMED_OUT: "blocked",
}


@pytest.mark.parametrize("state", JobState)
def test_each_state_has_its_column(state: JobState) -> None:
    assert column_of(state, active=False) == STANDS[state]
    assert STANDS[state] in COLUMNS


def test_an_attempt_that_asks_is_running() -> None:
    assert column_of(JobState.WAITING_FOR_APPROVAL, active=True) == "running"
