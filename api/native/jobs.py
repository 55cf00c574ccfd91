"""``/jobs``: submit jobs, find them, show what happened, and cancel, retry, redo or rerun them."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from api.edge.access import scope_of, seen_job
from api.edge.answers import json_bytes, position_header
from api.edge.entity_tags import IfMatchHeader, etag, version_of
from api.edge.idempotency import IdempotencyHeader, key_of
from api.edge.security import Authenticated, NameOf, Principal
from api.edge.short_forms import bounded
from api.edge.sse import STREAMED
from api.native.job_actions import JobActions
from api.native.job_json import (
    ActionResults,
    Attempt,
    CommentObject,
    Entry,
    JobListed,
    JobObject,
    ParentResult,
    attempt_json,
    comment_json,
    entry_json,
    job_json,
    listed,
    parent_json,
)
from api.native.job_requests import (
    MOST_IDS,
    Comment,
    JobListQuery,
    JobsAction,
    NewJob,
    OwnerOf,
    Redo,
    fields_of,
    owner_named,
    work_of,
)
from api.native.job_streams import JobStreams, Wanted
from api.native.log import LogPage, Position, Types, envelopes_page, types_of
from api.native.pages import CursorOfPage, Page, page
from api.native.problems import SECURED, documented
from domain.errors import InvalidCursor
from domain.idempotency import canonical
from domain.job.commands import Changed, Submission
from domain.log import EventLog
from projections.attempts import job_attempts, newest_attempts
from projections.comments import comment_at, job_comments
from projections.engine import Views
from projections.job_filters import JobFilter, filtered_jobs
from projections.jobs import find_job, first_row, jobs_of_ids
from projections.projection import Row
from projections.timeline import job_timeline, newest_of_job
from scheduler.intake import Intake

CHANGED = documented(404, 409, 412)


def job_routes(
    log: EventLog,
    intake: Intake,
    actions: JobActions,
    streams: JobStreams,
    views: Views,
    name_of: NameOf,
    user_by_email: OwnerOf,
    *,
    workdir: Path,
    default_timeout_s: int,
) -> APIRouter:
    """The routes. `user_by_email` returns the owner behind an e-mail address."""
    router = APIRouter(prefix="/jobs", tags=["jobs"], responses=SECURED)
    _add_intake(router, intake, name_of, str(workdir), default_timeout_s)
    _add_reading(router, views, name_of, user_by_email)
    _add_belongings(router, views, name_of)
    _add_timeline(router, views, name_of)
    _add_comments(router, actions, views, name_of)
    _add_events(router, log, actions, streams)
    shown = _shown(views, name_of)
    _add_commands(router, actions, shown)
    _add_redo_and_delete(router, actions, shown)
    _add_bulk(router, actions, views, user_by_email)
    return router


def _add_intake(
    router: APIRouter, intake: Intake, name_of: NameOf, root: str, default_timeout_s: int
) -> None:
    @router.post(
        "",
        status_code=201,
        summary="Submit a job",
        response_model=JobObject,
        responses=documented(413),
    )
    async def submit(
        body: NewJob, request: Request, principal: Authenticated, key: IdempotencyHeader = None
    ) -> Response:
        request_parts = (
            (b"POST /crewlog/v1/jobs", canonical(body.model_dump())) if key is not None else ()
        )
        work = work_of(body, root, default_timeout_s, principal.owner)
        return _made(
            await intake.submit(
                work, principal.context(request), key_of(principal.actor, key, *request_parts)
            )
        )

    @router.post(
        "/{job_id}/rerun",
        status_code=201,
        summary="Submit the same command again",
        response_model=JobObject,
        responses=documented(404, 409),
    )
    async def rerun(
        job_id: str, request: Request, principal: Authenticated, key: IdempotencyHeader = None
    ) -> Response:
        """A new job of the same command; `parentId` is its only tie to the old one. 409 for a job
        of a crew, and for one whose environment or arguments are not in the log.
        """
        request_parts = (b"rerun", job_id.encode())
        return _made(
            await intake.rerun(
                job_id,
                principal.sees,
                principal.owner,
                principal.context(request),
                key_of(principal.actor, key, *request_parts),
            )
        )

    def _made(submission: Submission) -> Response:
        queued = submission.events[1]
        headers = {
            **position_header(queued.position),
            "ETag": etag(queued.version),
            "Location": f"/crewlog/v1/jobs/{submission.job_id}",
        }
        if submission.replayed:
            headers["Idempotency-Replayed"] = "true"
        return json_bytes(job_json(first_row(submission.events), name_of), 201, headers)


def _add_reading(router: APIRouter, views: Views, name_of: NameOf, user_by_email: OwnerOf) -> None:
    @router.get("", summary="List jobs, newest first", response_model=Page[JobListed])
    async def get_jobs(
        principal: Authenticated, query: Annotated[JobListQuery, Query()]
    ) -> Response:
        """The person's own; for administrators all. A page has up to `limit` jobs, or as many as
        make 2 MiB. A job has the fields of the short form, or those of `fields`. Long texts are
        shortened, and `shortened` names their fields.
        """
        wanted = query.filter(owner_named(principal, user_by_email))
        fields = fields_of(query.fields)
        await views.caught_up()
        rows, more = await selected_jobs(views, wanted, principal, query.cursor, query.limit)
        items, whole = bounded(listed(row, name_of, fields) for row in rows)
        cursor = rows[len(items) - 1]["id"] if more or not whole else None
        return page(items, cursor)

    @router.get("/{job_id}", summary="One job", response_model=JobObject, responses=documented(404))
    async def get_job(job_id: str, principal: Authenticated) -> Response:
        await views.caught_up()
        with views.reading() as reading:
            row = seen_job(reading, job_id, principal)
        return json_bytes(job_json(row, name_of), headers={"ETag": etag(row["version"])})


async def selected_jobs(
    views: Views, wanted: JobFilter, principal: Principal, cursor: str | None, limit: int
) -> tuple[list[Row], bool]:
    """The jobs of a filter that the principal may see, and whether there are more."""

    def read() -> tuple[list[Row], bool]:
        with views.reading() as reading:
            owner = scope_of(principal)
            return filtered_jobs(reading, wanted, owner=owner, cursor=cursor, limit=limit)

    return await run_in_threadpool(read) if wanted.rare else read()


def _add_belongings(router: APIRouter, views: Views, name_of: NameOf) -> None:
    @router.get(
        "/{job_id}/attempts",
        summary="Each time that something ran it",
        response_model=Page[Attempt],
        responses=documented(404),
    )
    async def get_attempts(
        job_id: str,
        principal: Authenticated,
        cursor: Annotated[int, Query(ge=0, le=2**62)] = 0,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
        newest: Annotated[
            bool, Query(description="The last attempts. There is no cursor then.")
        ] = False,
    ) -> Response:
        """Always first to last. A page has up to `limit` attempts, or as many as make 2 MiB."""
        await views.caught_up()
        with views.reading() as reading:
            seen_job(reading, job_id, principal)
            if newest:
                rows, _ = newest_attempts(reading, job_id, limit)
            else:
                rows, more = job_attempts(reading, job_id, after=cursor, limit=limit)
        if newest:
            last, _ = bounded(map(attempt_json, reversed(rows)))
            return page(last[::-1])
        items, whole = bounded(map(attempt_json, rows))
        return page(items, str(rows[len(items) - 1]["attempt"]) if more or not whole else None)

    @router.get(
        "/{job_id}/parents",
        summary="The results of the jobs that it waits for",
        response_model=Page[ParentResult],
        responses=documented(404),
    )
    async def get_parents(
        job_id: str, principal: Authenticated, cursor: CursorOfPage = None
    ) -> Response:
        """A page has all of them, or as many as make 2 MiB."""
        await views.caught_up()
        with views.reading() as reading:
            ids: list[str] = job_json(seen_job(reading, job_id, principal), name_of)["parents"]
            if cursor is not None:
                if cursor not in ids:
                    raise InvalidCursor("The cursor is not a parent of this job.")
                ids = ids[ids.index(cursor) + 1 :]
            rows = {row["id"]: row for row in jobs_of_ids(reading, ids)}
        known = [one for one in ids if one in rows]
        items, whole = bounded(parent_json(rows[one]) for one in known)
        return page(items, None if whole else known[len(items) - 1])


def _add_timeline(router: APIRouter, views: Views, name_of: NameOf) -> None:
    @router.get(
        "/{job_id}/timeline",
        summary="What happened, in sentences, in order",
        response_model=Page[Entry],
        responses=documented(404),
    )
    async def get_timeline(
        job_id: str,
        principal: Authenticated,
        cursor: Annotated[int, Query(ge=0, le=2**62)] = 0,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 200,
        newest: Annotated[
            bool, Query(description="The last entries. There is no cursor then.")
        ] = False,
    ) -> Response:
        """Always oldest first."""
        await views.caught_up()
        with views.reading() as reading:
            seen_job(reading, job_id, principal)
            if newest:
                rows, _ = newest_of_job(reading, job_id, limit)
            else:
                rows = job_timeline(reading, job_id, cursor, limit + 1)
        items, whole = bounded(entry_json(row, name_of) for row in rows[:limit])
        more = len(rows) > limit or not whole
        following = str(rows[len(items) - 1]["position"]) if more else None
        return page(items, following)


def _add_events(router: APIRouter, log: EventLog, actions: JobActions, streams: JobStreams) -> None:
    @router.get(
        "/{job_id}/events",
        summary="A page of the log about it",
        response_model=LogPage,
        responses=documented(404),
    )
    async def get_events(
        job_id: str,
        principal: Authenticated,
        type_names: Types = None,
        cursor: Position = 0,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    ) -> Response:
        job = await actions.loaded(job_id, principal)
        return await envelopes_page(log, cursor, limit, job.stream, types_of(type_names))

    @router.get(
        "/{job_id}/stream",
        summary="Its events as they come, as Server-Sent Events",
        responses={**STREAMED, **documented(204, 404)},
        response_class=Response,
    )
    async def stream(
        job_id: str,
        request: Request,
        principal: Authenticated,
        type_names: Types = None,
        after: Position | None = None,
        partial_lines: Annotated[
            bool,
            Query(alias="partial", description="Include the beginning of the unfinished line."),
        ] = False,
    ) -> Response:
        """Each event is one frame: its position as `id`, its type as `event`, its envelope as
        `data`. Resumes with Last-Event-ID. Ends with the job; 204 if the client has seen all of it.
        """
        job = await actions.loaded(job_id, principal)
        wanted = Wanted(types_of(type_names), after=after, partial_lines=partial_lines)
        return await streams.answer(request, principal, job, wanted)


Shown = Callable[[Changed], Awaitable[Response]]
"""The job after a change, as an answer."""


def _shown(views: Views, name_of: NameOf) -> Shown:
    async def shown(changed: Changed) -> Response:
        await views.caught_up()
        with views.reading() as reading:
            row = find_job(reading, changed.job.id)
        headers = {**position_header(changed.position), "ETag": etag(changed.job.version)}
        return json_bytes(job_json(row, name_of), headers=headers)

    return shown


def _add_commands(router: APIRouter, actions: JobActions, shown: Shown) -> None:
    Act = Callable[..., Awaitable[Changed]]

    def command(name: str, act: Act, summary: str, explained: str) -> None:
        async def run(
            job_id: str, request: Request, principal: Authenticated, if_match: IfMatchHeader = None
        ) -> Response:
            context, version = principal.context(request), version_of(if_match)
            return await shown(await act(job_id, principal, context, version))

        router.add_api_route(
            f"/{{job_id}}/{name}",
            run,
            methods=["POST"],
            name=f"{name}_job",
            summary=summary,
            description=explained,
            response_model=JobObject,
            responses=CHANGED,
        )

    command(
        "cancel",
        actions.cancel,
        "Cancel a job",
        "Asks for the end. Asking again changes nothing. 409 if the job has ended.",
    )
    command(
        "retry",
        actions.retry,
        "Set a failed or blocked job going again",
        "A job that ended without success is done again, a blocked job goes on. 409 for others.",
    )
    command(
        "unblock",
        actions.unblock,
        "Let a blocked job go on",
        "Its retries are counted from 0 again. 409 if the job is not blocked.",
    )
    command("archive", actions.archive, "Archive a job", "It leaves the board. 409 while it runs.")
    command("unarchive", actions.unarchive, "Put a job back on the board", "It stays as it is.")


def _add_redo_and_delete(router: APIRouter, actions: JobActions, shown: Shown) -> None:
    @router.post(
        "/{job_id}/redo",
        summary="Have a job done again, with feedback",
        response_model=JobObject,
        responses=CHANGED,
    )
    async def redo(
        job_id: str,
        request: Request,
        principal: Authenticated,
        body: Redo | None = None,
        if_match: IfMatchHeader = None,
    ) -> Response:
        """Jobs that used its old result are done again, too."""
        feedback = body.feedback if body is not None else ""
        context, version = principal.context(request), version_of(if_match)
        return await shown(await actions.redo(job_id, principal, context, version, feedback))

    @router.delete("/{job_id}", summary="Hide a job for good", responses=CHANGED)
    async def delete(
        job_id: str, request: Request, principal: Authenticated, if_match: IfMatchHeader = None
    ) -> Response:
        """Lists and look-ups do not show the job any more. The log keeps what happened."""
        context, version = principal.context(request), version_of(if_match)
        changed = await actions.delete(job_id, principal, context, version)
        return json_bytes({"ok": True}, headers=position_header(changed.position))


def _add_comments(router: APIRouter, actions: JobActions, views: Views, name_of: NameOf) -> None:
    @router.get(
        "/{job_id}/comments",
        summary="What people and workers wrote on it",
        response_model=Page[CommentObject],
        responses=documented(404),
    )
    async def get_comments(
        job_id: str,
        principal: Authenticated,
        limit: Annotated[int, Query(ge=1, le=200)] = 200,
        cursor: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    ) -> Response:
        """The newest ones, oldest first. With `cursor` the newest ones before it."""
        await views.caught_up()
        with views.reading() as reading:
            seen_job(reading, job_id, principal)
            rows, earlier = job_comments(reading, job_id, limit, before=cursor)
        # Earlier comments that do not fit are on the next page.
        newest, whole = bounded(comment_json(row, name_of) for row in reversed(rows))
        following = str(rows[-len(newest)]["position"]) if earlier or not whole else None
        return page(newest[::-1], following)

    @router.post(
        "/{job_id}/comments",
        status_code=201,
        summary="Comment on a job",
        response_model=CommentObject,
        responses=documented(404, 413),
    )
    async def comment(
        job_id: str, body: Comment, request: Request, principal: Authenticated
    ) -> Response:
        changed = await actions.comment(job_id, principal, principal.context(request), body.body)
        await views.caught_up()
        with views.reading() as reading:
            written = comment_json(comment_at(reading, changed.position), name_of)
        return json_bytes(written, 201, position_header(changed.position))


def _add_bulk(router: APIRouter, actions: JobActions, views: Views, user_by_email: OwnerOf) -> None:
    @router.post(
        "/actions",
        summary="Cancel, archive, delete or retry many jobs",
        response_model=ActionResults,
    )
    async def act(body: JobsAction, request: Request, principal: Authenticated) -> Response:
        """Each job by itself: a refused job does not stop the others, and its `status` and `detail`
        say why. A filter selects the newest 500 jobs.
        """
        ids, more = await _ids(body, principal)
        results, position = await actions.to_each(
            body.action, ids, principal, principal.context(request)
        )
        done = sum(result["ok"] for result in results)
        answer: dict[str, Any] = {
            "items": results,
            "done": done,
            "refused": len(results) - done,
            "more": more,
        }
        return json_bytes(answer, headers=position_header(position))

    async def _ids(body: JobsAction, principal: Principal) -> tuple[Sequence[str], bool]:
        if body.filter is None:
            return body.ids or (), False
        wanted = body.filter.filter(owner_named(principal, user_by_email))
        await views.caught_up()
        rows, more = await selected_jobs(views, wanted, principal, None, MOST_IDS)
        return [row["id"] for row in rows], more
