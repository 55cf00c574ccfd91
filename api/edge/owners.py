"""Who owns a thing in the log. This decides what a reader of the log may see."""

from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import NamedTuple

from fastapi import HTTPException

from api.edge.security import NOT_ADMIN, Principal
from domain.account.email import folded
from domain.errors import NotFound
from domain.log import EventLog, Recorded

_KEPT = 20_000


def is_named(email: str | None, approvers: Collection[str]) -> bool:
    """Whether an approval names the person with this address."""
    return email is not None and folded(email) in map(folded, approvers)


class _Concerned(NamedTuple):
    owner: str
    approvers: tuple[str, ...] = ()


class Owners:
    """Owners by subject. A thing has its owner from its first event on, and keeps it."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._known: OrderedDict[str, _Concerned] = OrderedDict()

    def of(self, subject: str) -> str | None:
        """The owner of a job, crew, approval, schedule or account; None for other subjects."""
        found = self._of(subject)
        return found.owner if found is not None else None

    def concerns(self, subject: str, principal: Principal, email: str | None) -> bool:
        """Whether the subject belongs to the principal, or is an approval that names this
        address.
        """
        found = self._of(subject)
        if found is None:
            return principal.sees("")
        return principal.sees(found.owner) or is_named(email, found.approvers)

    def concerned(
        self, page: Sequence[Recorded], principal: Principal, email: str | None
    ) -> list[Recorded]:
        """The events that this principal may see. Blocks on the disk."""
        return [event for event in page if self.concerns(event.subject, principal, email)]

    def _of(self, subject: str) -> _Concerned | None:
        known = self._known.get(subject)
        if known is None:
            known = self._look_up(subject)
            if known is None:
                return None
            self._known[subject] = known
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return known

    def _look_up(self, subject: str) -> _Concerned | None:
        if subject.startswith("user-"):
            return _Concerned(f"user:{subject[5:]}")
        first = self._log.blocking.first_of_stream(subject)
        owner = first.data.get("owner") if first is not None else None
        if first is None or not isinstance(owner, str):
            return None
        named = first.data["approvers"] if first.type == "approval.requested" else ()
        return _Concerned(owner, tuple(named))

    def check(self, principal: Principal, subject: str | None) -> None:
        """Check that this part of the log may be read. Raises NotFound for another owner's thing,
        and 403 for the whole log, which only administrators may read.
        """
        if principal.admin:
            return
        if subject is None:
            raise HTTPException(403, NOT_ADMIN)
        if not principal.sees(self.of(subject) or ""):
            raise NotFound("There is no such subject.")
