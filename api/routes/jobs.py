"""``/api/jobs``: create, list, look at, cancel; what happened to a job."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import Field, field_validator

from api.bodies import CARRIABLE, Body
from api.errors import SECURED, documented
from api.hot import Endpoint
from api.job_json import (
    CODEPLANE_STATES,
    JobObject,
    JobPage,
    Timeline,
    etag,
    job_json,
)
from api.security import Authenticated
from domain.errors import Invalid, PreconditionFailed
from domain.event import Event
from domain.idempotency import fingerprint
from domain.job import Job, JobState
from domain.jobs import Changed, IdempotencyKey, Jobs, Submission
from domain.log import Recorded
from projections.engine import Views
from projections.jobs import JOBS, find_job, list_jobs
from projections.projection import Row
from projections.timeline import job_timeline
from scheduler.environment import valid_name
from scheduler.intake import Intake, WorkRequest

IdempotencyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        max_length=255,
        pattern=r"^[\x20-\x7e]+$",
        description="The same key and body give the same answer and no second job.",
    ),
]
IfMatchHeader = Annotated[
    str | None,
    Header(
        alias="If-Match",
        max_length=100,
        description="Only if the job has this version (its ETag).",
        json_schema_extra={"pattern": r'^(?:\*|(?:W/)?"[0-9]{1,18}")$'},
    ),
]

_STATES: dict[str, frozenset[str]] = {
    state.value: frozenset({state.value}) for state in JobState
} | {
    spelling: frozenset(s.value for s, name in CODEPLANE_STATES.items() if name == spelling)
    for spelling in set(CODEPLANE_STATES.values())
    if spelling not in {"failed"}
}
"""What each spelling of a state selects: ours name one, CodePlane's all that it shows under that
name.
"""


_STATE_LIST = rf"^[ ,]*$|(?:^|,) *(?:{'|'.join(sorted(_STATES))}) *(?:,|$)"


class JobRequest(Body):
    """A command to run, without a shell."""

    kind: Annotated[str, Field(pattern="^command$")] = "command"
    argv: Annotated[
        list[Annotated[str, Field(max_length=65_536), CARRIABLE]],
        Field(
            min_length=1,
            max_length=4_096,
            description="The program and its arguments.",
            json_schema_extra={"prefixItems": [{"type": "string", "pattern": r"^[^\x00]*[!-~]"}]},
        ),
    ]
    cwd: Annotated[str, Field(min_length=1, max_length=4_096), CARRIABLE] | None = None
    env: (
        Annotated[
            dict[str, Annotated[str, Field(max_length=65_536), CARRIABLE]], Field(max_length=256)
        ]
        | None
    ) = Field(
        None,
        description="Environment variables; only their names are kept in the log.",
        json_schema_extra={
            "propertyNames": {"pattern": "^(?!CREWLOG_)[A-Z_a-z][0-9A-Z_a-z]{0,254}$"}
        },
    )
    timeout_s: Annotated[float, Field(gt=0, le=31_536_000)] | None = None
    title: Annotated[str, Field(max_length=200), CARRIABLE] | None = None
    labels: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=64), CARRIABLE]], Field(max_length=20)
    ] = Field(default_factory=list)

    @field_validator("argv")
    @classmethod
    def _program(cls, argv: list[str]) -> list[str]:
        if not argv[0].strip():
            raise ValueError("The first item names the program to run.")
        return argv

    @field_validator("env")
    @classmethod
    def _names(cls, env: dict[str, str] | None) -> dict[str, str] | None:
        for name in env or {}:
            if not valid_name(name):
                raise ValueError("A name of an environment variable is not valid.")
            if name.upper().startswith("CREWLOG_") or name.upper() == "GITOMA_API_TOKEN":
                raise ValueError("The server's own environment variables cannot be given.")
        return env


def work_of(body: JobRequest, workdir: str, default_timeout_s: int) -> WorkRequest:
    """The request in the terms of the intake; a relative `cwd` is below the server's working
    directory.
    """
    timeout_s = body.timeout_s if body.timeout_s is not None else default_timeout_s
    return WorkRequest(
        kind=body.kind,
        label=body.labels[0] if body.labels else body.kind,
        argv=tuple(body.argv),
        cwd=os.path.join(workdir, body.cwd) if body.cwd else workdir,
        timeout_ms=round(timeout_s * 1000),
        title=body.title or "",
        env=body.env or {},
        labels=body.labels,
    )


def first_row(submission: Submission) -> Row:
    """The row that the jobs view gives this job at first, folded by the view's own folds."""
    row: Row | None = None
    for event in submission.events:
        row = JOBS.folds[event.type](row, event)
    assert row is not None
    return row


def key_of(principal: str, key: str | None, *parts: bytes) -> IdempotencyKey | None:
    """The idempotency key of a request, if it has one, and what it asks."""
    return None if key is None else IdempotencyKey(principal, key, fingerprint(*parts))


def version_of(if_match: str | None) -> int | None:
    """The version that If-Match asks for; None for any. PreconditionFailed for a tag that is none
    of ours.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    text = if_match.strip().removeprefix("W/").strip('"')
    if not text.isdigit() or len(text) > 18:
        raise PreconditionFailed("If-Match names no version of this job.")
    return int(text)


def states_of(given: str | None) -> frozenset[str]:
    """The states that a comma list selects, in either spelling. Unknown names select nothing
    (Invalid if all are).
    """
    if not given:
        return frozenset()
    names = [name.strip() for name in given.split(",") if name.strip()]
    selected = frozenset(state for name in names for state in _STATES.get(name, ()))
    if names and not selected:
        raise Invalid(f"No such state; there are {', '.join(sorted(_STATES))}.")
    return selected


def json_bytes(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, headers, media_type="application/json")


def job_routes(
    jobs: Jobs, intake: Intake, views: Views, *, workdir: Path, default_timeout_s: int
) -> APIRouter:
    """The routes, hot ones first: routing is a walk along the list."""
    root = str(workdir)
    router = APIRouter(prefix="/api/jobs", tags=["jobs"], responses=SECURED)

    @router.post(
        "",
        status_code=201,
        summary="Accept a job",
        response_model=JobObject,
        responses=documented(409, 413),
    )
    async def create_job(
        body: JobRequest, request: Request, principal: Authenticated, key: IdempotencyHeader = None
    ) -> Response:
        asked = (b"POST /api/jobs", body.model_dump_json().encode()) if key is not None else ()
        idempotency = key_of(principal.actor, key, *asked)
        submission = await intake.submit(
            work_of(body, root, default_timeout_s), principal.context(request), idempotency
        )
        headers = _headers(submission.events[1])
        headers["Location"] = f"/api/jobs/{submission.job_id}"
        if submission.replayed:
            headers["Idempotency-Replayed"] = "true"
        return json_bytes(job_json(first_row(submission)), 201, headers)

    @router.get(
        "", summary="List jobs, newest first", response_model=JobPage, responses=documented(404)
    )
    async def get_jobs(
        principal: Authenticated,
        state: Annotated[
            str | None,
            Query(
                max_length=200,
                description="States, by comma.",
                json_schema_extra={"pattern": _STATE_LIST},
            ),
        ] = None,
        label: Annotated[str | None, Query(max_length=64)] = None,
        archived: bool | None = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 50,
        cursor: Annotated[str | None, Query(max_length=200)] = None,
    ) -> Response:
        states = states_of(state)
        await views.caught_up()
        with views.reading() as reading:
            rows, more = list_jobs(
                reading, states=states, label=label, archived=archived, cursor=cursor, limit=limit
            )
        return json_bytes(
            {
                "items": [job_json(row) for row in rows],
                "cursor": rows[-1]["id"] if more else None,
                "hasMore": more,
            }
        )

    @router.get("/{job_id}", summary="One job", response_model=JobObject, responses=documented(404))
    async def get_job(job_id: str, principal: Authenticated) -> Response:
        row = await _row(job_id)
        return json_bytes(job_json(row), headers={"ETag": etag(row["version"])})

    @router.post(
        "/{job_id}/cancel",
        summary="Cancel a job",
        response_model=JobObject,
        responses=documented(404, 409, 412),
    )
    async def cancel_job(
        job_id: str, request: Request, principal: Authenticated, if_match: IfMatchHeader = None
    ) -> Response:
        """Asks for the end; asking again is only acknowledged. 409 once the job has ended."""
        return await _command(
            job_id, request, principal, if_match, lambda job: job.request_cancel("By request.")
        )

    @router.post(
        "/{job_id}/archive",
        summary="Take a job off the board",
        response_model=JobObject,
        responses=documented(404, 409, 412),
    )
    async def archive_job(
        job_id: str, request: Request, principal: Authenticated, if_match: IfMatchHeader = None
    ) -> Response:
        return await _command(job_id, request, principal, if_match, Job.archive)

    @router.delete("/{job_id}", summary="Hide a job for good", responses=documented(404, 409, 412))
    async def delete_job(
        job_id: str, request: Request, principal: Authenticated, if_match: IfMatchHeader = None
    ) -> Response:
        """The log keeps what happened; lists and look-ups do not show the job any more."""
        changed = await jobs.execute(
            job_id, Job.delete, principal.context(request), if_match=version_of(if_match)
        )
        return json_bytes({"ok": True}, headers={"x-event-position": str(changed.position)})

    @router.get(
        "/{job_id}/timeline",
        summary="What happened, in order",
        response_model=Timeline,
        responses=documented(404),
    )
    async def get_timeline(
        job_id: str,
        principal: Authenticated,
        after: Annotated[int, Query(ge=0, le=2**62)] = 0,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 200,
    ) -> Response:
        await views.caught_up()
        with views.reading() as reading:
            find_job(reading, job_id)
            entries = job_timeline(reading, job_id, after, limit)
        return json_bytes({"items": [_entry(entry) for entry in entries]})

    async def _row(job_id: str) -> Row:
        await views.caught_up()
        with views.reading() as reading:
            return find_job(reading, job_id)

    async def _command(
        job_id: str,
        request: Request,
        principal: Authenticated,
        if_match: str | None,
        decide: Callable[[Job], list[Event]],
    ) -> Response:
        changed: Changed = await jobs.execute(
            job_id, decide, principal.context(request), if_match=version_of(if_match)
        )
        row = await _row(job_id)
        return json_bytes(
            job_json(row),
            headers={"x-event-position": str(changed.position), "ETag": etag(changed.job.version)},
        )

    return router


def create_job_of(router: APIRouter) -> Endpoint:
    """The endpoint that accepts jobs, for the short cut to it."""
    routes = (route for route in router.routes if isinstance(route, APIRoute))
    endpoint: Endpoint = next(route.endpoint for route in routes if route.name == "create_job")
    return endpoint


def _headers(event: Recorded) -> dict[str, str]:
    return {"x-event-position": str(event.position), "ETag": etag(event.version)}


def _entry(entry: Row) -> dict[str, Any]:
    return {
        "position": entry["position"],
        "timestamp": entry["at"],
        "actor": entry["actor"],
        "type": entry["type"],
        "sentence": entry["sentence"],
    }
