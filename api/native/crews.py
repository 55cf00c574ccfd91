"""``/crews``: make crews from templates, find them, and cancel, retry or rerun them."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from api.edge.access import scope_of, seen_crew
from api.edge.answers import json_bytes, position_header
from api.edge.idempotency import IdempotencyHeader, key_of
from api.edge.security import Authenticated, NameOf, Principal
from api.edge.short_forms import bounded
from api.native.crew_json import CrewBrief, CrewObject, crew_listed, crew_of, crew_whole
from api.native.crew_numbers import CrewNumbers
from api.native.crew_requests import CrewAgain, CrewQuery, NewCrew
from api.native.job_requests import OwnerOf, moment_of, owner_named
from api.native.pages import Page, page
from api.native.problems import SECURED, documented
from domain.crew.commands import Crews
from domain.errors import WrongState
from domain.idempotency import canonical
from domain.log import EventLog
from projections.crews import (
    crew_counts,
    find_crew,
    first_crew_row,
    list_crews,
)
from projections.engine import Views
from projections.jobs import first_rows
from projections.projection import Row
from scheduler.crews import CrewIntake, CrewSubmission, Occasion


def crew_routes(
    log: EventLog,
    crews: Crews,
    intake: CrewIntake,
    views: Views,
    name_of: NameOf,
    user_by_email: OwnerOf,
) -> APIRouter:
    """The routes. `user_by_email` returns the owner behind an e-mail address."""
    router = APIRouter(prefix="/crews", tags=["crews"], responses=SECURED)
    _add_intake(router, log, intake, views, name_of)
    _add_reading(router, views, name_of, user_by_email)
    _add_commands(router, crews, intake, views, name_of)
    return router


def _add_intake(
    router: APIRouter, log: EventLog, intake: CrewIntake, views: Views, name_of: NameOf
) -> None:
    numbers = CrewNumbers(log, views)

    @router.post(
        "",
        status_code=201,
        summary="Make a crew from a template",
        response_model=CrewObject,
        responses=documented(404, 413),
    )
    async def make(
        body: NewCrew, request: Request, principal: Authenticated, key: IdempotencyHeader = None
    ) -> Response:
        """400, with the path of the mistake, for invalid inputs or an invalid template."""
        until = moment_of("notBefore", body.not_before)
        idempotency = None
        if key is not None:
            # Not by the model: it would refuse what the template must refuse, at its place.
            fields = canonical({name: getattr(body, name) for name in NewCrew.model_fields})
            idempotency = key_of(principal.actor, key, b"POST /crewlog/v1/crews", fields)
        if idempotency is not None and (earlier := await intake.replayed(idempotency)):
            return await _made(earlier)
        plan = await run_in_threadpool(
            intake.plan,
            body.template,
            body.inputs,
            timezone="UTC" if body.timezone is None else body.timezone,
        )
        occasion = Occasion(principal.owner, principal.context(request), not_before=until)
        return await _made(await intake.commit(plan, occasion, idempotency))

    @router.post(
        "/{crew_id}/rerun",
        status_code=201,
        summary="Run a crew's template again",
        response_model=CrewObject,
        responses=documented(404),
    )
    async def rerun(
        crew_id: str, request: Request, principal: Authenticated, body: CrewAgain | None = None
    ) -> Response:
        """With the present version of its template, and the same or changed inputs. A default that
        is computed, such as a date, is computed anew.
        """
        again = body or CrewAgain()
        await views.caught_up()
        with views.reading() as reading:
            seen_crew(reading, crew_id, principal)
        occasion = Occasion(principal.owner, principal.context(request))
        submission = await intake.rerun(crew_id, again.inputs, occasion, again.timezone)
        return await _made(submission)

    async def _made(submission: CrewSubmission) -> Response:
        headers = {
            **position_header(submission.position),
            "Location": f"/crewlog/v1/crews/{submission.crew_id}",
        }
        if submission.replayed:
            headers["Idempotency-Replayed"] = "true"
            return await _answer(views, submission.crew_id, name_of, headers, 201)
        row = first_crew_row(submission.events, await numbers.of(submission))
        jobs = first_rows(submission.events)
        members = [jobs[job_id] for job_id in submission.job_ids]
        return json_bytes(crew_of(row, members, name_of), 201, headers)


def _add_reading(router: APIRouter, views: Views, name_of: NameOf, user_by_email: OwnerOf) -> None:
    @router.get("", summary="List crews, newest first", response_model=Page[CrewBrief])
    async def get_crews(principal: Authenticated, query: Annotated[CrewQuery, Query()]) -> Response:
        """The person's own; for administrators all. The work of a page is bounded: with a rare
        state it may be short and still have a `cursor`.
        """
        wanted = query.filter(owner_named(principal, user_by_email))
        await views.caught_up()

        def read() -> tuple[list[Row], dict[str, dict[str, int]], str | None]:
            with views.reading() as reading:
                rows, cursor = list_crews(
                    reading,
                    wanted,
                    owner=scope_of(principal),
                    cursor=query.cursor,
                    limit=query.limit,
                )
                return rows, crew_counts(reading, [row["id"] for row in rows]), cursor

        rows, counts, cursor = await run_in_threadpool(read)
        items, whole = bounded(crew_listed(row, counts[row["id"]], name_of) for row in rows)
        if not whole:
            cursor = rows[len(items) - 1]["id"]
        return page(items, cursor)

    @router.get(
        "/{crew_id}",
        summary="One crew, with its jobs",
        response_model=CrewObject,
        responses=documented(404),
    )
    async def get_crew(crew_id: str, principal: Authenticated) -> Response:
        await views.caught_up()
        with views.reading() as reading:
            crew = crew_whole(reading, seen_crew(reading, crew_id, principal), name_of)
        return json_bytes(crew)


def _add_commands(
    router: APIRouter, crews: Crews, intake: CrewIntake, views: Views, name_of: NameOf
) -> None:
    @router.post(
        "/{crew_id}/cancel",
        summary="Cancel all jobs of a crew that have not ended",
        response_model=CrewObject,
        responses=documented(404, 409),
    )
    async def cancel(crew_id: str, request: Request, principal: Authenticated) -> Response:
        """Asks for the end of each job. Asking again changes nothing. 409 if all have ended."""
        await _open(crew_id, principal)
        position = await intake.cancel_crew(crew_id, "By request.", principal.context(request))
        if position is None:
            raise WrongState("Every job of this crew has ended.")
        return await _answer(views, crew_id, name_of, position_header(position))

    @router.post(
        "/{crew_id}/retry",
        summary="Set failed and blocked jobs of a crew going again",
        response_model=CrewObject,
        responses=documented(404, 409),
    )
    async def retry(crew_id: str, request: Request, principal: Authenticated) -> Response:
        """Failed and cancelled jobs are done again, blocked jobs go on, and the jobs that wait for
        them follow. 409 if there are none.
        """
        await _open(crew_id, principal)
        _, position = await crews.retry_crew(crew_id, principal.context(request))
        return await _answer(views, crew_id, name_of, position_header(position))

    async def _open(crew_id: str, principal: Principal) -> None:
        await views.caught_up()
        with views.reading() as reading:
            seen_crew(reading, crew_id, principal)


async def _answer(
    views: Views, crew_id: str, name_of: NameOf, headers: dict[str, str], status: int = 200
) -> Response:
    await views.caught_up()
    with views.reading() as reading:
        crew = crew_whole(reading, find_crew(reading, crew_id), name_of)
    return json_bytes(crew, status, headers)
