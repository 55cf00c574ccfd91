"""``/api/dispatcher/status``: whether work is being started, and how much there is of it
(`contracts/board.md` §6).
"""

import os

from fastapi import APIRouter, Response

from api.edge.answers import json_bytes
from api.edge.errors import SECURED
from api.edge.security import Authenticated
from domain.clock import Clock, format_time
from scheduler.dispatch.dispatcher import Dispatcher

_ALIVE_MS = 5_000
"""A dispatcher that gave no sign of life for so long does not run (`contracts/board.md` §6)."""


def dispatcher_routes(dispatcher: Dispatcher, clock: Clock) -> APIRouter:
    router = APIRouter(prefix="/api/dispatcher", tags=["board"], responses=SECURED)

    @router.get("/status", summary="Whether the dispatcher works, and how much")
    async def status(principal: Authenticated) -> Response:
        """`ageMs` is since its last heartbeat, which is no event: it comes once a second."""
        ticked = dispatcher.ticked_at
        age = None if ticked is None else max(0, round((clock() - ticked).total_seconds() * 1000))
        return json_bytes(
            {
                "running": age is not None and age < _ALIVE_MS,
                "lastTickAt": None if ticked is None else format_time(ticked),
                "ageMs": age,
                "pid": None if ticked is None else os.getpid(),
                "maxInProgress": dispatcher.capacity,
                "maxInProgressPerOwner": dispatcher.owner_capacity or None,
                "inProgress": dispatcher.active,
                "waitingForApproval": dispatcher.waiting,
                "queued": dispatcher.queued,
            }
        )

    return router
