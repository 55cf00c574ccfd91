"""The approval: a question to a person, asked once and answered at most once.

Each approval has a stream of its own, ``approval-<uuid>``. Its events and their effects on the job
are in one append. So an answer survives every restart, and no job is ever seen waiting for an
approval that was answered.
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
    """A job asks before it does something."""

    job: str
    attempt: int
    """0 if it is asked before the first attempt."""
    owner: str
    """The job's owner."""
    description: str
    proposed_action: str | None
    explicit: bool
    """A person must answer it even if the job is trusted."""
    approvers: list[str]
    """Who may answer, beside administrators: ``owner`` or e-mail addresses."""
    expires_at: str | None


class ApprovalResolved(Event, type="approval.resolved"):
    """A person answered yes or no, or had trusted the job before."""

    job: str
    resolution: str
    comment: str | None
    by_trust: bool


class ApprovalExpired(Event, type="approval.expired"):
    """Its time passed without an answer."""

    job: str


class ApprovalWithdrawn(Event, type="approval.withdrawn"):
    """The job no longer waits for the answer."""

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
    """The comment of the person who answered, or the reason for a withdrawal."""

    def overdue(self, at: str) -> bool:
        """Whether its time has passed at a stored time, even if no timer has run yet."""
        return self.expires_at is not None and at >= self.expires_at

    def require_pending(self) -> None:
        """Raises AlreadyResolved unless it is still pending."""
        if self.state is not ApprovalState.PENDING:
            raise AlreadyResolved(self.state)

    def resolve(self, resolution: str, comment: str | None, *, by_trust: bool) -> ApprovalResolved:
        """Answer it: ``approved`` or ``rejected``. Raises AlreadyResolved unless it is pending."""
        self.require_pending()
        return ApprovalResolved(
            job=self.job, resolution=resolution, comment=comment, by_trust=by_trust
        )


def approval_stream(approval_id: str) -> str:
    return f"approval-{approval_id}"


def approval_id_of(subject: str) -> str | None:
    """The approval that a subject is about; None for a subject of another kind."""
    return subject[9:] if subject.startswith("approval-") else None


def _requested(fact: Fact) -> dict[str, Any]:
    fields = {name: fact.data[name] for name in _ASKED}
    return {**fields, "state": ApprovalState.PENDING, "approvers": tuple(fact.data["approvers"])}


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
    """What an event of the approval's stream changes, by the field names of `Approval`."""
    transition = _TRANSITIONS.get(fact.type)
    return {} if transition is None else transition(fact)


def moved(approval: Approval, fact: Fact) -> Approval:
    """The approval after one more event of its stream."""
    return replace(approval, version=fact.version, **changes_by(fact))
