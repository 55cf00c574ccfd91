"""``/system``: what this server was set up to use."""

from fastapi import APIRouter, Response

from api.edge.answers import json_bytes
from api.edge.security import Authenticated
from api.native.problems import SECURED


def system_routes(*, lm_studio: bool) -> APIRouter:
    """`lm_studio` is whether the settings name one: by default it is only looked for."""
    router = APIRouter(prefix="/system", tags=["system"], responses=SECURED)

    @router.get("", summary="What the settings name, for the page")
    async def get_system(principal: Authenticated) -> Response:
        """`lmStudio` is whether the settings name one. Whether it answers says the health of
        gitoma's API.
        """
        return json_bytes({"lmStudio": lm_studio})

    return router
