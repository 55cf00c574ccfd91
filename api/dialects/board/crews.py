"""Crews: made from a template, and shown as a graph (`contracts/board.md` §5.3)."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from api.dialects.board.crew_graph import graph_json
from api.dialects.board.crew_requests import CrewCreated, CrewRequest
from api.edge.access import seen_job
from api.edge.answers import json_bytes, position_header
from api.edge.errors import SECURED, documented
from api.edge.idempotency import IdempotencyHeader, key_of
from api.edge.security import Authenticated
from domain.idempotency import canonical
from projections.engine import Views
from scheduler.crews import CrewIntake, CrewSubmission, Occasion


def crew_routes(intake: CrewIntake, views: Views) -> APIRouter:
    router = APIRouter(prefix="/api", tags=["board"], responses=SECURED)
    _add_making(router, intake)
    _add_reading(router, views)
    return router


def _add_making(router: APIRouter, intake: CrewIntake) -> None:
    @router.post(
        "/jobs",
        status_code=201,
        summary="Make a crew from a template",
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
        """All jobs in one append, or nothing and a 400 with the `path` of the mistake."""
        until = intake.not_before(body.scheduled_at or scheduled_at)
        idempotency = None
        if key is not None:
            # Not by the model: it would refuse what the template must refuse, at its place.
            fields = canonical({name: getattr(body, name) for name in CrewRequest.model_fields})
            request_parts = (b"POST /api/jobs", fields, (scheduled_at or "").encode())
            idempotency = key_of(principal.actor, key, *request_parts)
        if idempotency is not None and (earlier := await intake.replayed(idempotency)):
            return _made(earlier)
        plan = await run_in_threadpool(
            intake.plan,
            body.template_id,
            body.inputs,
            timezone="UTC" if body.timezone is None else body.timezone,
        )
        occasion = Occasion(principal.owner, principal.context(request), not_before=until)
        return _made(await intake.commit(plan, occasion, idempotency))


def _made(submission: CrewSubmission) -> Response:
    headers = {
        **position_header(submission.position),
        "Location": f"/crewlog/v1/crews/{submission.crew_id}",
    }
    if submission.replayed:
        headers["Idempotency-Replayed"] = "true"
    made = {"jobIds": submission.job_ids, "crewId": submission.crew_id}
    return json_bytes(made, 201, headers)


def _add_reading(router: APIRouter, views: Views) -> None:
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
