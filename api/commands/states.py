"""States of jobs, as the command line shows them."""

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
"""The states that --state takes, in the words that lists show. ``failed`` includes jobs that
timed out.
"""

_WIDER = {"failed": "failed,timed_out,gave_up", "running": "running,paused"}

ENDED = ("completed", "failed", "timed_out", "cancelled")


def state_of(job: dict[str, Any]) -> str:
    """The state of a job, or how it ended. Preceded by whether it cannot start at present,
    or is to end.
    """
    if job["outcome"]:
        return str(job["outcome"])
    if job["gaveUp"]:
        return "failed"
    if job["strandedBy"]:
        return "stranded"
    return "cancelling" if job["cancelRequestedAt"] else str(job["state"])


def rests(job: dict[str, Any]) -> bool:
    """Whether the job is in the state in which its last attempt left it."""
    return job["outcome"] is not None or job["column"] == "blocked"


def reason_of(job: dict[str, Any]) -> str:
    """Why a job is blocked, cannot start or has failed, as a sentence; "" if none of these."""
    if job["strandedBy"] and not job["outcome"]:
        return "A job that it waits for will not be done."
    if job["gaveUp"]:
        tries = f" after {job['failures']} attempts" if job["failures"] > 1 else ""
        return f"Gave up{tries}: {job['blockReason']}"
    return str(job["blockReason"] or job["reason"] or "")


def states_given(given: str | None) -> str | None:
    """States, separated by comma, as the server takes them. ``failed`` includes jobs that gave up
    or timed out. Raises BadParameter for an unknown one.
    """
    names = [name.strip() for name in (given or "").split(",") if name.strip()]
    for name in names:
        if name not in STATES:
            there = f"{terminal.unknown('state', name, STATES)} Known: {', '.join(STATES)}."
            raise typer.BadParameter(there, param_hint="--state")
    return ",".join(_WIDER.get(name, name) for name in names) or None
