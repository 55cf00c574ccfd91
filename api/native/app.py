"""The native API: an application of its own, at `PREFIX`."""

from collections.abc import Iterable

from fastapi import APIRouter, FastAPI

from api.edge.applications import application
from api.edge.security import Security
from api.native.problems import Problem, problem


def native_app(routers: Iterable[APIRouter], security: Security, version: str) -> FastAPI:
    """The routes as an application. Its document is `openapi.json` below `PREFIX`."""
    return application(
        "crewlog",
        "A control plane for jobs, over one log of immutable events.",
        version,
        security,
        routers,
        problem,
        Problem,
    )
