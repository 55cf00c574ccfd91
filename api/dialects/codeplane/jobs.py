"""``/api/jobs``: create, list, look at, cancel; what happened to a job."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute

from api.dialects.codeplane.job_requests import (
    STATE_LIST,
    states_of,
)
from api.dialects.codeplane.quick_create import Endpoint
from api.dialects.job_detail import detail_json, timeline_entry
from api.dialects.job_json import (
    JobChanged,
    JobDetail,
    JobObject,
    JobPage,
    Timeline,
    job_json,
)
from api.edge.access import guarded, scope_of, seen_job
from api.edge.answers import json_bytes
from api.edge.entity_tags import IfMatchHeader, etag, version_of
from api.edge.errors import SECURED, documented
from api.edge.idempotency import IdempotencyHeader, key_of
from api.edge.security import Authenticated, NameOf
from api.edge.short_forms import bounded
from api.native.job_requests import NewJob, work_of
from domain.event import Event
from domain.idempotency import canonical
from domain.job.aggregate import Job
from domain.job.commands import Changed, Jobs
from domain.log import Recorded
from projections.engine import Views
from projections.jobs import find_job, first_row, list_jobs
from projections.projection import Row
from projections.timeline import job_timeline
from scheduler.intake import Intake

_PAGE = 50


def job_routes(
    jobs: Jobs,
    intake: Intake,
    views: Views,
    name_of: NameOf,
    *,
    workdir: Path,
    default_timeout_s: int,
) -> APIRouter:
    """The routes, hot ones first: routing is a walk along the list."""
    root = str(workdir)
    router = APIRouter(prefix="/api/jobs", tags=["jobs"], responses=SECURED)

    @router.post(
        "",
        status_code=201,
        summary="Accept a job",
        response_model=JobObject,
        responses=documented(409, 413),
    )
    async def create_job(
        body: NewJob,
        request: Request,
        principal: Authenticated,
        key: IdempotencyHeader = None,
    ) -> Response:
        asked = (b"POST /api/jobs", canonical(body.model_dump())) if key is not None else ()
        idempotency = key_of(principal.actor, key, *asked)
        work = work_of(body, root, default_timeout_s, principal.owner)
        submission = await intake.submit(work, principal.context(request), idempotency)
        headers = _headers(submission.events[1])
        headers["Location"] = f"/api/jobs/{submission.job_id}"
        if submission.replayed:
            headers["Idempotency-Replayed"] = "true"
        return json_bytes(job_json(first_row(submission.events)), 201, headers)

    @router.get(
        "", summary="List jobs, newest first", response_model=JobPage, responses=documented(404)
    )
    async def get_jobs(
        principal: Authenticated,
        state: Annotated[
            str | None,
            Query(
                max_length=200,
                description="States, by comma.",
                json_schema_extra={"pattern": STATE_LIST},
            ),
        ] = None,
        text: Annotated[
            str | None,
            Query(
                max_length=200,
                description="What the id begins with, or the title, a label, the command, the "
                "template or the crew's name holds.",
            ),
        ] = None,
        label: Annotated[str | None, Query(max_length=64)] = None,
        archived: bool | None = None,
        crew: Annotated[str | None, Query(max_length=200)] = None,
        schedule: Annotated[str | None, Query(max_length=200)] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = _PAGE,
        cursor: Annotated[str | None, Query(max_length=200)] = None,
    ) -> Response:
        """A page has 50 jobs, or those that make 2 MiB; long texts in it are shortened."""
        states = states_of(state)
        await views.caught_up()

        def read() -> tuple[list[Row], bool]:
            with views.reading() as reading:
                return list_jobs(
                    reading,
                    states=states,
                    text=text,
                    label=label,
                    archived=archived,
                    owner=scope_of(principal),
                    crew=crew,
                    schedule=schedule,
                    cursor=cursor,
                    limit=limit,
                )

        # A text is looked for in every job.
        rows, more = await run_in_threadpool(read) if text else read()
        items, whole = bounded(map(job_json, rows))
        more = more or not whole
        following = rows[len(items) - 1]["id"] if more else None
        return json_bytes({"items": items, "cursor": following, "hasMore": more})

    @router.get("/{job_id}", summary="One job", response_model=JobDetail, responses=documented(404))
    async def get_job(job_id: str, principal: Authenticated) -> Response:
        """The job, with its attempts, what happened, what was said, and what its parents left."""
        await views.caught_up()
        with views.reading() as reading:
            row = seen_job(reading, job_id, principal)
            detail = detail_json(reading, row, name_of)
        return json_bytes(detail, headers={"ETag": etag(row["version"])})

    @router.post(
        "/{job_id}/cancel",
        summary="Cancel a job",
        response_model=JobChanged,
        responses=documented(404, 409, 412),
    )
    async def cancel_job(
        job_id: str, request: Request, principal: Authenticated, if_match: IfMatchHeader = None
    ) -> Response:
        """Asks for the end; asking again is only acknowledged. 409 once the job has ended."""
        return await _command(
            job_id, request, principal, if_match, lambda job: job.request_cancel("By request.")
        )

    @router.post(
        "/{job_id}/archive",
        summary="Take a job off the board",
        response_model=JobChanged,
        responses=documented(404, 409, 412),
    )
    async def archive_job(
        job_id: str, request: Request, principal: Authenticated, if_match: IfMatchHeader = None
    ) -> Response:
        return await _command(job_id, request, principal, if_match, Job.archive)

    @router.get(
        "/{job_id}/timeline",
        summary="What happened, in order",
        response_model=Timeline,
        responses=documented(404),
    )
    async def get_timeline(
        job_id: str,
        principal: Authenticated,
        after: Annotated[int, Query(ge=0, le=2**62)] = 0,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 200,
    ) -> Response:
        await views.caught_up()
        with views.reading() as reading:
            seen_job(reading, job_id, principal)
            entries = job_timeline(reading, job_id, after, limit)
        items, _ = bounded(timeline_entry(entry, name_of) for entry in entries)
        return json_bytes({"items": items})

    async def _command(
        job_id: str,
        request: Request,
        principal: Authenticated,
        if_match: str | None,
        decide: Callable[[Job], list[Event]],
    ) -> Response:
        changed: Changed = await jobs.execute(
            job_id,
            guarded(principal, decide),
            principal.context(request),
            if_match=version_of(if_match),
        )
        await views.caught_up()
        with views.reading() as reading:
            row = find_job(reading, job_id)
        shown = job_json(row)
        return json_bytes(
            {**shown, "job": shown},
            headers={"x-event-position": str(changed.position), "ETag": etag(changed.job.version)},
        )

    return router


def create_job_of(router: APIRouter) -> Endpoint:
    """The endpoint that accepts jobs, for the short cut to it."""
    routes = (route for route in router.routes if isinstance(route, APIRoute))
    endpoint: Endpoint = next(route.endpoint for route in routes if route.name == "create_job")
    return endpoint


def _headers(event: Recorded) -> dict[str, str]:
    return {"x-event-position": str(event.position), "ETag": etag(event.version)}
