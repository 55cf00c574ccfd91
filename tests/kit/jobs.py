"""Events of jobs, with what a test does not care about filled in."""

from typing import Any

from domain.job.events import JobSubmitted, Links


def submitted(**changes: Any) -> JobSubmitted:
    """A job of the operator's that runs ``true``; `changes` are fields of the event."""
    fields: dict[str, Any] = {
        "kind": "command",
        "label": "command",
        "title": "one",
        "owner": "operator",
        "argv": ["true"],
        "cwd": "/",
        "env_names": [],
        "sealed": False,
        "timeout_ms": 0,
        "labels": [],
        "links": Links(),
    }
    return JobSubmitted(**fields | changes)
