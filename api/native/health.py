"""``/healthz``, ``/readyz`` and ``/health``: whether the process lives, and whether it works."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from api.edge.answers import json_bytes
from api.edge.errors import documented
from api.edge.security import Authenticated
from api.native.problems import SECURED
from domain.log import EventLog
from projections.engine import Views
from scheduler.dispatch.dispatcher import Dispatcher
from scheduler.follower import Follower, Lag

_LOOPBACK = {"127.0.0.1", "::1"}


class Health:
    """Whether the server works, and how far each reader of the log is."""

    def __init__(
        self,
        log: EventLog,
        views: Views,
        dispatcher: Dispatcher,
        followers: Sequence[tuple[str, Follower]],
        stopped: Sequence[str],
        version: str,
    ) -> None:
        """`followers` are the followers of the log, each with its kind."""
        self._log = log
        self._views = views
        self._dispatcher = dispatcher
        self._stopped = stopped
        self._version = version
        self._followers = followers

    async def look(self) -> dict[str, Any]:
        """``ready`` if every view is live, the log can be read, log and views can be written, and
        no part of the server has failed.
        """
        log, views, dispatcher = self._log, self._views, self._dispatcher
        statuses = views.status()
        live = all(status.failure is None for status in statuses) and views.position >= 0
        problem = await log.problem()
        writable = {"log": await log.writable(), "views": views.error is None}
        ready = live and problem is None and all(writable.values()) and not self._stopped
        shown = [
            {"name": s.name, "kind": "view", "position": s.position, "lag": s.lag} for s in statuses
        ]
        shown += [_following(kind, follower.status) for kind, follower in self._followers]
        return {
            "status": "ready" if ready else "not ready",
            "version": self._version,
            "head": log.head,
            "readers": shown,
            "writable": writable,
            "problem": problem,
            "stopped": list(self._stopped),
            "running": dispatcher.active,
            "queued": dispatcher.queued,
            "capacity": dispatcher.capacity,
            "storage": log.versions(),
        }


def probe_routes(health: Health) -> APIRouter:
    """The probes of supervisors and load balancers, without a token."""
    router = APIRouter(tags=["system"])

    @router.get("/healthz", summary="Alive", response_class=PlainTextResponse)
    async def healthz() -> Response:
        return PlainTextResponse("ok")

    @router.get(
        "/readyz", summary="Ready, and how far each reader of the log is", responses=documented(503)
    )
    async def readyz(request: Request) -> Response:
        """200 if every view is live, the log can be read, log and views can be written, and no part
        of the server has failed; otherwise 503. A caller that is not on loopback gets only the
        status.
        """
        found = await health.look()
        status = 200 if found["status"] == "ready" else 503
        if request.client is None or request.client.host not in _LOOPBACK:
            found = {"status": found["status"]}
        return json_bytes(found, status)

    return router


def health_routes(health: Health) -> APIRouter:
    router = APIRouter(prefix="/health", tags=["health"], responses=SECURED)

    @router.get("", summary="Whether the server is ready, and how far each reader of the log is")
    async def get_health(principal: Authenticated) -> Response:
        """The same as `/readyz` on loopback, from anywhere. `status` is `ready` or `not ready`."""
        return json_bytes(await health.look())

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
