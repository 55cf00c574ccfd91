"""States of jobs as the command line shows them."""

from typing import Any


def state_of(job: dict[str, Any]) -> str:
    """Our name for the state of a job: the one in its JSON is that of a dialect.

    ``stranded`` is a held job that cannot start as things are.
    """
    if job["outcome"]:
        return str(job["outcome"])
    if job["pendingApprovals"]:
        return "waiting_for_approval"
    names = {"todo": "held", "ready": "queued", "archived": "held"}
    state = names.get(job["status"], str(job["status"]))
    return "stranded" if state == "held" and job["strandedBy"] else state
