"""gitoma's API as an application of its own (`contracts/gitoma.md`)."""

import asyncio
from collections.abc import Awaitable, Callable, Collection

from fastapi import APIRouter, FastAPI

from api.dialects.gitoma.dispatches import Dispatches, dispatch_routes
from api.dialects.gitoma.errors import say_that_there_is_no_token
from api.dialects.gitoma.health import health_routes
from api.dialects.gitoma.jobs import job_routes
from api.dialects.gitoma.state_files import StateDirectory, StateFeed
from api.dialects.gitoma.state_socket import TokenInSubprotocol, state_socket_routes
from api.dialects.gitoma.states import state_routes
from api.dialects.gitoma.stream import stream_routes
from api.edge.applications import application
from api.edge.errors import SECURED
from api.edge.security import Security
from api.native.lmstudio import LMStudioHealth
from domain.job.commands import Jobs
from domain.log import EventLog
from projections.engine import Views

DOCUMENT = "/openapi/gitoma.json"
"""The path of the OpenAPI document beside those of others. At an address of its own it is
``/openapi.json``.
"""


def gitoma_app(
    log: EventLog,
    jobs: Jobs,
    views: Views,
    states: StateDirectory,
    feed: StateFeed,
    dispatches: Dispatches,
    security: Security,
    *,
    health: Callable[[], Awaitable[LMStudioHealth]],
    github_token_set: bool,
    socket_origins: Collection[str],
    stopping: asyncio.Event,
    version: str,
) -> FastAPI:
    api = APIRouter(prefix="/api/v1", responses=SECURED)
    for router in (
        dispatch_routes(dispatches),
        job_routes(log, jobs, views),
        stream_routes(log, jobs, views),
        health_routes(health, github_token_set=github_token_set),
        state_routes(states),
    ):
        api.include_router(router)
    socket = state_socket_routes(feed, socket_origins, stopping)
    app = application(
        "gitoma",
        "The API of gitoma, over crewlog.",
        version,
        security,
        (api, socket),
        also=DOCUMENT,
    )
    say_that_there_is_no_token(app)
    app.add_middleware(TokenInSubprotocol)
    return app
