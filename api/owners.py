"""Whose a thing of the log is: what a reader of the log may see follows from it."""

from collections import OrderedDict

from fastapi import HTTPException

from api.security import NOT_ADMIN, Principal
from domain.errors import NotFound
from domain.log import EventLog

_KEPT = 20_000


class Owners:
    """Owners by subject. A thing has its owner from its first event on, and keeps it."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._known: OrderedDict[str, str] = OrderedDict()

    def of(self, subject: str) -> str | None:
        """The owner of a job, crew, approval or schedule, or of an account; None for all else."""
        known = self._known.get(subject)
        if known is None:
            known = self._look_up(subject)
            if known is None:
                return None
            self._known[subject] = known
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return known

    def _look_up(self, subject: str) -> str | None:
        if subject.startswith("user-"):
            return f"user:{subject[5:]}"
        first = self._log.first_of_stream(subject)
        owner = first.data.get("owner") if first is not None else None
        return owner if isinstance(owner, str) else None

    def check(self, principal: Principal, subject: str | None) -> None:
        """Whether this part of the log may be read. NotFound for a thing of somebody else, 403 for
        the whole log, which is for admins.
        """
        if principal.admin:
            return
        if subject is None:
            raise HTTPException(403, NOT_ADMIN)
        if not principal.sees(self.of(subject) or ""):
            raise NotFound("There is no such subject.")
