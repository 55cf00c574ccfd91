"""``/api/jobs``: create, list, show, cancel, archive (`contracts/codeplane.md` §3.2, §3.3)."""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from api.dialects.codeplane.job_json import JobObject, JobPage, job_json
from api.dialects.codeplane.job_requests import STATE_LIST, states_of
from api.edge.access import guarded, scope_of, seen_job
from api.edge.answers import json_bytes, position_header
from api.edge.entity_tags import IfMatchHeader, etag, version_of
from api.edge.errors import SECURED, documented
from api.edge.idempotency import IdempotencyHeader, key_of
from api.edge.security import Authenticated
from api.edge.short_forms import bounded
from api.native.job_requests import NewJob, work_of
from domain.errors import InvalidCursor
from domain.idempotency import canonical
from domain.job.aggregate import Job
from domain.job.commands import Changed, Jobs
from domain.log import Recorded
from projections.engine import Views
from projections.jobs import find_job, first_row, list_jobs
from projections.projection import Row
from scheduler.intake import Intake

_PAGE = 50


def job_routes(
    jobs: Jobs, intake: Intake, views: Views, *, workdir: Path, default_timeout_s: int
) -> APIRouter:
    """The routes. Frequent ones come first, because routing goes along the list."""
    router = APIRouter(prefix="/api/jobs", tags=["jobs"], responses=SECURED)
    _add_making(router, intake, str(workdir), default_timeout_s)
    _add_reading(router, views)
    _add_commands(router, jobs, views)
    return router


def _add_making(router: APIRouter, intake: Intake, root: str, default_timeout_s: int) -> None:
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
        request_parts = (b"POST /api/jobs", canonical(body.model_dump())) if key is not None else ()
        idempotency = key_of(principal.actor, key, *request_parts)
        work = work_of(body, root, default_timeout_s, principal.owner)
        submission = await intake.submit(work, principal.context(request), idempotency)
        headers = _headers(submission.events[1])
        headers["Location"] = f"/api/jobs/{submission.job_id}"
        if submission.replayed:
            headers["Idempotency-Replayed"] = "true"
        return json_bytes(job_json(first_row(submission.events)), 201, headers)


def _add_reading(router: APIRouter, views: Views) -> None:
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
                description="Text at the beginning of the id, or in the title, a label, the "
                "command, the template or the crew's name.",
            ),
        ] = None,
        label: Annotated[str | None, Query(max_length=64)] = None,
        archived: bool | None = None,
        crew: Annotated[str | None, Query(max_length=200)] = None,
        schedule: Annotated[str | None, Query(max_length=200)] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = _PAGE,
        cursor: Annotated[str | None, Query(max_length=200)] = None,
    ) -> Response:
        """A page has 50 jobs, or as many as make 2 MiB; long texts in it are shortened. An unknown
        cursor gives an empty page.
        """
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

        try:
            # Few jobs may match, and then every job is looked at.
            rare = states or text or label or schedule or archived is not None
            rows, more = await run_in_threadpool(read) if rare else read()
        except InvalidCursor:
            rows, more = [], False
        items, whole = bounded(map(job_json, rows))
        more = more or not whole
        following = rows[len(items) - 1]["id"] if more else None
        return json_bytes({"items": items, "cursor": following, "hasMore": more})

    @router.get("/{job_id}", summary="One job", response_model=JobObject, responses=documented(404))
    async def get_job(job_id: str, principal: Authenticated) -> Response:
        await views.caught_up()
        with views.reading() as reading:
            row = seen_job(reading, job_id, principal)
        return json_bytes(job_json(row), headers={"ETag": etag(row["version"])})


def _add_commands(router: APIRouter, jobs: Jobs, views: Views) -> None:
    @router.post(
        "/{job_id}/cancel",
        summary="Cancel a job",
        response_model=JobObject,
        responses=documented(404, 409, 412),
    )
    async def cancel_job(
        job_id: str, request: Request, principal: Authenticated, if_match: IfMatchHeader = None
    ) -> Response:
        """Asks for the end. Asking again changes nothing. 409 if the job has ended."""
        changed = await jobs.execute(
            job_id,
            guarded(principal, lambda job: job.request_cancel("By request.")),
            principal.context(request),
            if_match=version_of(if_match),
        )
        await views.caught_up()
        with views.reading() as reading:
            row = find_job(reading, job_id)
        return json_bytes(job_json(row), headers=_after(changed))

    @router.post(
        "/{job_id}/archive",
        status_code=204,
        summary="Archive a job",
        responses=documented(404, 409, 412),
    )
    async def archive_job(
        job_id: str, request: Request, principal: Authenticated, if_match: IfMatchHeader = None
    ) -> Response:
        """Archiving again changes nothing."""
        changed = await jobs.execute(
            job_id,
            guarded(principal, Job.archive),
            principal.context(request),
            if_match=version_of(if_match),
        )
        return Response(status_code=204, headers=_after(changed))


def _after(changed: Changed) -> dict[str, str]:
    return {**position_header(changed.position), "ETag": etag(changed.job.version)}


def _headers(event: Recorded) -> dict[str, str]:
    return {"x-event-position": str(event.position), "ETag": etag(event.version)}
