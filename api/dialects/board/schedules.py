"""``/api/schedules``: make, change and fire schedules, and show their firings
(`contracts/board.md` §8).
"""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from api.dialects.board.job_json import JobList, job_json
from api.dialects.board.schedule_json import (
    FiringPage,
    RunNowAnswer,
    ScheduleAnswer,
    ScheduleChange,
    ScheduleList,
    ScheduleRequest,
    board_schedule,
)
from api.edge.answers import json_bytes, position_header
from api.edge.entity_tags import IfMatchHeader, etag, version_of
from api.edge.errors import SECURED, documented
from api.edge.security import Authenticated
from api.edge.short_forms import bounded
from api.native.schedule_actions import ScheduleActions, seen_schedule
from api.native.schedule_json import Preview, firing_json, schedule_brief
from api.native.schedule_requests import RulePreview, terms_of
from domain.errors import BadInput
from domain.schedule.aggregate import Schedule
from domain.schedule.commands import ChangedSchedule
from projections.engine import Views
from projections.jobs import list_jobs
from projections.projection import Row

_MOST_TIMES = 100


def schedule_routes(actions: ScheduleActions, views: Views) -> APIRouter:
    router = APIRouter(prefix="/api/schedules", tags=["schedules"], responses=SECURED)
    _add_reading(router, actions)
    _add_times(router, actions)
    _add_making(router, actions)
    _add_changing(router, actions)
    _add_switching(router, actions)
    _add_what_it_made(router, actions, views)
    return router


def _add_reading(router: APIRouter, actions: ScheduleActions) -> None:
    @router.get("", summary="List schedules, newest first", response_model=ScheduleList)
    async def get_schedules(
        principal: Authenticated,
        mine: bool = False,
        limit: Annotated[int, Query(ge=1, le=500)] = 500,
        cursor: Annotated[str | None, Query(max_length=200)] = None,
    ) -> Response:
        """A page has up to `limit` schedules, or as many as make 2 MiB."""
        rows, more = await actions.rows(principal, mine=mine, cursor=cursor, limit=limit)
        shown = await actions.objects(rows)
        items, whole = bounded(board_schedule(schedule_brief(one)) for one in shown)
        following = rows[len(items) - 1]["id"] if more or not whole else None
        return json_bytes({"schedules": items, "cursor": following})

    @router.get(
        "/{schedule_id}",
        summary="One schedule",
        response_model=ScheduleAnswer,
        responses=documented(404),
    )
    async def get_schedule(schedule_id: str, principal: Authenticated) -> Response:
        row = await actions.row(schedule_id, principal)
        [shown] = await actions.objects([row])
        headers = {"ETag": etag(row["version"])}
        return json_bytes({"schedule": board_schedule(shown)}, headers=headers)


def _add_times(router: APIRouter, actions: ScheduleActions) -> None:
    @router.post("/preview", summary="The next times of a rule", response_model=Preview)
    async def preview_rule(body: RulePreview, principal: Authenticated) -> Response:
        """For a rule that is not saved yet."""
        return json_bytes(await actions.times_of_rule(body.rule, body.timezone, body.n))

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
        """As if it were enabled now, and without jitter."""
        return json_bytes(await actions.times(schedule_id, principal, n))


def _add_making(router: APIRouter, actions: ScheduleActions) -> None:
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
        """400, with the path of the mistake, for an invalid rule, time zone or input; 404 for an
        unknown template.
        """

        def template() -> str:
            if body.template_id is None:
                raise BadInput("templateId", "This is required.")
            return body.template_id

        context = principal.context(request)
        created = await actions.create(
            template, terms_of(body), principal, context, enabled=body.enabled
        )
        return await _answered(actions, created, 201)


def _add_changing(router: APIRouter, actions: ScheduleActions) -> None:
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
        """Fields that are left out do not change. The next time is computed anew."""
        for name, fixed in (("template_id", "templateId"), ("enabled", "enabled")):
            if name in body.model_fields_set:
                raise BadInput(fixed, "This cannot be changed here.")
        await actions.row(schedule_id, principal)
        context, version = principal.context(request), version_of(if_match)
        changed = await actions.change(schedule_id, terms_of(body), principal, context, version)
        return await _answered(actions, changed)

    @router.delete(
        "/{schedule_id}", summary="Delete a schedule", responses=documented(404, 409, 412)
    )
    async def delete_schedule(
        schedule_id: str, request: Request, principal: Authenticated, if_match: IfMatchHeader = None
    ) -> Response:
        """It does not fire any more. The jobs that it made stay."""
        context, version = principal.context(request), version_of(if_match)
        changed = await actions.execute(schedule_id, Schedule.delete, principal, context, version)
        return json_bytes({"ok": True}, headers={"x-event-position": str(changed.position)})


def _add_switching(router: APIRouter, actions: ScheduleActions) -> None:
    @router.post(
        "/{schedule_id}/enable",
        summary="Let a schedule fire",
        response_model=ScheduleAnswer,
        responses=documented(404, 409, 412),
    )
    async def enable_schedule(
        schedule_id: str, request: Request, principal: Authenticated, if_match: IfMatchHeader = None
    ) -> Response:
        """It fires from its next time on. Times that passed while it was disabled are not missed.
        409 if it has no next time.
        """
        context, version = principal.context(request), version_of(if_match)
        return await _answered(
            actions, await actions.enable(schedule_id, principal, context, version)
        )

    @router.post(
        "/{schedule_id}/disable",
        summary="Disable a schedule",
        response_model=ScheduleAnswer,
        responses=documented(404, 409, 412),
    )
    async def disable_schedule(
        schedule_id: str, request: Request, principal: Authenticated, if_match: IfMatchHeader = None
    ) -> Response:
        """It does not fire until it is enabled. Jobs that it made go on."""
        context, version = principal.context(request), version_of(if_match)
        changed = await actions.disable(schedule_id, principal, context, version)
        return await _answered(actions, changed)

    @router.post(
        "/{schedule_id}/run-now",
        status_code=201,
        summary="Fire a schedule by hand",
        response_model=RunNowAnswer,
        responses=documented(404, 409),
    )
    async def run_now(schedule_id: str, request: Request, principal: Authenticated) -> Response:
        """At once, even if it is disabled, and beside jobs that still run. 400 if its template
        cannot be rendered.
        """
        spawned = await actions.run_now(schedule_id, principal, principal.context(request))
        return json_bytes(
            {"jobIds": spawned.job_ids, "crewId": spawned.crew_id},
            201,
            {"x-event-position": str(spawned.position)},
        )


def _add_what_it_made(router: APIRouter, actions: ScheduleActions, views: Views) -> None:
    @router.get(
        "/{schedule_id}/firings",
        summary="Its firings, newest first",
        response_model=FiringPage,
        responses=documented(404),
    )
    async def get_firings(
        schedule_id: str,
        principal: Authenticated,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    ) -> Response:
        rows, more = await actions.firings(schedule_id, principal, before, limit)
        cursor = rows[-1]["position"] if more else None
        items = [firing_json(row) for row in rows]
        return json_bytes({"items": items, "cursor": cursor, "hasMore": more})

    @router.get(
        "/{schedule_id}/jobs",
        summary="The jobs that it made, newest first",
        response_model=JobList,
        responses=documented(404),
    )
    async def get_schedule_jobs(
        schedule_id: str,
        principal: Authenticated,
        limit: Annotated[int, Query(ge=1, le=100)] = 50,
        cursor: Annotated[str | None, Query(max_length=200)] = None,
    ) -> Response:
        await views.caught_up()

        def read() -> tuple[list[Row], bool]:
            with views.reading() as reading:
                seen_schedule(reading, schedule_id, principal)
                return list_jobs(reading, schedule=schedule_id, cursor=cursor, limit=limit)

        rows, more = await run_in_threadpool(read)
        shown = [job_json(row) for row in rows]
        following = rows[-1]["id"] if more else None
        return json_bytes({"jobs": shown, "cursor": following})


async def _answered(
    actions: ScheduleActions, changed: ChangedSchedule, status: int = 200
) -> Response:
    shown = await actions.shown(changed.schedule.id)
    headers = {**position_header(changed.position), "ETag": etag(changed.schedule.version)}
    if status == 201:
        headers["Location"] = f"/api/schedules/{changed.schedule.id}"
    return json_bytes({"schedule": board_schedule(shown)}, status, headers)
