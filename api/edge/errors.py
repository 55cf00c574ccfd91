"""From errors of the domain to HTTP: the one place where a status is chosen for them.

Bodies are ``{"detail": ...}`` as the contracts say; a 422 and every 5xx carry the request's id as
``error_id``. What the client sent is never given back, and no 5xx carries an exception's text
unless it was written for people.
"""

import errno
import logging
from collections.abc import Iterable, Iterator
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Route

from api.dialects.gitoma.state_files import StatesUnavailable
from domain.errors import (
    BadInput,
    CrewlogError,
    IdempotencyMismatch,
    Invalid,
    InvalidCursor,
    LogUnavailable,
    NotFound,
    PreconditionFailed,
    VersionConflict,
    WrongState,
)
from projections.engine import ViewsUnavailable
from scheduler.executors.shim import PASSING

logger = logging.getLogger("crewlog.http")

STATUS: tuple[tuple[type[CrewlogError], int], ...] = (
    (NotFound, 404),
    (WrongState, 409),
    (VersionConflict, 409),
    (PreconditionFailed, 412),
    (IdempotencyMismatch, 422),
    (BadInput, 400),
    (Invalid, 422),
    (InvalidCursor, 400),
    (LogUnavailable, 503),
    (ViewsUnavailable, 503),
    (StatesUnavailable, 503),
)

_TAGS = frozenset({"crew-request", "job-request"})
"""Names of the bodies that one route takes; a client does not know them."""

_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")

_REFUSED = PASSING | {errno.EACCES, errno.EFBIG, errno.EIO, errno.EPERM, errno.ESTALE}
"""Of a disk that is full, read-only or gone, or a system without descriptors or memory."""

UNAVAILABLE = "The server cannot write to or read from its storage at the moment. Try again later."


def install(app: FastAPI) -> None:
    """Answer domain errors and validation errors of `app` in the house's shape."""
    app.add_exception_handler(CrewlogError, domain_error)
    app.add_exception_handler(OSError, _storage_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(405, _method_not_allowed)


async def domain_error(request: Request, error: Exception) -> JSONResponse:
    """The answer to an error of the domain, by STATUS."""
    status = next((status for kind, status in STATUS if isinstance(error, kind)), 500)
    body: dict[str, Any] = {"detail": str(error)}
    headers: dict[str, str] = {}
    if isinstance(error, BadInput):
        body["path"] = error.path
    if status == 503:
        logger.error("unavailable, error_id %s: %s", request.state.request_id, error)
        if isinstance(error, LogUnavailable):
            body["detail"] = UNAVAILABLE
        headers["Retry-After"] = "2"
    if status >= 500 or status == 422:
        body["error_id"] = request.state.request_id
    return JSONResponse(body, status, headers)


async def _storage_error(request: Request, error: Exception) -> JSONResponse:
    """What the disk or the system refuses, wherever that is met, is unavailable for now."""
    assert isinstance(error, OSError)
    if error.errno not in _REFUSED:
        raise error
    return await domain_error(request, LogUnavailable(f"The system refuses: {error}"))


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    detail = [
        {
            "loc": [part for part in problem["loc"] if part not in _TAGS],
            "msg": problem["msg"],
            "type": problem["type"],
        }
        for problem in error.errors()
    ]
    return JSONResponse({"detail": detail, "error_id": request.state.request_id}, 422)


async def _method_not_allowed(request: Request, error: Exception) -> Response:
    """Allow names every method of the path (RFC 9110 section 10.2.1), not only of one route: of the
    path that is written out most, where a parameter would fit too.
    """
    assert isinstance(error, HTTPException)
    routed = {m: path for m in _METHODS if (path := _path_of(request, m)) is not None}
    exact = min((path.count("{") for path in routed.values()), default=0)
    allowed = [method for method, path in routed.items() if path.count("{") == exact]
    error.headers = {"Allow": ", ".join(allowed)}
    return await http_exception_handler(request, error)


def _path_of(request: Request, method: str) -> str | None:
    """The path, with its parameters, of the route that answers this method here."""
    scope = {**request.scope, "method": method, "path_params": {}}
    matching = (
        route.path for route in _leaves(request.app.routes) if route.matches(scope)[0] is Match.FULL
    )
    return next(matching, None)


def _leaves(routes: Iterable[BaseRoute]) -> Iterator[Route]:
    """Every route, also those of included routers, which the framework keeps as they are."""
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is not None:
            yield from _leaves(included.routes)
        elif isinstance(route, Route):
            yield route


class Fault(BaseModel):
    """What is wrong with one field. The value itself is never given back."""

    loc: list[str | int]
    msg: str
    type: str


class Refusal(BaseModel):
    """The body of every 4xx and 5xx; `error_id` is the request's id, where there is one."""

    detail: str | list[Fault]
    path: str | None = None
    error_id: str | None = None


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route for these statuses, for the OpenAPI document."""
    said = {
        204: "Nothing new: the stream has ended and its end was seen.",
        400: "The cursor cannot be, or the request is foreign.",
        401: "No bearer token.",
        403: "A wrong token.",
        404: "No such thing.",
        409: "Its state does not allow this.",
        412: "It has another version.",
        413: "The body is too large.",
        422: "The request is not valid.",
        429: "Too many requests.",
        503: "Storage or views are unavailable, or the server has no token.",
    }
    bodies: dict[int, dict[str, Any]] = {
        204: {},
        400: {"model": Refusal, "content": {"text/plain": {"schema": {"type": "string"}}}},
    }
    return {
        status: {"description": said[status], **bodies.get(status, {"model": Refusal})}
        for status in statuses
    }


SECURED = documented(400, 401, 403, 422, 503)
"""What every route behind a token may answer beside its own."""
