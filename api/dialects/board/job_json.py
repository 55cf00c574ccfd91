"""A job as the board shows it (`contracts/board.md` §5.2), with crewlog's additional fields."""

import shlex
from collections.abc import Sequence
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from domain.errors import BadInput
from domain.job.board import ARCHIVED, COLUMNS, column_of
from domain.job.events import ENDED, JobState
from projections.jobs import exit_code, failure, shortened
from projections.projection import Row

_STATES = {
    JobState.PAUSED: "running",
    JobState.CANCELLED: "canceled",
    JobState.TIMED_OUT: "failed",
}


def _state(row: Row) -> str:
    """The state in one word, beside the column. A job that gave up counts as failed, though a
    person may unblock it.
    """
    state = JobState(row["state"])
    if row["gave_up"] and state is JobState.BLOCKED:
        return "failed"
    return _STATES.get(state, state.value)


BOARD_STATUSES = (*COLUMNS, ARCHIVED)
"""The columns of the job board (`contracts/board.md` §5.1)."""


def board_status(row: Row) -> str:
    """The column of a job."""
    if row["archived_at"] is not None:
        return ARCHIVED
    return column_of(JobState(row["state"]), active=bool(row["active"]))


class JobObject(BaseModel):
    """The job object of ``/api/jobs``, for the document. Null fields are present, never left
    out.
    """

    model_config = ConfigDict(extra="forbid")

    id: str
    state: Literal[
        "held",
        "queued",
        "running",
        "waiting_for_approval",
        "blocked",
        "review",
        "completed",
        "failed",
        "canceled",
    ]
    outcome: Literal["completed", "failed", "cancelled", "timed_out"] | None
    title: str
    prompt: str
    repo: str
    kind: str
    label: str
    labels: list[str]
    owner: str
    argv: list[str]
    cwd: str
    env: list[str] = Field(description="Names; values are never shown.")
    timeoutS: float | None
    attempt: int = Field(description="0 before the first attempt.")
    node: str | None
    createdAt: str = Field(description="ISO 8601 in UTC, like every time.")
    updatedAt: str
    queuedAt: str | None
    startedAt: str | None
    completedAt: str | None
    cancelRequestedAt: str | None
    archivedAt: str | None
    exitCode: int | None = Field(description="Negative: the signal that killed it.")
    failureReason: str | None
    errorId: str | None
    runMs: int | None
    lines: int
    outputBytes: int
    droppedBytes: int
    progress: float | None
    progressHeadline: str | None
    parentJobId: str | None
    crewId: str | None
    scheduleId: str | None
    requestId: str | None
    version: int = Field(description="The ETag.")
    position: int = Field(description="The position in the log of the job's submission.")
    status: Literal["triage", "todo", "ready", "running", "blocked", "done", "archived"]
    body: str | None
    key: str | None
    assignee: str | None
    parents: list[str]
    createdBy: str
    ownerId: str
    templateId: str | None
    scheduledAt: str | None
    workspace: str | None
    resultSchema: dict[str, Any] | None
    maxRetries: int
    attempts: int
    failures: int
    result: dict[str, Any] | None
    blockReason: str | None
    gaveUp: bool
    strandedBy: str | None
    pendingApprovals: list[str]
    costSpent: float
    costSaved: float
    shortened: list[str] = Field(
        description="Fields that lists show shortened or as null; the job itself has them whole."
    )


class JobList(BaseModel):
    """Jobs; `cursor` asks for more."""

    model_config = ConfigDict(extra="forbid")

    jobs: list[JobObject]
    cursor: str | None


class JobChanged(BaseModel):
    """A job after a change."""

    model_config = ConfigDict(extra="forbid")

    job: JobObject


def job_json(row: Row) -> dict[str, Any]:
    """The job object of ``/api/jobs``. Null fields are present, never left out. Times are
    ISO 8601 with Z.
    """
    state = JobState(row["state"])
    argv = orjson.loads(row["argv"])
    cut: Sequence[str] = row.get("shortened", ())
    return {
        "id": row["id"],
        "state": _state(row),
        "outcome": state.value if state in ENDED else None,
        "title": row["title"],
        "prompt": shortened(shlex.join(argv)) if "argv" in cut else shlex.join(argv),
        "repo": row["cwd"],
        "kind": row["kind"],
        "label": row["label"],
        "labels": orjson.loads(row["labels"]),
        "owner": row["owner"],
        "argv": argv,
        "cwd": row["cwd"],
        "env": orjson.loads(row["env_names"]),
        "timeoutS": row["timeout_ms"] / 1000 if row["timeout_ms"] else None,
        "attempt": row["attempt"],
        "node": row["node"],
        "createdAt": row["created_at"],
        "updatedAt": row["updated_at"],
        "queuedAt": row["queued_at"],
        "startedAt": row["started_at"],
        "completedAt": row["finished_at"],
        "cancelRequestedAt": row["cancel_requested_at"],
        "archivedAt": row["archived_at"],
        "exitCode": exit_code(row),
        "failureReason": failure(row),
        "errorId": row["error_id"],
        "runMs": row["run_ms"],
        "lines": row["lines"],
        "outputBytes": row["output_bytes"],
        "droppedBytes": row["dropped_bytes"],
        "progress": float(row["progress"]) if row["progress"] is not None else None,
        "progressHeadline": row["progress_text"],
        "parentJobId": row["parent"],
        "crewId": row["crew"],
        "scheduleId": row["schedule"],
        "requestId": row["request"],
        "version": row["version"],
        "position": row["position"],
        **_board_fields(row),
        "shortened": [field for column in cut for field in _FIELDS[column]],
    }


_FIELDS = {
    "argv": ("argv", "prompt"),
    "env_names": ("env",),
    "plan": ("body", "resultSchema"),
    "result": ("result",),
}
"""Fields that show a column of the view unchanged."""


def _board_fields(row: Row) -> dict[str, Any]:
    """The board's additional fields (`contracts/board.md` §5.2)."""
    plan = orjson.loads(row["plan"]) if row["plan"] is not None else {}
    return {
        "status": board_status(row),
        "body": plan.get("body"),
        "key": plan.get("local"),
        "assignee": plan.get("assignee"),
        "parents": plan.get("parents", []),
        "createdBy": row["owner"],
        "ownerId": row["owner"],
        "templateId": plan.get("template"),
        "scheduledAt": plan.get("not_before"),
        "workspace": plan.get("workspace"),
        "resultSchema": plan.get("result_schema"),
        "maxRetries": plan.get("max_retries", 0),
        "attempts": row["attempt"],
        "failures": row["failures"],
        "result": orjson.loads(row["result"]) if row["result"] is not None else None,
        "blockReason": row["block_reason"],
        "gaveUp": bool(row["gave_up"]),
        "strandedBy": row["stranded_by"],
        "pendingApprovals": orjson.loads(row["pending"]),
        # No costs are counted for commands.
        "costSpent": 0,
        "costSaved": 0,
    }


def status_of(given: str | None) -> str | None:
    """The board's status of a filter. Raises BadInput for an unknown one."""
    if given is not None and given not in BOARD_STATUSES:
        raise BadInput("status", f"It must be one of {', '.join(BOARD_STATUSES)}.")
    return given
