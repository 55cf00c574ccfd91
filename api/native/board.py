"""``/board``: everything that a board shows: columns, crews, schedules, and what waits for
people.
"""

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.concurrency import run_in_threadpool

from api.edge.access import scope_of
from api.edge.answers import json_bytes
from api.edge.security import Authenticated, EmailOf, NameOf
from api.edge.short_forms import PAGE_BYTES, bounded
from api.native.crew_json import crew_listed
from api.native.job_json import listed
from api.native.problems import SECURED
from api.native.schedule_json import schedule_json
from domain.clock import Clock, format_time
from projections.crews import crew_counts, list_crews
from projections.engine import Views
from projections.jobs import BoardColumn, board_jobs
from projections.projection import Row
from projections.schedules import list_schedules
from projections.summaries import approvals_summary

_CREWS = 20
_COLUMN = PAGE_BYTES // 8
_MONTH = timedelta(days=30)


def board_routes(views: Views, email_of: EmailOf, name_of: NameOf, clock: Clock) -> APIRouter:
    router = APIRouter(prefix="/board", tags=["board"], responses=SECURED)

    @router.get("", summary="Columns of jobs, crews, next firings, what waits for people")
    async def board(
        principal: Authenticated,
        mine: bool = False,
        text: Annotated[str | None, Query(max_length=200)] = None,
        crew: Annotated[str | None, Query(max_length=200)] = None,
        limit: Annotated[int, Query(ge=1, le=200, description="Jobs in each column.")] = 50,
    ) -> Response:
        """`text` and `crew` select jobs as in the list of jobs, and `count` counts these.
        `waitsForPerson` says whether one of them waits for an answer or is blocked.
        `position` is the position in the log of all this data: a stream from there misses nothing.
        The median of answers is over the last thirty days.
        """
        owner = scope_of(principal, mine=mine)
        approver = None if owner is None else email_of(principal)
        since = format_time(clock() - _MONTH)
        await views.caught_up()

        def read() -> tuple[dict[str, BoardColumn], dict[str, Any]]:
            with views.reading() as reading:
                jobs_shown = board_jobs(reading, owner=owner, text=text, crew=crew, limit=limit)
                crews_shown, _ = list_crews(reading, owner=owner, cursor=None, limit=_CREWS)
                counts = crew_counts(reading, [row["id"] for row in crews_shown])
                schedules, _ = list_schedules(reading, owner=owner)
                figures = approvals_summary(reading, since, owner, approver)
                return jobs_shown, {
                    "crews": [crew_listed(row, counts[row["id"]], name_of) for row in crews_shown],
                    "schedules": [_next_firing(s) for s in schedules if s["state"] == "active"],
                    "approvals": {
                        "pending": figures["pending"],
                        "medianWaitMs": figures["waitMs"]["p50"],
                    },
                    "position": reading.positions["jobs"],
                }

        # A text filter searches every job, and finding a rule's next time may take long: not on the
        # loop.
        shown, rest = await run_in_threadpool(read)
        columns = [
            {
                "name": name,
                "count": column.size,
                "waitsForPerson": column.waits,
                "jobs": bounded((listed(row, name_of) for row in column.newest), _COLUMN)[0],
            }
            for name, column in shown.items()
        ]
        return json_bytes({"columns": columns, **rest})

    def _next_firing(row: Row) -> dict[str, Any]:
        shown = schedule_json(row, clock())
        return {name: shown[name] for name in ("id", "name", "nextRunAt")}

    return router
