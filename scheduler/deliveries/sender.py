"""The sender: brings deliveries to their receivers, each at least once.

The log holds the deliveries and the outcomes of all tries; the sender remembers nothing else. At
its start it finds in the views the deliveries without an outcome, and sends them. So after a crash
between a try and its outcome, the delivery is sent again with the same key.
"""

import asyncio
import logging
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from weakref import WeakValueDictionary

from domain.clock import Clock, format_time, parse_time, system_clock
from domain.delivery.aggregate import Delivery, delivery_id_of
from domain.delivery.commands import Deliveries
from domain.errors import Unavailable
from domain.event import Event
from domain.log import Context, EventLog, Recorded
from projections.deliveries import pending_deliveries
from projections.engine import Views
from scheduler.deliveries.contract import Answer, Arrived, Channel, Missed, Refused
from scheduler.follower import Follower, Unforeseen
from scheduler.policies.timers import Timers

logger = logging.getLogger("crewlog.deliveries")

ACTOR = "system:deliveries"

WAITS = tuple(
    timedelta(seconds=seconds) for seconds in (1, 5, 30, 120, 600, 3_600, 10_800, 21_600, 43_200)
)
"""Waits between the tries of one delivery: ten tries in a day."""

_TYPES = (
    "delivery.requested",
    "delivery.postponed",
    "delivery.delivered",
    "delivery.failed",
    "delivery.renewed",
)
_AT_ONCE = 8
_RETRY_S = 0.5
_AWAY = timedelta(seconds=1)
_BROKEN = timedelta(seconds=60)


class Sender:
    """Sends to several receivers at once, but to each receiver one after the other. So a slow
    receiver delays no other one.
    """

    name = "deliveries"

    def __init__(
        self,
        log: EventLog,
        views: Views,
        deliveries: Deliveries,
        channels: Mapping[str, Channel],
        timers: Timers,
        clock: Clock = system_clock,
        *,
        waits: Sequence[timedelta] = WAITS,
    ) -> None:
        self._log = log
        self._views = views
        self._deliveries = deliveries
        self._channels = channels
        self._timers = timers
        self._clock = clock
        self._waits = waits
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._lanes: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._sending: set[str] = set()
        self.follower = Follower(
            log, self.name, _TYPES, self._follow, begin=self._begin, unforeseen=Unforeseen.STAY
        )

    async def run(self) -> None:
        """Runs until cancelled. Start the timers first."""
        await self.follower.run()

    async def _begin(self) -> int:
        await self._views.caught_up(timeout_s=60.0)
        with self._views.reading() as reading:
            for row in pending_deliveries(reading):
                self._arm(row["id"], parse_time(row["due_at"]))
            return reading.positions["deliveries"]

    async def _follow(self, event: Recorded) -> None:
        delivery_id = delivery_id_of(event.subject) or ""
        if event.type in ("delivery.requested", "delivery.renewed"):
            self._arm(delivery_id, self._clock())
        elif event.type == "delivery.postponed":
            self._arm(delivery_id, parse_time(event.data["until"]))
        else:
            self._timers.cancel(_timer(delivery_id))

    def _arm(self, delivery_id: str, when: datetime) -> None:
        self._timers.at(_timer(delivery_id), when, partial(self._send, delivery_id))

    async def _send(self, delivery_id: str) -> None:
        if delivery_id in self._sending:
            return
        self._sending.add(delivery_id)
        try:
            await self._try(delivery_id)
        except Exception as error:
            # A delivery is never passed over: it stays pending, and is tried again.
            known = isinstance(error, Unavailable)
            level = logging.ERROR if known else logging.CRITICAL
            logger.log(level, "delivery %s waits", delivery_id, exc_info=None if known else error)
            self._arm(delivery_id, self._clock() + (_AWAY if known else _BROKEN))
        finally:
            self._sending.discard(delivery_id)

    async def _try(self, delivery_id: str) -> None:
        delivery = await self._log.apart(partial(self._deliveries.load, delivery_id))
        lane = self._lane(delivery)
        async with lane, self._room:
            # Look again: it may have waited for its turn.
            delivery = await self._log.apart(partial(self._deliveries.load, delivery_id))
            if not delivery.pending:
                return
            if delivery.due_at is not None and delivery.due_at > format_time(self._clock()):
                self._arm(delivery_id, parse_time(delivery.due_at))
                return
            event = await self._log.event_at(delivery.event_position)
            answer = await self._answer(delivery, event)
        await self._record(delivery, answer)

    def _lane(self, delivery: Delivery) -> asyncio.Lock:
        return self._lanes.setdefault((delivery.channel, delivery.receiver), asyncio.Lock())

    async def _answer(self, delivery: Delivery, event: Recorded | None) -> Answer:
        channel = self._channels.get(delivery.channel)
        if channel is None or event is None:
            missing = f"channel {delivery.channel!r}" if channel is None else "event to send"
            return Refused(f"There is no {missing}.")
        try:
            return await channel.send(delivery.receiver, event)
        except Exception:
            error_id = secrets.token_hex(6)
            logger.critical("delivery %s failed (%s)", delivery.id, error_id, exc_info=True)
            return Missed(f"The server failed; error id {error_id}.")

    async def _record(self, seen: Delivery, answer: Answer) -> None:
        """Append the outcome, and try until the log can be written: the event was sent, and must
        not be sent again only because of the log.
        """

        def decide(delivery: Delivery) -> list[Event]:
            if delivery.version != seen.version:
                return []
            match answer:
                case Arrived(status):
                    return delivery.arrive(status)
                case Refused(reason, status):
                    return delivery.refuse(status, reason)
                case Missed(reason, status, at_least):
                    return delivery.miss(status, reason, self._clock(), self._waits, at_least)

        while True:
            try:
                await self._deliveries.execute(seen.id, decide, Context(actor=ACTOR))
                return
            except Unavailable:
                await asyncio.sleep(_RETRY_S)


def _timer(delivery_id: str) -> str:
    return f"deliver {delivery_id}"
