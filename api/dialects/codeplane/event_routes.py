"""``/api/events``: every change of the jobs and approvals that the person may see, live and from
any point in the past (`contracts/codeplane.md` §5).
"""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from api.dialects.codeplane.events import CODEPLANE, HEARTBEAT, TYPES
from api.edge.access import loaded_job
from api.edge.errors import SECURED, documented
from api.edge.owners import Owners
from api.edge.security import Authenticated, EmailOf, Principal
from api.edge.sse import PAGE_BYTES, STREAMED, Cursor, cursor_of, event_stream
from domain.job.commands import Jobs
from domain.job.events import job_stream
from domain.log import EventLog, Recorded

_SILENCE_S = 5.0


def event_routes(log: EventLog, jobs: Jobs, owners: Owners, email_of: EmailOf) -> APIRouter:
    router = APIRouter(prefix="/api", tags=["events"], responses=SECURED)

    @router.get(
        "/events",
        summary="Changes of jobs and approvals, as Server-Sent Events",
        responses={**STREAMED, **documented(404)},
        response_class=Response,
    )
    async def events(
        request: Request,
        principal: Authenticated,
        job_id: Annotated[str | None, Query(max_length=200)] = None,
        last: Annotated[
            str | None, Query(alias="Last-Event-ID", description="As the header of that name.")
        ] = None,
    ) -> Response:
        """Without a cursor it starts now; with one, it starts there, anywhere in the
        history. It never ends.
        """
        if job_id is not None:
            await run_in_threadpool(loaded_job, jobs, job_id, principal)
        cursor = cursor_of(request, log) or cursor_of(request, log, _number(last))
        start = cursor or Cursor(log.head)
        return event_stream(request, principal, _changes(start, principal, job_id))

    async def _changes(
        cursor: Cursor, principal: Principal, job_id: str | None
    ) -> AsyncIterator[bytes]:
        yield HEARTBEAT
        tail = aiter(log.tail(cursor.after, types=TYPES, page_bytes=PAGE_BYTES, patient=True))
        coming = asyncio.ensure_future(anext(tail))
        try:
            while True:
                done, _ = await asyncio.wait({coming}, timeout=_SILENCE_S)
                if not done:
                    yield HEARTBEAT
                    continue
                page = coming.result()
                coming = asyncio.ensure_future(anext(tail))
                shown = await _seen(page, principal, job_id)
                if shown:
                    for chunk in await CODEPLANE.chunks(shown, None):
                        yield chunk
        finally:
            coming.cancel()

    async def _seen(
        page: list[Recorded], principal: Principal, job_id: str | None
    ) -> list[Recorded]:
        if job_id is not None:
            subject = job_stream(job_id)
            return [e for e in page if e.subject == subject or e.data.get("job") == job_id]
        if principal.admin:
            return page
        email = email_of(principal)
        return await run_in_threadpool(owners.concerned, page, principal, email)

    return router


_digits = re.compile(r"[0-9]{1,18}", re.ASCII).fullmatch


def _number(text: str | None) -> int | None:
    """The cursor in the query, as CodePlane's client sends it. Text that is not a number is
    ignored.
    """
    return int(text) if text is not None and _digits(text) else None
