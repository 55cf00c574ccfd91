"""The native API: an application of its own, at `PREFIX`."""

from collections.abc import Iterable

from fastapi import APIRouter
from starlette.types import ASGIApp

from api.edge.applications import application
from api.edge.security import Security
from api.edge.short_cut import ShortCut, endpoint_named
from api.native import PREFIX
from api.native.job_requests import NewJob
from api.native.problems import Problem, problem


def native_app(
    jobs: APIRouter, others: Iterable[APIRouter], security: Security, version: str
) -> ASGIApp:
    """The routes as an application, behind the short cut for submitting jobs. Its document is
    `openapi.json` below `PREFIX`.
    """
    app = application(
        "crewlog",
        "A control plane for jobs, over one log of immutable events.",
        version,
        security,
        (jobs, *others),
        problem,
        Problem,
    )
    return ShortCut(app, f"{PREFIX}/jobs", endpoint_named("submit", jobs), NewJob, security)
