"""The layers that every request passes: identity, origin, host, size, headers, compression.

Each class is plain ASGI (`__init__` and `__call__`), because event streams pass here too: a layer
that buffers, or starts a task for each response, would burden every reader of a stream. `install`
joins them in the order of `contracts/gitoma.md` §2.
"""

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from functools import lru_cache
from ipaddress import IPv6Address
from time import perf_counter
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipResponder, IdentityResponder
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from domain.entropy import random_bytes

logger = logging.getLogger("crewlog.http")

request_id_var: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The x-request-id of the request that is being served; None outside of one."""

DEFAULT_BODY_LIMIT = 1024 * 1024
"""Most bytes of a request body."""

DEFAULT_ALLOWED_HOSTS = (
    "localhost",
    "127.0.0.1",
    "::1",
    "0.0.0.0",  # noqa: S104 - a name that a client may use, not an address to bind
    "testserver",
)

SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
SERVER_SEND = "crewlog.server_send"
"""The key in the scope for the server's own send, for chunks that need to pass no layer."""

NO_STORE = (b"cache-control", b"no-store")

_JSON = b"application/json"
_CORS_METHODS = ("GET", "POST", "PATCH", "DELETE")
_CORS_REQUEST_HEADERS = (
    "Authorization",
    "Content-Type",
    "Last-Event-ID",
    "Idempotency-Key",
    "If-Match",
    "x-request-id",
)
_CORS_EXPOSED_HEADERS = ("x-request-id", "x-event-position", "ETag")
_CORS_MAX_AGE_S = 600

_STREAM_TYPES = (b"text/event-stream", b"application/x-ndjson")

_printable = re.compile(rb"[\x20-\x7e]+").fullmatch
_host_header = re.compile(
    r"(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9_-][a-z0-9._-]*))(?::[0-9]*)?", re.IGNORECASE
).fullmatch
_refused_coding = re.compile(r"q=0(?:\.0{0,3})?").fullmatch

RawHeaders = Iterable[tuple[bytes, bytes]]


def _header(headers: RawHeaders, name: bytes) -> bytes | None:
    for key, value in headers:
        if key == name:
            return value
    return None


async def internal_error(request: Request, exc: Exception) -> Response:
    """The 500 of `contracts/gitoma.md` §2: an id to find in the log, and nothing of the
    exception.
    """
    return _internal_error_response(request.state.request_id)


def _internal_error_response(request_id: str) -> Response:
    return JSONResponse(
        {"detail": "Internal server error.", "error_id": request_id}, status_code=500
    )


class RequestContext:
    """Gives a request its id, its line in the access log and, if all else fails, its 500.

    The id is the client's own `x-request-id`, unchanged, if that is printable ASCII of any length;
    otherwise 16 hex digits. It is in `scope["state"]["request_id"]` and `request_id_var` while the
    request is served, and in `x-request-id` of every HTTP response.

    An unhandled exception is logged once, with its traceback and the id. If no response has
    started, it becomes the 500 of `internal_error`. Otherwise it is raised again, so that the
    server cuts the connection, and half an answer cannot pass as a whole one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        request_id = _request_id(scope["headers"])
        scope.setdefault("state", {})["request_id"] = request_id
        scope[SERVER_SEND] = send
        token = request_id_var.set(request_id)
        try:
            if scope["type"] == "http":
                await _Exchange(scope, send, request_id).run(self.app, receive)
            else:
                await self.app(scope, receive, send)
        finally:
            request_id_var.reset(token)


def _request_id(headers: RawHeaders) -> str:
    given = _header(headers, b"x-request-id")
    if given is not None and _printable(given):
        return given.decode("ascii")
    return random_bytes(8).hex()


class _Exchange:
    """One HTTP request and the part of its answer that was sent."""

    __slots__ = ("complete", "header", "request_id", "scope", "send", "status")

    def __init__(self, scope: Scope, send: Send, request_id: str) -> None:
        self.scope = scope
        self.send = send
        self.request_id = request_id
        self.header = (b"x-request-id", request_id.encode("ascii"))
        self.status: int | None = None
        self.complete = False

    async def run(self, app: ASGIApp, receive: Receive) -> None:
        began = perf_counter()
        try:
            await app(self.scope, receive, self.answer)
        except Exception:
            logger.exception("unhandled error, error_id %s", self.request_id)
            if self.status is None:
                respond = SecurityHeaders(_internal_error_response(self.request_id))
                await respond(self.scope, receive, self.answer)
            elif not self.complete:
                raise
        finally:
            if logger.isEnabledFor(logging.INFO):
                self.log((perf_counter() - began) * 1000)

    async def answer(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            self.status = message["status"]
            kept = [pair for pair in message.get("headers", ()) if pair[0] != b"x-request-id"]
            message["headers"] = [*kept, self.header]
        elif kind == "http.response.body" and not message.get("more_body", False):
            self.complete = True
        await self.send(message)

    def log(self, duration_ms: float) -> None:
        scope = self.scope
        # The decoded path may hold line breaks, which would forge lines of the log.
        raw_path = scope.get("raw_path") or quote(scope["path"]).encode("ascii")
        logger.info(
            "%s %s %s %.1f ms %s",
            scope["method"],
            raw_path.decode("ascii", "backslashreplace"),
            self.status or "-",
            duration_ms,
            self.request_id,
        )


class SecurityHeaders:
    """Sets `nosniff`, `no-referrer`, `DENY` and `no-store` on every response without its own value.

    A 304 gets no `Cache-Control`: it would overwrite that of the stored response (RFC 9111 §3.2).
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = _hardened(message["status"], message.get("headers", ()))
            await send(message)

        await self.app(scope, receive, hardened)


def _hardened(status: int, headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    answer = list(headers)
    present = {name for name, _ in answer}
    for pair in SECURITY_HEADERS:
        if pair[0] not in present:
            answer.append(pair)
    if NO_STORE[0] not in present and status != 304:
        answer.append(NO_STORE)
    return answer


class TrustedHosts:
    """Refuses a request with an unknown Host: 400 `Invalid host header` (gitoma.md §2).

    `allowed` holds exact names or addresses, `*.suffix` for every name below a suffix, or `*` for
    any name. Case, surrounding spaces and ports do not count; an IPv6 address may have brackets. A
    missing, repeated or malformed Host is refused too. A WebSocket is refused before it opens.

    Raises ValueError for an entry that has none of these forms.
    """

    def __init__(self, app: ASGIApp, allowed: Iterable[str] = DEFAULT_ALLOWED_HOSTS) -> None:
        self.app = app
        patterns = {host_pattern(entry) for entry in allowed if entry.strip()}
        self._any = "*" in patterns
        self._suffixes = tuple(pattern[1:] for pattern in patterns if pattern.startswith("*."))
        self._exact = patterns - {"*"}
        self._trusts: Callable[[bytes], bool] = lru_cache(maxsize=256)(self._decide)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or self._trusted(scope["headers"]):
            await self.app(scope, receive, send)
        elif scope["type"] == "http" or "websocket.http.response" in scope.get("extensions", ()):
            refusal = PlainTextResponse("Invalid host header", status_code=400)
            await refusal(scope, receive, send)
        else:
            await WebSocketClose(1008)(scope, receive, send)

    def _trusted(self, headers: RawHeaders) -> bool:
        hosts = [value for name, value in headers if name == b"host"]
        return len(hosts) == 1 and self._trusts(hosts[0])

    def _decide(self, header: bytes) -> bool:
        host = _host_name(header.decode("latin-1"))
        if host is None:
            return False
        return self._any or host in self._exact or host.endswith(self._suffixes)


def _host_name(header: str) -> str | None:
    """The name or address in a Host header, without port or brackets; None if it is malformed."""
    match = _host_header(header)
    if match is None:
        return None
    return _ipv6(match["ipv6"]) if match["ipv6"] else match["name"].lower()


def host_pattern(entry: str) -> str:
    """An entry of the allowed hosts in its one form. Raises ValueError with a sentence."""
    entry = entry.strip().lower()
    if entry == "*":
        return entry
    name, wildcard = (entry[2:], "*.") if entry.startswith("*.") else (entry, "")
    host = _host_name(name) or _ipv6(name)
    if host is None:
        raise ValueError(f"{entry!r} is not a host name, an address, '*.suffix' or '*'.")
    return wildcard + host


def _ipv6(text: str) -> str | None:
    try:
        return IPv6Address(text).compressed
    except ValueError:
        return None


class _BodyTooLarge(HTTPException):
    """Stops the reader of the body. It is an HTTPException, because frameworks let that one
    pass.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(413, f"Request body is larger than {limit} bytes.")


class BodyLimit:
    """Refuses a request body of more than `limit` bytes with 413.

    If a length is declared, the request is refused before a byte is read. A chunked body is counted
    as it is read, and reading on raises, so that nothing acts on the part that arrived. Whatever
    the app makes of that exception, the client gets the 413 unless a response had already started.
    """

    def __init__(self, app: ASGIApp, limit: int = DEFAULT_BODY_LIMIT) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = scope["headers"]
        declared = _header(headers, b"content-length")
        if declared is None or _header(headers, b"transfer-encoding") is not None:
            too_large = await _MeteredBody(self.limit, receive, send).run(self.app, scope)
        else:
            too_large = _exceeds(declared, self.limit)
            if not too_large:
                # The server itself reads no more than this.
                await self.app(scope, receive, send)
        if too_large:
            detail = _BodyTooLarge(self.limit).detail
            await JSONResponse({"detail": detail}, status_code=413)(scope, receive, send)


def _exceeds(content_length: bytes, limit: int) -> bool:
    # Python refuses to read integers of thousands of digits, so the digits are counted first.
    digits = content_length.lstrip(b"0")
    return digits.isdigit() and (len(digits) > 18 or int(digits) > limit)


class _MeteredBody:
    __slots__ = ("exceeded", "limit", "read", "receive", "send", "started")

    def __init__(self, limit: int, receive: Receive, send: Send) -> None:
        self.limit = limit
        self.receive = receive
        self.send = send
        self.read = 0
        self.exceeded = False
        self.started = False

    async def run(self, app: ASGIApp, scope: Scope) -> bool:
        """Serve the request. True if its body was too large and the 413 is still to be sent."""
        try:
            await app(scope, self.metered, self.guarded)
        except Exception:
            if not self.refused:
                raise
        return self.refused

    @property
    def refused(self) -> bool:
        return self.exceeded and not self.started

    async def metered(self) -> Message:
        if self.exceeded:
            raise _BodyTooLarge(self.limit)
        message = await self.receive()
        if message["type"] == "http.request":
            self.read += len(message.get("body", b""))
            if self.read > self.limit:
                self.exceeded = True
                raise _BodyTooLarge(self.limit)
        return message

    async def guarded(self, message: Message) -> None:
        if self.refused:
            return
        self.started = True
        await self.send(message)


class SelectiveGZip:
    """Compresses responses of at least `minimum` bytes for clients that accept gzip.

    Event streams and NDJSON are never compressed, nor is anything below `except_prefixes`. Every
    response that is large enough has `Vary: Accept-Encoding`, compressed or not (gitoma.md §2).
    """

    _level = 6

    def __init__(
        self,
        app: ASGIApp,
        minimum: int = 1024,
        except_prefixes: tuple[str, ...] = (),
    ) -> None:
        self.app = app
        self.minimum = minimum
        self.except_prefixes = except_prefixes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(self.except_prefixes):
            await self.app(scope, receive, send)
            return
        onward: Send | None = None

        async def compressed(message: Message) -> None:
            nonlocal onward
            if onward is None and message["type"] == "http.response.start":
                # A copy: a response that is cached and sent again owns its list of headers.
                message["headers"] = list(message.get("headers", ()))
                onward = self._sender(scope, message["headers"], send)
            await (onward or send)(message)

        await self.app(scope, receive, compressed)

    def _sender(self, scope: Scope, headers: list[tuple[bytes, bytes]], send: Send) -> Send:
        """The send function of this response, chosen once, by its head."""
        length = _header(headers, b"content-length")
        if length is not None and int(length) < self.minimum:
            return send
        kind = (_header(headers, b"content-type") or b"").lower()
        if kind.startswith(_STREAM_TYPES):
            return send
        accepted = _header(scope["headers"], b"accept-encoding")
        if accepted is None and length is not None and kind == _JSON:
            # Passing an uncompressed answer through the library costs as much as making the answer.
            if _header(headers, b"vary") is None:
                headers.append((b"vary", b"Accept-Encoding"))
            else:
                MutableHeaders(raw=headers).add_vary_header("Accept-Encoding")
            return send
        responder = self._responder(accepted)
        responder.send = send
        return responder.send_with_compression

    def _responder(self, accept_encoding: bytes | None) -> IdentityResponder:
        if accept_encoding is not None and _accepts_gzip(accept_encoding.decode("latin-1")):
            return GZipResponder(self.app, self.minimum, self._level)
        return IdentityResponder(self.app, self.minimum)


def _accepts_gzip(accept_encoding: str) -> bool:
    """Whether gzip is named and not refused with a weight of zero (RFC 9110 §12.5.3)."""
    for offer in accept_encoding.lower().split(","):
        coding, _, weight = offer.partition(";")
        if coding.strip() == "gzip":
            return not _refused_coding(weight.replace(" ", ""))
    return False


def cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """`app` with CORS for these origins; `app` itself if there are none.

    An `*` among them switches CORS off and is logged as an error: with credentials allowed, it
    would let every page of the web act as the user (gitoma.md §2).
    """
    allowed = [origin.strip().rstrip("/") for origin in origins if origin.strip()]
    if any("*" in origin for origin in allowed):
        logger.error("CORS stays off: '*' is not accepted, name each allowed origin.")
        return app
    if not allowed:
        return app
    return CORSMiddleware(
        app,
        allow_origins=allowed,
        allow_credentials=True,
        allow_methods=_CORS_METHODS,
        allow_headers=_CORS_REQUEST_HEADERS,
        expose_headers=_CORS_EXPOSED_HEADERS,
        max_age=_CORS_MAX_AGE_S,
    )


def install(
    app: ASGIApp,
    *,
    allowed_hosts: Iterable[str] = DEFAULT_ALLOWED_HOSTS,
    cors_origins: Sequence[str] = (),
    body_limit: int = DEFAULT_BODY_LIMIT,
    uncompressed: tuple[str, ...] = (),
) -> ASGIApp:
    """`app` behind the whole edge, in the order of `contracts/gitoma.md` §2.

    Request id, security headers, CORS, trusted hosts, body limit, gzip, app: the headers are
    outside of everything that can refuse, so refusals have them too. A Starlette or FastAPI app
    answers its own unhandled errors; it gets `internal_error` for that, unless it already has a
    handler for `Exception`. `uncompressed` are prefixes of paths that are never compressed.
    """
    if isinstance(app, Starlette):
        handlers = app.exception_handlers
        if 500 not in handlers:
            handlers.setdefault(Exception, internal_error)
    inner = BodyLimit(SelectiveGZip(app, except_prefixes=uncompressed), body_limit)
    return RequestContext(SecurityHeaders(cors(TrustedHosts(inner, allowed_hosts), cors_origins)))
