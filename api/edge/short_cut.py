"""A short cut to endpoints that are called so often that the framework's way to them would cost
more than their work.
"""

from collections.abc import Awaitable, Callable, Mapping
from inspect import isawaitable

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.types import Receive, Scope, Send

from api.edge.exact_numbers import may_be_inexact
from api.edge.request_body import given_again, whole_body
from api.edge.security import Principal, Security, allow

Endpoint = Callable[[BaseModel, Request, Principal, None], Awaitable[Response]]
"""Takes the body, the request, the principal, and None for the missing Idempotency-Key."""

Takers = Mapping[str, tuple[type[BaseModel], Endpoint]]
"""The body and the endpoint of each path."""


class ShortCut:
    """Middleware that passes a valid POST to one of these paths straight to its endpoint.

    It takes JSON requests without an Idempotency-Key that have a valid token and body. Every other
    request goes to the framework, which alone knows how to refuse it. The endpoint is declared,
    documented and reachable there like any other. Its errors are those that `app` presents.
    """

    def __init__(self, app: FastAPI, takers: Takers, security: Security) -> None:
        self.app = app
        self.takers = takers
        self.security = security

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        taker = self.takers.get(scope["path"]) if scope["type"] == "http" else None
        if taker is None or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        model, endpoint = taker
        headers = dict(scope["headers"])
        if (
            headers.get(b"content-type") != b"application/json"
            or b"idempotency-key" in headers
            or b"authorization" not in headers
            or scope["query_string"]
        ):
            await self.app(scope, receive, send)
            return
        body = await whole_body(receive)
        if body is None:
            return
        if may_be_inexact(body):
            await self.app(scope, given_again(body, receive), send)
            return
        try:
            principal = self.security.resolve(headers[b"authorization"].decode("latin-1"))
            allow(principal, "POST")
            valid = model.model_validate_json(body)
        except (HTTPException, ValidationError):
            await self.app(scope, given_again(body, receive), send)
            return
        request = Request(scope, receive)
        try:
            response = await self._response(endpoint, valid, request, principal)
        except Exception as error:
            # As the framework does it: the client gets its answer, and the error goes on, to be
            # logged.
            response = await self._presented(Exception, request, error)
            await response(scope, receive, send)
            raise
        await response(scope, receive, send)

    async def _response(
        self, endpoint: Endpoint, body: BaseModel, request: Request, principal: Principal
    ) -> Response:
        """The endpoint's, or that to its error. Raises an error that nobody expected."""
        try:
            return await endpoint(body, request, principal, None)
        except Exception as error:
            kind = next(k for k in type(error).__mro__ if k in self.app.exception_handlers)
            if kind is Exception:
                raise
            return await self._presented(kind, request, error)

    async def _presented(self, kind: type, request: Request, error: Exception) -> Response:
        answer = self.app.exception_handlers[kind](request, error)
        return await answer if isawaitable(answer) else answer


def endpoint_named(name: str, router: APIRouter) -> Endpoint:
    """The endpoint of a route, for its short cut."""
    routes = (route for route in router.routes if isinstance(route, APIRoute))
    endpoint: Endpoint = next(route.endpoint for route in routes if route.name == name)
    return endpoint
