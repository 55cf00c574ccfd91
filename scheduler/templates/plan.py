"""A rendered template: a crew of jobs, checked but not yet committed."""

from dataclasses import dataclass, field
from typing import Any, Literal

OnReject = Literal["answer", "fail"]


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """One job of a crew. All texts are rendered.

    It runs `argv` or, if that is empty, the agent called `assignee`.
    """

    key: str
    """The job's id in the template; unique in its crew."""
    title: str
    body: str = ""
    argv: tuple[str, ...] = ()
    assignee: str | None = None
    parents: tuple[str, ...] = ()
    """Keys of jobs of the same crew that must be done first."""
    cwd: str | None = None
    """Absolute, or empty: the workspace."""
    workspace: str = "scratch"
    """``scratch`` (a fresh directory, removed with the attempt), or the absolute path of a
    permanent directory.
    """
    env: dict[str, str] = field(default_factory=dict)
    timeout_s: float | None = None
    max_retries: int = 2
    approval: bool = False
    """A person must approve before the first attempt."""
    on_reject: OnReject = "answer"
    approvers: tuple[str, ...] = ()
    """Who may answer, beside administrators: ``owner`` or e-mail addresses. Empty: the owner."""
    lease_s: float | None = None
    """A worker without a sign of life for this long is stuck, and its attempt ends."""
    result_schema: dict[str, Any] | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CrewPlan:
    """A crew to be committed. `jobs` are in dependency order: parents before children."""

    template: str
    name: str
    jobs: tuple[PlannedJob, ...]
    inputs: dict[str, Any] = field(default_factory=dict)
    """Validated, with the defaults."""
    rendered: tuple[str, ...] = ()
    """The inputs that were not given and whose defaults have expressions, such as a date."""
    timezone: str | None = None
    """The zone of its dates, if it is known."""
