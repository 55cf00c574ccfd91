"""Files that jobs left (`contracts/codeplane.md` §3.6)."""

from typing import Any, Literal

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from api.edge.access import seen_job
from api.edge.answers import json_bytes
from api.edge.errors import SECURED
from api.edge.files import BYTES, file_answer
from api.edge.foreign_texts import is_text
from api.edge.security import Authenticated
from domain.errors import JobNotFound
from projections.artifacts import ArtifactNotFound, find_artifact, job_artifacts
from projections.engine import Views
from projections.projection import Row
from scheduler.workspaces.artifacts import ArtifactStore


class ArtifactObject(BaseModel):
    """`contracts/codeplane.md` §2."""

    model_config = ConfigDict(extra="forbid")

    id: str
    jobId: str
    name: str = Field(description="A path, with `/`.")
    type: Literal["document", "custom"]
    mimeType: str
    sizeBytes: int
    phase: Literal["post_completion"]
    createdAt: str


class ArtifactList(BaseModel):
    model_config = ConfigDict(extra="forbid")

    items: list[ArtifactObject]


def artifact_routes(views: Views, store: ArtifactStore) -> APIRouter:
    router = APIRouter(prefix="/api", tags=["artifacts"], responses=SECURED)

    @router.get(
        "/jobs/{job_id}/artifacts",
        summary="The files that a job left",
        response_model=ArtifactList,
    )
    async def get_artifacts(job_id: str, principal: Authenticated) -> Response:
        """Of all its attempts. Empty for an unknown job (`contracts/codeplane.md` §3.6)."""
        await views.caught_up()
        with views.reading() as reading:
            try:
                seen_job(reading, job_id, principal)
                rows = job_artifacts(reading, job_id)
            except JobNotFound:
                rows = []
        return json_bytes({"items": [artifact_json(row) for row in rows]})

    @router.get(
        "/artifacts/{artifact_id}",
        summary="The bytes of a file",
        response_class=FileResponse,
        responses=BYTES,
    )
    async def get_artifact(artifact_id: str, principal: Authenticated) -> Response:
        """Supports Range (RFC 9110 section 14). The ETag is the SHA-256."""
        await views.caught_up()
        with views.reading() as reading:
            row, job = find_artifact(reading, artifact_id)
        if not principal.sees(job["owner"]):
            raise ArtifactNotFound(artifact_id)
        return file_answer(row, store, download=False)

    return router


def artifact_json(row: Row) -> dict[str, Any]:
    """The object for a row of the artifacts view."""
    return {
        "id": row["id"],
        "jobId": row["job_id"],
        "name": row["name"],
        "type": "document" if is_text(row["mime"]) else "custom",
        "mimeType": row["mime"],
        "sizeBytes": row["size"],
        "phase": "post_completion",
        "createdAt": row["at"],
    }
