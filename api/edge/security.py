"""Resolves who makes a request. It happens here, once for each request, and the principal's name is
on every event that the request causes.
"""

import hmac
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Annotated, Protocol
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException, Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from domain.log import Context

NO_TOKEN = "The server has no token: nobody can be let in."  # noqa: S105 - a sentence
MALFORMED = "Missing or malformed Authorization header."
WRONG = "Invalid authentication token."
NOT_READY = "The accounts are being read. Try again in a moment."
NO_WRITE = "This token may only read: it was issued without the scope 'write'."
NOT_ADMIN = "Only an administrator may do this."
FOREIGN_PAGE = (
    "Refused: this page was opened under an address that the server does not know as its own. "
    "Open it under the server's own address. If a proxy is between, it must pass the address on "
    "unchanged, or the setting cors_origins must name the address of the page. "
    "A program uses an API token instead of a session."
)
WORKERS_ONLY = "The token of a running attempt is for the worker API alone."
NOT_A_WORKER = "Only the token of a running attempt may do this."

READ, WRITE, ADMIN = "read", "write", "admin"
SCOPES = (READ, WRITE, ADMIN)
"""Scopes of a token: to read, to change, and to act as the administrator who owns it."""

USER_TOKEN_PREFIX = "crewlog_u_"  # noqa: S105 - not a token, only the beginning of one
WORKER_TOKEN_PREFIX = "crewlog_w_"  # noqa: S105
COOKIE = "crewlog_session"
"""The session cookie (a pin: `contracts/board.md` §2 infers another name)."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that change nothing (RFC 9110 section 9.2.1)."""

_ALL = frozenset(SCOPES)


@dataclass(frozen=True, slots=True)
class Principal:
    """A person or program that may act. `actor` is their name in the log, `owner` the owner
    of their things.
    """

    actor: str
    """``operator``, ``user:<id>`` for a session, ``token:<token id>`` for an API token."""
    owner: str
    """``operator`` or ``user:<id>``: stored as the owner of the things they make."""
    admin: bool = False
    """May see and do everything. An API token only if it was issued with the scope admin."""
    scopes: frozenset[str] = _ALL
    session: str | None = None
    """The id of the session, if the request came with a cookie."""

    @property
    def user_id(self) -> str | None:
        """The account of the principal; None for the operator."""
        return self.owner.removeprefix("user:") if self.owner.startswith("user:") else None

    def sees(self, owner: str) -> bool:
        """Whether a thing of that owner may be shown. If not, the answer is a 404
        (`contracts/board.md` §1).
        """
        return self.admin or owner == self.owner

    def context(self, request: Request) -> Context:
        """The context of the events that this principal's request causes."""
        request_id: str = request.scope["state"]["request_id"]
        return Context(actor=self.actor, request_id=request_id[:200])


NameOf = Callable[[str], str]
"""The name to show for an actor or an owner."""

EmailOf = Callable[[Principal], str | None]
"""The e-mail address of a principal, by which templates name people."""

OPERATOR = Principal(actor="operator", owner="operator", admin=True)
"""Has the server's token, or has signed in with it. May do everything."""


class Identities(Protocol):
    """Finds the principals of API tokens and session cookies. Answers from memory."""

    @property
    def loaded(self) -> bool:
        """False until the accounts have been read at the start."""

    @property
    def empty(self) -> bool:
        """Whether there is no account at all."""

    @property
    def changes(self) -> int:
        """A different number after each change of any account."""

    def of_token(self, token: str) -> Principal | None:
        """The principal of an API token that is valid now."""

    def of_cookie(self, cookie: str) -> Principal | None:
        """The principal of a session cookie that is valid now."""


class NoToken(HTTPException):
    """The server has no token and there is no account, so nobody can be let in."""

    def __init__(self) -> None:
        super().__init__(503, NO_TOKEN)


class Security:
    """Resolves the server's own bearer token (RFC 6750), which `token` returns at each call, API
    tokens and session cookies.

    `origins` are pages, beside this server's own, that may make changes with a cookie.
    """

    def __init__(
        self,
        token: Callable[[], str],
        identities: Identities | None = None,
        origins: Collection[str] = (),
    ) -> None:
        self.token = token
        self.identities = identities
        self.worker: Callable[[str], Principal | None] | None = None
        """Finds the principal of a running attempt's token."""
        self._origins = {origin.lower().rstrip("/") for origin in origins}

    def resolve(self, authorization: str | None) -> Principal:
        """The principal of an Authorization header.

        Raises HTTPException 503 if nobody could have a token, 401 if there is no bearer token, 403
        if the token is wrong; checked in this order (`contracts/gitoma.md` §1).
        """
        given = self._bearer(authorization)
        # Headers are decoded as Latin-1. The server's token may be any text, so it is checked
        # before the prefixes of the other kinds.
        if self.is_token(given.encode("latin-1", "replace")):
            return OPERATOR
        if given.startswith(WORKER_TOKEN_PREFIX):
            raise HTTPException(403, WORKERS_ONLY if self._worker(given) else WRONG)
        found = self._loaded().of_token(given) if given.startswith(USER_TOKEN_PREFIX) else None
        if found is None:
            raise HTTPException(403, WRONG)
        return found

    def is_token(self, given: bytes) -> bool:
        """Whether it is the server's own token. Compares bytes: hmac refuses text outside ASCII."""
        expected = self.token()
        return bool(expected) and hmac.compare_digest(given, expected.encode())

    def resolve_worker(self, authorization: str | None) -> Principal:
        """The principal of a running attempt's token. Raises 401 without a bearer token, 403 for
        any other token.
        """
        found = self._worker(self._bearer(authorization))
        if found is None:
            raise HTTPException(403, NOT_A_WORKER)
        return found

    def authenticate(self, connection: HTTPConnection, method: str) -> Principal:
        """The principal of this request, if they may make it: from Authorization, otherwise from
        the session cookie.

        In addition to what `resolve` raises: 401 for an invalid cookie; 403 for a change with a
        read-only token, or with a cookie from a page of another site.
        """
        authorization = connection.headers.get("authorization")
        cookie = connection.cookies.get(COOKIE) if authorization is None else None
        if cookie is None:
            principal = self.resolve(authorization)
        else:
            principal = self._of_cookie(cookie)
            if method not in SAFE_METHODS and not self.own_page(connection):
                raise HTTPException(403, FOREIGN_PAGE)
        allow(principal, method)
        return principal

    def authenticate_socket(self, connection: HTTPConnection) -> Principal:
        """The principal that opens this socket, as `authenticate`. A browser opens sockets for any
        page, so with a session the same rule as for a change applies: the page must be one of this
        server.
        """
        principal = self.authenticate(connection, "GET")
        if principal.session is not None and not self.own_page(connection):
            raise HTTPException(403, FOREIGN_PAGE)
        return principal

    def standing(self, connection: HTTPConnection, principal: Principal) -> "Standing":
        """Tells later whether this principal would still be let in."""
        return Standing(self, connection, principal)

    def principal_or_none(self, connection: HTTPConnection) -> Principal | None:
        """The principal of a request to an open route; None if it has no valid credentials."""
        authorization = connection.headers.get("authorization")
        cookie = connection.cookies.get(COOKIE)
        try:
            if authorization is not None:
                return self.resolve(authorization)
            return self._of_cookie(cookie) if cookie is not None else None
        except HTTPException as refused:
            if refused.status_code == 503 and refused.detail == NOT_READY:
                raise
            return None

    def own_page(self, connection: HTTPConnection) -> bool:
        """Whether the browser says that a page of this origin, or of a trusted one, made the
        request.

        Sec-Fetch-Site is the browser's own statement (Fetch Metadata); Origin is compared with
        Host. A client that sends neither header is not a current browser: its cookie is ignored.
        """
        headers = connection.headers
        origin = headers.get("origin", "").lower()
        if origin and origin in self._origins:
            return True
        site = headers.get("sec-fetch-site")
        if site is not None and site != "same-origin":
            return False
        if origin:
            return urlsplit(origin).netloc == headers.get("host", "").lower()
        return site is not None

    def _bearer(self, authorization: str | None) -> str:
        """The token in a header. Its two refusals come before any token is looked up."""
        people = self.identities
        if not self.token() and (people is None or people.empty):
            raise NoToken
        scheme, _, given = (authorization or "").partition(" ")
        given = given.strip()
        if scheme.lower() != "bearer" or not given:
            raise HTTPException(401, MALFORMED, {"WWW-Authenticate": "Bearer"})
        return given

    def _of_cookie(self, cookie: str) -> Principal:
        found = self._loaded().of_cookie(cookie)
        if found is None:
            raise HTTPException(401, MALFORMED, {"WWW-Authenticate": "Bearer"})
        return found

    def _loaded(self) -> Identities:
        if self.identities is None:
            raise HTTPException(403, WRONG)
        if not self.identities.loaded:
            raise HTTPException(503, NOT_READY, {"Retry-After": "1"})
        return self.identities

    def _worker(self, token: str) -> Principal | None:
        return self.worker(token) if self.worker is not None else None


class Standing:
    """Whether the principal that opened a stream would still be let in. Without this check a stream
    would outlive its token, session or account.
    """

    def __init__(
        self, security: Security, connection: HTTPConnection, principal: Principal
    ) -> None:
        self._security = security
        self._connection = connection
        self._principal = principal
        self._changes = self._now()

    def holds(self) -> bool:
        """Looks up only after a change of accounts: cheap enough before each write."""
        if self._now() == self._changes:
            return True
        self._changes = self._now()
        return self.holds_by_now()

    def holds_by_now(self) -> bool:
        """Looks up in any case: tokens and cookies also expire by time."""
        try:
            return self._security.authenticate(self._connection, "GET") == self._principal
        except HTTPException:
            return False

    def _now(self) -> int:
        people = self._security.identities
        return people.changes if people is not None else 0


def allow(principal: Principal, method: str) -> None:
    """Raises HTTPException 403 unless the principal's scopes allow a request with this method."""
    if method not in SAFE_METHODS and WRITE not in principal.scopes:
        raise HTTPException(403, NO_WRITE)


class _Bearer(SecurityBase):
    """The dependency of a route that needs a principal, in the form that OpenAPI can describe."""

    scheme_name = "bearer"
    model = HTTPBearer(description="The server's token, or an API token of a person.")

    async def __call__(self, request: Request) -> Principal:
        security: Security = request.app.state.security
        return security.authenticate(request, request.method)


class _Admin(_Bearer):
    async def __call__(self, request: Request) -> Principal:
        principal = await super().__call__(request)
        if not principal.admin:
            raise HTTPException(403, NOT_ADMIN)
        return principal


class _Worker(_Bearer):
    async def __call__(self, request: Request) -> Principal:
        security: Security = request.app.state.security
        return security.resolve_worker(request.headers.get("authorization"))


Authenticated = Annotated[Principal, Depends(_Bearer())]
"""The parameter of a route that needs a principal; for changes, one with the scope write."""

Admin = Annotated[Principal, Depends(_Admin())]
"""The parameter of a route that is for administrators."""

Worker = Annotated[Principal, Depends(_Worker())]
"""The parameter of a route that is for a running attempt."""
