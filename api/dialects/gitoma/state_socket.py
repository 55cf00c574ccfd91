"""``/ws/state``: gitoma's state files, live (`contracts/gitoma.md` §8)."""

import asyncio
from collections.abc import Collection
from functools import partial

from fastapi import APIRouter, HTTPException, WebSocket

from api.dialects.gitoma.state_files import Holds, StateFeed, websocket_state
from api.edge.security import COOKIE, OPERATOR, Security


def state_socket_routes(
    feed: StateFeed, security: Security, allowed_origins: Collection[str], stopping: asyncio.Event
) -> APIRouter:
    router = APIRouter()

    @router.websocket("/ws/state")
    async def state(ws: WebSocket) -> None:
        await websocket_state(
            ws,
            feed,
            token=security.token,
            session=partial(_session, security),
            allowed_origins=allowed_origins,
            stop=stopping,
        )

    return router


def _session(security: Security, ws: WebSocket) -> Holds | None:
    """The operator's session behind a socket. A browser opens sockets for every page, so it is as
    with a change: the page must be one of this server.
    """
    if COOKIE not in ws.cookies:
        return None
    try:
        principal = security.authenticate(ws, "POST")
    except HTTPException:
        return None
    if principal.owner != OPERATOR.owner:
        return None
    return security.standing(ws, principal).holds
