"""``/system``: the programs that the settings name, whether they answer, and what they say of the
repositories that they work on.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.edge.answers import json_bytes
from api.edge.security import Admin, Authenticated
from api.edge.sse import RETRY, STREAMED, event_stream
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


Arrays = Callable[[], AsyncGenerator[bytes, None]]
"""JSON arrays: the present one, and another one after each change."""


def system_routes(
    *,
    dialects: Sequence[str],
    github_token_set: bool,
    lm_studio: Probe | None,
    repositories: Arrays,
) -> APIRouter:
    """`lm_studio` asks the LM Studio of the settings. `repositories` has an object for each
    repository that gitoma works on, with the fields that gitoma wrote.
    """
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

    @router.get(
        "/repositories/stream",
        response_class=Response,
        responses=STREAMED,
        summary="The repositories that gitoma works on",
    )
    async def stream_repositories(request: Request, principal: Admin) -> Response:
        """Frames `repositories` without an id: an array with the state of each repository, now and
        after each change. For administrators, because the states belong to nobody.
        """
        return event_stream(request, principal, _frames(repositories()))

    return router


async def _frames(arrays: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    yield RETRY
    async with aclosing(arrays):
        async for array in arrays:
            yield b"event: repositories\ndata: %s\n\n" % array


def _shown(health: LMStudioHealth) -> dict[str, object]:
    return {
        "level": health.level,
        "message": health.message,
        "detail": health.detail,
        "availableModels": health.available_models,
        "targetModelLoaded": health.target_model_loaded,
    }
