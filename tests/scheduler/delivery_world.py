"""The parts that send deliveries, over a log of their own, joined as in the server."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

from domain.catalogue import CATALOGUE
from domain.delivery.aggregate import Delivery
from domain.delivery.commands import Deliveries
from domain.job.events import JobCommented, job_stream
from domain.log import Context, Recorded, new_events, open_sqlite_log
from domain.redaction import Redactor
from projections.engine import Views
from projections.views import PROJECTIONS
from scheduler.deliveries.announcing import Announcing
from scheduler.deliveries.contract import Channel
from scheduler.deliveries.sender import Sender
from scheduler.deliveries.webhook import Hook, Webhooks
from scheduler.follower import Unforeseen
from scheduler.policies.policy import Following
from scheduler.policies.timers import ApsTimers

WHO = Context(actor="tester")
SOON = (timedelta(milliseconds=1),) * 3
LOOPBACK = (ip_network("127.0.0.0/8"),)


class World:
    """A world that sends comments on jobs to each of the hooks."""

    def __init__(
        self,
        directory: Path,
        hooks: Mapping[str, Hook],
        *,
        waits: Sequence[timedelta] = SOON,
        timeout_s: float = 20.0,
        channel: Channel | None = None,
    ) -> None:
        self.log = open_sqlite_log(directory / "log", redactor=Redactor(), catalogue=CATALOGUE)
        self.views = Views(directory / "views.db", self.log, PROJECTIONS)
        self.timers = ApsTimers()
        self.deliveries = Deliveries(self.log)
        webhooks = Webhooks(hooks, allowed=LOOPBACK, timeout_s=timeout_s)
        channels = {"webhook": channel or webhooks}
        self.sender = Sender(
            self.log, self.views, self.deliveries, channels, self.timers, waits=waits
        )
        rule = Announcing(
            self.log, "announcing", ("job.commented",), lambda _: [("webhook", h) for h in hooks]
        )
        self.announcing = Following(self.log, rule, Unforeseen.STAY)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["World"]:
        self.views.start()
        self.timers.start()
        tasks = [
            asyncio.create_task(self.announcing.run()),
            asyncio.create_task(self.sender.run()),
        ]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self.timers.stop()
            await asyncio.sleep(0)
            self.close()

    def close(self) -> None:
        self.views.close()
        self.log.close()

    async def comment(self, job: str = "a", text: str = "hello") -> Recorded:
        """Append an event to send."""
        last = await self.log.last_of_stream(job_stream(job))
        expected = {job_stream(job): last.version if last is not None else 0}
        events = new_events(job_stream(job), [JobCommented(text=text)], WHO)
        return (await self.log.append(events, expected))[0]

    async def outcomes(self, count: int = 1) -> list[Recorded]:
        """The ends of deliveries, once there are this many."""
        found: list[Recorded] = []
        async with asyncio.timeout(30):
            async for page in self.log.tail(0, types=("delivery.delivered", "delivery.failed")):
                found += page
                if len(found) >= count:
                    break
        return found

    async def history(self, delivery_id: str) -> list[str]:
        """The history of one delivery, in short."""
        events = await self.log.stream(Delivery(delivery_id).stream)
        return [event.type.partition(".")[2] for event in events]
