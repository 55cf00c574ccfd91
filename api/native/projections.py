"""``/projections``: the state of each view, and rebuilding one beside the live one."""

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from api.edge.answers import json_bytes
from api.edge.security import Admin, Authenticated
from api.native.pages import Page, page
from api.native.problems import SECURED, documented
from domain.log import EventLog
from projections.engine import Views
from projections.slot import ProjectionStatus


class ProjectionObject(BaseModel):
    """The state of a view."""

    model_config = ConfigDict(extra="forbid")

    name: str
    version: int
    position: int
    lag: int
    status: Literal["live", "rebuilding", "failed"]
    progress: float
    digest: str
    unknownEvents: int
    rebuildMatched: bool | None = Field(
        description="Whether the last rebuild since the start gave the same digest."
    )
    failure: str | None


class ProjectionPage(Page[ProjectionObject]):
    head: int = Field(description="The position of the newest event of the log.")


def projection_routes(log: EventLog, views: Views) -> APIRouter:
    router = APIRouter(prefix="/projections", tags=["projections"], responses=SECURED)

    @router.get(
        "", summary="Position, lag and digest of every projection", response_model=ProjectionPage
    )
    async def status(principal: Authenticated) -> Response:
        """All views, on one page."""
        return page([_shown(status) for status in views.status()], head=log.head)

    @router.post(
        "/{name}/rebuild", status_code=202, summary="Rebuild one", responses=documented(404, 409)
    )
    async def rebuild(name: str, principal: Admin) -> Response:
        """Fills a new table beside the live one, which goes on answering, and then replaces it."""
        views.rebuild(name)
        return json_bytes({"name": name, "status": "rebuilding"}, 202)

    return router


def _shown(status: ProjectionStatus) -> dict[str, object]:
    return {
        "name": status.name,
        "version": status.version,
        "position": status.position,
        "lag": status.lag,
        "status": status.status,
        "progress": status.progress,
        "digest": status.digest,
        "unknownEvents": status.unknown_events,
        "rebuildMatched": status.rebuild_matched,
        "failure": status.failure,
    }
