"""``/api/dispatcher/status``: whether the dispatcher works, and how much work there is
(`contracts/board.md` §6).
"""

from fastapi import APIRouter, Response

from api.edge.answers import json_bytes
from api.edge.errors import SECURED
from api.edge.security import Authenticated
from api.native.dispatcher import dispatcher_json
from domain.clock import Clock
from scheduler.dispatch.dispatcher import Dispatcher


def dispatcher_routes(dispatcher: Dispatcher, clock: Clock) -> APIRouter:
    router = APIRouter(prefix="/api/dispatcher", tags=["board"], responses=SECURED)

    @router.get("/status", summary="Whether the dispatcher works, and how much")
    async def status(principal: Authenticated) -> Response:
        """`ageMs` is the time since its last heartbeat. Heartbeats are not events: there is
        one each second.
        """
        shown = dispatcher_json(dispatcher, clock)
        return json_bytes(
            {
                "running": shown["running"],
                "lastTickAt": shown["tickedAt"],
                "ageMs": shown["ageMs"],
                "pid": shown["pid"],
                "maxInProgress": shown["capacity"],
                "inProgress": shown["active"],
            }
        )

    return router
