"""States of jobs as the command line shows them."""

from typing import Any

import typer

from api.commands import terminal

STATES = (
    "held",
    "queued",
    "running",
    "waiting_for_approval",
    "blocked",
    "review",
    "completed",
    "failed",
    "timed_out",
    "cancelled",
)
"""What can be asked for, in the words in which states are shown. A job that timed out is one of the
``failed`` too.
"""

_WIDER = {"failed": "failed,timed_out,gave_up", "running": "running,paused"}

ENDED = ("completed", "failed", "timed_out", "cancelled")


def state_of(job: dict[str, Any]) -> str:
    """The state of a job, or how it ended; before it what is known beside it: that it cannot start
    as things are, or is to end.
    """
    if job["outcome"]:
        return str(job["outcome"])
    if job["gaveUp"]:
        return "failed"
    if job["strandedBy"]:
        return "stranded"
    return "cancelling" if job["cancelRequestedAt"] else str(job["state"])


def rests(job: dict[str, Any]) -> bool:
    """Whether it stands where its last attempt has left it: what that came to is how the job is."""
    return job["outcome"] is not None or job["column"] == "blocked"


def reason_of(job: dict[str, Any]) -> str:
    """Why a job stands still, or has failed, in a sentence; "" where it does and has not."""
    if job["strandedBy"] and not job["outcome"]:
        return "A job that it waits for will never be done."
    if job["gaveUp"]:
        tries = f" after {job['failures']} attempts" if job["failures"] > 1 else ""
        return f"Gave up{tries}: {job['blockReason']}"
    return str(job["blockReason"] or job["reason"] or "")


def states_given(given: str | None) -> str | None:
    """States by comma, as the server takes them: a job that gave up, or passed its time limit, has
    failed. BadParameter for one that there is not.
    """
    names = [name.strip() for name in (given or "").split(",") if name.strip()]
    for name in names:
        if name not in STATES:
            there = f"{terminal.unknown('state', name, STATES)} There are {', '.join(STATES)}."
            raise typer.BadParameter(there, param_hint="--state")
    return ",".join(_WIDER.get(name, name) for name in names) or None
