"""The job board's own routes: a crew's graph, comments, unblock and redo, the stream over all
attempts, and clearing the board (`contracts/board.md` §5.3).
"""

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from api.dialects.board.crew_graph import graph_json
from api.dialects.board.frames import BOARD
from api.dialects.board.schedule_json import schedule_json
from api.dialects.job_detail import comment_json
from api.dialects.job_json import JobChanged, job_json, status_of
from api.edge.access import guarded, loaded_job, scope_of, seen_crew, seen_job
from api.edge.answers import json_bytes
from api.edge.entity_tags import IfMatchHeader, etag, version_of
from api.edge.errors import SECURED, documented
from api.edge.security import Admin, Authenticated, EmailOf, NameOf, Principal
from api.edge.short_forms import PAGE_BYTES, bounded
from api.edge.sse import (
    STREAMED,
    Cursor,
    cursor_of,
    event_stream,
    last_end,
    read_job,
    with_beginnings,
)
from api.edge.texts import CARRIABLE, Body
from api.native.crew_json import crew_brief, crew_json
from domain.clock import Clock, format_time
from domain.crew.commands import Crews
from domain.errors import JobNotFound, WrongState
from domain.event import Event
from domain.job.aggregate import LONGEST_TEXT, Job
from domain.job.commands import Changed, Jobs
from domain.job.events import JobDeleted
from domain.log import EventLog
from projections.comments import comment_at
from projections.crews import crew_counts, list_crews
from projections.engine import Views
from projections.jobs import board_jobs, find_job, list_jobs
from projections.projection import Row
from projections.schedules import list_schedules
from projections.summaries import approvals_summary
from scheduler.drivers.unfinished import Unfinished

_PAGE = 100
_CREWS = 20
_COLUMN = PAGE_BYTES // 8
_MONTH = timedelta(days=30)

Text = Annotated[str, Field(max_length=LONGEST_TEXT), CARRIABLE]


class CommentRequest(Body):
    """What to say to whoever works on the job."""

    body: Annotated[Text, Field(min_length=1)]


class RedoRequest(Body):
    """What was wrong."""

    feedback: Text = ""


class ClearRequest(Body):
    """Which column to clear; none is the whole board."""

    status: str | None = None


def board_routes(
    log: EventLog,
    jobs: Jobs,
    crews: Crews,
    views: Views,
    unfinished: Unfinished,
    email_of: EmailOf,
    name_of: NameOf,
    clock: Clock,
) -> APIRouter:
    router = APIRouter(prefix="/api", tags=["board"], responses=SECURED)
    over = last_end(jobs)

    @router.get(
        "/jobs/{job_id}/stream",
        summary="The job as the board's frames, over all attempts",
        responses={**STREAMED, **documented(204, 404)},
        response_class=Response,
    )
    async def stream(job_id: str, request: Request, principal: Authenticated) -> Response:
        """Resumes with Last-Event-ID. Ends with the job; is 204 once all of it was seen."""
        cursor = cursor_of(request, log)
        job = await run_in_threadpool(loaded_job, jobs, job_id, principal)
        end_at = await run_in_threadpool(log.blocking.last_about, job.stream) if job.ended else None
        resumed = cursor if job.ended else None
        if resumed is not None and not await run_in_threadpool(_has_more, log, job, resumed):
            return Response(status_code=204)
        chunks = read_job(log, BOARD, job_id, cursor, end_at=end_at, over=over)
        return event_stream(request, principal, with_beginnings(chunks, unfinished, job_id))

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

    @router.post(
        "/jobs/{job_id}/comments",
        status_code=201,
        summary="Comment on a job",
        responses=documented(404, 413),
    )
    async def comment(
        job_id: str, body: CommentRequest, request: Request, principal: Authenticated
    ) -> Response:
        changed = await jobs.execute(
            job_id,
            guarded(principal, lambda job: job.comment(body.body)),
            principal.context(request),
        )
        await views.caught_up()
        with views.reading() as reading:
            written = comment_at(reading, changed.position)
        return json_bytes({"comment": comment_json(written, name_of)}, 201, _position(changed))

    @router.post(
        "/jobs/{job_id}/unblock",
        summary="Let a blocked job go on",
        response_model=JobChanged,
        responses=documented(404, 409, 412),
    )
    async def unblock(
        job_id: str, request: Request, principal: Authenticated, if_match: IfMatchHeader = None
    ) -> Response:
        """A job that has ended without success is done again; 409 for one that is not blocked."""
        await run_in_threadpool(loaded_job, jobs, job_id, principal)
        changed = await crews.retry(
            job_id, principal.context(request), if_match=version_of(if_match)
        )
        return await _answer(changed)

    @router.post(
        "/jobs/{job_id}/redo",
        summary="Have a job done again, with feedback",
        response_model=JobChanged,
        responses=documented(404, 409, 412),
    )
    async def redo(
        job_id: str,
        request: Request,
        principal: Authenticated,
        body: RedoRequest | None = None,
        if_match: IfMatchHeader = None,
    ) -> Response:
        """What was made of its old result is made anew, in its turn."""
        await run_in_threadpool(loaded_job, jobs, job_id, principal)
        feedback = body.feedback if body is not None else ""
        changed = await crews.redo(
            job_id, feedback, principal.context(request), if_match=version_of(if_match)
        )
        return await _answer(changed)

    @router.post("/jobs/clear", summary="Clear the board, or one column")
    async def clear(
        request: Request, principal: Admin, body: ClearRequest | None = None
    ) -> Response:
        """Deletes every job that nobody runs. What runs is passed over and counted as `skipped`."""
        column = status_of(body.status if body is not None else None)
        deleted, skipped, position = await _clear(column, principal, request)
        headers = {"x-event-position": str(position)}
        return json_bytes({"deleted": deleted, "skipped": skipped}, headers=headers)

    async def _clear(
        column: str | None, principal: Principal, request: Request
    ) -> tuple[int, int, int]:
        await views.caught_up()
        deleted = skipped = position = 0
        cursor: str | None = None
        while True:
            with views.reading() as reading:
                rows, more = list_jobs(reading, status=column, cursor=cursor, limit=_PAGE)
            for row in rows:
                try:
                    changed = await jobs.execute(row["id"], _put_away, principal.context(request))
                    deleted += 1
                    position = max(position, changed.position)
                except (WrongState, JobNotFound):
                    skipped += 1
            if not more:
                return deleted, skipped, position
            cursor = rows[-1]["id"]

    @router.get("/board", summary="The board: columns, crews, next firings")
    async def board(
        principal: Authenticated,
        mine: bool = False,
        text: Annotated[str | None, Query(max_length=200)] = None,
        crew: Annotated[str | None, Query(max_length=200)] = None,
        limit: Annotated[int, Query(ge=1, le=200, description="Jobs of a column.")] = 50,
    ) -> Response:
        """`text` and `crew` select jobs as in the list of jobs; `count` counts those. `position` is
        where in the log all of it stood: a stream from there on misses nothing. The median of
        answers is that of the last thirty days.
        """
        owner = scope_of(principal, mine=mine)
        approver = None if owner is None else email_of(principal)
        since = format_time(clock() - _MONTH)
        await views.caught_up()

        def read() -> tuple[dict[str, tuple[int, list[Row]]], dict[str, Any]]:
            with views.reading() as reading:
                jobs_shown = board_jobs(reading, owner=owner, text=text, crew=crew, limit=limit)
                crews_shown, _ = list_crews(reading, owner=owner, cursor=None, limit=_CREWS)
                counts = crew_counts(reading, [row["id"] for row in crews_shown])
                schedules = list_schedules(reading, owner=owner)
                asked = approvals_summary(reading, since, owner, approver)
                return jobs_shown, {
                    "crews": [crew_brief(row, counts[row["id"]], name_of) for row in crews_shown],
                    "schedules": [next_firing(s) for s in schedules if s["state"] == "active"],
                    "approvals": {
                        "pending": asked["pending"],
                        "medianWaitMs": asked["waitMs"]["p50"],
                    },
                    "position": reading.positions["jobs"],
                }

        # A text is looked for in every job, and a rule may have to be walked for its next time.
        shown, rest = await run_in_threadpool(read)
        columns = [
            {"status": status, "count": count, "jobs": bounded(map(job_json, rows), _COLUMN)[0]}
            for status, (count, rows) in shown.items()
        ]
        return json_bytes({"columns": columns, **rest})

    def next_firing(row: Row) -> dict[str, Any]:
        shown = schedule_json(row, clock())
        return {name: shown[name] for name in ("id", "name", "nextRunAt")}

    @router.get("/crews", summary="Crews, newest first")
    async def get_crews(
        principal: Authenticated,
        mine: bool = False,
        limit: Annotated[int, Query(ge=1, le=100)] = 50,
        cursor: Annotated[str | None, Query(max_length=200)] = None,
    ) -> Response:
        await views.caught_up()
        with views.reading() as reading:
            rows, more = list_crews(
                reading, owner=scope_of(principal, mine=mine), cursor=cursor, limit=limit
            )
            counts = crew_counts(reading, [row["id"] for row in rows])
        items, whole = bounded(crew_brief(row, counts[row["id"]], name_of) for row in rows)
        more = more or not whole
        following = rows[len(items) - 1]["id"] if more else None
        return json_bytes({"items": items, "cursor": following, "hasMore": more})

    @router.get("/crews/{crew_id}", summary="One crew, with its jobs", responses=documented(404))
    async def get_crew(crew_id: str, principal: Authenticated) -> Response:
        await views.caught_up()
        with views.reading() as reading:
            row = seen_crew(reading, crew_id, principal)
            counts = crew_counts(reading, [crew_id])[crew_id]
            jobs_of_it = graph_json(reading, {"crew": crew_id, "id": ""})
        return json_bytes({**crew_json(row, counts, name_of), **jobs_of_it})

    async def _answer(changed: Changed) -> Response:
        await views.caught_up()
        with views.reading() as reading:
            shown = job_json(find_job(reading, changed.job.id))
        headers = {**_position(changed), "ETag": etag(changed.job.version)}
        return json_bytes({**shown, "job": shown}, headers=headers)

    return router


def _has_more(log: EventLog, job: Job, cursor: Cursor) -> bool:
    """Whether the board's stream of the job shows something past the cursor: not every event has a
    frame.
    """
    return any(
        BOARD.frames(e) for page in log.blocking.pages(cursor.after, job.stream) for e in page
    )


def _put_away(job: Job) -> list[Event]:
    """Delete; a job of its own that only waits is cancelled with it."""
    if not job.ended and not job.active and not job.planned:
        return [*job.request_cancel("The board was cleared."), JobDeleted()]
    return job.delete()


def _position(changed: Changed) -> dict[str, str]:
    return {"x-event-position": str(changed.position)}
