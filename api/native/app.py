"""The native API: one application of its own, at `PREFIX`."""

import re
from collections.abc import Iterable

from fastapi import APIRouter, FastAPI
from starlette.routing import Mount

from api.edge.applications import application
from api.edge.security import Security
from api.native.problems import Problem, problem

PREFIX = "/crewlog/v1"


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


def mounted(app: FastAPI) -> Mount:
    """The application at its address. The framework's own mounts pass over a path that has a line
    break in it, and another application would refuse it, in a shape that is not ours.
    """
    mount = Mount(PREFIX, app)
    mount.path_regex = re.compile(mount.path_regex.pattern, re.DOTALL)
    return mount
