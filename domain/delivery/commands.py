"""Commands on deliveries: load, decide, append."""

from collections.abc import Callable, Sequence

from domain.clock import Clock, system_clock
from domain.decide import decide as decided
from domain.delivery.aggregate import (
    Delivery,
    DeliveryNotFound,
    delivery_stream,
    moved,
)
from domain.draft import Draft
from domain.event import Event
from domain.folded import FoldedStreams
from domain.log import Context, EventLog, Recorded


class Deliveries:
    """The deliveries of one log."""

    def __init__(self, log: EventLog, clock: Clock = system_clock) -> None:
        self._log = log
        self._clock = clock
        self._folded = FoldedStreams(log, _fold, delivery_stream)

    def load(self, delivery_id: str) -> Delivery:
        """The delivery. Raises DeliveryNotFound."""
        kept = self._folded.latest(delivery_id)
        if kept.version == 0:
            raise DeliveryNotFound(delivery_id)
        return kept.state

    async def execute(
        self, delivery_id: str, decide: Callable[[Delivery], list[Event]], context: Context
    ) -> int:
        """Let the delivery decide and append its events. Returns the position of the newest one, 0
        if there was nothing to do. Raises DeliveryNotFound, and what `decide` raises.
        """

        def decision(draft: Draft) -> None:
            delivery = self.load(delivery_id)
            draft.add(delivery.stream, delivery.version, decide(delivery))

        return (await decided(self._log, decision, context, self._clock)).position


def _fold(delivery_id: str, events: Sequence[Recorded], delivery: Delivery | None) -> Delivery:
    delivery = delivery or Delivery(delivery_id)
    for recorded in events:
        delivery = moved(delivery, recorded)
    return delivery
