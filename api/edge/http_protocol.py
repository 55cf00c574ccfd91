"""uvicorn's HTTP/1.1 protocol, with limits for the size and time of a connection.

This module limits the request line, headers, framing and trailers, and how long a connection may be
silent, because no later layer sees a request before its headers are complete. Connections have no
timers of their own: `sweep` checks all of them once a second.
"""

import logging
import math
from collections.abc import Iterable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

logger = logging.getLogger("crewlog.http")

HEAD_LIMIT = 64 * 1024
"""Most bytes of the request line and headers together; also of trailers, and of framing that
carries no body.
"""

HEAD_S = 10.0
"""Seconds for a complete head, from the first byte of a request or the start of a connection."""

BODY_S = 30.0
"""Seconds between two pieces of a body."""

IDLE_S = 75
"""Seconds that a connection may wait for its next request."""

STALL_S = 60.0
"""Seconds that a client may leave waiting data unread."""

LINGER_S = 10.0
"""The same once its connection is being closed."""

_FAREWELL_S = 2.0
_FAREWELL_BYTES = 1024 * 1024
"""How long, and how much, a refused client may still send before the connection is closed. It is
read and dropped.
"""

_TOO_LARGE = (431, f"The headers are larger than {HEAD_LIMIT} bytes.")
_TOO_LONG = (414, f"The address is longer than {HEAD_LIMIT} bytes.")
_TOO_SLOW = (408, "The request did not arrive in time.")
_TOO_MANY = (503, "The server has too many connections. Try again later.")
_NEVER = math.inf


class _Refused(Exception):
    """Stops the parser. The protocol knows what to answer."""


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's protocol for one connection, limited in bytes and time. `bounded` makes the class
    that a server uses.
    """

    most_connections = 1 << 30
    """Connections of the whole server. One more is answered with 503 and closed."""

    _deadline = _NEVER
    _owed = 0
    _untaken_since = _NEVER
    _head_bytes = 0
    _unframed = 0
    _moved = False
    _refusal: tuple[int, str] | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._deadline = self.loop.time() + HEAD_S
        if len(self.connections) > self.most_connections:
            transport.write(_answer(*_TOO_MANY))
            transport.close()

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None:
            self._unframed += len(data)
            if self._unframed > _FAREWELL_BYTES:
                self.transport.abort()
            return
        self._moved = False
        super().data_received(data)
        if not self._moved:
            # A head, trailers or framing without an end: the parser may hold all of it in memory.
            self._unframed += len(data)
            if self._unframed > HEAD_LIMIT:
                self._refuse(_TOO_LARGE)
                return
        if self._deadline == _NEVER and (self.cycle is None or self.cycle.response_complete):
            # Any byte ends uvicorn's timer for an idle connection, whatever it begins.
            self._deadline = self.loop.time() + HEAD_S

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._advance(HEAD_S)
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url), _TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count(len(name) + len(value) + 4, _TOO_LARGE)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._advance(BODY_S)

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._advance(BODY_S)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._moved = True
        self._deadline = _NEVER

    def handle_websocket_upgrade(self) -> None:
        self._deadline = _NEVER
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._refusal or (400, msg))

    def look(self, now: float) -> None:
        """Close the connection if its time is over. Cut it if its client reads nothing."""
        if self._stalls(now):
            # Aborted with its unsent data: a normal close would wait until the client has read it.
            logger.info("a client that took nothing was let go: %s", self.client)
            self.transport.abort()
        elif now > self._deadline and not self.transport.is_closing():
            if self.scope is None or self._refusal is not None:
                self.transport.close()  # no request is open
            elif self.flow.read_paused:
                self._deadline = now + BODY_S  # the application is slow, not the client
            else:
                self._refuse(_TOO_SLOW)

    def _stalls(self, now: float) -> bool:
        owed = self.transport.get_write_buffer_size()
        if not owed or owed != self._owed:
            self._owed, self._untaken_since = owed, now
        return now - self._untaken_since > (LINGER_S if self.transport.is_closing() else STALL_S)

    def _advance(self, seconds: float) -> None:
        self._moved = True
        self._unframed = 0
        self._deadline = self.loop.time() + seconds

    def _count(self, size: int, refusal: tuple[int, str]) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_LIMIT:
            self._refusal = refusal
            raise _Refused

    def _refuse(self, refusal: tuple[int, str]) -> None:
        """Answer if no answer has begun, and close when the client does, or soon after.

        Closing at once would reset the connection of a client that still sends, and the client
        would lose the answer (RFC 9112 section 9.6).
        """
        self._refusal = refusal
        serving = self.cycle is not None and not self.cycle.response_complete
        if serving and not self.cycle.more_body:
            # The refused data follows a complete request. Its answer is the last one on this
            # connection.
            self.cycle.keep_alive = False
            self._deadline = _NEVER
            return
        if serving:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if serving and self.cycle.response_started:
            self.transport.close()
            return
        self._deadline = self.loop.time() + _FAREWELL_S
        self._unframed = 0
        self.flow.resume_reading()
        self.transport.write(_answer(*refusal))
        if self.transport.can_write_eof():
            self.transport.write_eof()


def _answer(status: int, detail: str) -> bytes:
    body = b'{"detail":"%s"}' % detail.encode()
    retry = b"Retry-After: 5\r\n" if status == 503 else b""
    return (
        STATUS_LINE[status]
        + retry
        + b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
        + b"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
        + body
    )


def bounded(most_connections: int) -> type[BoundedHttp]:
    """The protocol class for a server with at most this many connections."""
    return type("BoundedHttp", (BoundedHttp,), {"most_connections": most_connections})


def sweep(connections: Iterable[Any], now: float) -> None:
    """Check every connection once. Those that have changed to another protocol check themselves."""
    for connection in list(connections):
        if isinstance(connection, BoundedHttp):
            connection.look(now)
