"""The delivery: one event that is to reach one receiver outside, at least once.

The request to send and the outcome of each try are events of the delivery's stream,
``delivery-<uuid>``. An event holds the receiver's name and never an address or a secret, because
the log is kept for ever. The id of the event that is sent is the idempotency key, so a receiver can
recognise a repeated delivery.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from domain.clock import format_time
from domain.errors import NotFound, WrongState
from domain.event import Event
from domain.fact import Fact


class DeliveryState(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    """Given up, until a person has it sent again."""


class DeliveryRequested(Event, type="delivery.requested"):
    """An event is to be sent to a receiver."""

    channel: str
    """The way out, such as ``webhook``."""
    receiver: str
    """The receiver's name in that channel."""
    event: str
    """The id of the event to send. It is also the idempotency key."""
    event_position: int


class DeliveryPostponed(Event, type="delivery.postponed"):
    """A try did not reach the receiver. There will be another one."""

    tries: int
    """Number of tries so far, this one included."""
    status: int | None
    """The HTTP status of the answer; none if there was no answer."""
    reason: str
    until: str


class DeliveryDelivered(Event, type="delivery.delivered"):
    """The receiver accepted the event."""

    tries: int
    status: int | None


class DeliveryFailed(Event, type="delivery.failed"):
    """The delivery was given up: the receiver refused it, or no try reached the receiver."""

    tries: int
    status: int | None
    reason: str


class DeliveryRenewed(Event, type="delivery.renewed"):
    """A person has it sent again. Its tries are counted from 0."""


class DeliveryNotFound(NotFound):
    def __init__(self, delivery_id: str) -> None:
        super().__init__("Delivery not found")
        self.delivery_id = delivery_id


@dataclass(frozen=True, slots=True)
class Delivery:
    """The state of one delivery, folded from its stream."""

    id: str
    version: int = 0
    state: DeliveryState = DeliveryState.PENDING
    channel: str = ""
    receiver: str = ""
    event: str = ""
    event_position: int = 0
    tries: int = 0
    """Since it was requested or renewed."""
    due_at: str | None = None
    """When the next try is due."""
    status: int | None = None
    reason: str | None = None

    @property
    def stream(self) -> str:
        return delivery_stream(self.id)

    @property
    def pending(self) -> bool:
        return self.state is DeliveryState.PENDING

    def arrive(self, status: int | None) -> list[Event]:
        """The receiver accepted the event."""
        return [DeliveryDelivered(tries=self.tries + 1, status=status)]

    def refuse(self, status: int | None, reason: str) -> list[Event]:
        """The receiver refuses the event for good."""
        return [DeliveryFailed(tries=self.tries + 1, status=status, reason=reason)]

    def miss(
        self,
        status: int | None,
        reason: str,
        now: datetime,
        waits: Sequence[timedelta],
        at_least: timedelta = timedelta(0),
    ) -> list[Event]:
        """This try did not reach the receiver. The next one follows after the next of `waits`, but
        not before `at_least` has passed. After the last of `waits` the delivery is given up.
        """
        if self.tries >= len(waits):
            return self.refuse(status, reason)
        until = format_time(now + max(waits[self.tries], at_least))
        return [DeliveryPostponed(tries=self.tries + 1, status=status, reason=reason, until=until)]

    def renew(self) -> list[Event]:
        """Send it again. Raises WrongState unless it was given up."""
        if self.state is not DeliveryState.FAILED:
            raise WrongState(f"Delivery is {self.state}: only a failed one can be sent again.")
        return [DeliveryRenewed()]


_TRANSITIONS: dict[str, Callable[[Fact], dict[str, Any]]] = {
    DeliveryRequested.type: lambda fact: {
        **{name: fact.data[name] for name in DeliveryRequested.model_fields},
        "state": DeliveryState.PENDING,
        "tries": 0,
        "due_at": fact.at,
    },
    DeliveryPostponed.type: lambda fact: {
        **{name: fact.data[name] for name in ("tries", "status", "reason")},
        "due_at": fact.data["until"],
    },
    DeliveryDelivered.type: lambda fact: {
        **{name: fact.data[name] for name in ("tries", "status")},
        "state": DeliveryState.DELIVERED,
        "reason": None,
        "due_at": None,
    },
    DeliveryFailed.type: lambda fact: {
        **{name: fact.data[name] for name in ("tries", "status", "reason")},
        "state": DeliveryState.FAILED,
        "due_at": None,
    },
    DeliveryRenewed.type: lambda fact: {
        "state": DeliveryState.PENDING,
        "tries": 0,
        "due_at": fact.at,
    },
}


def changes_by(fact: Fact) -> dict[str, Any]:
    """What an event of the delivery's stream changes, by the field names of `Delivery`."""
    transition = _TRANSITIONS.get(fact.type)
    return {} if transition is None else transition(fact)


def moved(delivery: Delivery, fact: Fact) -> Delivery:
    """The delivery after one more event of its stream."""
    return replace(delivery, version=fact.version, **changes_by(fact))


def delivery_stream(delivery_id: str) -> str:
    return f"delivery-{delivery_id}"


def delivery_id_of(subject: str) -> str | None:
    """The delivery that a subject is about; None for a subject of another kind."""
    return subject.removeprefix("delivery-") if subject.startswith("delivery-") else None


def delivery_id(event: str, channel: str, receiver: str) -> str:
    """The same id for the same event and receiver, so that it is requested once."""
    return str(uuid5(NAMESPACE_URL, f"crewlog:{event}\0{channel}\0{receiver}"))
