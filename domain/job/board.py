"""The board: which column a job is in."""

from domain.job.events import JobState

COLUMNS = ("triage", "todo", "ready", "running", "blocked", "done")
"""In the order of the work. Archived jobs have a place of their own beside them."""

ARCHIVED = "archived"

_OF_STATE = {
    JobState.HELD: "todo",
    JobState.QUEUED: "ready",
    JobState.RUNNING: "running",
    JobState.PAUSED: "running",
    JobState.BLOCKED: "blocked",
    JobState.REVIEW: "blocked",
    JobState.COMPLETED: "done",
    JobState.FAILED: "blocked",
    JobState.CANCELLED: "blocked",
    JobState.TIMED_OUT: "blocked",
}


def column_of(state: JobState, *, active: bool) -> str:
    """The column of a job that is not archived. Every job that needs a person to go on is
    ``blocked``. A job that waits for an answer is ``running`` if an attempt of it asked.
    """
    if state is JobState.WAITING_FOR_APPROVAL:
        return "running" if active else "todo"
    return _OF_STATE[state]
