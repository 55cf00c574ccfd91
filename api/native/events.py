"""``/events``: every event that the person may see, live and from any point in the past."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from api.edge.owners import Owners
from api.edge.security import Authenticated, EmailOf, Principal
from api.edge.sse import ENVELOPES, PAGE_BYTES, RETRY, STREAMED, Cursor, event_stream
from api.native.job_streams import whole_cursor
from api.native.log import Position, Types, types_of
from api.native.problems import SECURED, documented
from domain.log import EventLog

_OUTPUT = "job.output"


def event_routes(
    log: EventLog, owners: Owners, email_of: EmailOf, all_types: tuple[str, ...]
) -> APIRouter:
    """The routes. `all_types` are those of the catalogue."""
    router = APIRouter(prefix="/events", tags=["events"], responses=SECURED)
    usual = tuple(name for name in all_types if name != _OUTPUT)

    @router.get(
        "/stream",
        summary="The events that the person may see, as Server-Sent Events",
        responses={**STREAMED, **documented(404)},
        response_class=Response,
    )
    async def stream(
        request: Request,
        principal: Authenticated,
        type_names: Types = None,
        after: Position | None = None,
        output: Annotated[
            bool, Query(description="Include the output of jobs, if no types are named.")
        ] = False,
    ) -> Response:
        """Each event is one frame: its position as `id`, its type as `event`, its envelope as
        `data`. Without a cursor it starts now; with Last-Event-ID or `after` it starts there,
        anywhere in the history. It never ends.
        """
        cursor = whole_cursor(request, log, after) or Cursor(log.head)
        types = types_of(type_names) or (all_types if output else usual)
        return event_stream(request, principal, _seen(cursor, principal, types))

    async def _seen(
        cursor: Cursor, principal: Principal, types: tuple[str, ...]
    ) -> AsyncIterator[bytes]:
        yield RETRY
        async for page in log.tail(cursor.after, types=types, page_bytes=PAGE_BYTES, patient=True):
            shown = page
            if not principal.admin:
                email = email_of(principal)
                shown = await run_in_threadpool(owners.concerned, page, principal, email)
            chunks = await ENVELOPES.chunks(shown, None) if shown else []
            # A stalled reader should hold its unread bytes, and not the events as well.
            del page, shown
            for chunk in chunks:
                yield chunk

    return router
