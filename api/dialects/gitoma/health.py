"""``/health``: whether the server, LM Studio and GitHub's token are available."""

from collections.abc import Awaitable, Callable
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from api.edge.security import Authenticated
from api.native.lmstudio import LMStudioHealth


class HealthResponse(BaseModel):
    status: Literal["ok"]
    lm_studio: LMStudioHealth
    github_token_set: bool


def health_routes(
    probe: Callable[[], Awaitable[LMStudioHealth]], *, github_token_set: bool
) -> APIRouter:
    router = APIRouter(tags=["system"])

    @router.get("/health")
    async def health(principal: Authenticated) -> HealthResponse:
        return HealthResponse(
            status="ok", lm_studio=await probe(), github_token_set=github_token_set
        )

    return router
