"""``/api/jobs/{job_id}/stream``: a job over all its attempts, live (`contracts/board.md` §5.3)."""

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from api.dialects.board.frames import BOARD
from api.edge.access import loaded_job
from api.edge.errors import SECURED, documented
from api.edge.security import Authenticated
from api.edge.sse import (
    STREAMED,
    Cursor,
    cursor_of,
    event_stream,
    last_end,
    read_job,
    with_beginnings,
)
from domain.job.aggregate import Job
from domain.job.commands import Jobs
from domain.log import EventLog
from scheduler.drivers.unfinished import Unfinished


def stream_routes(log: EventLog, jobs: Jobs, unfinished: Unfinished) -> APIRouter:
    router = APIRouter(prefix="/api/jobs", tags=["board"], responses=SECURED)
    over = last_end(jobs)

    @router.get(
        "/{job_id}/stream",
        summary="The job as the board's frames, over all attempts",
        responses={**STREAMED, **documented(204, 404)},
        response_class=Response,
    )
    async def stream(job_id: str, request: Request, principal: Authenticated) -> Response:
        """Resumes with Last-Event-ID. Ends with the job; 204 if the client has seen all of it."""
        cursor = cursor_of(request, log)
        job = await run_in_threadpool(loaded_job, jobs, job_id, principal)
        end_at = await log.last_about(job.stream) if job.ended else None
        resumed = cursor if job.ended else None
        if resumed is not None and not await run_in_threadpool(_has_more, log, job, resumed):
            return Response(status_code=204)
        chunks = read_job(log, BOARD, job_id, cursor, end_at=end_at, over=over)
        return event_stream(request, principal, with_beginnings(chunks, unfinished, job_id))

    return router


def _has_more(log: EventLog, job: Job, cursor: Cursor) -> bool:
    """Whether the board's stream has a frame after the cursor: not every event has one."""
    return any(
        BOARD.frames(e) for page in log.blocking.pages(cursor.after, job.stream) for e in page
    )
