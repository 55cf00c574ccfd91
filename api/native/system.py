"""``/system``: the programs that the settings name, and whether they answer."""

from collections.abc import Sequence
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from api.edge.answers import json_bytes
from api.edge.security import Authenticated
from api.native.lmstudio import LMStudioHealth, Probe
from api.native.problems import SECURED


class LMStudioObject(BaseModel):
    """Whether the language model server would answer the jobs that need it."""

    model_config = ConfigDict(extra="forbid")

    level: Literal["ok", "warn", "error"]
    message: str
    detail: str
    availableModels: list[str]
    targetModelLoaded: bool


class SystemObject(BaseModel):
    """The settings' dialects and programs."""

    model_config = ConfigDict(extra="forbid")

    dialects: list[str] = Field(description="Those at the main address.")
    githubTokenSet: bool
    lmStudio: LMStudioObject | None = Field(description="Null if the settings name none.")


def system_routes(
    *, dialects: Sequence[str], github_token_set: bool, lm_studio: Probe | None
) -> APIRouter:
    """`lm_studio` asks the LM Studio of the settings."""
    router = APIRouter(prefix="/system", tags=["system"], responses=SECURED)

    @router.get("", summary="What the settings name", response_model=SystemObject)
    async def get_system(principal: Authenticated) -> Response:
        """LM Studio is asked now, which may take 3 s."""
        health = await lm_studio() if lm_studio is not None else None
        return json_bytes(
            {
                "dialects": dialects,
                "githubTokenSet": github_token_set,
                "lmStudio": _shown(health) if health is not None else None,
            }
        )

    return router


def _shown(health: LMStudioHealth) -> dict[str, object]:
    return {
        "level": health.level,
        "message": health.message,
        "detail": health.detail,
        "availableModels": health.available_models,
        "targetModelLoaded": health.target_model_loaded,
    }
