"""``/artifacts``: the files that jobs left."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from api.edge.access import seen_job
from api.edge.answers import json_bytes
from api.edge.files import file_answer, page_answer
from api.edge.security import Authenticated, Principal
from api.native.pages import Page, page
from api.native.problems import SECURED, documented
from projections.artifacts import ArtifactNotFound, find_artifact, job_artifacts
from projections.engine import Views
from projections.projection import Row
from scheduler.workspaces.artifacts import ArtifactStore

_BYTES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string"}}}},
    206: {"description": "The range that was asked for."},
    400: {"description": "The range is malformed, or the request is foreign."},
    416: {"description": "The range is beyond the end."},
    **documented(404, 406, 413),
}


class ArtifactObject(BaseModel):
    """A file, without its bytes."""

    model_config = ConfigDict(extra="forbid")

    id: str
    jobId: str
    attempt: int
    name: str = Field(description="A path, with `/`.")
    mime: str
    size: int = Field(description="In bytes.")
    sha256: str
    createdAt: str
    position: int


def artifact_routes(views: Views, store: ArtifactStore) -> APIRouter:
    """The routes. Every file has a policy that lets it neither run nor fetch anything."""
    router = APIRouter(tags=["artifacts"], responses=SECURED)

    @router.get(
        "/jobs/{job_id}/artifacts",
        summary="The files that a job left",
        response_model=Page[ArtifactObject],
        responses=documented(404),
    )
    async def get_artifacts(job_id: str, principal: Authenticated) -> Response:
        """Of all its attempts."""
        await views.caught_up()
        with views.reading() as reading:
            seen_job(reading, job_id, principal)
            rows = job_artifacts(reading, job_id)
        return page(list(map(artifact_json, rows)))

    @router.get(
        "/artifacts/{artifact_id}",
        summary="One file, without its bytes",
        response_model=ArtifactObject,
        responses=documented(404),
    )
    async def get_artifact(artifact_id: str, principal: Authenticated) -> Response:
        return json_bytes(artifact_json(await _seen(artifact_id, principal)))

    @router.get(
        "/artifacts/{artifact_id}/content",
        summary="The bytes of a file",
        response_class=FileResponse,
        responses=_BYTES,
    )
    async def get_content(
        artifact_id: str,
        principal: Authenticated,
        download: Annotated[bool, Query(description="To be saved, not shown.")] = False,
        format: Annotated[Literal["raw", "html"], Query()] = "raw",
    ) -> Response:
        """Supports Range (RFC 9110 section 14). The ETag is the SHA-256. With `format=html`, text
        becomes a page.
        """
        row = await _seen(artifact_id, principal)
        if format == "html" and not download:
            return await page_answer(row, store)
        return file_answer(row, store, download=download)

    async def _seen(artifact_id: str, principal: Principal) -> Row:
        await views.caught_up()
        with views.reading() as reading:
            row, job = find_artifact(reading, artifact_id)
        if not principal.sees(job["owner"]):
            raise ArtifactNotFound(artifact_id)
        return row

    return router


def artifact_json(row: Row) -> dict[str, Any]:
    """The object for a row of the artifacts view."""
    return {
        "id": row["id"],
        "jobId": row["job_id"],
        "attempt": row["attempt"],
        "name": row["name"],
        "mime": row["mime"],
        "size": row["size"],
        "sha256": row["sha256"],
        "createdAt": row["at"],
        "position": row["position"],
    }
