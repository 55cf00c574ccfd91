"""``/api/schedules``: make schedules, change them, fire them by hand, and see what they did
(`contracts/board.md` §8).
"""

from collections.abc import Sequence
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from api.dialects.board.schedule_json import (
    FiringPage,
    Preview,
    PreviewRequest,
    RunNowAnswer,
    ScheduleAnswer,
    ScheduleChange,
    ScheduleJobs,
    ScheduleList,
    ScheduleRequest,
    begin_of,
    firing_json,
    schedule_brief,
    schedule_json,
    terms_of,
)
from api.dialects.job_json import job_json
from api.edge.access import scope_of
from api.edge.answers import json_bytes
from api.edge.entity_tags import IfMatchHeader, etag, version_of
from api.edge.errors import SECURED, documented
from api.edge.security import Authenticated, Principal
from domain.clock import Clock, format_time, system_clock
from domain.errors import BadInput
from domain.schedule.aggregate import Schedule, ScheduleNotFound
from domain.schedule.commands import ChangedSchedule, Decide, Schedules, checked_terms
from domain.schedule.recurrence import Rule, parse_rule
from projections.engine import Reading, Views
from projections.jobs import list_jobs
from projections.projection import Row
from projections.schedules import find_schedule, list_firings, list_schedules, schedule_of
from scheduler.policies.spawner import CrewMaker, Spawner

_MOST_TIMES = 100


def schedule_routes(
    schedules: Schedules,
    spawner: Spawner,
    crews: CrewMaker,
    views: Views,
    *,
    timezone: str = "UTC",
    clock: Clock = system_clock,
) -> APIRouter:
    """The routes. `timezone` is that of a schedule which names none."""
    router = APIRouter(prefix="/api/schedules", tags=["schedules"], responses=SECURED)

    @router.get("", summary="List schedules, newest first", response_model=ScheduleList)
    async def get_schedules(principal: Authenticated, mine: bool = False) -> Response:
        await views.caught_up()
        with views.reading() as reading:
            rows = list_schedules(reading, owner=scope_of(principal, mine=mine))
        return json_bytes({"schedules": [schedule_brief(one) for one in await _objects(rows)]})

    @router.post(
        "",
        status_code=201,
        summary="Make a schedule",
        response_model=ScheduleAnswer,
        responses=documented(404),
    )
    async def create_schedule(
        body: ScheduleRequest, request: Request, principal: Authenticated
    ) -> Response:
        """400, with the path of the mistake, for a rule, time zone or input that cannot be used;
        404 for an unknown template.
        """
        terms = await run_in_threadpool(checked_terms, {"timezone": timezone, **terms_of(body)})
        if body.template_id is None:
            raise BadInput("templateId", "It is missing.")
        terms["template"] = body.template_id
        await run_in_threadpool(
            crews.plan, terms["template"], terms.get("inputs", {}), timezone=terms["timezone"]
        )
        created = await schedules.create(
            terms, principal.owner, principal.context(request), enabled=body.enabled
        )
        return await _shown(created, 201)

    @router.post("/preview", summary="The next times of a rule", response_model=Preview)
    async def preview_rule(body: PreviewRequest, principal: Authenticated) -> Response:
        """Of a rule that is not saved yet."""

        def look() -> Response:
            now = clock()
            rule = parse_rule(body.rule, body.timezone or timezone, now)
            times = islice(rule.times_after(now), body.n)
            return _preview(rule, [format_time(moment) for moment in times])

        return await run_in_threadpool(look)

    @router.get(
        "/{schedule_id}",
        summary="One schedule",
        response_model=ScheduleAnswer,
        responses=documented(404),
    )
    async def get_schedule(schedule_id: str, principal: Authenticated) -> Response:
        row = await _row(schedule_id, principal)
        [shown] = await _objects([row])
        return json_bytes({"schedule": shown}, headers={"ETag": etag(row["version"])})

    @router.patch(
        "/{schedule_id}",
        summary="Change a schedule",
        response_model=ScheduleAnswer,
        responses=documented(404, 409, 412),
    )
    async def change_schedule(
        schedule_id: str,
        body: ScheduleChange,
        request: Request,
        principal: Authenticated,
        if_match: IfMatchHeader = None,
    ) -> Response:
        """What is left out stays as it is. The next time is reckoned anew."""
        for name, fixed in (("template_id", "templateId"), ("enabled", "enabled")):
            if name in body.model_fields_set:
                raise BadInput(fixed, "This cannot be changed here.")
        schedule = schedule_of(await _row(schedule_id, principal))
        terms = terms_of(body)
        if "inputs" in terms:
            zone = terms.get("timezone", schedule.timezone)
            await run_in_threadpool(crews.plan, schedule.template, terms["inputs"], timezone=zone)
        changed = await schedules.change(
            schedule_id, terms, principal.context(request), if_match=version_of(if_match)
        )
        return await _shown(changed)

    @router.delete(
        "/{schedule_id}", summary="Delete a schedule", responses=documented(404, 409, 412)
    )
    async def delete_schedule(
        schedule_id: str, request: Request, principal: Authenticated, if_match: IfMatchHeader = None
    ) -> Response:
        """It fires no more; the jobs that it made stay."""
        changed = await _execute(schedule_id, request, principal, if_match, Schedule.delete)
        return json_bytes({"ok": True}, headers={"x-event-position": str(changed.position)})

    @router.post(
        "/{schedule_id}/enable",
        summary="Let a schedule fire",
        response_model=ScheduleAnswer,
        responses=documented(404, 409, 412),
    )
    async def enable_schedule(
        schedule_id: str, request: Request, principal: Authenticated, if_match: IfMatchHeader = None
    ) -> Response:
        """From its next time on: what passed while it was off is not missed. 409 without one."""
        row = await _row(schedule_id, principal)
        changed = await schedules.enable(
            schedule_id,
            row["firings"],
            principal.context(request),
            if_match=version_of(if_match),
        )
        return await _shown(changed)

    @router.post(
        "/{schedule_id}/disable",
        summary="Stop a schedule",
        response_model=ScheduleAnswer,
        responses=documented(404, 409, 412),
    )
    async def disable_schedule(
        schedule_id: str, request: Request, principal: Authenticated, if_match: IfMatchHeader = None
    ) -> Response:
        """It fires no more until it is enabled. What it made goes on."""
        return await _shown(
            await _execute(schedule_id, request, principal, if_match, Schedule.disable)
        )

    @router.post(
        "/{schedule_id}/run-now",
        status_code=201,
        summary="Fire a schedule by hand",
        response_model=RunNowAnswer,
        responses=documented(404, 409),
    )
    async def run_now(schedule_id: str, request: Request, principal: Authenticated) -> Response:
        """At once, also when it is disabled, and beside what still runs. 400 when its template
        cannot be rendered.
        """
        await _row(schedule_id, principal)
        spawned = await spawner.run_now(schedule_id, principal.context(request))
        return json_bytes(
            {"jobIds": spawned.job_ids, "crewId": spawned.crew_id},
            201,
            {"x-event-position": str(spawned.position)},
        )

    @router.get(
        "/{schedule_id}/preview",
        summary="The next times of a schedule",
        response_model=Preview,
        responses=documented(404),
    )
    async def preview_schedule(
        schedule_id: str,
        principal: Authenticated,
        n: Annotated[int, Query(ge=1, le=_MOST_TIMES)] = 10,
    ) -> Response:
        """As if it were enabled now; without jitter."""
        row = await _row(schedule_id, principal)
        return await run_in_threadpool(lambda: _preview(schedule_of(row).parsed, _times(row, n)))

    @router.get(
        "/{schedule_id}/firings",
        summary="What came of its times, newest first",
        response_model=FiringPage,
        responses=documented(404),
    )
    async def get_firings(
        schedule_id: str,
        principal: Authenticated,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    ) -> Response:
        await views.caught_up()
        with views.reading() as reading:
            _seen(reading, schedule_id, principal)
            rows, more = list_firings(reading, schedule_id, before=before, limit=limit)
        cursor = rows[-1]["position"] if more else None
        items = [firing_json(row) for row in rows]
        return json_bytes({"items": items, "cursor": cursor, "hasMore": more})

    @router.get(
        "/{schedule_id}/jobs",
        summary="The jobs that it made, newest first",
        response_model=ScheduleJobs,
        responses=documented(404),
    )
    async def get_schedule_jobs(
        schedule_id: str,
        principal: Authenticated,
        limit: Annotated[int, Query(ge=1, le=100)] = 50,
        cursor: Annotated[str | None, Query(max_length=200)] = None,
    ) -> Response:
        await views.caught_up()
        with views.reading() as reading:
            _seen(reading, schedule_id, principal)
            rows, more = list_jobs(reading, schedule=schedule_id, cursor=cursor, limit=limit)
        shown = [job_json(row) for row in rows]
        following = rows[-1]["id"] if more else None
        return json_bytes({"jobs": shown, "cursor": following, "hasMore": more})

    async def _objects(rows: Sequence[Row]) -> list[dict[str, Any]]:
        """As they are shown. A rule may have to be walked for its next time: not on the loop."""
        now = clock()
        return await run_in_threadpool(lambda: [schedule_json(row, now) for row in rows])

    def _times(row: Row, n: int) -> list[str]:
        schedule = schedule_of(row)
        moment = begin_of(row, clock())
        times: list[str] = []
        while len(times) < n:
            following = schedule.next_after(moment, row["firings"] + len(times))
            if following is None:
                break
            times.append(format_time(following))
            moment = following
        return times

    def _preview(rule: Rule, times: list[str]) -> Response:
        return json_bytes({"times": times, "ruleText": rule.describe(), "timezone": rule.timezone})

    async def _row(schedule_id: str, principal: Principal) -> Row:
        await views.caught_up()
        with views.reading() as reading:
            return _seen(reading, schedule_id, principal)

    async def _shown(changed: ChangedSchedule, status: int = 200) -> Response:
        await views.caught_up()
        with views.reading() as reading:
            row = find_schedule(reading, changed.schedule.id)
        headers = {
            "x-event-position": str(changed.position),
            "ETag": etag(changed.schedule.version),
        }
        if status == 201:
            headers["Location"] = f"/api/schedules/{changed.schedule.id}"
        [shown] = await _objects([row])
        return json_bytes({"schedule": shown}, status, headers)

    async def _execute(
        schedule_id: str,
        request: Request,
        principal: Principal,
        if_match: str | None,
        decide: Decide,
    ) -> ChangedSchedule:
        await _row(schedule_id, principal)
        return await schedules.execute(
            schedule_id, decide, principal.context(request), if_match=version_of(if_match)
        )

    return router


def _seen(reading: Reading, schedule_id: str, principal: Principal) -> Row:
    """The row, if it is one that this principal may see; else ScheduleNotFound."""
    row = find_schedule(reading, schedule_id)
    if not principal.sees(row["owner"]):
        raise ScheduleNotFound(schedule_id)
    return row
