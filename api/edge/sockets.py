"""WebSockets have the same principals and rules as requests, and are closed when these rules no
longer let their principal in.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Collection, Coroutine
from contextlib import aclosing, suppress
from typing import Any

from fastapi import HTTPException
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from api.edge.security import Principal, Security, Standing

POLICY_VIOLATION = 1008
SERVICE_RESTART = 1012

_CLOSE_TIMEOUT_S = 1.0
_STANDING_S = 15.0
"""How often the principal of a socket is checked again, even if nothing is sent and no account has
changed: tokens and sessions also expire by time.
"""
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]", "0.0.0.0"})  # noqa: S104 - compared only
_origin = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]+)?").fullmatch


def security_of(ws: WebSocket) -> Security:
    """The security of the application, as for requests."""
    security: Security = ws.app.state.security
    return security


def admitted(ws: WebSocket, origins: Collection[str]) -> Principal | None:
    """The principal that opens the socket; None if they may not, or if their page may not.

    Allowed are pages of this server's own origin, of `origins` or of loopback, and programs, which
    send no origin. With a session it must be a page of this server.
    """
    if not _origin_trusted(ws, origins):
        return None
    try:
        return security_of(ws).authenticate_socket(ws)
    except HTTPException:
        return None


def _origin_trusted(ws: WebSocket, allowed: Collection[str]) -> bool:
    host = ws.headers.get("host", "").lower()
    return all(_origin_allowed(origin, host, allowed) for origin in ws.headers.getlist("origin"))


def _origin_allowed(origin: str, host: str, allowed: Collection[str]) -> bool:
    if origin in allowed:
        return True
    match = _origin(origin.lower())
    return match is not None and (match[1] in _LOOPBACK or origin.lower().endswith(f"://{host}"))


async def send_all(
    ws: WebSocket,
    principal: Principal,
    frames: AsyncGenerator[bytes, None],
    stop: asyncio.Event,
    subprotocol: str | None = None,
) -> None:
    """Open the socket and send every frame as text, until the frames end, the client goes, the
    principal would not be let in any more, or `stop` is set. Then close with 1012, so that a
    stopping server need not wait. Messages of the client are ignored.
    """
    standing = security_of(ws).standing(ws, principal)
    await ws.accept(subprotocol=subprotocol)
    await _first_to_end(
        _send_frames(ws, frames, standing),
        _pass_over_frames(ws),
        _fall(standing),
        _event(stop),
    )
    closed = WebSocketState.DISCONNECTED in (ws.client_state, ws.application_state)
    if closed:
        return
    # A client that does not read could delay the close frame for ever.
    with suppress(TimeoutError, WebSocketDisconnect):
        async with asyncio.timeout(_CLOSE_TIMEOUT_S):
            await ws.close(SERVICE_RESTART if stop.is_set() else POLICY_VIOLATION)


async def _send_frames(
    ws: WebSocket, frames: AsyncGenerator[bytes, None], standing: Standing
) -> None:
    with suppress(WebSocketDisconnect):
        async with aclosing(frames):
            async for frame in frames:
                if not standing.holds():
                    return
                await ws.send_text(frame.decode())


async def _pass_over_frames(ws: WebSocket) -> None:
    while (await ws.receive())["type"] != "websocket.disconnect":
        pass


async def _fall(standing: Standing) -> None:
    """Return when the principal would not be let in any more."""
    while True:
        await asyncio.sleep(_STANDING_S)
        if not standing.holds_by_now():
            return


async def _event(event: asyncio.Event) -> None:
    await event.wait()


async def _first_to_end(*works: Coroutine[Any, Any, None]) -> None:
    """Run all until one ends, end the others, and raise what the first raised."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in done:
        task.result()
