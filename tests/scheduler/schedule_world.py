"""The real parts that schedules need, over a directory, with a time that a test controls."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from domain.approval.commands import Approvals
from domain.catalogue import CATALOGUE
from domain.clock import Clock
from domain.crew.commands import Crews
from domain.errors import BadInput, NotFound
from domain.job.commands import Jobs
from domain.log import SYSTEM, EventLog, Recorded, open_sqlite_log
from domain.redaction import Redactor
from domain.schedule.commands import Schedules, checked_terms
from projections.engine import Views
from projections.projection import Row
from projections.schedules import find_schedule
from projections.views import PROJECTIONS
from scheduler.crews import CrewIntake
from scheduler.dispatch.sealed import SealedSpecs
from scheduler.intake import Sealing
from scheduler.policies.clock import ScheduleClock
from scheduler.policies.policy import Following
from scheduler.policies.spawner import Spawner
from scheduler.policies.timers import Timers
from scheduler.templates.plan import CrewPlan, PlannedJob
from tests.kit.jobs import finished
from tests.kit.waiting import soon
from tests.scheduler.simulated import SimulatedTimers

START = datetime(2026, 1, 1, tzinfo=UTC)
_DEADLINE_S = 90.0


@dataclass
class OneJob:
    """Templates of a single job. ``gone`` and ``broken`` make no job; the job of ``dated`` has the
    crew's time as its name.
    """

    refused: bool = False
    """Whether every template is broken now."""

    def render(
        self, template_id: str, inputs: dict[str, Any], *, at: datetime, nominal: datetime
    ) -> CrewPlan:
        if template_id == "gone":
            raise NotFound("There is no template called 'gone'.")
        if template_id == "broken" or self.refused:
            raise BadInput("inputs.repo", "It is missing.")
        if template_id == "bug":
            raise ZeroDivisionError("a private text")
        title = nominal.isoformat() if template_id == "dated" else f"Only {inputs}"
        job = PlannedJob(key="only", title=title, argv=("true",))
        return CrewPlan(template_id, template_id, (job,), inputs)


@dataclass
class World:
    """Log, views, clock and spawner. Inside its context the views follow the log."""

    directory: Path
    timers: Timers
    clock: Clock
    templates: OneJob = field(default_factory=OneJob)

    def __post_init__(self) -> None:
        self.log: EventLog = open_sqlite_log(
            self.directory, redactor=Redactor(), catalogue=CATALOGUE
        )
        self.views = Views(self.directory / "views.db", self.log, PROJECTIONS)
        self.jobs = Jobs(self.log, self.clock)
        crews = Crews(self.log, self.jobs, Approvals(self.log, self.jobs, self.clock), self.clock)
        sealing = Sealing(SealedSpecs(self.directory / "sealed"), Redactor())
        self.crews = CrewIntake(
            self.log,
            self.jobs,
            crews,
            self.templates,
            sealing,
            agent_command=lambda _: (),
            clock=self.clock,
        )
        self.schedules = Schedules(self.log, self.clock)
        self.firing = ScheduleClock(self.log, self.views, self.timers, self.clock)
        self.spawner = Spawner(self.log, self.views, self.schedules, self.crews, self.clock)

    @asynccontextmanager
    async def running(self, *, spawn: bool = True) -> AsyncIterator["World"]:
        """The world while its parts run."""
        self.views.start()
        work: list[Coroutine[Any, Any, None]] = [self.firing.run()]
        if spawn:
            work.append(Following(self.log, self.spawner).run())
        tasks = [asyncio.create_task(task) for task in work]
        try:
            await self.followed()
            yield self
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task
            self.views.close()
            self.log.close()

    async def followed(self) -> None:
        """Wait until the clock knows everything in the log."""
        head = self.log.head
        await soon(lambda: self.firing.follower.position >= head, look_s=0.001)
        await asyncio.sleep(0)

    async def schedule(self, rule: dict[str, Any], enabled: bool = True, **terms: Any) -> str:
        """Make a schedule, and wait until the clock knows it. Returns its id."""
        given = {"name": "a schedule", "template": "one", **terms}
        checked = checked_terms({**given, "rule": rule})
        made = await self.schedules.create(checked, "user:ann", SYSTEM, enabled=enabled)
        await self.followed()
        return made.schedule.id

    async def settled(self) -> None:
        """Wait until every firing has its outcome, and clock and views know it."""
        await soon(self._have_outcomes, look_s=0.002)
        await self.followed()
        await self.views.caught_up()

    def _have_outcomes(self) -> bool:
        firings = self.firings().values()
        # A walk over the log finds an event a moment before the log's head counts it.
        last = max((event.position for events in firings for event in events), default=0)
        return all(len(events) >= 2 for events in firings) and self.log.head >= last

    def events(self, *types: str) -> list[Recorded]:
        """Everything in the log of these types."""
        found = (event for page in self.log.blocking.pages() for event in page)
        return [event for event in found if not types or event.type in types]

    def firings(self) -> dict[str, list[Recorded]]:
        """The events of each firing, by its stream."""
        found: dict[str, list[Recorded]] = {}
        for event in self.events():
            if event.stream.startswith("schedule-") and "/" in event.stream:
                found.setdefault(event.stream, []).append(event)
        return {s: e for s, e in found.items() if e[0].type == "schedule.fired"}

    def fired(self, schedule_id: str) -> list[str]:
        """The times of a schedule that were fired, in the order of firing."""
        subject = f"schedule-{schedule_id}"
        events = self.events("schedule.fired")
        return [event.data["nominal"] for event in events if event.subject == subject]

    async def row(self, schedule_id: str) -> Row:
        await self.views.caught_up()
        with self.views.reading() as reading:
            return find_schedule(reading, schedule_id)

    async def finish(self, job_id: str) -> None:
        """Let the job run and end."""
        await self.jobs.execute(job_id, lambda job: job.start("here"), SYSTEM)
        await self.jobs.execute(job_id, lambda job: job.end_attempt(finished()), SYSTEM)


def simulated(directory: Path, start: datetime = START) -> tuple[World, SimulatedTimers]:
    """A world whose time starts at `start`, and the timers that move it."""
    timers = SimulatedTimers(start)
    return World(directory, timers, timers.clock), timers


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)
