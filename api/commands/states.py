"""States of jobs as the command line shows them."""

from typing import Any


def state_of(job: dict[str, Any]) -> str:
    """The state of a job, or how it ended. ``stranded`` is a held job that cannot start as things
    are.
    """
    if job["outcome"]:
        return str(job["outcome"])
    return "stranded" if job["state"] == "held" and job["strandedBy"] else str(job["state"])
