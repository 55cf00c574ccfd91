"""The delivery: one event that is to reach one receiver outside, at least once.

That it is to be sent, and what came of it, are events of its stream, ``delivery-<uuid>``. A
receiver has a name here and never an address or a secret: the log is for ever. The id of the event
that is sent is its idempotency key, so a receiver that hears it twice can tell.
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
    """Given up, until somebody has it sent again."""


class DeliveryRequested(Event, type="delivery.requested"):
    """An event is to reach a receiver."""

    channel: str
    """How: ``webhook``."""
    receiver: str
    """To whom, by the name that the channel knows."""
    event: str
    """The id of what is sent, which is its idempotency key."""
    event_position: int


class DeliveryPostponed(Event, type="delivery.postponed"):
    """A try did not reach the receiver, and there will be another one."""

    tries: int
    """Up to this one."""
    status: int | None
    """What it answered, as HTTP counts; none where it did not."""
    reason: str
    until: str


class DeliveryDelivered(Event, type="delivery.delivered"):
    """The receiver has taken it."""

    tries: int
    status: int | None


class DeliveryFailed(Event, type="delivery.failed"):
    """It is given up: the receiver refuses it, or was not reached in any try."""

    tries: int
    status: int | None
    reason: str


class DeliveryRenewed(Event, type="delivery.renewed"):
    """Somebody has it sent again; its tries count anew."""


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
    """Since it was asked for, or renewed."""
    due_at: str | None = None
    """When it is to be tried next."""
    status: int | None = None
    reason: str | None = None

    @property
    def stream(self) -> str:
        return delivery_stream(self.id)

    @property
    def pending(self) -> bool:
        return self.state is DeliveryState.PENDING

    def arrive(self, status: int | None) -> list[Event]:
        """The receiver has taken it."""
        return [DeliveryDelivered(tries=self.tries + 1, status=status)]

    def refuse(self, status: int | None, reason: str) -> list[Event]:
        """The receiver will not take it, however often it is tried."""
        return [DeliveryFailed(tries=self.tries + 1, status=status, reason=reason)]

    def miss(
        self,
        status: int | None,
        reason: str,
        now: datetime,
        waits: Sequence[timedelta],
        at_least: timedelta = timedelta(0),
    ) -> list[Event]:
        """It did not get there this time. It is tried again after each of `waits`, and not before
        `at_least` is over; then it is given up.
        """
        if self.tries >= len(waits):
            return self.refuse(status, reason)
        until = format_time(now + max(waits[self.tries], at_least))
        return [DeliveryPostponed(tries=self.tries + 1, status=status, reason=reason, until=until)]

    def renew(self) -> list[Event]:
        """Have it sent again. WrongState unless it was given up."""
        if self.state is not DeliveryState.FAILED:
            raise WrongState(f"Delivery is {self.state}: only one that failed is sent again.")
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
    """What an event of its stream changes of a delivery, by the field names of `Delivery`."""
    transition = _TRANSITIONS.get(fact.type)
    return {} if transition is None else transition(fact)


def moved(delivery: Delivery, fact: Fact) -> Delivery:
    """The delivery after one more event of its stream."""
    return replace(delivery, version=fact.version, **changes_by(fact))


def delivery_stream(delivery_id: str) -> str:
    return f"delivery-{delivery_id}"


def delivery_id_of(subject: str) -> str | None:
    """The delivery that a subject is about, or None for something else."""
    return subject.removeprefix("delivery-") if subject.startswith("delivery-") else None


def delivery_id(event: str, channel: str, receiver: str) -> str:
    """The same for the same event to the same receiver: it is asked for once."""
    return str(uuid5(NAMESPACE_URL, f"crewlog:{event}\0{channel}\0{receiver}"))
