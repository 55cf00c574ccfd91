"""The page and the API reference: ``/``, ``/docs``.

The page's modules and styles are below a path that contains a hash of them all. So a browser can
keep them for ever, and never mixes two versions.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import RedirectResponse

from api.edge.security import Security
from api.people.pages import LOGIN, PROFILE

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""No inline script or style, and no other origin."""

JOB_BOARD = "/job_board"

_DIRECTORY = Path(__file__).parent
_SWAGGER = "vendor/swagger-ui-dist"

_HTML = "text/html; charset=utf-8"
_SCRIPT = "application/javascript; charset=utf-8"
_STYLE = "text/css; charset=utf-8"
_TYPES = {".js": _SCRIPT, ".css": _STYLE}

_FILES = {
    "/": ("index.html", _HTML),
    LOGIN: ("index.html", _HTML),
    "/dashboard.js": ("dashboard.js", _SCRIPT),
    "/docs": ("docs.html", _HTML),
    "/redoc": ("docs.html", _HTML),
    "/docs/docs.js": ("docs.js", _SCRIPT),
    "/docs/swagger-ui-bundle.js": (f"{_SWAGGER}/swagger-ui-bundle.js", _SCRIPT),
    "/docs/swagger-ui.css": (f"{_SWAGGER}/swagger-ui.css", _STYLE),
}

_PARTS_AT = b"{{parts}}"
_PRELOADS_AT = b"{{preloads}}"


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    tag: str


@cache
def _parts() -> dict[str, bytes]:
    """The page's modules and styles, by their path below its directory."""
    found = [
        *_DIRECTORY.glob("app/*.js"),
        *_DIRECTORY.glob("style/*.css"),
        *_DIRECTORY.glob("vendor/preact/preact.js"),
    ]
    return {str(file.relative_to(_DIRECTORY)): file.read_bytes() for file in sorted(found)}


@cache
def _version() -> str:
    digest = hashlib.sha256()
    for name, body in _parts().items():
        digest.update(b"%s %d\n" % (name.encode(), len(body)))
        digest.update(body)
    return digest.hexdigest()[:16]


@cache
def _load(name: str) -> _File:
    root = f"/page/{_version()}"
    preloads = "\n  ".join(
        f'<link rel="modulepreload" href="{root}/{part}">'
        for part in _parts()
        if part.endswith(".js")
    )
    body = (_DIRECTORY / name).read_bytes()
    if not name.startswith("vendor/"):
        body = body.replace(_PARTS_AT, root.encode()).replace(_PRELOADS_AT, preloads.encode())
    return _File(body, f'"{hashlib.sha256(body).hexdigest()[:16]}"')


def page_routes(security: Security) -> APIRouter:
    """The routes. Files are read at first use, and kept."""
    router = APIRouter(include_in_schema=False)
    for path, (name, media_type) in _FILES.items():
        _add_file(router, path, name, media_type)

    @router.get("/page/{version}/{name:path}")
    async def part(version: str, name: str) -> Response:
        """A module or style. A path of an older version gets the present file, so that a tab that
        was open during an upgrade does not become empty.
        """
        body = _parts().get(name)
        if body is None:
            raise HTTPException(404, "There is no such part of the page.")
        kept = "public, max-age=31536000, immutable" if version == _version() else "no-cache"
        media_type = _TYPES[Path(name).suffix]
        return Response(body, media_type=media_type, headers={"Cache-Control": kept})

    @router.get(PROFILE)
    async def profile(request: Request) -> Response:
        """The person's own account. Without a session it redirects to the sign-in."""
        if security.principal_or_none(request) is None:
            return RedirectResponse(LOGIN, 302)
        return _page(request)

    @router.get(JOB_BOARD)
    async def job_board(request: Request) -> Response:
        """The board, for administrators (`contracts/board.md` §1)."""
        principal = security.principal_or_none(request)
        if principal is None:
            return RedirectResponse(LOGIN, 302)
        return _page(request) if principal.admin else RedirectResponse(PROFILE, 302)

    return router


def _add_file(router: APIRouter, path: str, name: str, media_type: str) -> None:
    @router.get(path)
    async def file(request: Request) -> Response:
        return _answer(request, name, media_type)


def _page(request: Request) -> Response:
    return _answer(request, "index.html", _HTML)


def _answer(request: Request, name: str, media_type: str) -> Response:
    found = _load(name)
    if request.headers.get("if-none-match") == found.tag:
        return Response(status_code=304, headers={"ETag": found.tag})
    headers = {
        "ETag": found.tag,
        "Cache-Control": "no-cache",
        "Content-Security-Policy": POLICY,
    }
    return Response(found.body, media_type=media_type, headers=headers)
