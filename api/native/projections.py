"""``/projections``: where each view stands, and rebuilding one beside the live one."""

from fastapi import APIRouter, Response

from api.edge.answers import json_bytes
from api.edge.security import Admin, Authenticated
from api.native.problems import SECURED, documented
from domain.log import EventLog
from projections.engine import ProjectionStatus, Views


def projection_routes(log: EventLog, views: Views) -> APIRouter:
    router = APIRouter(prefix="/projections", tags=["projections"], responses=SECURED)

    @router.get("", summary="Position, lag and digest of every projection")
    async def status(principal: Authenticated) -> Response:
        return json_bytes(
            {"head": log.head, "projections": [_shown(status) for status in views.status()]}
        )

    @router.post(
        "/{name}/rebuild", status_code=202, summary="Rebuild one", responses=documented(404, 409)
    )
    async def rebuild(name: str, principal: Admin) -> Response:
        """Fills a new table beside the live one, which goes on answering, and
        puts it in its place.
        """
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
