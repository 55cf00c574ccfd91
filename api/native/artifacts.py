"""The files that jobs left. Their bytes are foreign: they are given as what can do no harm."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query, Response
from fastapi.responses import FileResponse, HTMLResponse
from pydantic import BaseModel, ConfigDict, Field

from api.edge.answers import json_bytes
from api.edge.errors import SECURED, Refusal, documented
from api.edge.foreign_texts import LARGEST, POLICY, is_text, page
from api.edge.security import Authenticated
from domain.errors import JobNotFound, NotFound
from projections.artifacts import ArtifactNotFound, find_artifact, job_artifacts
from projections.engine import Views
from projections.jobs import find_job
from projections.projection import Row
from scheduler.workspaces.artifacts import ArtifactStore

INLINE = frozenset(
    {"text/plain", "application/json", "image/png", "image/jpeg", "image/gif", "image/webp"}
)
"""What a browser may show by itself; all else is for saving."""

_PREFERRED = ("report.md", "index.md", "index.html", "index.txt")

_BYTES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string"}}}},
    206: {"description": "The range that was asked for."},
    400: {"description": "The range is malformed, or the request is foreign."},
    416: {"description": "The range is beyond the end."},
    **documented(404),
}


class NoFile(NotFound):
    def __init__(self) -> None:
        super().__init__("The job has left no such file")


class ArtifactObject(BaseModel):
    """`contracts/codeplane.md` §2, and beside it the attempt and the hash."""

    model_config = ConfigDict(extra="forbid")

    id: str
    jobId: str
    name: str = Field(description="A path, with `/`.")
    type: Literal["document", "custom"]
    mimeType: str
    sizeBytes: int
    phase: Literal["post_completion"]
    createdAt: str
    attempt: int
    sha256: str


class ArtifactList(BaseModel):
    model_config = ConfigDict(extra="forbid")

    items: list[ArtifactObject]


def artifact_routes(views: Views, store: ArtifactStore) -> APIRouter:
    """The routes. Every file carries a policy under which it can neither run nor fetch anything."""
    router = APIRouter(prefix="/api", tags=["artifacts"], responses=SECURED)

    @router.get(
        "/jobs/{job_id}/artifacts",
        summary="The files that a job left",
        response_model=ArtifactList,
    )
    async def get_artifacts(job_id: str, principal: Authenticated) -> Response:
        """Of all its attempts. Of an unknown job, none (`contracts/codeplane.md` §3.6)."""
        await views.caught_up()
        with views.reading() as reading:
            try:
                seen = principal.sees(find_job(reading, job_id)["owner"])
            except JobNotFound:
                seen = False
            rows = job_artifacts(reading, job_id) if seen else []
        return json_bytes({"items": [artifact_json(row) for row in rows]})

    @router.get(
        "/artifacts/{artifact_id}",
        summary="The bytes of a file",
        response_class=FileResponse,
        responses=_BYTES,
    )
    async def get_artifact(artifact_id: str, principal: Authenticated) -> Response:
        """Takes Range (RFC 9110 section 14). The ETag is the SHA-256."""
        await views.caught_up()
        with views.reading() as reading:
            row, job = find_artifact(reading, artifact_id)
        if not principal.sees(job["owner"]):
            raise ArtifactNotFound(artifact_id)
        return _file(row, store, download=False)

    @router.get(
        "/jobs/{job_id}/artifact",
        summary="The file that a job is about",
        response_class=FileResponse,
        responses=_BYTES
        | documented(413)
        | {406: {"model": Refusal, "description": "It is no text: it cannot be shown as a page."}},
    )
    async def get_job_artifact(
        job_id: str,
        principal: Authenticated,
        download: bool = False,
        format: Annotated[Literal["html", "raw"], Query()] = "raw",
        name: Annotated[str | None, Query(max_length=1_024)] = None,
    ) -> Response:
        """Of the latest attempt that left one: the one called `name`, else a report or an index,
        else the first by name. With `format=html` text is made a page.
        """
        await views.caught_up()
        with views.reading() as reading:
            job = find_job(reading, job_id)
            if not principal.sees(job["owner"]):
                raise JobNotFound(job_id)
            row = chosen(job_artifacts(reading, job_id), name)
        if row is None:
            raise NoFile
        if format == "raw" or download:
            return _file(row, store, download=download)
        return await _page(row, store)

    return router


def chosen(rows: Sequence[Row], name: str | None) -> Row | None:
    """The file that is meant: of the latest attempt that left one, or one of that name."""
    named = [row for row in rows if name is None or row["name"] == name]
    latest = max((row["attempt"] for row in named), default=0)
    found = [row for row in named if row["attempt"] == latest]
    return min(found, key=_rank, default=None)


def _rank(row: Row) -> tuple[int, str]:
    name = row["name"].casefold()
    place = _PREFERRED.index(name) if name in _PREFERRED else len(_PREFERRED)
    return place, row["name"]


def artifact_json(row: Row) -> dict[str, Any]:
    """The object of a row of the artifacts view."""
    return {
        "id": row["id"],
        "jobId": row["job_id"],
        "name": row["name"],
        "type": "document" if is_text(row["mime"]) else "custom",
        "mimeType": row["mime"],
        "sizeBytes": row["size"],
        "phase": "post_completion",
        "createdAt": row["at"],
        "attempt": row["attempt"],
        "sha256": row["sha256"],
    }


def _file(row: Row, store: ArtifactStore, *, download: bool) -> Response:
    inline = row["mime"] in INLINE and not download
    return FileResponse(
        _path(row, store),
        media_type=row["mime"],
        filename=row["name"].rpartition("/")[2],
        content_disposition_type="inline" if inline else "attachment",
        headers={**_HEADERS, "ETag": f'"{row["sha256"]}"'},
    )


async def _page(row: Row, store: ArtifactStore) -> Response:
    if not is_text(row["mime"]):
        raise HTTPException(406, f"A file of type {row['mime']} cannot be shown: download it.")
    if row["size"] > LARGEST:
        raise HTTPException(413, f"Over {LARGEST} bytes a file is not shown: download it.")
    shown = await asyncio.to_thread(_read_page, _path(row, store), row)
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
