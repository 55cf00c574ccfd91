"""``/api/jobs/{job_id}/artifact``: the file that a job is about (`contracts/board.md` §5.3)."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse

from api.edge.errors import SECURED, Refusal, documented
from api.edge.files import BYTES, NoFile, chosen, file_answer, page_answer
from api.edge.security import Authenticated
from domain.errors import JobNotFound
from projections.artifacts import job_artifacts
from projections.engine import Views
from projections.jobs import find_job
from scheduler.workspaces.artifacts import ArtifactStore


def artifact_routes(views: Views, store: ArtifactStore) -> APIRouter:
    router = APIRouter(prefix="/api/jobs", tags=["board"], responses=SECURED)

    @router.get(
        "/{job_id}/artifact",
        summary="The job's main file",
        response_class=FileResponse,
        responses=BYTES
        | documented(413)
        | {
            406: {
                "model": Refusal,
                "description": "It is not text, so it cannot be shown as a page.",
            }
        },
    )
    async def get_job_artifact(
        job_id: str,
        principal: Authenticated,
        download: bool = False,
        format: Annotated[Literal["html", "raw"], Query()] = "raw",
        name: Annotated[str | None, Query(max_length=1_024)] = None,
    ) -> Response:
        """From the latest attempt that left a file: the one called `name`, otherwise a report or an
        index, otherwise the first by name. With `format=html`, text becomes a page.
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
            return file_answer(row, store, download=download)
        return await page_answer(row, store)

    return router
