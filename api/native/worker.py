"""``/worker``: the API for a running attempt, with its own token.

Each call belongs to one attempt and renews its lease. It is a 409 if the attempt is not the job's
current one any more, so a late worker changes nothing.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from api.edge.answers import json_bytes
from api.edge.security import Worker
from api.edge.texts import CARRIABLE, Body
from api.edge.worker_tokens import WorkerPrincipal
from api.native.approval_json import ApprovalObject, approval_json
from api.native.pages import Page, page
from api.native.problems import SECURED, documented
from domain.account.email import folded
from domain.approval.aggregate import ApprovalNotFound, ApprovalState, approval_stream
from domain.approval.commands import Approvals, Question
from domain.clock import Clock, format_time, system_clock
from domain.crew.commands import Crews
from domain.errors import BadInput, Invalid
from domain.event import Event
from domain.job.aggregate import LONGEST_TEXT, Job
from domain.job.commands import Jobs
from domain.job.events import (
    JobApprovalRequested,
    JobCommented,
    JobProgressed,
    JobRedone,
    JobSubmitted,
    job_stream,
)
from domain.job.result import check_result, parent_results
from domain.log import EventLog, Recorded
from projections.approvals import approval_of_log

LONGEST_WAIT_S = 60
LONGEST_EXPIRY_S = 366 * 24 * 3600

Text = Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT), CARRIABLE]

_MOST_COMMENTS = 200
_COMMENT_BYTES = 512 * 1024
"""How many of the newest comments one answer carries."""


class Heartbeat(Body):
    """A sign of life. With `progress` (0 to 1) or `text` it is shown to people."""

    progress: Annotated[float, Field(ge=0, le=1)] | None = None
    text: Annotated[str, Field(max_length=500), CARRIABLE] | None = None


class Comment(Body):
    body: Text


class Completion(Body):
    """The result, which must match the job's schema. `summary` becomes a comment."""

    result: dict[str, Any] | None = None
    summary: Text | None = None


class Block(Body):
    reason: Text


class Asking(Body):
    """A question to a person. Without `approvers` the people named by the template may answer, or
    else the owner.
    """

    description: Text
    proposed_action: Text | None = None
    explicit: bool = False
    expires_in_s: Annotated[float, Field(gt=0, le=LONGEST_EXPIRY_S)] | None = None
    approvers: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=320), CARRIABLE]], Field(max_length=20)
    ] = Field(default_factory=list)


async def _attempt(principal: Worker) -> WorkerPrincipal:
    assert isinstance(principal, WorkerPrincipal)
    return principal


Attempt = Annotated[WorkerPrincipal, Depends(_attempt)]
Decide = Callable[[Job], list[Event]]


def worker_routes(
    log: EventLog,
    jobs: Jobs,
    crews: Crews,
    approvals: Approvals,
    *,
    beat: Callable[[str, int], None],
    stopping: asyncio.Event,
    clock: Clock = system_clock,
    name_of: Callable[[str], str] = str,
    paged: bool = True,
) -> APIRouter:
    """The routes. `beat` renews an attempt's lease, `name_of` returns the names of people who wrote
    comments, and `stopping` ends every wait for an answer. `paged` tells whether a list is a page:
    attempts that 0.2.0 started get a bare array.
    """
    responses = SECURED | documented(404, 409)
    router = APIRouter(prefix="/worker", tags=["worker"], responses=responses)
    _add_work(router, log, jobs, crews, beat, name_of)
    say = _saying(jobs, beat)
    _add_signs(router, say)
    _add_ends(router, jobs, beat, say)
    _add_questions(router, log, jobs, approvals, beat, stopping, clock, name_of, paged=paged)
    return router


def _add_work(
    router: APIRouter,
    log: EventLog,
    jobs: Jobs,
    crews: Crews,
    beat: Callable[[str, int], None],
    name_of: Callable[[str], str],
) -> None:
    @router.get("", summary="The work to do")
    async def show(worker: Attempt) -> Response:
        """The job, its parents' results, its newest comments, and the feedback if it is done again.
        `olderComments` is the number of comments that are left out.
        """
        job = await _current(jobs, worker, beat)
        wanted = (JobSubmitted.type, JobCommented.type, JobRedone.type)
        events = await log.stream(job_stream(worker.job_id), types=wanted)
        every = [event for event in events if event.type == JobCommented.type]
        comments = _newest(every)
        parents = await crews.apart(partial(crews.parents, job))
        shown = {
            "job": _job_json(job, events[0]),
            "parentResults": [parent.json() for parent in parent_results(parents)],
            "comments": [_comment_json(event, name_of) for event in comments],
            "olderComments": len(every) - len(comments),
            "feedback": _feedback(events),
        }
        return json_bytes(shown)


def _newest(events: list[Recorded]) -> list[Recorded]:
    """The newest of these events, as many as an answer may carry."""
    size = 0
    for count, event in enumerate(reversed(events)):
        size += len(event.state)
        if count == _MOST_COMMENTS or size > _COMMENT_BYTES:
            return events[len(events) - count :]
    return events


class Say(Protocol):
    """Appends what a worker reports, and answers the request."""

    async def __call__(
        self, decide: Decide, request: Request, worker: WorkerPrincipal, status: int = 200
    ) -> Response: ...


def _saying(jobs: Jobs, beat: Callable[[str, int], None]) -> Say:
    async def say(
        decide: Decide, request: Request, worker: WorkerPrincipal, status: int = 200
    ) -> Response:
        changed = await jobs.execute(worker.job_id, decide, worker.context(request))
        beat(worker.job_id, worker.attempt)
        answer = {"ok": True, "cancelRequested": changed.job.cancel_requested}
        return json_bytes(answer, status, {"x-event-position": str(changed.position)})

    return say


def _add_signs(router: APIRouter, say: Say) -> None:
    @router.post("/heartbeat", summary="Give a sign of life")
    async def heartbeat(body: Heartbeat, request: Request, worker: Attempt) -> Response:
        """Without `progress` and `text` nothing is written to the log."""
        fraction = None if body.progress is None else f"{body.progress:.4f}"
        text = body.text or ""

        def decide(job: Job) -> list[Event]:
            job.require_current(worker.attempt)
            if fraction is None and not text:
                return []
            progress = JobProgressed(attempt=worker.attempt, fraction=fraction, text=text)
            return job.report(progress)

        return await say(decide, request, worker)

    @router.post("/comments", status_code=201, summary="Write a comment on the job")
    async def comment(body: Comment, request: Request, worker: Attempt) -> Response:
        def decide(job: Job) -> list[Event]:
            job.require_current(worker.attempt)
            return job.comment(body.body)

        return await say(decide, request, worker, 201)


def _add_ends(router: APIRouter, jobs: Jobs, beat: Callable[[str, int], None], say: Say) -> None:
    @router.post("/complete", summary="Hand in the result")
    async def complete(body: Completion, request: Request, worker: Attempt) -> Response:
        """The job is done when the attempt has ended. 422 with the `path` of the mistake if the
        result does not match the schema; it may be handed in again.
        """
        job = await _current(jobs, worker, beat)
        schema = job.terms.result_schema
        try:
            result = await asyncio.to_thread(check_result, body.result or {}, schema)
        except BadInput as bad:
            return _refused(bad, request)

        def decide(job: Job) -> list[Event]:
            given = job.give_result(worker.attempt, result)
            return [*given, *(job.comment(body.summary) if body.summary else [])]

        return await say(decide, request, worker)

    @router.post("/block", summary="Ask for a person, because the job cannot go on")
    async def block(body: Block, request: Request, worker: Attempt) -> Response:
        """The job is blocked when the attempt has ended."""
        return await say(lambda job: job.ask_block(worker.attempt, body.reason), request, worker)


def _add_questions(
    router: APIRouter,
    log: EventLog,
    jobs: Jobs,
    approvals: Approvals,
    beat: Callable[[str, int], None],
    stopping: asyncio.Event,
    clock: Clock,
    name_of: Callable[[str], str],
    *,
    paged: bool,
) -> None:
    @router.post(
        "/approvals", status_code=201, summary="Ask a person", response_model=ApprovalObject
    )
    async def ask(body: Asking, request: Request, worker: Attempt) -> Response:
        """Until the answer comes, the attempt holds no place and its time limit does not run."""
        _check_approvers(await _current(jobs, worker, beat), body.approvers)
        expires_at = None
        if body.expires_in_s is not None:
            expires_at = format_time(clock() + timedelta(seconds=body.expires_in_s))
        question = Question(
            description=body.description,
            proposed_action=body.proposed_action,
            explicit=body.explicit,
            approvers=tuple(body.approvers),
            expires_at=expires_at,
        )
        requested = await approvals.request(
            worker.job_id, worker.attempt, question, worker.context(request)
        )
        headers = {
            "x-event-position": str(requested.position),
            "Location": f"/crewlog/v1/worker/approvals/{requested.approval.id}",
        }
        row = await log.apart(partial(approval_of_log, log, requested.approval.id))
        return json_bytes(approval_json(row, name_of), 201, headers)

    @router.get(
        "/approvals",
        summary="What this attempt asked",
        response_model=Page[ApprovalObject] if paged else list[ApprovalObject],
    )
    async def asked(worker: Attempt) -> Response:
        await _current(jobs, worker, beat)
        asking = await log.stream(job_stream(worker.job_id), types=(JobApprovalRequested.type,))
        ids = [
            event.data["approval"] for event in asking if event.data["attempt"] == worker.attempt
        ]
        rows = await log.apart(lambda: [approval_of_log(log, one) for one in ids])
        shown = [approval_json(row, name_of) for row in rows]
        return page(shown) if paged else json_bytes(shown)

    @router.get("/approvals/{approval_id}", summary="The answer", response_model=ApprovalObject)
    async def answer(
        approval_id: str,
        worker: Attempt,
        wait: Annotated[
            float, Query(ge=0, le=LONGEST_WAIT_S, description="Seconds to wait for an answer.")
        ] = 0,
    ) -> Response:
        """Returns once it is answered; still pending if the wait is over or the server stops."""
        await _current(jobs, worker, beat)
        head = log.head
        row = await log.apart(partial(approval_of_log, log, approval_id))
        if row["job_id"] != worker.job_id:
            raise ApprovalNotFound(approval_id)
        if wait and row["state"] == ApprovalState.PENDING:
            await _next_event(log, approval_stream(approval_id), head, wait, stopping)
            beat(worker.job_id, worker.attempt)
            row = await log.apart(partial(approval_of_log, log, approval_id))
        return json_bytes(approval_json(row, name_of))


async def _next_event(
    log: EventLog, subject: str, after: int, wait_s: float, stopping: asyncio.Event
) -> None:
    """Returns at the next event about the subject, after the time, or when the server stops."""
    tail = log.tail(after, subject)
    waits = {asyncio.ensure_future(anext(tail)), asyncio.ensure_future(stopping.wait())}
    try:
        await asyncio.wait(waits, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


async def _current(jobs: Jobs, worker: WorkerPrincipal, beat: Callable[[str, int], None]) -> Job:
    """The worker's job. Renews its lease. Raises StaleAttempt or JobAlreadyEnded if the attempt has
    lost its job.
    """
    job = await jobs.loaded(worker.job_id)
    job.require_current(worker.attempt)
    beat(worker.job_id, worker.attempt)
    return job


def _check_approvers(job: Job, wanted: list[str]) -> None:
    """A worker may choose among the people that the template names, but no others. Raises
    Invalid.
    """
    named = set(map(folded, job.terms.approvers))
    if named and not named.issuperset(map(folded, wanted)):
        raise Invalid("The template names who may answer, and not all of these are among them.")


def _refused(bad: BadInput, request: Request) -> Response:
    """A result that does not match is a 422: the worker may correct it and hand it in again."""
    error_id: str = request.state.request_id
    return json_bytes({"detail": str(bad), "path": bad.path, "error_id": error_id}, 422)


def _job_json(job: Job, first: Recorded) -> dict[str, Any]:
    submitted, terms = first.event(), job.terms
    assert isinstance(submitted, JobSubmitted)
    return {
        "id": job.id,
        "title": job.title,
        "body": terms.body,
        "key": terms.local or None,
        "template": terms.template or None,
        "assignee": terms.assignee,
        "state": job.state.value,
        "attempt": job.attempt,
        "parents": terms.parents,
        "resultSchema": terms.result_schema,
        "workspace": terms.workspace or None,
        "cwd": job.cwd,
        "labels": submitted.labels,
        "crewId": job.links.crew,
        "ownerId": job.owner,
        "createdAt": first.at,
        "startedAt": job.started_at,
        "timeoutMs": job.timeout_ms,
        "leaseMs": terms.lease_ms,
        "result": job.given,
        "trusted": job.trusted,
        "cancelRequested": job.cancel_requested,
    }


def _comment_json(event: Recorded, name_of: Callable[[str], str]) -> dict[str, Any]:
    return {
        "author": name_of(event.actor),
        "body": event.data["text"],
        "createdAt": event.at,
    }


def _feedback(events: list[Recorded]) -> str | None:
    """The feedback of the last redo."""
    feedback = [event.data["feedback"] for event in events if event.type == JobRedone.type]
    return feedback[-1] or None if feedback else None
