"""``/api/jobs/clear``: clears the board, or one column of it (`contracts/board.md` §5.3)."""

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from api.dialects.board.job_json import status_of
from api.edge.answers import json_bytes, position_header
from api.edge.errors import SECURED
from api.edge.security import Admin
from api.edge.texts import Body
from domain.errors import JobNotFound, WrongState
from domain.event import Event
from domain.job.aggregate import Job
from domain.job.commands import Jobs
from domain.job.events import JobDeleted
from domain.log import Context
from projections.engine import Views
from projections.jobs import list_jobs
from projections.projection import Row

_PAGE = 100


class ClearRequest(Body):
    """The column to clear; without one, the whole board."""

    status: str | None = None


def clearing_routes(jobs: Jobs, views: Views) -> APIRouter:
    router = APIRouter(prefix="/api/jobs", tags=["board"], responses=SECURED)

    @router.post("/clear", summary="Clear the board, or one column")
    async def clear(
        request: Request, principal: Admin, body: ClearRequest | None = None
    ) -> Response:
        """Deletes every job without a running attempt. The others are left alone, and
        counted as `skipped`.
        """
        column = status_of(body.status if body is not None else None)
        deleted, skipped, position = await _clear(jobs, views, column, principal.context(request))
        headers = position_header(position)
        return json_bytes({"deleted": deleted, "skipped": skipped}, headers=headers)

    return router


def _page_of(views: Views, column: str | None, cursor: str | None) -> tuple[list[Row], bool]:
    with views.reading() as reading:
        return list_jobs(reading, status=column, cursor=cursor, limit=_PAGE)


async def _clear(
    jobs: Jobs, views: Views, column: str | None, context: Context
) -> tuple[int, int, int]:
    await views.caught_up()
    deleted = skipped = position = 0
    cursor: str | None = None
    while True:
        rows, more = await run_in_threadpool(_page_of, views, column, cursor)
        for row in rows:
            try:
                changed = await jobs.execute(row["id"], _put_away, context)
                deleted += 1
                position = max(position, changed.position)
            except (WrongState, JobNotFound):
                skipped += 1
        if not more:
            return deleted, skipped, position
        cursor = rows[-1]["id"]


def _put_away(job: Job) -> list[Event]:
    """Delete the job. A waiting job of its own is cancelled first."""
    if not job.ended and not job.active and not job.planned:
        return [*job.request_cancel("The board was cleared."), JobDeleted()]
    return job.delete()
