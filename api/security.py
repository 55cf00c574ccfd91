"""Who is asking. A principal is resolved here, once a request, and its name is on every event it
causes.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from domain.log import Context

NO_TOKEN = "GITOMA_API_TOKEN is not configured on the server."  # noqa: S105 - the contract's sentence
MALFORMED = "Missing or malformed Authorization header."
WRONG = "Invalid authentication token."


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who may act. `actor` is how the log names them."""

    actor: str

    def context(self, request: Request) -> Context:
        """The context of what this principal's request causes."""
        request_id: str = request.state.request_id
        return Context(actor=self.actor, request_id=request_id[:200])


OPERATOR = Principal(actor="operator")
"""Whoever holds the server's token."""


class Security:
    """Checks bearer tokens (RFC 6750) against the server's own, which `token`
    gives at each call.
    """

    def __init__(self, token: Callable[[], str]) -> None:
        self.token = token

    def resolve(self, authorization: str | None) -> Principal:
        """The principal of an Authorization header.

        HTTPException 503 when the server has no token, 401 when there is no bearer token, 403 when
        it is wrong: in this order (`contracts/gitoma.md` §1).
        """
        expected = self.token()
        if not expected:
            raise HTTPException(503, NO_TOKEN)
        scheme, _, given = (authorization or "").partition(" ")
        given = given.strip()
        if scheme.lower() != "bearer" or not given:
            raise HTTPException(401, MALFORMED, {"WWW-Authenticate": "Bearer"})
        # Compared as bytes: hmac refuses text outside ASCII. Headers arrive decoded as Latin-1.
        if not hmac.compare_digest(given.encode("latin-1", "replace"), expected.encode()):
            raise HTTPException(403, WRONG)
        return OPERATOR


class _Bearer(SecurityBase):
    """The dependency of a route behind the token, in a form that the OpenAPI document can name."""

    scheme_name = "bearer"
    model = HTTPBearer(description="The server's token.")

    async def __call__(self, request: Request) -> Principal:
        security: Security = request.app.state.security
        return security.resolve(request.headers.get("authorization"))


Authenticated = Annotated[Principal, Depends(_Bearer())]
"""The parameter of a route that needs somebody."""
