"""Files that jobs left, as answers. They may come from anybody, so they are served in a form that
can do no harm.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fastapi import HTTPException, Response
from fastapi.responses import FileResponse, HTMLResponse

from api.edge.errors import documented
from api.edge.foreign_texts import LARGEST, POLICY, is_text, page
from domain.errors import NotFound
from projections.artifacts import ArtifactNotFound
from projections.projection import Row
from scheduler.workspaces.artifacts import ArtifactStore

INLINE = frozenset(
    {"text/plain", "application/json", "image/png", "image/jpeg", "image/gif", "image/webp"}
)
"""Types that a browser may show. All others are only for saving."""

_PAGES = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pages")
"""Pages wait for each other. Jobs and crews, which use the other threads, do not wait for pages."""

_PREFERRED = ("report.md", "index.md", "index.html", "index.txt")

BYTES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string"}}}},
    206: {"description": "The range that was asked for."},
    400: {"description": "The range is malformed, or the request is foreign."},
    416: {"description": "The range is beyond the end."},
    **documented(404),
}


class NoFile(NotFound):
    def __init__(self) -> None:
        super().__init__("The job has left no such file")


def chosen(rows: Sequence[Row], name: str | None) -> Row | None:
    """The file to serve: of the latest attempt that left one, or the one of that name."""
    named = [row for row in rows if name is None or row["name"] == name]
    latest = max((row["attempt"] for row in named), default=0)
    found = [row for row in named if row["attempt"] == latest]
    return min(found, key=_rank, default=None)


def _rank(row: Row) -> tuple[int, str]:
    name = row["name"].casefold()
    place = _PREFERRED.index(name) if name in _PREFERRED else len(_PREFERRED)
    return place, row["name"]


def file_answer(row: Row, store: ArtifactStore, *, download: bool) -> Response:
    """The bytes, with a policy that lets them neither run nor fetch anything. Supports Range (RFC
    9110 section 14); the ETag is the SHA-256.
    """
    inline = row["mime"] in INLINE and not download
    return FileResponse(
        _path(row, store),
        media_type=row["mime"],
        filename=row["name"].rpartition("/")[2],
        content_disposition_type="inline" if inline else "attachment",
        headers={**_HEADERS, "ETag": f'"{row["sha256"]}"'},
    )


async def page_answer(row: Row, store: ArtifactStore) -> Response:
    """A text as a page. Answers 406 for a file that is not text, 413 for one that is too long."""
    if not is_text(row["mime"]):
        raise HTTPException(406, f"A file of type {row['mime']} cannot be shown: download it.")
    if row["size"] > LARGEST:
        raise HTTPException(
            413, f"A file of more than {LARGEST} bytes cannot be shown: download it."
        )
    path = _path(row, store)
    shown = await asyncio.get_running_loop().run_in_executor(_PAGES, _read_page, path, row)
    return HTMLResponse(shown, headers=_HEADERS)


def _read_page(path: Path, row: Row) -> str:
    return page(row["name"], row["mime"], path.read_bytes().decode("utf-8", "replace"))


def _path(row: Row, store: ArtifactStore) -> Path:
    path = store.path(row["sha256"])
    if path is None:
        raise ArtifactNotFound(row["id"])
    return path


_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
