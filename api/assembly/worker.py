"""The worker API over the parts."""

from fastapi import APIRouter
from starlette.types import ASGIApp

from api.edge.applications import application
from api.native.worker import worker_routes
from api.parts import VERSION, Parts


def worker_of(parts: Parts, *, paged: bool = True) -> APIRouter:
    return worker_routes(
        parts.log,
        parts.jobs,
        parts.crews,
        parts.approvals,
        beat=parts.leases.beat,
        stopping=parts.stopping,
        clock=parts.clock,
        name_of=parts.name_of,
        paged=paged,
    )


def assemble(parts: Parts) -> ASGIApp:
    """The same by itself, for attempts that an earlier version began and that outlived it."""
    routers = [worker_of(parts, paged=False)]
    return application("worker", "For workers.", VERSION, parts.security, routers, document=None)
