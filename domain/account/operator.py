"""The operator: the person who has the server's token. The operator has no account, but has browser
sessions, which are recorded as those of people are: one event begins a session, one ends it.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from domain.account.aggregate import MOST_SESSIONS
from domain.event import Event

if TYPE_CHECKING:
    from domain.log import Recorded

OPERATOR_SESSIONS = "operator-sessions"
"""The operator's stream."""


class OperatorSignedIn(Event, type="operator.signed_in"):
    """A session of the operator began."""

    session: str
    """A hash of the value in the cookie, keyed with the server's token and cut to 32 digits. It
    cannot be used to sign in, and becomes invalid when the token changes.
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
        """Begin a session. If there are MOST_SESSIONS already, the oldest ends."""
        oldest = self.open[: max(0, len(self.open) - MOST_SESSIONS + 1)]
        ended: list[Event] = [OperatorSignedOut(session=old) for old in oldest]
        return [*ended, OperatorSignedIn(session=session, how=how, address=address)]

    def sign_out(self, session: str) -> list[Event]:
        return [OperatorSignedOut(session=session)] if session in self.open else []


def evolve(sessions: Sessions, recorded: "Recorded") -> Sessions:
    """Fold one event of the stream. Pure. An unknown event only moves the version."""
    sessions = replace(sessions, version=recorded.version, position=recorded.position)
    match recorded.data.get("session"):
        case str(session):
            left = tuple(one for one in sessions.open if one != session)
            begun = (session,) if recorded.type == OperatorSignedIn.type else ()
            return replace(sessions, open=(*left, *begun))
        case _:
            return sessions
