"""``/approvals``: questions that wait for a person, and their answers."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from api.edge.access import (
    NOT_YOURS_TO_ANSWER,
    answerable,
    loaded_job,
    may_trust,
    seen_approval,
    seen_job,
)
from api.edge.answers import json_bytes, position_header
from api.edge.security import Authenticated, EmailOf, NameOf
from api.edge.short_forms import bounded
from api.edge.texts import CARRIABLE, Body
from api.native.approval_json import ApprovalObject, approval_json
from api.native.job_requests import Text, Word, words_of
from api.native.pages import Page, page
from api.native.problems import SECURED, documented
from domain.approval.aggregate import ApprovalState
from domain.approval.commands import Approvals
from domain.job.commands import Jobs
from domain.log import EventLog
from projections.approvals import (
    approval_of_log,
    count_approvals,
    job_approvals,
    list_approvals,
)
from projections.engine import Views
from projections.projection import Row


class Answer(Body):
    """Yes or no."""

    resolution: Literal["approved", "rejected"]
    comment: Annotated[Text, CARRIABLE] | None = None


class ApprovalPage(Page[ApprovalObject]):
    count: int = Field(description="The number on all pages.")


class Trusted(BaseModel):
    model_config = ConfigDict(extra="forbid")

    approved: int = Field(description="The number of pending approvals that this approved.")


def approval_routes(
    log: EventLog,
    jobs: Jobs,
    approvals: Approvals,
    views: Views,
    email_of: EmailOf,
    name_of: NameOf,
) -> APIRouter:
    """The routes. `email_of` returns a principal's e-mail address, by which templates name
    people.
    """
    router = APIRouter(tags=["approvals"], responses=SECURED)
    _add_reading(router, views, email_of, name_of)
    _add_answering(router, log, jobs, approvals, email_of, name_of)
    return router


def _add_reading(router: APIRouter, views: Views, email_of: EmailOf, name_of: NameOf) -> None:
    @router.get("/approvals", summary="List approvals, newest first", response_model=ApprovalPage)
    async def get_approvals(
        principal: Authenticated,
        state: Annotated[
            str | None,
            Query(max_length=200, description=f"By comma: {', '.join(ApprovalState)}."),
        ] = None,
        job: Annotated[Word | None, Query()] = None,
        crew: Annotated[Word | None, Query()] = None,
        mine: Annotated[bool, Query(description="For administrators: only own ones.")] = False,
        limit: Annotated[int, Query(ge=1, le=100)] = 50,
        cursor: Annotated[str | None, Query(max_length=200)] = None,
    ) -> Response:
        """The inbox: approvals of the person's own jobs, and those that name the person."""
        everything = principal.admin and not mine
        wanted: dict[str, Any] = {
            "states": words_of("state", state, tuple(ApprovalState)),
            "owner": None if everything else principal.owner,
            "approver": None if everything else email_of(principal),
            "job_id": job,
            "crew": crew,
        }
        await views.caught_up()

        def read() -> tuple[int, list[Row], bool]:
            with views.reading() as reading:
                rows, more = list_approvals(reading, **wanted, cursor=cursor, limit=limit)
                return count_approvals(reading, **wanted), rows, more

        count, rows, more = await run_in_threadpool(read)
        items, whole = bounded(approval_json(row, name_of) for row in rows)
        following = rows[len(items) - 1]["id"] if more or not whole else None
        return page(items, following, count=count)

    @router.get(
        "/approvals/{approval_id}",
        summary="One approval",
        response_model=ApprovalObject,
        responses=documented(404),
    )
    async def get_approval(approval_id: str, principal: Authenticated) -> Response:
        await views.caught_up()
        with views.reading() as reading:
            row = seen_approval(reading, approval_id, principal, email_of(principal))
        return json_bytes(approval_json(row, name_of))

    @router.get(
        "/jobs/{job_id}/approvals",
        summary="What was asked for a job, oldest first",
        response_model=Page[ApprovalObject],
        responses=documented(404),
    )
    async def get_job_approvals(
        job_id: str,
        principal: Authenticated,
        limit: Annotated[int, Query(ge=1, le=200)] = 200,
        cursor: Annotated[str | None, Query(max_length=200)] = None,
    ) -> Response:
        """A page has up to `limit` approvals, or as many as make 2 MiB."""
        await views.caught_up()

        def read() -> tuple[list[Row], bool]:
            with views.reading() as reading:
                seen_job(reading, job_id, principal)
                return job_approvals(reading, job_id, cursor=cursor, limit=limit)

        rows, more = await run_in_threadpool(read)
        items, whole = bounded(approval_json(row, name_of) for row in rows)
        return page(items, rows[len(items) - 1]["id"] if more or not whole else None)


def _add_answering(
    router: APIRouter,
    log: EventLog,
    jobs: Jobs,
    approvals: Approvals,
    email_of: EmailOf,
    name_of: NameOf,
) -> None:
    @router.post(
        "/approvals/{approval_id}/resolve",
        summary="Approve or reject",
        response_model=ApprovalObject,
        responses=documented(404, 409),
    )
    async def resolve(
        approval_id: str, body: Answer, request: Request, principal: Authenticated
    ) -> Response:
        """409 if it was answered before, or the job does not wait any more. Administrators may
        answer, and the people that it names; if it names nobody, the owner.
        """
        email = email_of(principal)
        await log.apart(lambda: answerable(approvals, approval_id, principal, email))
        resolved = await approvals.resolve(
            approval_id, body.resolution, body.comment, principal.context(request)
        )
        row = await log.apart(lambda: approval_of_log(log, approval_id))
        return json_bytes(approval_json(row, name_of), headers=position_header(resolved.position))

    @router.post(
        "/jobs/{job_id}/trust",
        summary="Trust a job",
        response_model=Trusted,
        responses=documented(404, 409),
    )
    async def trust(job_id: str, request: Request, principal: Authenticated) -> Response:
        """Approves all questions of the job, now and later, except those that a person must
        answer.
        """
        job = await log.apart(lambda: loaded_job(jobs, job_id, principal))
        email = email_of(principal)
        if not await log.apart(lambda: may_trust(principal, email, job, approvals)):
            raise HTTPException(403, NOT_YOURS_TO_ANSWER)
        count, changed = await approvals.trust(job_id, principal.context(request))
        return json_bytes({"approved": count}, headers=position_header(changed.position))
