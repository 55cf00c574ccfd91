"""``/status`` and ``/jobs``: the state of jobs, and cancelling them (`contracts/gitoma.md` §3)."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from api.dialects.gitoma.job_json import CancelResponse, JobStatusResponse, status_json
from api.dialects.gitoma.lines import last_words, stream_lines
from api.edge.access import guarded, scope_of, seen_job
from api.edge.answers import json_bytes
from api.edge.errors import documented
from api.edge.security import Authenticated
from domain.job.commands import Jobs
from domain.job.events import ENDED, JobFinished, JobOutputDropped, JobState, job_stream
from domain.log import EventLog
from projections.engine import Views
from projections.jobs import list_jobs
from projections.projection import Row

_DONE_ONCE = 4
"""Most events of a job that ran once and ended. A job that was done again has more."""


def job_routes(log: EventLog, jobs: Jobs, views: Views) -> APIRouter:
    router = APIRouter(tags=["jobs"])

    @router.get("/status/{job_id}", responses=documented(404))
    async def status(job_id: str, principal: Authenticated) -> JobStatusResponse:
        await views.caught_up()
        with views.reading() as reading:
            row = seen_job(reading, job_id, principal)
        lines = await run_in_threadpool(_lines, log, row)
        return JobStatusResponse(job_id=job_id, lines_buffered=lines, **status_json(row))

    @router.get("/jobs")
    async def list_all(
        principal: Authenticated,
        limit: Annotated[int, Query(ge=1, le=5_000)] = 500,
        before: Annotated[
            str | None, Query(max_length=200, description="Id of a job: those before it.")
        ] = None,
    ) -> Response:
        """The newest jobs, in the order of their submission. They never expire."""
        await views.caught_up()

        def read() -> dict[str, dict[str, Any]]:
            rows = _newest(views, scope_of(principal), limit, before)
            return {
                row["id"]: {**status_json(row), "lines": _lines(log, row)} for row in rows[::-1]
            }

        return json_bytes(await run_in_threadpool(read))

    @router.post("/jobs/{job_id}/cancel", responses=documented(404, 409))
    async def cancel(
        job_id: str, request: Request, response: Response, principal: Authenticated
    ) -> CancelResponse:
        changed = await jobs.execute(
            job_id,
            guarded(principal, lambda job: job.request_cancel("By request.")),
            principal.context(request),
        )
        response.headers["x-event-position"] = str(changed.position)
        return CancelResponse(job_id=job_id, status="cancelling")

    return router


def _newest(views: Views, owner: str | None, limit: int, before: str | None) -> list[Row]:
    with views.reading() as reading:
        return list_jobs(reading, owner=owner, limit=limit, cursor=before)[0]


def _lines(log: EventLog, row: Row) -> int:
    """The lines that the stream has so far, including ``$ argv`` and the sentinel."""
    lines = 1 + int(row["lines"])
    if row["attempt"] > 1 or row["version"] > _DONE_ONCE:
        # There may have been earlier ends, each with its last lines.
        events = log.blocking.stream(
            job_stream(row["id"]), types=(JobFinished.type, JobOutputDropped.type)
        )
        return lines + sum(len(stream_lines(event)) for event in events)
    lines += int(row["dropped_bytes"] > 0)
    if JobState(row["state"]) in ENDED:
        lines += len(last_words({"outcome": row["state"], "reason": row["reason"]})) + 1
    return lines
