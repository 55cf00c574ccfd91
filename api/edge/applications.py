"""The application of one API: its routes, its form of errors, its own document."""

import re
import threading
from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from api.edge import errors
from api.edge.answers import json_bytes
from api.edge.exact_numbers import ExactNumbers
from api.edge.security import Security


class _Application(FastAPI):
    """The framework's own, to which a line break at the end of a path is part of it: its patterns
    would pass over one, so that each address had two spellings.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope.get("path", "")
        if path.endswith("\n"):
            scope = {**scope, "path": path + "\n"}
        await super().__call__(scope, receive, send)


def application(
    title: str,
    summary: str,
    version: str,
    security: Security,
    routers: Iterable[APIRouter],
    present: errors.Present = errors.detailed,
    failed: type[BaseModel] = errors.Refusal,
    *,
    document: str | None = "/openapi.json",
    also: str | None = None,
) -> FastAPI:
    """The routes as an application. `present` makes its error answers, and `failed` describes their
    body. `document` is the path of its OpenAPI document, and `also` another path of it. It serves
    no documentation page: those of the framework load their scripts from another host.
    """
    app = _Application(
        title=title,
        version=version,
        summary=summary,
        telemetry={"tracing": False, "metrics": False},
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    app.state.security = security
    errors.install(app, present, failed)
    for router in routers:
        app.include_router(router)
    # Inside of the layer that makes answers of errors.
    app.router.middleware_stack = ExactNumbers(app.router.middleware_stack)
    for path in (document, also):
        if path is not None:
            _add_document(app, path)
    return app


def mounted(prefix: str, app: ASGIApp) -> Mount:
    """The application below an address. The framework's own mounts pass over a path that has a line
    break in it, and another application would refuse it, in a shape that is not this one's.
    """
    mount = Mount(prefix, app)
    mount.path_regex = re.compile(mount.path_regex.pattern, re.DOTALL)
    return mount


def _add_document(app: FastAPI, path: str) -> None:
    async def document(request: Request) -> Response:
        described = await run_in_threadpool(_described, app)
        root = request.scope.get("root_path")
        return json_bytes({**described, "servers": [{"url": root}]} if root else described)

    app.add_route(path, document, include_in_schema=False)


def _described(app: FastAPI) -> dict[str, Any]:
    """Make the document: it takes a second of a busy machine, so not on the event loop."""
    with _describing:
        return app.openapi()


_describing = threading.Lock()
