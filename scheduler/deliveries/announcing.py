"""A policy that requests deliveries: whenever this event, send it to these receivers."""

from collections.abc import Callable, Iterable

from domain.clock import Clock, system_clock
from domain.delivery.aggregate import DeliveryRequested, delivery_id, delivery_stream
from domain.draft import Draft
from domain.log import Context, EventLog, Recorded
from scheduler.policies.policy import Reaction

ACTOR = "system:deliveries"

Addressed = tuple[str, str]
"""A channel, and the name of a receiver in it."""


class Announcing:
    """Requests one delivery for each event and receiver: its id follows from both. Run it with
    `Unforeseen.STAY`, because an event that is passed over would never be sent.
    """

    def __init__(
        self,
        log: EventLog,
        name: str,
        types: tuple[str, ...],
        receivers: Callable[[Recorded], Iterable[Addressed]],
        clock: Clock = system_clock,
    ) -> None:
        self.name = name
        self.types = types
        self._log = log
        self._receivers = receivers
        self._clock = clock

    async def react(self, event: Recorded) -> Reaction | None:
        draft = Draft(Context(actor=ACTOR, cause=event.id), self._clock)
        for channel, receiver in self._receivers(event):
            stream = delivery_stream(delivery_id(event.id, channel, receiver))
            if await self._log.first_of_stream(stream) is None:
                requested = DeliveryRequested(
                    channel=channel,
                    receiver=receiver,
                    event=event.id,
                    event_position=event.position,
                )
                draft.add(stream, 0, [requested])
        return Reaction(draft.events, draft.expected) if draft else None
