"""An event as transitions see it: read from the log, or drafted and not yet in it."""

from typing import NamedTuple, Protocol

from domain.event import Event, Json


class Fact(Protocol):
    """The part of an event that transitions read. An event of the log (`Recorded`) has it too."""

    @property
    def type(self) -> str: ...

    @property
    def version(self) -> int: ...

    @property
    def at(self) -> str: ...

    @property
    def data(self) -> Json: ...


class Drafted(NamedTuple):
    """A drafted event."""

    type: str
    version: int
    at: str
    data: Json


def drafted(event: Event, version: int, at: str) -> Drafted:
    """The event as it will be in its stream."""
    return Drafted(event.type, version, at, event.model_dump())
