"""The operator: whoever holds the server's token. That is no account, but has sessions in browsers,
and they are kept as those of people are: an event begins one, and an event ends it.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from domain.account.aggregate import MOST_SESSIONS
from domain.event import Event

if TYPE_CHECKING:
    from domain.log import Recorded

OPERATOR_SESSIONS = "operator-sessions"
"""The stream."""


class OperatorSignedIn(Event, type="operator.signed_in"):
    """A session of the operator began."""

    session: str
    """A hash of what the cookie holds, keyed with the server's token, cut to 32 digits: it opens
    nothing, and means nothing once the token is another one.
    """
    how: Literal["token", "link"]
    address: str | None


class OperatorSignedOut(Event, type="operator.signed_out"):
    """A session of the operator ended."""

    session: str


@dataclass(frozen=True, slots=True)
class Sessions:
    """The open sessions, oldest first. Commands return events and change nothing."""

    version: int = 0
    position: int = 0
    open: tuple[str, ...] = ()

    def sign_in(
        self, session: str, how: Literal["token", "link"], address: str | None
    ) -> list[Event]:
        """One more than MOST_SESSIONS ends the oldest."""
        oldest = self.open[: max(0, len(self.open) - MOST_SESSIONS + 1)]
        ended: list[Event] = [OperatorSignedOut(session=old) for old in oldest]
        return [*ended, OperatorSignedIn(session=session, how=how, address=address)]

    def sign_out(self, session: str) -> list[Event]:
        return [OperatorSignedOut(session=session)] if session in self.open else []


def evolve(sessions: Sessions, recorded: "Recorded") -> Sessions:
    """Fold one event of the stream. Pure; an unknown one only moves the version."""
    sessions = replace(sessions, version=recorded.version, position=recorded.position)
    match recorded.data.get("session"):
        case str(session):
            left = tuple(one for one in sessions.open if one != session)
            begun = (session,) if recorded.type == OperatorSignedIn.type else ()
            return replace(sessions, open=(*left, *begun))
        case _:
            return sessions
