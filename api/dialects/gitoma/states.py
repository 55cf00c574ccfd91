"""``DELETE /state/{owner}/{name}``: removes a state file."""

from typing import Literal

from fastapi import APIRouter, HTTPException
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from api.dialects.gitoma.job_requests import Slug
from api.dialects.gitoma.state_files import StateDirectory
from api.edge.errors import documented
from api.edge.security import Admin


class StateDeleted(BaseModel):
    owner: str
    name: str
    result: Literal["deleted", "not_found"]


def state_routes(states: StateDirectory) -> APIRouter:
    router = APIRouter(tags=["state"])

    @router.delete("/state/{owner}/{name}", responses=documented(404))
    async def delete_state(owner: Slug, name: Slug, principal: Admin) -> StateDeleted:
        try:
            deleted = await run_in_threadpool(states.delete, owner, name)
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        return StateDeleted(owner=owner, name=name, result="deleted" if deleted else "not_found")

    return router
