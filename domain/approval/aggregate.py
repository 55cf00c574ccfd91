"""The approval: a question to a person, asked once and answered at most once.

Each has a stream of its own, ``approval-<uuid>``, and what it means for its job is in the same
append as events of the job. So an answer outlives every restart, and a job is never seen waiting
for something that was answered.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from domain.errors import NotFound, WrongState
from domain.event import Event
from domain.fact import Fact


class ApprovalState(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


class ApprovalRequested(Event, type="approval.requested"):
    """A job wants to do something and asks first."""

    job: str
    attempt: int
    """0 when it is asked before the first attempt."""
    owner: str
    """Of the job."""
    description: str
    proposed_action: str | None
    explicit: bool
    """Trust in the job does not answer this one."""
    approvers: list[str]
    """Who may answer beside admins: ``owner`` or e-mail addresses."""
    expires_at: str | None


class ApprovalResolved(Event, type="approval.resolved"):
    """A person said yes or no, or trusted the job before."""

    job: str
    resolution: str
    comment: str | None
    by_trust: bool


class ApprovalExpired(Event, type="approval.expired"):
    """Nobody answered in time."""

    job: str


class ApprovalWithdrawn(Event, type="approval.withdrawn"):
    """Who asked is gone, so an answer would do nothing."""

    job: str
    reason: str


class ApprovalNotFound(NotFound):
    def __init__(self, approval_id: str) -> None:
        super().__init__("Approval not found")
        self.approval_id = approval_id


class AlreadyResolved(WrongState):
    def __init__(self, state: ApprovalState) -> None:
        super().__init__(f"Approval is already {state}")
        self.state = state


@dataclass(frozen=True, slots=True)
class Approval:
    """The state of one approval."""

    id: str
    version: int = 0
    state: ApprovalState = ApprovalState.PENDING
    job: str = ""
    attempt: int = 0
    owner: str = ""
    description: str = ""
    explicit: bool = False
    approvers: tuple[str, ...] = ()
    expires_at: str | None = None
    comment: str | None = None
    """Of whoever answered it; of one that was withdrawn, why."""

    def overdue(self, at: str) -> bool:
        """Whether its time is over at a stored time, whether or not a timer has said so."""
        return self.expires_at is not None and at >= self.expires_at

    def require_pending(self) -> None:
        """AlreadyResolved unless it still waits."""
        if self.state is not ApprovalState.PENDING:
            raise AlreadyResolved(self.state)

    def resolve(self, resolution: str, comment: str | None, *, by_trust: bool) -> ApprovalResolved:
        """Answer it: ``approved`` or ``rejected``. AlreadyResolved when it does not wait."""
        self.require_pending()
        return ApprovalResolved(
            job=self.job, resolution=resolution, comment=comment, by_trust=by_trust
        )


def approval_stream(approval_id: str) -> str:
    return f"approval-{approval_id}"


def approval_id_of(subject: str) -> str | None:
    """The approval that a subject is about, or None for something else."""
    return subject[9:] if subject.startswith("approval-") else None


def _requested(fact: Fact) -> dict[str, Any]:
    asked = {name: fact.data[name] for name in _ASKED}
    return {**asked, "state": ApprovalState.PENDING, "approvers": tuple(fact.data["approvers"])}


_ASKED = ("job", "attempt", "owner", "description", "explicit", "expires_at")

_TRANSITIONS: dict[str, Callable[[Fact], dict[str, Any]]] = {
    ApprovalRequested.type: _requested,
    ApprovalResolved.type: lambda fact: {
        "state": ApprovalState(fact.data["resolution"]),
        "comment": fact.data["comment"],
    },
    ApprovalExpired.type: lambda _: {"state": ApprovalState.EXPIRED},
    ApprovalWithdrawn.type: lambda fact: {
        "state": ApprovalState.WITHDRAWN,
        "comment": fact.data["reason"],
    },
}


def changes_by(fact: Fact) -> dict[str, Any]:
    """What an event of its stream changes of an approval, by the field names of `Approval`."""
    transition = _TRANSITIONS.get(fact.type)
    return {} if transition is None else transition(fact)


def moved(approval: Approval, fact: Fact) -> Approval:
    """The approval after one more event of its stream."""
    return replace(approval, version=fact.version, **changes_by(fact))
