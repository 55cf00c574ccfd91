"""Session cookies, and the principals of cookies and API tokens.

A cookie holds the account's id and 256 random bits, signed. The log has the hash of those bits. So
a session ends by an event, survives a restart, and cannot be forged from the log.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from itsdangerous import BadData, TimestampSigner
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.edge.security import ADMIN, COOKIE, OPERATOR, SCOPES, Principal
from domain.account.aggregate import Account
from domain.account.commands import Directory
from domain.account.operator_sessions import OpenSessions
from domain.clock import Clock, format_time

LIFETIME_S = 30 * 86_400
"""How long an unused cookie is valid (`contracts/board.md` §2)."""
RENEW_AFTER_S = 3_600
"""The age at which a cookie in use is renewed."""

Secure = Literal["auto", "always", "never"]

_SALT = "crewlog.session"
_SCOPES = frozenset(SCOPES)
_PREFIX = f"{COOKIE}=".encode()


@dataclass(frozen=True, slots=True)
class Opened:
    """The content of a cookie with a valid signature. `age_s` in seconds."""

    user_id: str
    secret: str
    age_s: float


def session_id(secret: str) -> str:
    """The log's name for the session of a person's cookie."""
    return hashlib.sha256(secret.encode()).hexdigest()[:32]


def operator_session_id(secret: str, token: str) -> str:
    """The log's name for a session of the operator. It depends on the token, so all of them end if
    the token is replaced.
    """
    return hmac.new(token.encode(), secret.encode(), hashlib.sha256).hexdigest()[:32]


def token_hash(token: str) -> str:
    """The log's name for an API token. A plain hash of 256 random bits reveals nothing."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


class _Signer(TimestampSigner):
    """Signs with SHA-256, and with a clock that a test can set."""

    default_digest_method = staticmethod(hashlib.sha256)

    def __init__(self, key: bytes, now: Callable[[], float]) -> None:
        super().__init__(key, salt=_SALT)
        self._now = now

    def get_timestamp(self) -> int:
        return int(self._now())


class Cookies:
    """Makes and opens session cookies with a key. With `secure` auto, a cookie is for https only if
    the request came by https, or if people reach this server by https.
    """

    def __init__(
        self, key: bytes, clock: Clock, *, secure: Secure = "auto", https: bool = False
    ) -> None:
        self._now: Callable[[], float] = lambda: clock().timestamp()
        self._signer = _Signer(key, self._now)
        self._secure = secure
        self._https = https

    def seal(self, user_id: str, secret: str) -> str:
        """The value of a cookie that is valid from now on."""
        return self._signer.sign(f"{user_id}.{secret}").decode()

    def open(self, cookie: str) -> Opened | None:
        """The content of a cookie; None if it was not signed here, or is too old."""
        try:
            content, signed = self._signer.unsign(cookie, LIFETIME_S, return_timestamp=True)
        except (BadData, ValueError):
            return None
        user_id, _, secret = content.decode().partition(".")
        return Opened(user_id, secret, self._now() - signed.timestamp())

    def give(self, response: Response, connection: HTTPConnection, value: str) -> None:
        """Set the cookie on a response."""
        response.headers.append("set-cookie", self.header(connection, value, LIFETIME_S))

    def take_back(self, response: Response, connection: HTTPConnection) -> None:
        """Let the browser delete the cookie."""
        response.headers.append("set-cookie", self.header(connection, "", 0))

    def header(self, connection: HTTPConnection, value: str, lifetime_s: int) -> str:
        """A Set-Cookie header: not readable for scripts, not sent for pages of other sites."""
        secure = self._secure == "always" or (
            self._secure == "auto" and (self._https or connection.url.scheme == "https")
        )
        header = f"{COOKIE}={value}; Max-Age={lifetime_s}; Path=/; HttpOnly; SameSite=Lax"
        return f"{header}; Secure" if secure else header


class Accounts:
    """Answers `Security` from the directory, the operator's sessions, the signer and the clock.
    `token` is the server's own.
    """

    def __init__(
        self,
        directory: Directory,
        operator: OpenSessions,
        cookies: Cookies,
        clock: Clock,
        token: str,
    ) -> None:
        self._directory = directory
        self._operator = operator
        self._cookies = cookies
        self._clock = clock
        self._token = token

    @property
    def loaded(self) -> bool:
        return self._directory.loaded

    @property
    def empty(self) -> bool:
        return self._directory.empty

    @property
    def changes(self) -> int:
        return self._directory.changes + self._operator.changes

    def of_token(self, token: str) -> Principal | None:
        found = self._directory.by_token_hash(token_hash(token))
        if found is None:
            return None
        account, issued = found
        if account.disabled or not issued.good_at(format_time(self._clock())):
            return None
        return Principal(
            actor=f"token:{issued.id}",
            owner=f"user:{account.id}",
            admin=account.admin and ADMIN in issued.scopes,
            scopes=issued.scopes,
        )

    def of_cookie(self, cookie: str) -> Principal | None:
        opened = self._cookies.open(cookie)
        if opened is None:
            return None
        if opened.user_id == OPERATOR.owner:
            session = operator_session_id(opened.secret, self._token)
            return replace(OPERATOR, session=session) if self._operator.has(session) else None
        account = self._directory.find(opened.user_id)
        if account is None or account.disabled:
            return None
        session = session_id(opened.secret)
        return of_session(account, session) if session in account.sessions else None


def of_session(account: Account, session: str) -> Principal:
    """The principal of a person who is signed in."""
    return Principal(
        actor=f"user:{account.id}",
        owner=f"user:{account.id}",
        admin=account.admin,
        scopes=_SCOPES,
        session=session,
    )


class RollingSessions:
    """Middleware that renews the cookie of a session in use, so that a session ends 30 days after
    its last use. Requests without the cookie pass unchanged.
    """

    def __init__(self, app: ASGIApp, cookies: Cookies, accounts: Accounts) -> None:
        self.app = app
        self._cookies = cookies
        self._accounts = accounts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for name, value in scope["headers"]:
                if name == b"cookie" and _PREFIX in value:
                    await self._renewed(scope, receive, send)
                    return
        await self.app(scope, receive, send)

    async def _renewed(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = HTTPConnection(scope)
        cookie = connection.cookies.get(COOKIE, "")
        opened = self._cookies.open(cookie)
        if opened is None or opened.age_s < RENEW_AFTER_S:
            await self.app(scope, receive, send)
            return

        async def with_cookie(message: Message) -> None:
            # Checked after the request, because the request may have ended the session.
            if message["type"] == "http.response.start" and self._accounts.of_cookie(cookie):
                headers = MutableHeaders(scope=message)
                # An answer that caches may share must carry no cookie.
                if "public" not in headers.get("cache-control", ""):
                    fresh = self._cookies.seal(opened.user_id, opened.secret)
                    header = self._cookies.header(connection, fresh, LIFETIME_S)
                    headers.append("set-cookie", header)
            await send(message)

        await self.app(scope, receive, with_cookie)


def session_key(path: Path) -> bytes:
    """The key in a file, which is made at the first start, 0600. Raises OSError if that fails."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        key = path.read_bytes().strip()
        if key:
            return key
        file = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    with open(file, "wb") as stream:
        key = secrets.token_hex(32).encode()
        stream.write(key + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    return key
