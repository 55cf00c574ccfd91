"""``/stream/{job_id}``: a job's output, live, in gitoma's frames (`contracts/gitoma.md` §6)."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from api.dialects.gitoma.lines import LINES
from api.edge.access import loaded_job
from api.edge.errors import documented
from api.edge.security import Authenticated
from api.edge.sse import STREAMED, Cursor, cursor_of, event_stream, last_end, read_job
from domain.errors import InvalidCursor
from domain.job.commands import Jobs
from domain.job.events import JobFinished, job_stream
from domain.log import EventLog, Recorded
from projections.engine import Views
from projections.output import position_of_line


def stream_routes(log: EventLog, jobs: Jobs, views: Views) -> APIRouter:
    router = APIRouter(tags=["jobs"])
    over = last_end(jobs)

    @router.get(
        "/stream/{job_id}",
        responses={**STREAMED, **documented(204, 404)},
        response_class=Response,
    )
    async def stream(
        job_id: str,
        request: Request,
        principal: Authenticated,
        from_line: Annotated[
            int | None, Query(ge=1, le=2**62, description="First line of output to show, from 1.")
        ] = None,
    ) -> Response:
        """The job's output from its start or from a line on, live, for any number of readers.
        Resumes with Last-Event-ID, which overrides the line.
        """
        cursor = cursor_of(request, log)
        job = await run_in_threadpool(loaded_job, jobs, job_id, principal)
        if cursor is None and from_line is not None:
            await views.caught_up()
            cursor = await run_in_threadpool(_before_line, views, job_id, from_line)
        elif cursor is not None and cursor.index is not None:
            await run_in_threadpool(_check_index, log, cursor)
        end_at = None
        if job.ended:
            end = await run_in_threadpool(_end_of, log, job_id)
            end_at = end.position
            last = len(LINES.frames(end)) - 1
            if cursor is not None and cursor.position >= end_at:
                if cursor.position == end_at and cursor.index in (None, last):
                    return Response(status_code=204)
                if cursor.position > end_at:
                    cursor = Cursor(end_at, last - 1)
        return event_stream(
            request, principal, read_job(log, LINES, job_id, cursor, end_at=end_at, over=over)
        )

    return router


def _end_of(log: EventLog, job_id: str) -> Recorded:
    return log.blocking.stream(job_stream(job_id), types=(JobFinished.type,))[-1]


def _before_line(views: Views, job_id: str, line: int) -> Cursor:
    """The cursor of a reader that has seen everything before this line. Raises InvalidCursor after
    the last line.
    """
    with views.reading() as reading:
        found = position_of_line(reading, job_id, line)
    if found is None:
        raise InvalidCursor("The job does not have this line so far.")
    position, first = found
    return Cursor(position, line - first - 1)


def _check_index(log: EventLog, cursor: Cursor) -> None:
    event = log.blocking.event_at(cursor.position)
    assert cursor.index is not None
    if event is None or cursor.index >= max(1, len(LINES.frames(event))):
        raise InvalidCursor("Last-Event-ID names a line that its event does not have.")
