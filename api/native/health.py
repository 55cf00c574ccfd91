"""``/healthz`` and ``/readyz``: is the process alive, and does it keep its promises."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from api.edge.answers import json_bytes
from api.edge.errors import documented
from domain.log import EventLog
from projections.engine import Views
from scheduler.dispatch.dispatcher import Dispatcher
from scheduler.follower import Follower, Lag

_LOOPBACK = {"127.0.0.1", "::1"}


def health_routes(
    log: EventLog,
    views: Views,
    dispatcher: Dispatcher,
    followers: Sequence[tuple[str, Follower]],
    stopped: Sequence[str],
    version: str,
) -> APIRouter:
    """`followers` are the readers of the log, each with its kind."""
    router = APIRouter(tags=["system"])

    @router.get("/healthz", summary="Alive", response_class=PlainTextResponse)
    async def healthz() -> Response:
        return PlainTextResponse("ok")

    @router.get(
        "/readyz", summary="Ready, and how far each reader of the log is", responses=documented(503)
    )
    async def readyz(request: Request) -> Response:
        """200 when every view is live, the log can be read, log and views can be written, and
        nothing of the server has failed; 503 otherwise. Strangers off loopback are told only which.
        """
        statuses = views.status()
        live = all(status.failure is None for status in statuses) and views.position >= 0
        problem = await log.problem()
        writable = {"log": await log.writable(), "views": views.error is None}
        ready = live and problem is None and all(writable.values()) and not stopped
        said: dict[str, Any] = {"status": "ready" if ready else "not ready"}
        if request.client is not None and request.client.host in _LOOPBACK:
            shown = [
                {"name": s.name, "kind": "view", "position": s.position, "lag": s.lag}
                for s in statuses
            ]
            shown += [_following(kind, follower.status) for kind, follower in followers]
            said |= {
                "version": version,
                "head": log.head,
                "readers": shown,
                "writable": writable,
                "problem": problem,
                "stopped": list(stopped),
                "running": dispatcher.active,
                "queued": dispatcher.queued,
                "capacity": dispatcher.capacity,
                "storage": log.versions(),
            }
        return json_bytes(said, 200 if ready else 503)

    return router


def _following(kind: str, status: Lag) -> dict[str, Any]:
    return {
        "name": status.name,
        "kind": kind,
        "position": status.position,
        "lag": status.lag,
        "problem": status.problem,
        "passedOver": status.passed_over,
    }
