"""The gitoma dialect, ``/api/v1``: dispatches, status, the live stream, state files
(`contracts/gitoma.md`).
"""

import json
import re
import shlex
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.concurrency import run_in_threadpool
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from api.dialects.gitoma.state_files import StateDirectory
from api.edge.access import guarded, loaded_job, scope_of, seen_job
from api.edge.answers import json_bytes
from api.edge.errors import SECURED, documented
from api.edge.idempotency import IdempotencyHeader, key_of
from api.edge.rate_limit import SlidingWindow
from api.edge.security import Admin, Authenticated, Principal
from api.edge.sse import STREAMED, Cursor, WireForm, cursor_of, event_stream, last_end, read_job
from api.edge.texts import CARRIABLE
from api.native.lmstudio import LMStudioHealth
from domain.coverage import types
from domain.errors import InvalidCursor
from domain.job.commands import Jobs
from domain.job.events import (
    ENDED,
    JobFinished,
    JobOutputDropped,
    JobState,
    job_stream,
)
from domain.log import EventLog, Recorded
from projections.engine import Views
from projections.jobs import exit_code, list_jobs
from projections.output import position_of_line
from projections.projection import Row
from scheduler.intake import Intake, WorkRequest

REPOSITORY = re.compile(
    r"https://github\.com/[A-Za-z0-9][A-Za-z0-9._-]{0,38}/[A-Za-z0-9._-]{1,100}(?:\.git)?/?"
)
BRANCH = re.compile(r"(?!-)[A-Za-z0-9._/-]{1,255}")

STATUSES = {
    JobState.HELD: "queued",
    JobState.QUEUED: "queued",
    JobState.RUNNING: "running",
    JobState.PAUSED: "running",
    JobState.WAITING_FOR_APPROVAL: "running",
    JobState.BLOCKED: "running",
    JobState.REVIEW: "running",
    JobState.COMPLETED: "completed",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "cancelled",
    JobState.TIMED_OUT: "timed_out",
}

_TRUE: list[JsonValue] = [True, 1, "1", "true", "t", "yes", "y", "on"]
_FALSE: list[JsonValue] = [False, 0, "0", "false", "f", "no", "n", "off"]
_EXCLUSIVE: dict[str, JsonValue] = {
    "not": {
        "properties": {"resume": {"enum": _TRUE}, "reset": {"enum": _TRUE}},
        "required": ["resume", "reset"],
    }
}

Flag = Annotated[bool, WithJsonSchema({"enum": [*_TRUE, *_FALSE]})]
"""A lax boolean (`contracts/gitoma.md` §2)."""

_LINE_BYTES = 4096
_SENTINEL = "__END__"
_DONE_ONCE = 4
"""Events of a job that ran once and ended; one that was done again has more."""


class AnalyzeRequest(BaseModel):
    """A repository to look at. Unknown fields are passed over."""

    repo_url: Annotated[
        str,
        Field(max_length=255, json_schema_extra={"pattern": f"^{REPOSITORY.pattern}$"}),
        CARRIABLE,
    ]

    @field_validator("repo_url")
    @classmethod
    def _is_github(cls, url: str) -> str:
        if not REPOSITORY.fullmatch(url):
            raise ValueError(
                "repo_url must be https://github.com/<owner>/<repo>, without credentials"
            )
        return url


class ReviewRequest(AnalyzeRequest):
    integrate: Flag = False


class RunRequest(AnalyzeRequest):
    model_config = ConfigDict(json_schema_extra=_EXCLUSIVE)

    branch: (
        Annotated[
            str,
            Field(max_length=255, json_schema_extra={"pattern": f"^(?:{BRANCH.pattern})?$"}),
            CARRIABLE,
        ]
        | None
    ) = None
    dry_run: Flag = False
    resume: Flag = False
    reset: Flag = False

    @field_validator("branch")
    @classmethod
    def _is_branch(cls, branch: str | None) -> str | None:
        if not branch:
            return None
        if not BRANCH.fullmatch(branch):
            raise ValueError("branch must be a plain branch name of at most 255 characters")
        return branch

    @field_validator("reset")
    @classmethod
    def _not_with_resume(cls, reset: bool, info: ValidationInfo) -> bool:
        if reset and info.data.get("resume"):
            raise ValueError("resume and reset are mutually exclusive")
        return reset


class JobResponse(BaseModel):
    job_id: str
    status: Literal["queued", "started"]
    message: str


class JobStatusResponse(BaseModel):
    job_id: str
    label: str
    status: str
    created_at: str
    finished_at: str | None
    lines_buffered: int = Field(ge=0)
    error_id: str | None
    exit_code: int | None


class CancelResponse(BaseModel):
    job_id: str
    status: Literal["cancelling"]


class HealthResponse(BaseModel):
    status: Literal["ok"]
    lm_studio: LMStudioHealth
    github_token_set: bool


Slug = Annotated[
    str, PathParameter(json_schema_extra={"pattern": r"^(?!\.)[A-Za-z0-9._-]{1,100}$"})
]
"""A part of a repository's name, as `StateDirectory.delete` takes it."""


class StateDeleted(BaseModel):
    owner: str
    name: str
    result: Literal["deleted", "not_found"]


def _frame(position: int, index: int, line: str) -> bytes:
    return b"id: %d:%d\nevent: line\ndata: %s\n\n" % (
        position,
        index,
        json.dumps({"line": line}).encode(),
    )


def shown_line(line: str) -> str:
    """A child's line as the stream shows it: at most 4,096 bytes of UTF-8, and never taken for the
    end.
    """
    if len(line) * 4 > _LINE_BYTES:
        encoded = line.encode("utf-8", "surrogatepass")
        if len(encoded) > _LINE_BYTES:
            line = encoded[:_LINE_BYTES].decode("utf-8", "ignore") + "…(truncated)"
    return "\\" + line if line.startswith(_SENTINEL) else line


def stream_lines(event: Recorded) -> list[str]:
    """The lines that one event gives in the stream; the very last of a job is its sentinel."""
    data = event.data
    if event.type == "job.submitted":
        return [shown_line("$ " + " ".join(data["argv"]))]
    if event.type == "job.output":
        return [shown_line(line) for line in data["lines"]]
    if event.type == "job.output_dropped":
        return [f"[warn] {data['bytes']} bytes of output over the limit were dropped"]
    if event.type == "job.finished":
        sentinel = f"{_SENTINEL}:{STATUSES[JobState(data['outcome'])]}"
        return [*_last_words(data), sentinel]
    return []


def interim_lines(event: Recorded) -> list[str]:
    """As `stream_lines`, for an end after which the job was done again: whoever reads a sentinel
    reads no further.
    """
    lines = stream_lines(event)
    if event.type == "job.finished":
        status = lines[-1].removeprefix(f"{_SENTINEL}:")
        lines[-1] = f"[info] ended as {status}; the job was done again"
    return lines


def _last_words(data: dict[str, Any]) -> list[str]:
    if data["outcome"] == "timed_out":
        return ["[error] the time limit passed: the job was killed"]
    if data["outcome"] == "failed" and data["reason"]:
        return [shown_line(f"[error] {data['reason']}")]
    return []


def _framed(event: Recorded, lines: list[str]) -> list[bytes]:
    return [_frame(event.position, index, line) for index, line in enumerate(lines)]


LINES = WireForm(
    "gitoma",
    lambda event: _framed(event, stream_lines(event)),
    lambda event: _framed(event, interim_lines(event)),
    passes_over=types(
        "approval crew email identity operator request schedule token user",
        job=(
            "approval_answered approval_requested archived artifact_stored artifacts_dropped "
            "attempt_ended attempt_lost block_asked blocked cancel_requested commented deleted "
            "freed lease_expired made_stale messaged paused progressed queued redone result_given "
            "resumed started stranded trusted unarchived unblocked"
        ),
    ),
)
"""``event: line`` frames as gitoma's cockpit parses them, with ids that it passes over."""


@dataclass(frozen=True)
class GitomaOptions:
    """What the dialect is configured with. `health` probes LM Studio; times in seconds."""

    command: tuple[str, ...]
    workdir: Path
    timeout_s: int
    health: Callable[[], Awaitable[LMStudioHealth]]
    github_token_set: bool


def gitoma_routes(
    log: EventLog,
    jobs: Jobs,
    intake: Intake,
    views: Views,
    states: StateDirectory,
    limiter: SlidingWindow,
    options: GitomaOptions,
) -> APIRouter:
    """The dialect's REST and SSE routes; ``/ws/state`` is beside them in `routes/page.py`."""
    router = APIRouter(prefix="/api/v1", responses=SECURED)
    over = last_end(jobs)

    def admit(principal: Principal) -> None:
        wait = limiter.hit(principal.owner)
        if wait is not None:
            raise HTTPException(
                429,
                f"Dispatch rate limit reached: try again in {wait} s.",
                {"Retry-After": str(wait)},
            )

    async def dispatch(
        request: Request,
        response: Response,
        principal: Principal,
        label: str,
        arguments: list[str],
        message: str,
        key: str | None,
    ) -> JobResponse:
        work = WorkRequest(
            kind="gitoma",
            label=label,
            argv=(*options.command, *arguments),
            cwd=str(options.workdir),
            timeout_ms=options.timeout_s * 1000,
            owner=principal.owner,
        )
        asked = [label.encode(), *(argument.encode() for argument in arguments)]
        submission = await intake.submit(
            work, principal.context(request), key_of(principal.actor, key, *asked)
        )
        response.headers["x-event-position"] = str(submission.events[1].position)
        return JobResponse(job_id=submission.job_id, status="started", message=message)

    @router.get(
        "/stream/{job_id}",
        tags=["jobs"],
        responses={**STREAMED, **documented(204, 404)},
        response_class=Response,
    )
    async def stream(
        job_id: str,
        request: Request,
        principal: Authenticated,
        from_line: Annotated[
            int | None, Query(ge=1, le=2**62, description="First line of output to show, from 1.")
        ] = None,
    ) -> Response:
        """The job's output from its start or from a line on, live, for any number of readers;
        resumes with Last-Event-ID, which is stronger.
        """
        cursor = cursor_of(request, log)
        job = await run_in_threadpool(loaded_job, jobs, job_id, principal)
        if cursor is None and from_line is not None:
            await views.caught_up()
            cursor = await run_in_threadpool(_before_line, views, job_id, from_line)
        elif cursor is not None and cursor.index is not None:
            await run_in_threadpool(_check_index, log, cursor)
        end_at = None
        if job.ended:
            end = await run_in_threadpool(_end_of, log, job_id)
            end_at = end.position
            last = len(LINES.frames(end)) - 1
            if cursor is not None and cursor.position >= end_at:
                if cursor.position == end_at and cursor.index in (None, last):
                    return Response(status_code=204)
                if cursor.position > end_at:
                    cursor = Cursor(end_at, last - 1)
        return event_stream(
            request, principal, read_job(log, LINES, job_id, cursor, end_at=end_at, over=over)
        )

    @router.get("/health", tags=["system"], response_model=HealthResponse)
    async def health(principal: Authenticated) -> HealthResponse:
        return HealthResponse(
            status="ok",
            lm_studio=await options.health(),
            github_token_set=options.github_token_set,
        )

    @router.post("/run", status_code=202, tags=["jobs"], responses=documented(413, 429))
    async def run(
        body: RunRequest,
        request: Request,
        response: Response,
        principal: Authenticated,
        key: IdempotencyHeader = None,
    ) -> JobResponse:
        admit(principal)
        arguments = ["run", body.repo_url, "--yes"]
        if body.branch:
            arguments += ["--branch", body.branch]
        flags = {"--dry-run": body.dry_run, "--resume": body.resume, "--reset": body.reset}
        arguments += [flag for flag, given in flags.items() if given]
        label, how = "run", "Autonomous run"
        if body.resume:
            label, how = "run-resume", "Resuming run"
        elif body.reset:
            label, how = "run-reset", "Fresh run"
        message = f"{how} dispatched in background."
        return await dispatch(request, response, principal, label, arguments, message, key)

    @router.post("/fix-ci", status_code=202, tags=["jobs"], responses=documented(413, 429))
    async def fix_ci(
        body: RunRequest,
        request: Request,
        response: Response,
        principal: Authenticated,
        key: IdempotencyHeader = None,
    ) -> JobResponse:
        admit(principal)
        if not body.branch:
            raise HTTPException(400, "branch is required for fix-ci")
        # The program looks the repository up by the URL's last part and finds none behind these.
        url = body.repo_url.removesuffix("/").removesuffix(".git")
        arguments = ["fix-ci", url, "--branch", body.branch]
        message = "CI fix dispatched in background."
        return await dispatch(request, response, principal, "fix-ci", arguments, message, key)

    @router.post("/analyze", status_code=202, tags=["jobs"], responses=documented(413, 429))
    async def analyze(
        body: AnalyzeRequest,
        request: Request,
        response: Response,
        principal: Authenticated,
        key: IdempotencyHeader = None,
    ) -> JobResponse:
        admit(principal)
        message = "Analysis dispatched in background."
        arguments = ["analyze", body.repo_url]
        return await dispatch(request, response, principal, "analyze", arguments, message, key)

    @router.post("/review", status_code=202, tags=["jobs"], responses=documented(413, 429))
    async def review(
        body: ReviewRequest,
        request: Request,
        response: Response,
        principal: Authenticated,
        key: IdempotencyHeader = None,
    ) -> JobResponse:
        admit(principal)
        arguments = ["review", body.repo_url, *(["--integrate"] if body.integrate else [])]
        how = "Review integration" if body.integrate else "Review fetch"
        message = f"{how} dispatched in background."
        return await dispatch(request, response, principal, "review", arguments, message, key)

    @router.get("/status/{job_id}", tags=["jobs"], responses=documented(404))
    async def status(job_id: str, principal: Authenticated) -> JobStatusResponse:
        await views.caught_up()
        with views.reading() as reading:
            row = seen_job(reading, job_id, principal)
        lines = await run_in_threadpool(_lines, log, row)
        return JobStatusResponse(job_id=job_id, lines_buffered=lines, **_common(row))

    @router.get("/jobs", tags=["jobs"])
    async def list_all(
        principal: Authenticated,
        limit: Annotated[int, Query(ge=1, le=5_000)] = 500,
        before: Annotated[
            str | None, Query(max_length=200, description="Id of a job: those before it.")
        ] = None,
    ) -> Response:
        """The newest jobs in the order in which they came. They never expire."""
        await views.caught_up()

        def read() -> dict[str, dict[str, Any]]:
            rows = _newest(views, scope_of(principal), limit, before)
            return {row["id"]: {**_common(row), "lines": _lines(log, row)} for row in rows[::-1]}

        return json_bytes(await run_in_threadpool(read))

    @router.post("/jobs/{job_id}/cancel", tags=["jobs"], responses=documented(404, 409))
    async def cancel(
        job_id: str, request: Request, response: Response, principal: Authenticated
    ) -> CancelResponse:
        changed = await jobs.execute(
            job_id,
            guarded(principal, lambda job: job.request_cancel("By request.")),
            principal.context(request),
        )
        response.headers["x-event-position"] = str(changed.position)
        return CancelResponse(job_id=job_id, status="cancelling")

    @router.delete("/state/{owner}/{name}", tags=["state"], responses=documented(404))
    async def delete_state(owner: Slug, name: Slug, principal: Admin) -> StateDeleted:
        try:
            deleted = await run_in_threadpool(states.delete, owner, name)
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        return StateDeleted(owner=owner, name=name, result="deleted" if deleted else "not_found")

    return router


def _newest(views: Views, owner: str | None, limit: int, before: str | None) -> list[Row]:
    with views.reading() as reading:
        return list_jobs(reading, owner=owner, limit=limit, cursor=before)[0]


def _common(row: Row) -> dict[str, Any]:
    return {
        "status": STATUSES[JobState(row["state"])],
        "label": row["label"],
        "created_at": _offset_time(row["created_at"]),
        "finished_at": _offset_time(row["finished_at"]) if row["finished_at"] else None,
        "error_id": row["error_id"],
        "exit_code": exit_code(row),
    }


def _lines(log: EventLog, row: Row) -> int:
    """Lines that the stream has so far, ``$ argv`` and the sentinel among them."""
    lines = 1 + int(row["lines"])
    if row["attempt"] > 1 or row["version"] > _DONE_ONCE:
        # There may have been ends before, each with its last words.
        told = log.blocking.stream(
            job_stream(row["id"]), types=(JobFinished.type, JobOutputDropped.type)
        )
        return lines + sum(len(stream_lines(event)) for event in told)
    lines += int(row["dropped_bytes"] > 0)
    if JobState(row["state"]) in ENDED:
        lines += len(_last_words({"outcome": row["state"], "reason": row["reason"]})) + 1
    return lines


def _offset_time(text: str) -> str:
    return text.removesuffix("Z") + "+00:00"


def _end_of(log: EventLog, job_id: str) -> Recorded:
    return log.blocking.stream(job_stream(job_id), types=(JobFinished.type,))[-1]


def _before_line(views: Views, job_id: str, line: int) -> Cursor:
    """The cursor of a reader that has seen all before this line. InvalidCursor
    past the last one.
    """
    with views.reading() as reading:
        found = position_of_line(reading, job_id, line)
    if found is None:
        raise InvalidCursor("The job has no such line so far.")
    position, first = found
    return Cursor(position, line - first - 1)


def _check_index(log: EventLog, cursor: Cursor) -> None:
    event = log.blocking.event_at(cursor.position)
    assert cursor.index is not None
    if event is None or cursor.index >= max(1, len(LINES.frames(event))):
        raise InvalidCursor("Last-Event-ID is a line that this event does not have.")


def command_of(text: str) -> tuple[str, ...]:
    """The configured program and its own first arguments, split as a shell would split them."""
    return tuple(shlex.split(text)) or ("gitoma",)
