"""Events of jobs, with defaults for the fields that a test does not need."""

from typing import Any

from domain.job.events import JobSubmitted, Links


def submitted(**changes: Any) -> JobSubmitted:
    """A job of the operator that runs ``true``. `changes` are fields of the event."""
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
