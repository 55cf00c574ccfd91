"""``/log``: the log itself: by page, by position, live, and as a whole."""

import logging
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from pydantic import Field
from starlette.types import Send

from api.edge.owners import Owners
from api.edge.security import Authenticated
from api.edge.sse import ENVELOPES, STREAMED, event_stream, read_log
from api.native.job_streams import JobStreams, Wanted, rest, whole_cursor
from api.native.pages import Page
from api.native.problems import SECURED, documented
from domain.errors import LogUnavailable, NotFound
from domain.job.commands import Jobs
from domain.job.events import job_id_of
from domain.log import EventLog
from domain.log.archive import export_lines

logger = logging.getLogger("crewlog.http")

_NDJSON = "application/x-ndjson"

Position = Annotated[int, Query(ge=0, le=2**62)]
Subject = Annotated[
    str | None,
    Query(
        max_length=300,
        pattern="^[^/]*$",
        description="Such as job-<id>. Its sub-streams are included.",
    ),
]
Types = Annotated[
    str | None, Query(alias="type", max_length=1_000, description="Event types, by comma.")
]
Actor = Annotated[str | None, Query(max_length=300)]


class LogPage(Page[dict[str, Any]]):
    """Envelopes as they are in the log, oldest first."""

    head: int = Field(description="The position of the newest event of the whole log.")


def types_of(given: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (given or "").split(",") if name.strip())


def log_routes(log: EventLog, jobs: Jobs, owners: Owners, streams: JobStreams) -> APIRouter:
    """The whole log is for administrators. Others may read what is about their own things."""
    router = APIRouter(prefix="/log", tags=["log"], responses=SECURED)
    _add_stream(router, log, jobs, owners, streams)
    _add_export(router, log, owners)
    _add_reading(router, log, owners)
    return router


def _add_stream(
    router: APIRouter, log: EventLog, jobs: Jobs, owners: Owners, streams: JobStreams
) -> None:
    @router.get(
        "/stream",
        summary="The log as Server-Sent Events",
        responses={**STREAMED, **documented(204, 404)},
        response_class=Response,
    )
    async def stream(
        request: Request,
        principal: Authenticated,
        subject: Subject = None,
        type_names: Types = None,
        actor: Actor = None,
        after: Position | None = None,
        before: Position | None = None,
        limit: Annotated[
            int | None, Query(ge=1, le=2**62, description="Events after which the stream ends.")
        ] = None,
        partial_lines: Annotated[
            bool,
            Query(
                alias="partial",
                description="For one job: include the beginning of its unfinished line.",
            ),
        ] = False,
    ) -> Response:
        """Resumes with Last-Event-ID. For one job it ends with the job; with `before` it ends when
        the log has reached it. 204 if the client has seen all of that.
        """
        await run_in_threadpool(owners.check, principal, subject)
        types = types_of(type_names)
        job_id = job_id_of(subject) if subject is not None else None
        if job_id is not None:
            job = await jobs.loaded(job_id)
            wanted = Wanted(types, actor, after, before, limit, partial_lines)
            return await streams.answer(request, principal, job, wanted)
        cursor = whole_cursor(request, log, after)
        closed = before is not None and before <= log.head + 1
        if closed and not await rest(log, cursor, subject, types, before, actor):
            return Response(status_code=204)
        return event_stream(
            request,
            principal,
            read_log(
                log,
                ENVELOPES,
                cursor,
                subject=subject,
                types=types,
                actor=actor,
                before=before,
                limit=limit,
            ),
        )


def _add_export(router: APIRouter, log: EventLog, owners: Owners) -> None:
    @router.get(
        "/export",
        summary="The log as NDJSON",
        responses={200: {"content": {_NDJSON: {"schema": {"type": "string"}}}}},
        response_class=StreamingResponse,
    )
    async def export(
        principal: Authenticated, subject: Subject = None, after: Position = 0
    ) -> Response:
        """Every event up to the present head, one envelope with its hash on each line, and a last
        line of the type `export.ended` with their number.
        """
        await run_in_threadpool(owners.check, principal, subject)
        pages = export_lines(log, after, subject)
        # A log that cannot be read at all is an error, and not an answer that is cut.
        first = await run_in_threadpool(next, pages, b"")
        return Cuttable(
            _lines(first, pages),
            media_type=_NDJSON,
            headers={"Content-Disposition": 'attachment; filename="crewlog.ndjson"'},
        )


class Cuttable(StreamingResponse):
    """Ends without its last chunk if the log cannot be read any further, so that the client sees
    that something is missing. The server's log has a line about it.
    """

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(send)
        except LogUnavailable as error:
            logger.error("An export was cut: %s", error)


async def _lines(first: bytes, pages: Iterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    while True:
        page: bytes | None = await run_in_threadpool(next, pages, None)
        if page is None:
            return
        yield page


def _add_reading(router: APIRouter, log: EventLog, owners: Owners) -> None:
    @router.get("", summary="A page of the log", response_model=LogPage)
    async def read(
        principal: Authenticated,
        after: Position = 0,
        before: Position | None = None,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
        subject: Subject = None,
        type_names: Types = None,
        actor: Actor = None,
        cursor: Position = 0,
    ) -> Response:
        """Events with ``after < position < before``, oldest first.

        The work and the bytes of one page are bounded: with a rare type or actor, or large events,
        it may be short and still have a `cursor`.
        """
        await run_in_threadpool(owners.check, principal, subject)
        types = types_of(type_names)
        return await envelopes_page(
            log, max(after, cursor), limit, subject, types, before=before, actor=actor
        )

    @router.get("/{position}", summary="One event", responses=documented(404))
    async def event_at(position: int, principal: Authenticated) -> Response:
        event = await log.event_at(position) if 0 < position <= log.head else None
        if event is None:
            raise NotFound("The log has no such position.")
        owner = await log.apart(partial(owners.of, event.subject))
        if not (principal.admin or principal.sees(owner or "")):
            raise NotFound("The log has no such position.")
        return Response(event.wire, media_type="application/json")


async def envelopes_page(
    log: EventLog,
    after: int,
    limit: int,
    subject: str | None,
    types: tuple[str, ...],
    *,
    before: int | None = None,
    actor: str | None = None,
) -> Response:
    """Events after a position, as in the log. `cursor` is that of the next page.

    The work and the bytes of one page are bounded: it may be short and still have a `cursor`.
    """
    events, following = await log.page(
        after, limit, before=before, subject=subject, types=types, actor=actor
    )
    body = b'{"items":[%s],"cursor":%s,"head":%d}' % (
        b",".join(event.wire for event in events),
        b"null" if following is None else b'"%d"' % following,
        log.head,
    )
    return Response(body, media_type="application/json")
