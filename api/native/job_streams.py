"""A job as Server-Sent Events: its envelopes from any position to its end."""

from dataclasses import dataclass

from fastapi import Request, Response

from api.edge.security import Principal
from api.edge.sse import (
    ENVELOPES,
    Cursor,
    cursor_of,
    event_stream,
    last_end,
    read_job,
    with_beginnings,
)
from domain.errors import InvalidCursor
from domain.job.aggregate import Job
from domain.job.commands import Jobs
from domain.log import EventLog
from scheduler.drivers.unfinished import Unfinished


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events of a job a reader wants, and up to which position."""

    types: tuple[str, ...] = ()
    actor: str | None = None
    after: int | None = None
    before: int | None = None
    limit: int | None = None
    partial_lines: bool = False


class JobStreams:
    """Streams of single jobs over one log."""

    def __init__(self, log: EventLog, jobs: Jobs, unfinished: Unfinished) -> None:
        self._log = log
        self._unfinished = unfinished
        self._over = last_end(jobs)

    async def answer(
        self, request: Request, principal: Principal, job: Job, wanted: Wanted
    ) -> Response:
        """The stream, which ends with the job; 204 if the client has seen all of it. The principal
        must be allowed to see the job. Raises InvalidCursor.
        """
        log = self._log
        cursor = whole_cursor(request, log, wanted.after)
        end_at = await log.last_about(job.stream) if job.ended else None
        closed = wanted.before is not None and wanted.before <= log.head + 1
        if (closed or end_at is not None) and not await rest(
            log, cursor, job.stream, wanted.types, wanted.before, wanted.actor
        ):
            return Response(status_code=204)
        chunks = read_job(
            log,
            ENVELOPES,
            job.id,
            cursor,
            end_at=end_at,
            over=self._over,
            types=wanted.types,
            actor=wanted.actor,
            before=wanted.before,
            limit=wanted.limit,
        )
        if wanted.partial_lines:
            chunks = with_beginnings(chunks, self._unfinished, job.id)
        return event_stream(request, principal, chunks)


def whole_cursor(request: Request, log: EventLog, after: int | None) -> Cursor | None:
    """The reader's cursor for streams with one frame for each event. Raises InvalidCursor for a
    cursor of another stream, and as `cursor_of`.
    """
    cursor = cursor_of(request, log, after)
    if cursor is not None and cursor.index is not None:
        raise InvalidCursor(
            "Last-Event-ID belongs to another stream: here each event is one frame."
        )
    return cursor


async def rest(
    log: EventLog,
    cursor: Cursor | None,
    subject: str | None,
    types: tuple[str, ...],
    before: int | None,
    actor: str | None,
) -> bool:
    """Whether the log has an event after the cursor that the reader wants."""
    seen = cursor.after if cursor is not None else 0
    return bool(await log.read(seen, 1, subject, types, before=before, actor=actor))
