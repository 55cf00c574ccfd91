"""``/dispatcher``: whether the dispatcher works, and how much work there is."""

import os
from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from api.edge.answers import json_bytes
from api.edge.security import Authenticated
from api.native.problems import SECURED
from domain.clock import Clock, format_time
from scheduler.dispatch.dispatcher import Dispatcher

_ALIVE_MS = 5_000
"""A dispatcher without a sign of life for this long does not run (`contracts/board.md` §6)."""


class DispatcherObject(BaseModel):
    model_config = ConfigDict(extra="forbid")

    running: bool
    tickedAt: str | None = Field(description="Its last sign of life. There is one each second.")
    ageMs: int | None = Field(description="The time since then.")
    pid: int | None
    capacity: int
    ownerCapacity: int | None
    active: int
    waitingForApproval: int
    queued: int


def dispatcher_routes(dispatcher: Dispatcher, clock: Clock) -> APIRouter:
    router = APIRouter(prefix="/dispatcher", tags=["dispatcher"], responses=SECURED)

    @router.get(
        "", summary="Whether the dispatcher works, and how much", response_model=DispatcherObject
    )
    async def get_dispatcher(principal: Authenticated) -> Response:
        return json_bytes(dispatcher_json(dispatcher, clock))

    return router


def dispatcher_json(dispatcher: Dispatcher, clock: Clock) -> dict[str, Any]:
    ticked = dispatcher.ticked_at
    age = None if ticked is None else max(0, round((clock() - ticked).total_seconds() * 1000))
    return {
        "running": age is not None and age < _ALIVE_MS,
        "tickedAt": None if ticked is None else format_time(ticked),
        "ageMs": age,
        "pid": None if ticked is None else os.getpid(),
        "capacity": dispatcher.capacity,
        "ownerCapacity": dispatcher.owner_capacity or None,
        "active": dispatcher.active,
        "waitingForApproval": dispatcher.waiting,
        "queued": dispatcher.queued,
    }
