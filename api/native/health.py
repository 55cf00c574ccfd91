"""``/healthz`` and ``/readyz``: is the process alive, and does it keep its promises."""

from collections.abc import Sequence
from typing import Any, Protocol

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from api.edge.answers import json_bytes
from api.edge.errors import documented
from domain.log import EventLog
from projections.engine import Views
from scheduler.dispatch.dispatcher import Dispatcher

_LOOPBACK = {"127.0.0.1", "::1"}


class Reader(Protocol):
    """Whoever follows the log from a place of its own."""

    @property
    def name(self) -> str: ...

    @property
    def position(self) -> int: ...


def health_routes(
    log: EventLog,
    views: Views,
    dispatcher: Dispatcher,
    policies: Sequence[Reader],
    clock: Reader,
    stopped: Sequence[str],
    version: str,
) -> APIRouter:
    router = APIRouter(tags=["system"])
    readers: tuple[tuple[str, Reader], ...] = (
        ("dispatcher", dispatcher),
        *(("policy", policy) for policy in policies),
        ("clock", clock),
    )

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
            shown += [
                {
                    "name": reader.name,
                    "kind": kind,
                    "position": reader.position,
                    "lag": max(0, log.head - reader.position),
                }
                for kind, reader in readers
            ]
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
