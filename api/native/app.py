"""The native API: an application of its own, at `PREFIX`."""

from collections.abc import Iterable

from fastapi import APIRouter
from starlette.types import ASGIApp

from api.edge.applications import application
from api.edge.security import Security
from api.edge.short_cut import ShortCut, Takers, endpoint_named
from api.native import PREFIX
from api.native.crew_requests import NewCrew
from api.native.job_requests import NewJob
from api.native.problems import Problem, problem


def native_app(
    jobs: APIRouter,
    crews: APIRouter,
    others: Iterable[APIRouter],
    security: Security,
    version: str,
) -> ASGIApp:
    """The routes as an application, behind the short cut for new jobs and crews. Its document is
    `openapi.json` below `PREFIX`.
    """
    app = application(
        "crewlog",
        "A control plane for jobs, over one log of immutable events.",
        version,
        security,
        (jobs, crews, *others),
        problem,
        Problem,
    )
    takers: Takers = {
        f"{PREFIX}/jobs": (NewJob, endpoint_named("submit", jobs)),
        f"{PREFIX}/crews": (NewCrew, endpoint_named("make", crews)),
    }
    return ShortCut(app, takers, security)
