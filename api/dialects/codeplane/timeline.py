"""``/api/jobs/{job_id}/timeline``: a job's events as headlines (`contracts/codeplane.md` §3.4)."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict

from api.edge.access import seen_job
from api.edge.answers import json_bytes
from api.edge.errors import SECURED, documented
from api.edge.security import Authenticated
from api.edge.short_forms import bounded
from projections.engine import Views
from projections.projection import Row
from projections.timeline import job_timeline


class Headline(BaseModel):
    """One line of a timeline."""

    model_config = ConfigDict(extra="forbid")

    jobId: str
    headline: str
    headlinePast: str
    summary: str
    timestamp: str
    replacesCount: int


def timeline_routes(views: Views) -> APIRouter:
    router = APIRouter(prefix="/api/jobs", tags=["jobs"], responses=SECURED)

    @router.get(
        "/{job_id}/timeline",
        summary="The job's events, in order",
        response_model=list[Headline],
        responses=documented(404),
    )
    async def get_timeline(
        job_id: str,
        principal: Authenticated,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 200,
    ) -> Response:
        await views.caught_up()
        with views.reading() as reading:
            seen_job(reading, job_id, principal)
            entries = job_timeline(reading, job_id, 0, limit)
        return json_bytes(bounded(map(headline, entries))[0])

    return router


def headline(entry: Row) -> dict[str, Any]:
    """An entry of the timeline. The event is in the past, so both tenses are the same text. No
    entry replaces others.
    """
    return {
        "jobId": entry["job_id"],
        "headline": entry["sentence"],
        "headlinePast": entry["sentence"],
        "summary": entry["sentence"],
        "timestamp": entry["at"],
        "replacesCount": 0,
    }
