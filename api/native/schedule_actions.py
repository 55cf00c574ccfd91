"""Actions of people on schedules: make, change and fire them, and preview their times."""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from fastapi.concurrency import run_in_threadpool

from api.edge.access import scope_of
from api.edge.security import Principal
from api.native.schedule_json import begin_of, schedule_json
from domain.clock import Clock, format_time, system_clock
from domain.log import Context
from domain.schedule.aggregate import ScheduleNotFound
from domain.schedule.commands import ChangedSchedule, Decide, Schedules, checked_terms
from domain.schedule.recurrence import Rule, parse_rule
from projections.engine import Views
from projections.projection import Row
from projections.reading import Reading
from projections.schedules import (
    find_schedule,
    list_firings,
    list_schedules,
    schedule_of,
    used_firings,
)
from scheduler.policies.spawner import CrewMaker, SpawnedCrew, Spawner


class ScheduleActions:
    """Commands on schedules that the principal may see; for others they raise ScheduleNotFound.
    `timezone` is the default zone of new schedules.
    """

    def __init__(
        self,
        schedules: Schedules,
        spawner: Spawner,
        crews: CrewMaker,
        views: Views,
        *,
        timezone: str = "UTC",
        clock: Clock = system_clock,
    ) -> None:
        self._schedules = schedules
        self._spawner = spawner
        self._crews = crews
        self._views = views
        self._timezone = timezone
        self._clock = clock

    async def create(
        self,
        template: Callable[[], str],
        terms: dict[str, Any],
        principal: Principal,
        context: Context,
        *,
        enabled: bool,
    ) -> ChangedSchedule:
        """Raises BadInput with the path of the mistake for an invalid rule, time zone or input, and
        TemplateNotFound. `template` is called once the terms are valid.
        """
        given = {"timezone": self._timezone, **terms}
        checked = await run_in_threadpool(checked_terms, given)
        checked["template"] = template()
        await self._render(checked["template"], checked.get("inputs", {}), checked["timezone"])
        return await self._schedules.create(checked, principal.owner, context, enabled=enabled)

    async def change(
        self,
        schedule_id: str,
        terms: dict[str, Any],
        principal: Principal,
        context: Context,
        version: int | None,
    ) -> ChangedSchedule:
        """Fields that are left out do not change. The next time is computed anew."""
        schedule = schedule_of(await self.row(schedule_id, principal))
        if "inputs" in terms:
            zone = terms.get("timezone", schedule.timezone)
            await self._render(schedule.template, terms["inputs"], zone)
        return await self._schedules.change(schedule_id, terms, context, if_match=version)

    async def _render(self, template: str, inputs: dict[str, Any], timezone: str) -> None:
        await run_in_threadpool(self._crews.plan, template, inputs, timezone=timezone)

    async def execute(
        self,
        schedule_id: str,
        decide: Decide,
        principal: Principal,
        context: Context,
        version: int | None,
    ) -> ChangedSchedule:
        await self.row(schedule_id, principal)
        return await self._schedules.execute(schedule_id, decide, context, if_match=version)

    async def enable(
        self, schedule_id: str, principal: Principal, context: Context, version: int | None
    ) -> ChangedSchedule:
        """It fires from its next time on. Times that passed while it was disabled are not
        missed.
        """
        row = await self.row(schedule_id, principal)
        return await self._schedules.enable(
            schedule_id, used_firings(row), context, if_match=version
        )

    async def disable(
        self, schedule_id: str, principal: Principal, context: Context, version: int | None
    ) -> ChangedSchedule:
        """It does not fire until it is enabled."""
        await self.row(schedule_id, principal)
        return await self._schedules.disable(schedule_id, context, if_match=version)

    async def run_now(
        self, schedule_id: str, principal: Principal, context: Context
    ) -> SpawnedCrew:
        await self.row(schedule_id, principal)
        return await self._spawner.run_now(schedule_id, context)

    # What there is

    async def row(self, schedule_id: str, principal: Principal) -> Row:
        await self._views.caught_up()
        with self._views.reading() as reading:
            return seen_schedule(reading, schedule_id, principal)

    async def rows(
        self, principal: Principal, *, mine: bool, cursor: str | None, limit: int
    ) -> tuple[list[Row], bool]:
        """The newest first, and whether there are more."""
        await self._views.caught_up()
        with self._views.reading() as reading:
            owner = scope_of(principal, mine=mine)
            return list_schedules(reading, owner=owner, cursor=cursor, limit=limit)

    async def firings(
        self, schedule_id: str, principal: Principal, before: int | None, limit: int
    ) -> tuple[list[Row], bool]:
        await self._views.caught_up()
        with self._views.reading() as reading:
            seen_schedule(reading, schedule_id, principal)
            return list_firings(reading, schedule_id, before=before, limit=limit)

    async def shown(self, schedule_id: str) -> dict[str, Any]:
        """The object of a schedule that was just changed."""
        await self._views.caught_up()
        with self._views.reading() as reading:
            row = find_schedule(reading, schedule_id)
        [shown] = await self.objects([row])
        return shown

    async def objects(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """The objects to show. Finding a rule's next time may take long, so not on the loop."""
        now = self._clock()
        return await run_in_threadpool(lambda: [schedule_json(row, now) for row in rows])

    # Times to come

    async def times_of_rule(
        self, rule: dict[str, Any], timezone: str | None, n: int
    ) -> dict[str, Any]:
        """The next times of a rule that is not saved yet."""

        def look() -> dict[str, Any]:
            now = self._clock()
            parsed = parse_rule(rule, timezone or self._timezone, now)
            times = islice(parsed.times_after(now), n)
            return _preview(parsed, [format_time(moment) for moment in times])

        return await run_in_threadpool(look)

    async def times(self, schedule_id: str, principal: Principal, n: int) -> dict[str, Any]:
        """As if it were enabled now, and without jitter."""
        row = await self.row(schedule_id, principal)
        return await run_in_threadpool(
            lambda: _preview(schedule_of(row).parsed, self._times(row, n))
        )

    def _times(self, row: Row, n: int) -> list[str]:
        schedule = schedule_of(row)
        moment = begin_of(row, self._clock())
        times: list[str] = []
        while len(times) < n:
            following = schedule.next_after(moment, used_firings(row) + len(times))
            if following is None:
                break
            times.append(format_time(following))
            moment = following
        return times


def _preview(rule: Rule, times: list[str]) -> dict[str, Any]:
    return {"times": times, "ruleText": rule.describe(), "timezone": rule.timezone}


def seen_schedule(reading: Reading, schedule_id: str, principal: Principal) -> Row:
    """The row of a schedule. Raises ScheduleNotFound if this principal may not see it."""
    row = find_schedule(reading, schedule_id)
    if not principal.sees(row["owner"]):
        raise ScheduleNotFound(schedule_id)
    return row
