"""``/ws/state``: gitoma's state files, live (`contracts/gitoma.md` §8)."""

import asyncio
import base64
from collections.abc import Collection

from fastapi import APIRouter
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from api.dialects.gitoma.state_files import StateFeed
from api.edge.sockets import POLICY_VIOLATION, admitted, send_all

_SUBPROTOCOL = "gitoma-bearer."


def state_socket_routes(
    feed: StateFeed, allowed_origins: Collection[str], stopping: asyncio.Event
) -> APIRouter:
    router = APIRouter()

    @router.websocket("/ws/state")
    async def state(ws: WebSocket) -> None:
        await websocket_state(ws, feed, allowed_origins, stopping)

    return router


async def websocket_state(
    ws: WebSocket, feed: StateFeed, allowed_origins: Collection[str], stop: asyncio.Event
) -> None:
    """Send every frame of `feed` to administrators, because the files belong to nobody. Others are
    refused before the socket opens (HTTP 403 on the wire).

    The subprotocol with a token is echoed.
    """
    offered = [name for name in ws.scope["subprotocols"] if name.startswith(_SUBPROTOCOL)]
    principal = admitted(ws, allowed_origins)
    if principal is None or not principal.admin:
        await ws.close(POLICY_VIOLATION)
        return
    await send_all(ws, principal, feed.subscribe(), stop, offered[0] if offered else None)


class TokenInSubprotocol:
    """Middleware: a browser cannot set headers of a socket, so gitoma's page sends its token as a
    subprotocol. It counts as a bearer token if the headers have none.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            offered = [name for name in scope["subprotocols"] if name.startswith(_SUBPROTOCOL)]
            if offered and not _has_bearer(scope):
                token = _decoded(offered[0].removeprefix(_SUBPROTOCOL))
                others = [pair for pair in scope["headers"] if pair[0] != b"authorization"]
                headers = [*others, (b"authorization", b"Bearer " + token)]
                scope = {**scope, "headers": headers}
        await self.app(scope, receive, send)


def _has_bearer(scope: Scope) -> bool:
    given = dict(scope["headers"]).get(b"authorization", b"")
    return bool(given.partition(b" ")[0].lower() == b"bearer")


def _decoded(base64url: str) -> bytes:
    """The token. If the text is not base64 it is empty, and matches no token."""
    padding = "=" * (-len(base64url) % 4)
    try:
        return base64.b64decode(base64url + padding, altchars=b"-_", validate=True)
    except ValueError:
        return b""
