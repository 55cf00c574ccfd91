"""What a template becomes for given inputs: a crew of jobs, rendered and checked, not committed
yet.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

OnReject = Literal["answer", "fail"]


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """One job of a crew. All texts are rendered.

    It runs either `argv` or, when that is empty, the agent called `assignee`.
    """

    key: str
    """The job's id in the template; unique in its crew."""
    title: str
    body: str = ""
    argv: tuple[str, ...] = ()
    assignee: str | None = None
    parents: tuple[str, ...] = ()
    """Keys of jobs of the same crew that must be done before."""
    cwd: str | None = None
    """Absolute, or none: the workspace."""
    workspace: str = "scratch"
    """``scratch`` (a fresh directory, removed with the attempt) or the absolute path of a kept
    one.
    """
    env: dict[str, str] = field(default_factory=dict)
    timeout_s: float | None = None
    max_retries: int = 2
    approval: bool = False
    """A person must approve before the first attempt."""
    on_reject: OnReject = "answer"
    approvers: tuple[str, ...] = ()
    """Who may answer, beside admins: ``owner`` or e-mail addresses. Empty: the owner."""
    lease_s: float | None = None
    """A worker that gives no sign of life for so long is stuck: its attempt ends."""
    result_schema: dict[str, Any] | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CrewPlan:
    """A crew to be committed. `jobs` stand in dependency order: parents before children."""

    template: str
    name: str
    jobs: tuple[PlannedJob, ...]
    inputs: dict[str, Any] = field(default_factory=dict)
    """As validated, with the defaults."""
