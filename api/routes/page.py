"""The page and the state socket: ``/``, ``/dashboard.js``, ``/dashboard.css``, ``/ws/state``."""

import asyncio
import hashlib
from collections.abc import Collection
from pathlib import Path

from fastapi import APIRouter, Request, Response, WebSocket

from api.gitoma_state import StateFeed, websocket_state
from api.security import Security

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""No inline script or style, no other origin."""

_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/dashboard.js": ("dashboard.js", "application/javascript; charset=utf-8"),
    "/dashboard.css": ("dashboard.css", "text/css; charset=utf-8"),
}


def page_routes(
    feed: StateFeed, security: Security, allowed_origins: Collection[str], stopping: asyncio.Event
) -> APIRouter:
    router = APIRouter(include_in_schema=False)
    directory = Path(__file__).parent.parent / "page"
    for path, (name, media_type) in _FILES.items():
        _add_file(router, path, (directory / name).read_bytes(), media_type)

    @router.websocket("/ws/state")
    async def state(ws: WebSocket) -> None:
        await websocket_state(
            ws, feed, token=security.token, allowed_origins=allowed_origins, stop=stopping
        )

    return router


def _add_file(router: APIRouter, path: str, body: bytes, media_type: str) -> None:
    tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache", "Content-Security-Policy": POLICY}

    @router.get(path)
    async def file(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"ETag": tag})
        return Response(body, media_type=media_type, headers=headers)
