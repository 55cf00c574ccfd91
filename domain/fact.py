"""An event as a transition looks at it: from the log, or just drafted and not in it yet."""

from typing import NamedTuple, Protocol

from domain.event import Event, Json


class Fact(Protocol):
    """What transitions read of an event; an event of the log (`Recorded`) is one."""

    @property
    def type(self) -> str: ...

    @property
    def version(self) -> int: ...

    @property
    def at(self) -> str: ...

    @property
    def data(self) -> Json: ...


class Drafted(NamedTuple):
    """An event that is to be appended."""

    type: str
    version: int
    at: str
    data: Json


def drafted(event: Event, version: int, at: str) -> Drafted:
    """The event as it will stand in its stream."""
    return Drafted(event.type, version, at, event.model_dump())
