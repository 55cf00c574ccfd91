"""The spawner: makes a crew for each firing of a schedule, or records why it made none."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Protocol, TypeVar
from uuid import UUID, uuid5

from domain.clock import Clock, format_time, parse_time, system_clock
from domain.draft import Draft
from domain.errors import BadInput, CrewlogError, NotFound, Unavailable, VersionConflict
from domain.log import Context, EventLog, Recorded
from domain.schedule.aggregate import (
    FAILURES_TO_PAUSE,
    OWNER_DISABLED,
    Overlap,
    Schedule,
    ScheduleEnabled,
    ScheduleFailed,
    ScheduleFired,
    ScheduleSkipped,
    ScheduleSpawned,
    ScheduleState,
    actor_of,
    firing_stream,
    schedule_id_of,
)
from domain.schedule.commands import Schedules
from projections.engine import Views
from projections.people import is_disabled
from projections.reading import Reading
from projections.schedules import find_schedule, open_crews
from scheduler.crews import Occasion, Prepared
from scheduler.policies.policy import Reaction
from scheduler.templates.plan import CrewPlan

logger = logging.getLogger("crewlog.spawner")

T = TypeVar("T")


class CrewMaker(Protocol):
    """The part of the crew intake that the spawner needs."""

    def plan(
        self,
        template_id: str,
        inputs: dict[str, Any],
        *,
        timezone: str = "UTC",
        nominal: datetime | None = None,
    ) -> CrewPlan:
        """Render a template, for the time that the crew is for. Raises NotFound, or BadInput with
        the path of the mistake. Blocks.
        """
        ...

    def prepare(self, plan: CrewPlan, occasion: Occasion) -> Prepared:
        """The events of the crew. The same `crew_id` always gives the same jobs."""
        ...

    def sealed(self, prepared: Prepared) -> contextlib.AbstractAsyncContextManager[None]:
        """The context for the append of those events."""
        ...

    def crew_active(self, crew_id: str) -> bool:
        """Whether a job of the crew may still go on."""
        ...

    async def cancel_crew(self, crew_id: str, reason: str, context: Context) -> int | None:
        """Ask for the end of all its jobs."""
        ...


@dataclass(frozen=True, slots=True)
class SpawnedCrew:
    """The crew of a firing by hand. `job_ids` are in dependency order."""

    crew_id: str
    job_ids: list[str]
    position: int


class Spawner:
    """A policy (`scheduler.policies.policy`) on ``schedule.fired``."""

    name = "spawner"
    types = ("schedule.fired",)

    def __init__(
        self,
        log: EventLog,
        views: Views,
        schedules: Schedules,
        crews: CrewMaker,
        clock: Clock = system_clock,
    ) -> None:
        self._log = log
        self._views = views
        self._schedules = schedules
        self._crews = crews
        self._clock = clock

    async def react(self, event: Recorded) -> Reaction | None:
        """Handle one firing. The crew is appended here, with the checkpoint, because its private
        parts must be sealed around the append.
        """
        schedule_id = schedule_id_of(event.subject)
        last = await self._log.last_of_stream(event.stream)
        if schedule_id is None or (last is not None and last.version > event.version):
            return None
        schedule = await self._log.apart(partial(self._schedules.find, schedule_id))
        draft = Draft(Context(actor=actor_of(schedule_id), cause=event.id), self._clock)
        if schedule.deleted:
            return self._skip(draft, event, "deleted", None)
        if await self._seen(lambda reading: is_disabled(reading, schedule.owner)):
            if schedule.state is ScheduleState.ENDED and schedule.max_firings is not None:
                # The clock ended it with this firing, before the owner was disabled.
                await self._go_on(draft, schedule)
            return self._skip(draft, event, OWNER_DISABLED, None)
        running = await self._running_crews(schedule)
        if running and schedule.overlap is Overlap.SKIP:
            return self._skip(draft, event, "overlap", running[0])
        try:
            prepared = await self._prepared(
                schedule, draft.context, event.id, event.data["nominal"]
            )
        except (Unavailable, VersionConflict):
            raise
        except Exception as error:
            return await self._fail(draft, schedule, event, error)
        for crew in running:
            reason = "The next firing of its schedule replaces it."
            await self._crews.cancel_crew(crew, reason, draft.context)
        draft.add(event.stream, event.version, [self._spawned(prepared, event.data, running)])
        async with self._crews.sealed(prepared):
            await self._log.append(
                [*draft.events, *prepared.events],
                {**draft.expected, **prepared.expected},
                checkpoint=(self.name, event.position),
            )
        return None

    async def run_now(self, schedule_id: str, context: Context) -> SpawnedCrew:
        """Fire by hand: at once, in every state of the schedule, and beside crews that still run.

        Raises ScheduleNotFound, and BadInput if no crew could be made. That is recorded, too.
        """
        schedule = await self._log.apart(partial(self._schedules.load, schedule_id))
        moment = self._clock()
        nominal = format_time(moment)
        stream = firing_stream(schedule_id, moment, manual=True)
        draft = Draft(context, self._clock)
        fired = ScheduleFired(
            nominal=nominal, due_at=nominal, late_ms=0, firing=0, catch_up=False, manual=True
        )
        draft.add(stream, 0, [fired])
        cause = draft.events[0].id
        draft.context = replace(context, cause=cause)
        try:
            prepared = await self._prepared(schedule, draft.context, cause, nominal)
        except (NotFound, BadInput) as error:
            failed = _failed(error, nominal, manual=True)
            draft.add(stream, 0, [failed])
            await self._log.append(draft.events, draft.expected)
            raise BadInput(failed.path or "template", failed.reason) from error
        draft.add(stream, 0, [self._spawned(prepared, fired.model_dump(), [])])
        async with self._crews.sealed(prepared):
            recorded = await self._log.append(
                [*draft.events, *prepared.events], {**draft.expected, **prepared.expected}
            )
        return SpawnedCrew(prepared.crew_id, prepared.job_ids, recorded[-1].position)

    async def _prepared(
        self, schedule: Schedule, context: Context, fired_id: str, nominal: str
    ) -> Prepared:
        """The crew of one firing: always the same one."""
        plan = await asyncio.to_thread(
            self._crews.plan,
            schedule.template,
            schedule.inputs,
            timezone=schedule.timezone,
            nominal=parse_time(nominal),
        )
        occasion = Occasion(
            owner=schedule.owner,
            context=context,
            schedule=schedule.id,
            nominal=nominal,
            crew_id=str(uuid5(UUID(fired_id), "crew")),
        )
        return self._crews.prepare(plan, occasion)

    def _spawned(
        self, prepared: Prepared, fired: dict[str, Any], replaced: Sequence[str]
    ) -> ScheduleSpawned:
        late = self._clock() - parse_time(fired["due_at"])
        return ScheduleSpawned(
            nominal=fired["nominal"],
            crew=prepared.crew_id,
            jobs=prepared.job_ids,
            late_ms=max(0, round(late.total_seconds() * 1000)),
            replaced=list(replaced),
        )

    async def _go_on(self, draft: Draft, schedule: Schedule) -> None:
        """Enable a schedule that had no firing left, because one does not count now."""
        try:
            following = await asyncio.to_thread(schedule.next_after, self._clock(), 0)
        except BadInput:  # this server cannot read its rule
            return
        if following is not None:
            draft.add(schedule.stream, schedule.version, [ScheduleEnabled()])

    def _skip(self, draft: Draft, event: Recorded, reason: str, crew: str | None) -> Reaction:
        skipped = ScheduleSkipped(nominal=event.data["nominal"], reason=reason, crew=crew)
        draft.add(event.stream, event.version, [skipped])
        return Reaction(draft.events, draft.expected)

    async def _fail(
        self, draft: Draft, schedule: Schedule, event: Recorded, error: Exception
    ) -> Reaction:
        """Record that no crew could be made. After five such firings in a row the schedule
        is paused.
        """
        failed = _failed(error, event.data["nominal"], manual=False)
        draft.add(event.stream, event.version, [failed])
        failures = 1 + await self._seen(lambda reading: _failures(reading, schedule.id))
        if failures >= FAILURES_TO_PAUSE:
            reason = f"{failures} firings in a row made no crew. The last: {failed.reason}"
            draft.add(schedule.stream, schedule.version, schedule.pause(reason, failures))
        return Reaction(draft.events, draft.expected)

    async def _running_crews(self, schedule: Schedule) -> list[str]:
        """Crews of earlier firings that still run, newest first. Empty if the overlap rule does not
        need them.
        """
        if schedule.overlap is Overlap.ALLOW:
            return []
        crews = await self._seen(lambda reading: open_crews(reading, schedule.id))
        return [c for c in crews if await self._log.apart(partial(self._is_active, c))]

    def _is_active(self, crew: str) -> bool:
        try:
            return self._crews.crew_active(crew)
        except NotFound:
            return False

    async def _seen(self, look: Callable[[Reading], T]) -> T:
        """What the views show once they show all events of this policy. Raises ViewsUnavailable if
        that takes too long: then the event is handled again later.
        """
        await self._views.caught_up()
        with self._views.reading() as reading:
            return look(reading)


def _failures(reading: Reading, schedule_id: str) -> int:
    try:
        return int(find_schedule(reading, schedule_id)["failures"])
    except NotFound:
        return 0


def _failed(error: Exception, nominal: str, *, manual: bool) -> ScheduleFailed:
    path, reason = None, str(error)
    if isinstance(error, BadInput):
        path, reason = error.path, error.reason
    elif not isinstance(error, CrewlogError):
        # The text of an unexpected error may hold anything, so it stays in the server's log.
        error_id = secrets.token_hex(6)
        logger.error("a crew could not be made, error_id %s", error_id, exc_info=error)
        reason = f"The server failed; error id {error_id}."
    return ScheduleFailed(nominal=nominal, reason=reason, path=path, manual=manual)
