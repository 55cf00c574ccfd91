"""What people tell the workers of a job: comments, unblock, redo (`contracts/board.md` §5.3)."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from api.dialects.board.job_changes import changed_job
from api.dialects.board.job_detail import comment_json
from api.dialects.board.job_json import JobChanged
from api.edge.access import guarded, loaded_job
from api.edge.answers import json_bytes, position_header
from api.edge.entity_tags import IfMatchHeader, version_of
from api.edge.errors import SECURED, documented
from api.edge.security import Authenticated, NameOf
from api.edge.texts import CARRIABLE, Body
from domain.crew.commands import Crews
from domain.job.aggregate import LONGEST_TEXT
from domain.job.commands import Jobs
from projections.comments import comment_at
from projections.engine import Views

Text = Annotated[str, Field(max_length=LONGEST_TEXT), CARRIABLE]


class CommentRequest(Body):
    """A comment for the workers of the job."""

    body: Annotated[Text, Field(min_length=1)]


class RedoRequest(Body):
    """The feedback: what was wrong."""

    feedback: Text = ""


def feedback_routes(jobs: Jobs, crews: Crews, views: Views, name_of: NameOf) -> APIRouter:
    router = APIRouter(prefix="/api/jobs", tags=["board"], responses=SECURED)

    @router.post(
        "/{job_id}/comments",
        status_code=201,
        summary="Comment on a job",
        responses=documented(404, 413),
    )
    async def comment(
        job_id: str, body: CommentRequest, request: Request, principal: Authenticated
    ) -> Response:
        changed = await jobs.execute(
            job_id,
            guarded(principal, lambda job: job.comment(body.body)),
            principal.context(request),
        )
        await views.caught_up()
        with views.reading() as reading:
            written = comment_at(reading, changed.position)
        return json_bytes(
            {"comment": comment_json(written, name_of)}, 201, position_header(changed.position)
        )

    @router.post(
        "/{job_id}/unblock",
        summary="Let a blocked job go on",
        response_model=JobChanged,
        responses=documented(404, 409, 412),
    )
    async def unblock(
        job_id: str, request: Request, principal: Authenticated, if_match: IfMatchHeader = None
    ) -> Response:
        """A job that has ended without success is done again. 409 if it is not blocked."""
        await run_in_threadpool(loaded_job, jobs, job_id, principal)
        changed = await crews.retry(
            job_id, principal.context(request), if_match=version_of(if_match)
        )
        return await changed_job(views, changed)

    @router.post(
        "/{job_id}/redo",
        summary="Have a job done again, with feedback",
        response_model=JobChanged,
        responses=documented(404, 409, 412),
    )
    async def redo(
        job_id: str,
        request: Request,
        principal: Authenticated,
        body: RedoRequest | None = None,
        if_match: IfMatchHeader = None,
    ) -> Response:
        """Jobs that used its old result are done again, too."""
        await run_in_threadpool(loaded_job, jobs, job_id, principal)
        feedback = body.feedback if body is not None else ""
        changed = await crews.redo(
            job_id, feedback, principal.context(request), if_match=version_of(if_match)
        )
        return await changed_job(views, changed)

    return router
