"""``/schedules``: make, change and fire schedules, and show their firings."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from api.edge.answers import json_bytes, position_header
from api.edge.entity_tags import IfMatchHeader, etag, version_of
from api.edge.security import Authenticated
from api.edge.short_forms import bounded
from api.native.pages import CursorOfPage, Page, page
from api.native.problems import SECURED, documented
from api.native.schedule_actions import ScheduleActions
from api.native.schedule_json import (
    FiringObject,
    Preview,
    ScheduleObject,
    firing_json,
    schedule_brief,
)
from api.native.schedule_requests import NewSchedule, RulePreview, Terms, terms_of
from domain.schedule.aggregate import Schedule
from domain.schedule.commands import ChangedSchedule

_MOST_TIMES = 100
_CHANGED = documented(404, 409, 412)


class Fired(BaseModel):
    """The new crew. Its jobs are in dependency order."""

    model_config = ConfigDict(extra="forbid")

    crewId: str
    jobIds: list[str]


def schedule_routes(actions: ScheduleActions) -> APIRouter:
    router = APIRouter(prefix="/schedules", tags=["schedules"], responses=SECURED)
    _add_reading(router, actions)
    _add_making(router, actions)
    _add_commands(router, actions)
    return router


def _add_reading(router: APIRouter, actions: ScheduleActions) -> None:
    @router.get("", summary="List schedules, newest first", response_model=Page[ScheduleObject])
    async def get_schedules(
        principal: Authenticated,
        mine: bool = False,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
        cursor: CursorOfPage = None,
    ) -> Response:
        """The person's own; for administrators all. A page has up to `limit` schedules, or as many
        as make 2 MiB.
        """
        rows, more = await actions.rows(principal, mine=mine, cursor=cursor, limit=limit)
        items, whole = bounded(map(schedule_brief, await actions.objects(rows)))
        return page(items, rows[len(items) - 1]["id"] if more or not whole else None)

    @router.post("/preview", summary="The next times of a rule", response_model=Preview)
    async def preview_rule(body: RulePreview, principal: Authenticated) -> Response:
        """For a rule that is not saved yet."""
        return json_bytes(await actions.times_of_rule(body.rule, body.timezone, body.n))

    @router.get(
        "/{schedule_id}",
        summary="One schedule",
        response_model=ScheduleObject,
        responses=documented(404),
    )
    async def get_schedule(schedule_id: str, principal: Authenticated) -> Response:
        row = await actions.row(schedule_id, principal)
        [shown] = await actions.objects([row])
        return json_bytes(shown, headers={"ETag": etag(row["version"])})

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

    @router.get(
        "/{schedule_id}/firings",
        summary="What came of its times, newest first",
        response_model=Page[FiringObject],
        responses=documented(404),
    )
    async def get_firings(
        schedule_id: str,
        principal: Authenticated,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        cursor: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    ) -> Response:
        """Its crews and jobs are those with its id as `schedule`."""
        rows, more = await actions.firings(schedule_id, principal, cursor, limit)
        following = str(rows[-1]["position"]) if more else None
        return page(list(map(firing_json, rows)), following)


def _add_making(router: APIRouter, actions: ScheduleActions) -> None:
    @router.post(
        "",
        status_code=201,
        summary="Make a schedule",
        response_model=ScheduleObject,
        responses=documented(404),
    )
    async def create_schedule(
        body: NewSchedule, request: Request, principal: Authenticated
    ) -> Response:
        """400, with the path of the mistake, for an invalid rule, time zone or input; 404 for an
        unknown template.
        """
        context = principal.context(request)
        created = await actions.create(
            lambda: body.template, terms_of(body), principal, context, enabled=body.enabled
        )
        headers = {"Location": f"/crewlog/v1/schedules/{created.schedule.id}"}
        return await _answer(actions, created, 201, headers)

    @router.patch(
        "/{schedule_id}",
        summary="Change a schedule",
        response_model=ScheduleObject,
        responses=_CHANGED,
    )
    async def change_schedule(
        schedule_id: str,
        body: Terms,
        request: Request,
        principal: Authenticated,
        if_match: IfMatchHeader = None,
    ) -> Response:
        """Fields that are left out do not change; the template never changes. The next time is
        computed anew.
        """
        context, version = principal.context(request), version_of(if_match)
        changed = await actions.change(schedule_id, terms_of(body), principal, context, version)
        return await _answer(actions, changed)


def _add_commands(router: APIRouter, actions: ScheduleActions) -> None:
    @router.delete("/{schedule_id}", summary="Delete a schedule", responses=_CHANGED)
    async def delete_schedule(
        schedule_id: str, request: Request, principal: Authenticated, if_match: IfMatchHeader = None
    ) -> Response:
        """It does not fire any more. The jobs that it made stay."""
        context, version = principal.context(request), version_of(if_match)
        changed = await actions.execute(schedule_id, Schedule.delete, principal, context, version)
        return json_bytes({"ok": True}, headers=position_header(changed.position))

    @router.post(
        "/{schedule_id}/enable",
        summary="Let a schedule fire",
        response_model=ScheduleObject,
        responses=_CHANGED,
    )
    async def enable_schedule(
        schedule_id: str, request: Request, principal: Authenticated, if_match: IfMatchHeader = None
    ) -> Response:
        """It fires from its next time on. Times that passed while it was disabled are not missed.
        409 if it has no next time.
        """
        context, version = principal.context(request), version_of(if_match)
        return await _answer(
            actions, await actions.enable(schedule_id, principal, context, version)
        )

    @router.post(
        "/{schedule_id}/disable",
        summary="Disable a schedule",
        response_model=ScheduleObject,
        responses=_CHANGED,
    )
    async def disable_schedule(
        schedule_id: str, request: Request, principal: Authenticated, if_match: IfMatchHeader = None
    ) -> Response:
        """It does not fire until it is enabled. Jobs that it made go on."""
        context, version = principal.context(request), version_of(if_match)
        changed = await actions.disable(schedule_id, principal, context, version)
        return await _answer(actions, changed)

    @router.post(
        "/{schedule_id}/run-now",
        status_code=201,
        summary="Fire a schedule by hand",
        response_model=Fired,
        responses=documented(404, 409),
    )
    async def run_now(schedule_id: str, request: Request, principal: Authenticated) -> Response:
        """At once, even if it is disabled, and beside jobs that still run. 400 if its template
        cannot be rendered.
        """
        spawned = await actions.run_now(schedule_id, principal, principal.context(request))
        made = {"crewId": spawned.crew_id, "jobIds": spawned.job_ids}
        return json_bytes(made, 201, position_header(spawned.position))


async def _answer(
    actions: ScheduleActions,
    changed: ChangedSchedule,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Response:
    shown = await actions.shown(changed.schedule.id)
    tagged = {**position_header(changed.position), "ETag": etag(changed.schedule.version)}
    return json_bytes(shown, status, {**tagged, **(headers or {})})
