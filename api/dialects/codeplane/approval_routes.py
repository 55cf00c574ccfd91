"""``/api/approvals``: questions that wait for a person, and their answers."""

from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from api.dialects.codeplane.approval_json import ApprovalObject, approval_json
from api.edge.access import (
    NOT_YOURS_TO_ANSWER,
    answerable,
    loaded_job,
    may_trust,
    seen_approval,
    sees_approval,
)
from api.edge.answers import json_bytes, position_header
from api.edge.errors import SECURED, documented
from api.edge.security import Authenticated, EmailOf, NameOf
from api.edge.short_forms import bounded
from api.edge.texts import CARRIABLE, Body
from domain.approval.commands import Approvals
from domain.errors import JobNotFound
from domain.job.aggregate import LONGEST_TEXT
from domain.job.commands import Jobs
from domain.log import EventLog
from projections.approvals import (
    approval_of_log,
    approvers_of,
    count_approvals,
    job_approvals,
    list_approvals,
)
from projections.engine import Views
from projections.jobs import shortened
from projections.projection import Row

State = Literal["pending", "approved", "rejected", "expired", "withdrawn"]

_RESOLUTIONS = {"approve": "approved", "reject": "rejected"}


class Answer(Body):
    """Yes or no. ``decision`` is another name for ``resolution``."""

    resolution: Literal["approved", "rejected", "approve", "reject"] = Field(
        validation_alias=AliasChoices("resolution", "decision")
    )
    comment: Annotated[str, Field(max_length=LONGEST_TEXT), CARRIABLE] | None = None


class ApprovalPage(BaseModel):
    model_config = ConfigDict(extra="forbid")

    items: list[ApprovalObject]
    count: int = Field(description="The number on all pages.")
    cursor: str | None
    hasMore: bool


class Trusted(BaseModel):
    model_config = ConfigDict(extra="forbid")

    resolved: int = Field(description="The number of pending approvals that this approved.")


def approval_routes(
    log: EventLog,
    jobs: Jobs,
    approvals: Approvals,
    views: Views,
    *,
    email_of: EmailOf,
    name_of: NameOf,
) -> APIRouter:
    """The routes. `email_of` returns a principal's e-mail address, by which templates name people;
    `name_of` returns the name to show.
    """
    router = APIRouter(prefix="/api", tags=["approvals"], responses=SECURED)
    _add_reading(router, views, email_of, name_of)
    _add_answering(router, log, jobs, approvals, email_of, name_of)
    return router


def _add_reading(router: APIRouter, views: Views, email_of: EmailOf, name_of: NameOf) -> None:
    @router.get(
        "/approvals",
        summary="List approvals, newest first",
        response_model=ApprovalPage,
    )
    async def get_approvals(
        principal: Authenticated,
        state: Annotated[State | None, Query()] = None,
        mine: Annotated[bool, Query(description="For administrators: only own ones.")] = False,
        limit: Annotated[int, Query(ge=1, le=100)] = 50,
        cursor: Annotated[str | None, Query(max_length=200)] = None,
    ) -> Response:
        """The inbox: approvals of the person's own jobs, and those that name the person."""
        everything = principal.admin and not mine
        states = () if state is None else (state,)
        owner = None if everything else principal.owner
        approver = None if everything else email_of(principal)
        wanted: dict[str, Any] = {"states": states, "owner": owner, "approver": approver}
        await views.caught_up()

        def read() -> tuple[int, list[Row], bool]:
            with views.reading() as reading:
                rows, more = list_approvals(reading, **wanted, cursor=cursor, limit=limit)
                return count_approvals(reading, **wanted), rows, more

        count, rows, more = await run_in_threadpool(read)
        items, whole = bounded(approval_json(row, name_of) for row in rows)
        more = more or not whole
        following = rows[len(items) - 1]["id"] if more else None
        return json_bytes({"items": items, "count": count, "cursor": following, "hasMore": more})

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
        summary="A job's approvals, oldest first",
        response_model=list[ApprovalObject],
    )
    async def get_job_approvals(job_id: str, principal: Authenticated) -> Response:
        """Empty for an unknown job (`contracts/codeplane.md` §3.5). If all together are larger than
        2 MiB, long texts are shortened: this list has no pages.
        """
        email = email_of(principal)
        await views.caught_up()

        def seen(row: Row) -> bool:
            return sees_approval(principal, email, row["owner"], approvers_of(row))

        def read() -> bytes:
            with views.reading() as reading:
                rows, _ = job_approvals(reading, job_id)
            shown = [approval_json(row, name_of) for row in filter(seen, rows)]
            items, whole = bounded(shown)
            return orjson.dumps(items if whole else [_short(approval) for approval in shown])

        return Response(await run_in_threadpool(read), media_type="application/json")


def _short(approval: dict[str, Any]) -> dict[str, Any]:
    texts = {name: approval[name] for name in ("description", "proposedAction", "comment")}
    return approval | {name: text and shortened(text) for name, text in texts.items()}


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
        resolution = _RESOLUTIONS.get(body.resolution, body.resolution)
        resolved = await approvals.resolve(
            approval_id, resolution, body.comment, principal.context(request)
        )
        row = await log.apart(lambda: approval_of_log(log, approval_id))
        return json_bytes(approval_json(row, name_of), headers=position_header(resolved.position))

    @router.post("/jobs/{job_id}/trust", summary="Trust a job", response_model=Trusted)
    @router.post("/jobs/{job_id}/approvals/trust", summary="Trust a job", response_model=Trusted)
    async def trust(job_id: str, request: Request, principal: Authenticated) -> Response:
        """Approves all questions of the job, now and later, except those that a person must answer.
        An unknown job has none (`contracts/codeplane.md` §3.5).
        """
        try:
            job = await log.apart(lambda: loaded_job(jobs, job_id, principal))
        except JobNotFound:
            return json_bytes({"resolved": 0})
        email = email_of(principal)
        if not await log.apart(lambda: may_trust(principal, email, job, approvals)):
            raise HTTPException(403, NOT_YOURS_TO_ANSWER)
        count, changed = await approvals.trust(job_id, principal.context(request))
        return json_bytes({"resolved": count}, headers=position_header(changed.position))
