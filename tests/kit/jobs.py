"""Events of jobs, with defaults for the fields that a test does not need."""

from typing import Any

from domain.job.events import JobFinished, JobPlan, JobStarted, JobSubmitted, Links, Outcome


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


def plan(**changes: Any) -> JobPlan:
    """What the job has of its template: it waits for nothing, and is tried once."""
    fields: dict[str, Any] = {
        "local": "k",
        "template": "t",
        "body": "",
        "assignee": None,
        "parents": [],
        "workspace": "scratch",
        "max_retries": 0,
        "approval": False,
        "on_reject": "answer",
        "approvers": [],
        "lease_ms": 0,
        "result_schema": None,
        "not_before": None,
    }
    return JobPlan(**fields | changes)


def started(attempt: int = 1, node: str = "n") -> JobStarted:
    """The start of an attempt without a time limit."""
    return JobStarted(attempt=attempt, node=node, timeout_ms=0)


def finished(attempt: int = 1, outcome: Outcome = Outcome.COMPLETED, **changes: Any) -> JobFinished:
    """The end of an attempt that wrote nothing."""
    fields: dict[str, Any] = {
        "exit_code": 0,
        "reason": "",
        "error_id": None,
        "run_ms": 1,
        "lines": 0,
        "output_bytes": 0,
    }
    return JobFinished(attempt=attempt, outcome=outcome, **fields | changes)
