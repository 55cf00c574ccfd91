"""A short cut to one endpoint. It is called so often that the framework's way to it would cost more
than its work.
"""

import contextlib
from collections.abc import Awaitable, Callable, Sequence

from fastapi import HTTPException, Request, Response
from pydantic import BaseModel, ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from api.edge.errors import detailed, domain_failure
from api.edge.request_body import given_again, whole_body
from api.edge.security import Principal, Security, allow
from domain.errors import CrewlogError

Endpoint = Callable[[BaseModel, Request, Principal, None], Awaitable[Response]]


class ShortCut:
    """Middleware that passes a valid POST to `path` straight to its endpoint.

    It takes JSON requests without an Idempotency-Key that have a valid token and body. Every other
    request goes to the framework, which alone knows how to refuse it. The endpoint is declared,
    documented and reachable there like any other.
    """

    def __init__(
        self,
        app: ASGIApp,
        path: str,
        endpoint: Endpoint,
        models: Sequence[type[BaseModel]],
        security: Security,
    ) -> None:
        self.app = app
        self.path = path
        self.endpoint = endpoint
        self.models = models
        self.security = security

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != self.path or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
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
        try:
            principal = self.security.resolve(headers[b"authorization"].decode("latin-1"))
            allow(principal, "POST")
            valid = self._validated(body)
        except (HTTPException, ValidationError):
            await self.app(scope, given_again(body, receive), send)
            return
        request = Request(scope, receive)
        try:
            response = await self.endpoint(valid, request, principal, None)
        except CrewlogError as error:
            response = detailed(domain_failure(request, error))
        await response(scope, receive, send)

    def _validated(self, body: bytes) -> BaseModel:
        """The body, as the first of the models that it fits."""
        *others, last = self.models
        for model in others:
            with contextlib.suppress(ValidationError):
                return model.model_validate_json(body)
        return last.model_validate_json(body)
