"""A job as CodePlane's JSON (`contracts/codeplane.md` §2), with crewlog's additional fields. Fields
that crewlog has no data for are null.
"""

import shlex
from collections.abc import Sequence
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from domain.job.events import ENDED, JobState
from projections.jobs import exit_code, failure, shortened
from projections.projection import Row

SHOWN_STATES = {
    JobState.HELD: "held",
    JobState.QUEUED: "queued",
    JobState.RUNNING: "running",
    JobState.PAUSED: "running",
    JobState.WAITING_FOR_APPROVAL: "waiting_for_approval",
    JobState.BLOCKED: "blocked",
    JobState.REVIEW: "review",
    JobState.COMPLETED: "completed",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "canceled",
    JobState.TIMED_OUT: "failed",
}
"""crewlog's states in CodePlane's spelling, and two that CodePlane lacks: ``held`` and ``blocked``,
which only jobs of a crew have. `outcome` keeps the exact result.
"""


def shown_state(state: JobState, *, gave_up: bool) -> str:
    """The word for a state. A job that gave up counts as failed, though a person may unblock it."""
    return "failed" if gave_up and state is JobState.BLOCKED else SHOWN_STATES[state]


ABSENT = (
    "baseRef",
    "worktreePath",
    "branch",
    "permissionMode",
    "prUrl",
    "mergeStatus",
    "resolution",
    "progressSummary",
    "model",
    "worktreeName",
    "verify",
    "selfReview",
    "maxTurns",
    "verifyPrompt",
    "selfReviewPrompt",
)
"""Fields of CodePlane's agents and worktrees. A command has neither."""

_SDK = "copilot"
"""Fixed values of fields that describe a job of CodePlane."""


class JobObject(BaseModel):
    """The job object, for the document. Null fields are present, never left out."""

    model_config = ConfigDict(extra="forbid")

    id: str
    repo: str
    prompt: str
    title: str
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
    baseRef: None
    worktreePath: None
    branch: None
    permissionMode: None
    createdAt: str = Field(description="ISO 8601 in UTC, like every time.")
    updatedAt: str
    completedAt: str | None
    prUrl: None
    mergeStatus: None
    resolution: None
    archivedAt: str | None
    failureReason: str | None
    progressHeadline: str | None
    progressSummary: None
    model: None
    sdk: str
    worktreeName: None
    verify: None
    selfReview: None
    maxTurns: None
    verifyPrompt: None
    selfReviewPrompt: None
    parentJobId: str | None

    outcome: Literal["completed", "failed", "cancelled", "timed_out"] | None
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
    queuedAt: str | None
    startedAt: str | None
    cancelRequestedAt: str | None
    exitCode: int | None = Field(description="Negative: the signal that killed it.")
    errorId: str | None
    runMs: int | None
    lines: int
    outputBytes: int
    droppedBytes: int
    progress: float | None
    crewId: str | None
    scheduleId: str | None
    requestId: str | None
    version: int = Field(description="The ETag.")
    position: int = Field(description="The position in the log of the job's submission.")
    blockReason: str | None
    gaveUp: bool
    strandedBy: str | None
    failures: int
    pendingApprovals: list[str]
    shortened: list[str] = Field(
        description="Fields that lists show shortened or as null; the job itself has them whole."
    )


class JobPage(BaseModel):
    """A page of jobs. `cursor` asks for the next one."""

    items: list[JobObject]
    cursor: str | None
    hasMore: bool


def job_json(row: Row) -> dict[str, Any]:
    """The object for a row of the jobs view."""
    state = JobState(row["state"])
    argv = orjson.loads(row["argv"])
    cut: Sequence[str] = row.get("shortened", ())
    return {
        "id": row["id"],
        "repo": row["cwd"],
        "prompt": shortened(shlex.join(argv)) if "argv" in cut else shlex.join(argv),
        "title": row["title"],
        "state": shown_state(state, gave_up=bool(row["gave_up"])),
        **dict.fromkeys(ABSENT),
        "createdAt": row["created_at"],
        "updatedAt": row["updated_at"],
        "completedAt": row["finished_at"],
        "archivedAt": row["archived_at"],
        "failureReason": failure(row),
        "progressHeadline": row["progress_text"],
        "sdk": _SDK,
        "parentJobId": row["parent"],
        # crewlog's additional fields.
        "outcome": state.value if state in ENDED else None,
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
        "queuedAt": row["queued_at"],
        "startedAt": row["started_at"],
        "cancelRequestedAt": row["cancel_requested_at"],
        "exitCode": exit_code(row),
        "errorId": row["error_id"],
        "runMs": row["run_ms"],
        "lines": row["lines"],
        "outputBytes": row["output_bytes"],
        "droppedBytes": row["dropped_bytes"],
        "progress": float(row["progress"]) if row["progress"] is not None else None,
        "crewId": row["crew"],
        "scheduleId": row["schedule"],
        "requestId": row["request"],
        "version": row["version"],
        "position": row["position"],
        "blockReason": row["block_reason"],
        "gaveUp": bool(row["gave_up"]),
        "strandedBy": row["stranded_by"],
        "failures": row["failures"],
        "pendingApprovals": orjson.loads(row["pending"]),
        "shortened": [field for column in cut for field in _FIELDS.get(column, ())],
    }


_FIELDS = {"argv": ("argv", "prompt"), "env_names": ("env",)}
"""Fields that show a column of the view unchanged."""
