"""What a channel promises: it tries once to bring an event to a receiver, and returns the
result.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from domain.log import Recorded


@dataclass(frozen=True, slots=True)
class Arrived:
    """The receiver accepted the event."""

    status: int | None = None


@dataclass(frozen=True, slots=True)
class Missed:
    """The event did not arrive. The next try may succeed."""

    reason: str
    status: int | None = None
    at_least: timedelta = timedelta(0)
    """The receiver asked for no other try before this time has passed."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The receiver will not accept the event, however often it is sent."""

    reason: str
    status: int | None = None


Answer = Arrived | Missed | Refused


class Channel(Protocol):
    """One way out. Reasons stay in the log for ever, so they hold no address and no secret."""

    async def send(self, receiver: str, event: Recorded) -> Answer:
        """Try once, in bounded time. It may be called again for the same event. The receiver can
        recognise a repetition by the event's id.
        """
        ...
