"""An application of one API: its routes, its way to show what has failed, its own document."""

from collections.abc import Iterable, Sequence

from fastapi import APIRouter, FastAPI, Response

from api.edge import errors
from api.edge.answers import json_bytes
from api.edge.security import Security


def application(
    title: str,
    summary: str,
    version: str,
    security: Security,
    routers: Iterable[APIRouter],
    present: errors.Present = errors.detailed,
    *,
    documents: Sequence[str] = ("/openapi.json",),
) -> FastAPI:
    """The routes as an application; `documents` are the addresses of its OpenAPI document. It has
    no reader of the document: the framework's own fetch their scripts from another host.
    """
    app = FastAPI(
        title=title,
        version=version,
        summary=summary,
        telemetry={"tracing": False, "metrics": False},
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    app.state.security = security
    errors.install(app, present)
    for router in routers:
        app.include_router(router)
    for path in documents:
        _add_document(app, path)
    return app


def _add_document(app: FastAPI, path: str) -> None:
    @app.get(path, include_in_schema=False)
    async def document() -> Response:
        return json_bytes(app.openapi())
