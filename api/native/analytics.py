"""``/analytics``: sums over the jobs of a period."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.concurrency import run_in_threadpool

from api.edge.access import scope_of
from api.edge.answers import json_bytes
from api.edge.security import Authenticated, EmailOf
from api.native.problems import SECURED
from domain.clock import Clock, format_time
from projections.analytics import overview
from projections.engine import Views


def analytics_routes(views: Views, clock: Clock, email_of: EmailOf) -> APIRouter:
    router = APIRouter(prefix="/analytics", tags=["analytics"], responses=SECURED)

    @router.get("/overview", summary="Jobs by outcome, label and day; waits and run times")
    async def get_overview(
        principal: Authenticated,
        period: Annotated[int, Query(ge=1, le=365, description="Days back from now.")] = 7,
        mine: bool = False,
    ) -> Response:
        """For jobs created in the period. `queueWaitMs` and `runTimeMs` are percentiles in
        milliseconds, by nearest rank.
        """
        owner = scope_of(principal, mine=mine)
        approver = None if owner is None else email_of(principal)
        await views.caught_up()
        since = format_time(clock() - timedelta(days=period))

        def sum_up() -> dict[str, object]:
            with views.reading() as reading:
                return overview(reading, since, owner, approver)

        return json_bytes({"period": period, **await run_in_threadpool(sum_up)})

    return router
