"""``/api/jobs``: list the board's jobs, show one, archive one (`contracts/board.md` §5.3)."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from api.dialects.board.job_changes import changed_job
from api.dialects.board.job_detail import JobDetail, detail_json
from api.dialects.board.job_json import JobChanged, JobList, job_json, status_of
from api.edge.access import guarded, scope_of, seen_job
from api.edge.answers import json_bytes, position_header
from api.edge.entity_tags import IfMatchHeader, etag, version_of
from api.edge.errors import SECURED, documented
from api.edge.security import Authenticated, NameOf
from api.edge.short_forms import bounded
from domain.job.aggregate import Job
from domain.job.commands import Jobs
from projections.engine import Views
from projections.jobs import list_jobs
from projections.projection import Row

_PAGE = 500


def job_routes(jobs: Jobs, views: Views, name_of: NameOf) -> APIRouter:
    router = APIRouter(prefix="/api/jobs", tags=["board"], responses=SECURED)
    _add_reading(router, views, name_of)
    _add_putting_away(router, jobs, views)
    return router


def _add_reading(router: APIRouter, views: Views, name_of: NameOf) -> None:
    @router.get(
        "", summary="List jobs, newest first", response_model=JobList, responses=documented(404)
    )
    async def get_jobs(
        principal: Authenticated,
        status: Annotated[
            str | None, Query(max_length=20, description="A column of the board.")
        ] = None,
        mine: Annotated[
            bool, Query(description="Only own ones, even for an administrator.")
        ] = False,
        text: Annotated[str | None, Query(max_length=200)] = None,
        crew: Annotated[str | None, Query(max_length=200)] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = _PAGE,
        cursor: Annotated[str | None, Query(max_length=200)] = None,
    ) -> Response:
        """The newest 500, or as many as make 2 MiB. Long texts in them are shortened."""
        column = status_of(status)
        await views.caught_up()

        def read() -> tuple[list[Row], bool]:
            with views.reading() as reading:
                owner = scope_of(principal, mine=mine)
                return list_jobs(
                    reading,
                    status=column,
                    text=text,
                    owner=owner,
                    crew=crew,
                    cursor=cursor,
                    limit=limit,
                )

        # Few jobs may match, and then every job is looked at.
        rows, more = await run_in_threadpool(read) if text or column else read()
        items, whole = bounded(map(job_json, rows))
        more = more or not whole
        following = rows[len(items) - 1]["id"] if more else None
        return json_bytes({"jobs": items, "cursor": following})

    @router.get("/{job_id}", summary="One job", response_model=JobDetail, responses=documented(404))
    async def get_job(job_id: str, principal: Authenticated) -> Response:
        """The job, with its attempts, events, comments and the results of its parents."""
        await views.caught_up()
        with views.reading() as reading:
            row = seen_job(reading, job_id, principal)
            detail = detail_json(reading, row, name_of)
        return json_bytes(detail, headers={"ETag": etag(row["version"])})


def _add_putting_away(router: APIRouter, jobs: Jobs, views: Views) -> None:
    @router.post(
        "/{job_id}/archive",
        summary="Archive a job",
        response_model=JobChanged,
        responses=documented(404, 409, 412),
    )
    async def archive_job(
        job_id: str, request: Request, principal: Authenticated, if_match: IfMatchHeader = None
    ) -> Response:
        changed = await jobs.execute(
            job_id,
            guarded(principal, Job.archive),
            principal.context(request),
            if_match=version_of(if_match),
        )
        return await changed_job(views, changed)

    @router.delete("/{job_id}", summary="Hide a job for good", responses=documented(404, 409, 412))
    async def delete_job(
        job_id: str, request: Request, principal: Authenticated, if_match: IfMatchHeader = None
    ) -> Response:
        """Lists and look-ups do not show the job any more. The log keeps what happened."""
        changed = await jobs.execute(
            job_id,
            guarded(principal, Job.delete),
            principal.context(request),
            if_match=version_of(if_match),
        )
        return json_bytes({"ok": True}, headers=position_header(changed.position))
