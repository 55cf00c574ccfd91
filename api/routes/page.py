"""The page, the API reference and the state socket: ``/``, ``/docs``, ``/ws/state``."""

import asyncio
import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fastapi import APIRouter, Request, Response, WebSocket

from api.gitoma_state import StateFeed, websocket_state
from api.security import Security

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""No inline script or style, no other origin."""

_DIRECTORY = Path(__file__).parent.parent / "page"
_SWAGGER = "vendor/swagger-ui-dist"

_HTML = "text/html; charset=utf-8"
_SCRIPT = "application/javascript; charset=utf-8"
_STYLE = "text/css; charset=utf-8"

_FILES = {
    "/": ("index.html", _HTML),
    "/dashboard.js": ("dashboard.js", _SCRIPT),
    "/dashboard.css": ("dashboard.css", _STYLE),
    "/docs": ("docs.html", _HTML),
    "/redoc": ("docs.html", _HTML),
    "/docs/docs.js": ("docs.js", _SCRIPT),
    "/docs/swagger-ui-bundle.js": (f"{_SWAGGER}/swagger-ui-bundle.js", _SCRIPT),
    "/docs/swagger-ui.css": (f"{_SWAGGER}/swagger-ui.css", _STYLE),
}


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    tag: str


@lru_cache
def _load(name: str) -> _File:
    body = (_DIRECTORY / name).read_bytes()
    return _File(body, f'"{hashlib.sha256(body).hexdigest()[:16]}"')


def page_routes(
    feed: StateFeed, security: Security, allowed_origins: Collection[str], stopping: asyncio.Event
) -> APIRouter:
    """The routes. Files are read when first asked for, and kept."""
    router = APIRouter(include_in_schema=False)
    for path, (name, media_type) in _FILES.items():
        _add_file(router, path, name, media_type)

    @router.websocket("/ws/state")
    async def state(ws: WebSocket) -> None:
        await websocket_state(
            ws, feed, token=security.token, allowed_origins=allowed_origins, stop=stopping
        )

    return router


def _add_file(router: APIRouter, path: str, name: str, media_type: str) -> None:
    @router.get(path)
    async def file(request: Request) -> Response:
        found = _load(name)
        if request.headers.get("if-none-match") == found.tag:
            return Response(status_code=304, headers={"ETag": found.tag})
        headers = {
            "ETag": found.tag,
            "Cache-Control": "no-cache",
            "Content-Security-Policy": POLICY,
        }
        return Response(found.body, media_type=media_type, headers=headers)
