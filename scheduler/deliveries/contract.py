"""What a way out promises: it tries once to bring an event to a receiver, and says what came of
it.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from domain.log import Recorded


@dataclass(frozen=True, slots=True)
class Arrived:
    """The receiver has taken it."""

    status: int | None = None


@dataclass(frozen=True, slots=True)
class Missed:
    """It did not get there; it may the next time."""

    reason: str
    status: int | None = None
    at_least: timedelta = timedelta(0)
    """Not before this is over: the receiver asked for it."""


@dataclass(frozen=True, slots=True)
class Refused:
    """It will not be taken, however often it is tried."""

    reason: str
    status: int | None = None


Answer = Arrived | Missed | Refused


class Channel(Protocol):
    """One way out. Reasons are kept in the log for ever: they hold no address and no secret."""

    async def send(self, receiver: str, event: Recorded) -> Answer:
        """Try once, in bounded time. It may be asked again about the same event: the event's id is
        the key by which a receiver can tell.
        """
        ...
