"""Maps errors of the domain to HTTP. No other place chooses a status for them.

An error becomes a `Failure` first; each API makes its own body of it. A 422 and every 5xx have the
request's id as ``error_id``. No answer repeats what the client sent, and no 5xx has the text of an
exception that was not written for people.
"""

import errno
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Route

from domain.errors import (
    BadInput,
    CrewlogError,
    IdempotencyMismatch,
    Invalid,
    InvalidCursor,
    LogUnavailable,
    NotFound,
    PreconditionFailed,
    Unavailable,
    VersionConflict,
    WrongState,
    carriable,
)
from scheduler.executors.passing import PASSING

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
    (Unavailable, 503),
)

_SCHEMA = "#/components/schemas/{model}"

_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")

_REFUSED = PASSING | {errno.EACCES, errno.EFBIG, errno.EIO, errno.EPERM, errno.ESTALE}
"""Errors of a full, read-only or lost disk, or of a system without descriptors or memory."""

UNAVAILABLE = (
    "The server cannot write to or read from its storage at the moment: "
    "GET /readyz and the server's log say why. Try again later."
)


@dataclass(frozen=True, slots=True)
class Failure:
    """An error, before an API makes a body of it."""

    status: int
    detail: str
    """A sentence for people."""
    faults: tuple["Fault", ...] = ()
    """The fields that are wrong and why, if the request is not valid."""
    path: str | None = None
    """The one field that is wrong, if a command found it."""
    error_id: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Every API makes its answer of this: what cannot be encoded must not get beyond here.
        object.__setattr__(self, "detail", carriable(self.detail))
        if self.path is not None:
            object.__setattr__(self, "path", carriable(self.path))


ALLOWED = "crewlog.allowed"
"""The key in the scope for the methods of a path that several applications answer."""

Present = Callable[[Failure], Response]
"""How an API presents an error."""


def detailed(failure: Failure) -> Response:
    """The body ``{"detail": ...}`` of gitoma, CodePlane and the board."""
    body: dict[str, Any] = {"detail": failure.detail}
    if failure.faults:
        body["detail"] = [fault.model_dump() for fault in failure.faults]
    if failure.path is not None:
        body["path"] = failure.path
    if failure.error_id is not None:
        body["error_id"] = failure.error_id
    return JSONResponse(body, failure.status, dict(failure.headers))


def install(app: FastAPI, present: Present, body: type[BaseModel]) -> None:
    """Let `app` present errors with `present`, and describe them as `body` in its document."""
    _describe(app, body)

    def answer(
        handler: Callable[[Request, Any], Failure],
    ) -> Callable[[Request, Exception], Awaitable[Response]]:
        async def answered(request: Request, error: Exception) -> Response:
            return present(handler(request, error))

        return answered

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        failure = _refused(request, error)
        # RFC 9110 section 15: these have no body.
        if failure.status in (204, 304):
            return Response(status_code=failure.status, headers=dict(failure.headers))
        return present(failure)

    app.add_exception_handler(CrewlogError, answer(domain_failure))
    app.add_exception_handler(OSError, answer(_storage_failure))
    app.add_exception_handler(RequestValidationError, answer(_invalid))
    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(Exception, answer(_unforeseen))


def _describe(app: FastAPI, body: type[BaseModel]) -> None:
    """Add the schema that the routes refer to by name. As the `model` of each answer of each route
    it would be built 700 times, which took a quarter of a start.
    """
    generated = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            parts = generated().setdefault("components", {}).setdefault("schemas", {})
            _, own = models_json_schema([(body, "serialization")], ref_template=_SCHEMA)
            parts.update(own.get("$defs", {}))
        return generated()

    app.openapi = document  # type: ignore[method-assign]


def status_of(error: CrewlogError) -> int:
    """The status of an error of the domain."""
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)


def domain_failure(request: Request, error: CrewlogError) -> Failure:
    """What the client learns about an error of the domain, by STATUS."""
    status = status_of(error)
    detail = str(error)
    headers: dict[str, str] = {}
    if status == 503:
        logger.error("unavailable, error_id %s: %s", request.state.request_id, error)
        if isinstance(error, LogUnavailable):
            detail = UNAVAILABLE
        headers["Retry-After"] = "2"
    return Failure(
        status,
        detail,
        path=error.path if isinstance(error, BadInput) else None,
        error_id=request.state.request_id if status >= 500 or status == 422 else None,
        headers=headers,
    )


def _storage_failure(request: Request, error: OSError) -> Failure:
    """If the disk or the system refuses something, the answer is 503, wherever it happens."""
    if error.errno not in _REFUSED:
        raise error
    return domain_failure(request, LogUnavailable(f"The system refuses: {error}"))


def _invalid(request: Request, error: RequestValidationError) -> Failure:
    faults = tuple(
        Fault(
            loc=[carriable(s) if isinstance(s, str) else s for s in problem["loc"]],
            msg=carriable(problem["msg"]),
            type=problem["type"],
        )
        for problem in error.errors()
    )
    return Failure(422, "The request is not valid.", faults, error_id=request.state.request_id)


def _unforeseen(request: Request, _: Exception) -> Failure:
    """An id to find in the server's log, and nothing of the exception (`contracts/gitoma.md`
    §2).
    """
    return Failure(500, "Internal server error.", error_id=request.state.request_id)


def _refused(request: Request, error: HTTPException) -> Failure:
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_allowed(request))
    return Failure(error.status_code, error.detail, headers=headers)


def _allowed(request: Request) -> Sequence[str]:
    """Every method of the path (RFC 9110 section 10.2.1), not only of one route. If several paths
    match, the most specific one counts. The application that passed the request on may know of
    methods that others answer.
    """
    known: Sequence[str] | None = request.scope.get(ALLOWED)
    if known is not None:
        return known
    routed = {m: path for m in _METHODS if (path := _path_of(request, m)) is not None}
    exact = min((path.count("{") for path in routed.values()), default=0)
    return [method for method, path in routed.items() if path.count("{") == exact]


def _path_of(request: Request, method: str) -> str | None:
    """The path, with its parameters, of the route that answers this method here."""
    scope = {**request.scope, "method": method, "path_params": {}}
    matching = (
        route.path for route in _leaves(request.app.routes) if route.matches(scope)[0] is Match.FULL
    )
    return next(matching, None)


def _leaves(routes: Iterable[BaseRoute]) -> Iterator[Route]:
    """Every route, including those of included routers, which the framework keeps nested."""
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is not None:
            yield from _leaves(included.routes)
        elif isinstance(route, Route):
            yield route


class Fault(BaseModel):
    """A fault of one field. It never contains the value."""

    loc: list[str | int]
    msg: str
    type: str


class Refusal(BaseModel):
    """The body of every 4xx and 5xx. `error_id` is the request's id, if there is one."""

    detail: str | list[Fault]
    path: str | None = None
    error_id: str | None = None


SAID = {
    204: "Nothing new: the stream has ended and its end was seen.",
    400: "The cursor cannot be, or the request is foreign.",
    401: "No bearer token.",
    403: "A wrong token.",
    404: "No such thing.",
    406: "It is no text: it cannot be shown as a page.",
    409: "Its state does not allow this.",
    412: "It has another version.",
    413: "The body is too large.",
    422: "The request is not valid.",
    429: "Too many requests.",
    503: "Storage or views are unavailable, or the server has no token.",
}
"""What each status means here, for the OpenAPI documents."""


def described(body: type[BaseModel], media_type: str) -> dict[str, Any]:
    """The body of a route's answer, by the name of its schema."""
    return {media_type: {"schema": {"$ref": _SCHEMA.format(model=body.__name__)}}}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route for these statuses, for the OpenAPI document."""
    refusal = described(Refusal, "application/json")
    bodies: dict[int, dict[str, Any]] = {
        204: {},
        400: {"content": {**refusal, "text/plain": {"schema": {"type": "string"}}}},
    }
    return {
        status: {"description": SAID[status], **bodies.get(status, {"content": refusal})}
        for status in statuses
    }


SECURED = documented(400, 401, 403, 422, 503)
"""The answers that every route behind a token may give beside its own."""
