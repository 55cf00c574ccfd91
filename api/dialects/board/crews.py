"""Crews: made of a template, shown as a graph, listed (`contracts/board.md` §5.3)."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from api.dialects.board.crew_graph import graph_json
from api.dialects.board.crew_json import crew_brief, crew_json
from api.dialects.board.crew_requests import CrewCreated, CrewRequest
from api.edge.access import scope_of, seen_crew, seen_job
from api.edge.answers import json_bytes, position_header
from api.edge.errors import SECURED, documented
from api.edge.idempotency import IdempotencyHeader, key_of
from api.edge.security import Authenticated, NameOf
from api.edge.short_forms import bounded
from domain.idempotency import canonical
from projections.crews import crew_counts, list_crews
from projections.engine import Views
from scheduler.crews import CrewIntake, CrewSubmission, Occasion


def crew_routes(intake: CrewIntake, views: Views, name_of: NameOf) -> APIRouter:
    router = APIRouter(prefix="/api", tags=["board"], responses=SECURED)
    _add_making(router, intake)
    _add_reading(router, views, name_of)
    return router


def _add_making(router: APIRouter, intake: CrewIntake) -> None:
    @router.post(
        "/jobs",
        status_code=201,
        summary="Make a crew of a template",
        response_model=CrewCreated,
        responses=documented(404, 409, 413),
    )
    async def create_crew(
        body: CrewRequest,
        request: Request,
        principal: Authenticated,
        key: IdempotencyHeader = None,
        scheduled_at: Annotated[str | None, Query(alias="scheduledAt", max_length=64)] = None,
    ) -> Response:
        """All its jobs in one append; or nothing, and 400 with the `path` of the mistake."""
        until = intake.not_before(body.scheduled_at or scheduled_at)
        idempotency = None
        if key is not None:
            # Not by the model: it refuses to write what the template is to refuse at its place.
            said = canonical({name: getattr(body, name) for name in CrewRequest.model_fields})
            asked = (b"POST /api/jobs", said, (scheduled_at or "").encode())
            idempotency = key_of(principal.actor, key, *asked)
        if idempotency is not None and (earlier := await intake.replayed(idempotency)):
            return _made(earlier)
        plan = await run_in_threadpool(
            intake.plan, body.template_id, body.inputs, timezone=body.timezone or "UTC"
        )
        occasion = Occasion(principal.owner, principal.context(request), not_before=until)
        return _made(await intake.commit(plan, occasion, idempotency))


def _made(submission: CrewSubmission) -> Response:
    headers = {
        **position_header(submission.position),
        "Location": f"/api/crews/{submission.crew_id}",
    }
    if submission.replayed:
        headers["Idempotency-Replayed"] = "true"
    made = {"jobIds": submission.job_ids, "crewId": submission.crew_id}
    return json_bytes(made, 201, headers)


def _add_reading(router: APIRouter, views: Views, name_of: NameOf) -> None:
    @router.get(
        "/jobs/{job_id}/graph",
        summary="The job's whole crew, in dependency order",
        responses=documented(404),
    )
    async def graph(job_id: str, principal: Authenticated) -> Response:
        await views.caught_up()
        with views.reading() as reading:
            row = seen_job(reading, job_id, principal)
            return json_bytes(graph_json(reading, row))

    @router.get("/crews", summary="Crews, newest first")
    async def get_crews(
        principal: Authenticated,
        mine: bool = False,
        limit: Annotated[int, Query(ge=1, le=100)] = 50,
        cursor: Annotated[str | None, Query(max_length=200)] = None,
    ) -> Response:
        await views.caught_up()
        with views.reading() as reading:
            rows, following = list_crews(
                reading, owner=scope_of(principal, mine=mine), cursor=cursor, limit=limit
            )
            counts = crew_counts(reading, [row["id"] for row in rows])
        items, whole = bounded(crew_brief(row, counts[row["id"]], name_of) for row in rows)
        if not whole:
            following = rows[len(items) - 1]["id"]
        more = following is not None
        return json_bytes({"items": items, "cursor": following, "hasMore": more})

    @router.get("/crews/{crew_id}", summary="One crew, with its jobs", responses=documented(404))
    async def get_crew(crew_id: str, principal: Authenticated) -> Response:
        await views.caught_up()
        with views.reading() as reading:
            row = seen_crew(reading, crew_id, principal)
            counts = crew_counts(reading, [crew_id])[crew_id]
            jobs_of_it = graph_json(reading, {"crew": crew_id, "id": ""})
        return json_bytes({**crew_json(row, counts, name_of), **jobs_of_it})
