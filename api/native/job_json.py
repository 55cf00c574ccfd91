"""A job as JSON. Null fields are present, never left out. Times are ISO 8601 in UTC."""

from collections.abc import Sequence
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from api.edge.security import NameOf
from domain.job.board import ARCHIVED, column_of
from domain.job.events import ENDED, JobState
from projections.jobs import exit_code, failure
from projections.projection import Row

StateName = Literal[
    "held",
    "queued",
    "running",
    "paused",
    "waiting_for_approval",
    "blocked",
    "review",
    "completed",
    "failed",
    "cancelled",
    "timed_out",
]
OutcomeName = Literal["completed", "failed", "cancelled", "timed_out"]


class JobBrief(BaseModel):
    """A job as lists show it."""

    model_config = ConfigDict(extra="forbid")

    id: str
    kind: str = Field(description="Names its driver: `command` or `agent`.")
    state: StateName
    outcome: OutcomeName | None = Field(description="How it ended; null before its end.")
    column: str = Field(description="Its column on the board.")
    gaveUp: bool = Field(description="It is blocked because its retries are used up.")
    title: str
    label: str
    labels: list[str]
    ownerId: str
    owner: str = Field(description="The owner's name.")
    crewId: str | None
    scheduleId: str | None
    template: str | None
    key: str | None = Field(description="Its id in the template.")
    assignee: str | None
    parents: list[str] = Field(description="The jobs that it waits for.")
    attempt: int = Field(description="0 before the first attempt.")
    active: bool = Field(description="An attempt holds it.")
    failures: int = Field(description="Failed attempts since a person last set it going.")
    createdAt: str
    queuedAt: str | None
    startedAt: str | None
    endedAt: str | None
    updatedAt: str
    cancelRequestedAt: str | None
    archivedAt: str | None
    exitCode: int | None = Field(description="Negative: the signal that killed it.")
    reason: str | None = Field(description="Why it failed or timed out.")
    blockReason: str | None
    strandedBy: str | None = Field(description="The job because of which it cannot start.")
    pendingApprovals: list[str]
    runMs: int | None
    lines: int
    progress: float | None
    progressText: str | None
    version: int = Field(description="The ETag.")
    position: int = Field(description="The position in the log of its submission.")


class JobObject(JobBrief):
    """A job, whole."""

    parentId: str | None = Field(description="The job of which it is a rerun.")
    requestId: str | None
    argv: list[str]
    cwd: str
    envNames: list[str] = Field(description="Values are never shown.")
    workspace: str | None
    timeoutS: float | None
    body: str | None = Field(description="Its instructions, beyond its command.")
    maxRetries: int
    leaseS: float | None
    notBefore: str | None
    approval: Literal["required", "none"]
    onReject: str | None
    approvers: list[str]
    resultSchema: dict[str, Any] | None
    result: dict[str, Any] | None
    node: str | None
    errorId: str | None
    outputBytes: int
    droppedBytes: int
    shortened: list[str] = Field(
        description="Fields that lists show shortened or as null; the job itself has them whole."
    )


class JobListed(BaseModel):
    """A job with the requested fields. Default: those of the short form."""

    model_config = ConfigDict(extra="allow")

    id: str


SHORT = tuple(JobBrief.model_fields)
FIELDS = tuple(JobObject.model_fields)

_OF_COLUMNS = {
    "argv": "argv",
    "env_names": "envNames",
    "plan": "body",
    "result": "result",
}
"""Fields whose column of the view lists show shortened."""


def job_json(row: Row, name_of: NameOf) -> dict[str, Any]:
    """The whole object for a row of the jobs view."""
    state = JobState(row["state"])
    cut: Sequence[str] = row.get("shortened", ())
    return {
        "id": row["id"],
        "kind": row["kind"],
        "state": state.value,
        "outcome": state.value if state in ENDED else None,
        "column": column_of_row(row),
        "gaveUp": bool(row["gave_up"]),
        "title": row["title"],
        "label": row["label"],
        "labels": orjson.loads(row["labels"]),
        "ownerId": row["owner"],
        "owner": name_of(row["owner"]),
        "crewId": row["crew"],
        "scheduleId": row["schedule"],
        "attempt": row["attempt"],
        "active": bool(row["active"]),
        "failures": row["failures"],
        "createdAt": row["created_at"],
        "queuedAt": row["queued_at"],
        "startedAt": row["started_at"],
        "endedAt": row["finished_at"],
        "updatedAt": row["updated_at"],
        "cancelRequestedAt": row["cancel_requested_at"],
        "archivedAt": row["archived_at"],
        "exitCode": exit_code(row),
        "reason": failure(row),
        "blockReason": row["block_reason"],
        "strandedBy": row["stranded_by"],
        "pendingApprovals": orjson.loads(row["pending"]),
        "runMs": row["run_ms"],
        "lines": row["lines"],
        "progress": float(row["progress"]) if row["progress"] is not None else None,
        "progressText": row["progress_text"],
        "version": row["version"],
        "position": row["position"],
        "parentId": row["parent"],
        "requestId": row["request"],
        "argv": orjson.loads(row["argv"]),
        "cwd": row["cwd"],
        "envNames": orjson.loads(row["env_names"]),
        "timeoutS": _seconds(row["timeout_ms"]),
        "result": orjson.loads(row["result"]) if row["result"] is not None else None,
        "node": row["node"],
        "errorId": row["error_id"],
        "outputBytes": row["output_bytes"],
        "droppedBytes": row["dropped_bytes"],
        **_planned(row),
        "shortened": [_OF_COLUMNS[column] for column in cut]
        + (["resultSchema"] if "plan" in cut else []),
    }


def _planned(row: Row) -> dict[str, Any]:
    """The job's part of its template; for a job of its own, every default."""
    plan = orjson.loads(row["plan"]) if row["plan"] is not None else {}
    return {
        "template": plan.get("template"),
        "key": plan.get("local"),
        "assignee": plan.get("assignee"),
        "parents": plan.get("parents", []),
        "workspace": plan.get("workspace"),
        "body": plan.get("body"),
        "maxRetries": plan.get("max_retries", 0),
        "leaseS": _seconds(plan.get("lease_ms", 0)),
        "notBefore": plan.get("not_before"),
        "approval": "required" if plan.get("approval") else "none",
        "onReject": plan.get("on_reject"),
        "approvers": plan.get("approvers", []),
        "resultSchema": plan.get("result_schema"),
    }


def column_of_row(row: Row) -> str:
    """The column of the board, or ``archived``."""
    if row["archived_at"] is not None:
        return ARCHIVED
    return column_of(JobState(row["state"]), active=bool(row["active"]))


def _seconds(ms: int) -> float | None:
    return ms / 1000 if ms else None


def listed(row: Row, name_of: NameOf, fields: Sequence[str] = SHORT) -> dict[str, Any]:
    """A job with these fields, and with `shortened` if one of them is not whole."""
    whole = job_json(row, name_of)
    shown = {field: whole[field] for field in fields}
    cut = [field for field in whole["shortened"] if field in shown]
    return {**shown, "shortened": cut} if cut else shown


# What belongs to a job


class Attempt(BaseModel):
    """One attempt of the job."""

    model_config = ConfigDict(extra="forbid")

    attempt: int
    node: str
    outcome: str | None = Field(
        description="completed, failed, cancelled, timed_out, blocked, crashed, gave_up or stale."
    )
    startedAt: str
    endedAt: str | None
    exitCode: int | None
    reason: str | None
    errorId: str | None
    runMs: int | None
    lines: int | None
    result: dict[str, Any] | None
    leaseExpired: bool


class CommentObject(BaseModel):
    model_config = ConfigDict(extra="forbid")

    position: int
    author: str
    authorId: str
    body: str
    createdAt: str


class Entry(BaseModel):
    """One entry of the job's timeline."""

    model_config = ConfigDict(extra="forbid")

    position: int
    type: str
    at: str
    actor: str
    actorId: str
    sentence: str


class ParentResult(BaseModel):
    """The result of a job that this one waits for."""

    model_config = ConfigDict(extra="forbid")

    jobId: str
    key: str | None
    title: str
    state: StateName
    attempt: int
    endedAt: str | None
    result: dict[str, Any] | None = Field(description="Null before it is completed.")


class ActionResult(BaseModel):
    """The result of an action on one job."""

    model_config = ConfigDict(extra="forbid")

    id: str
    ok: bool
    status: int
    detail: str | None = Field(description="Why it was refused.")


class ActionResults(BaseModel):
    model_config = ConfigDict(extra="forbid")

    items: list[ActionResult]
    done: int
    refused: int
    more: bool = Field(description="The filter selects more jobs than one action takes.")


def attempt_json(row: Row) -> dict[str, Any]:
    return {
        "attempt": row["attempt"],
        "node": row["node"],
        "outcome": row["outcome"],
        "startedAt": row["started_at"],
        "endedAt": row["ended_at"],
        "exitCode": row["exit_code"],
        "reason": row["reason"] or None,
        "errorId": row["error_id"],
        "runMs": row["run_ms"],
        "lines": row["lines"],
        "result": orjson.loads(row["result"]) if row["result"] is not None else None,
        "leaseExpired": bool(row["lease_expired"]),
    }


def comment_json(row: Row, name_of: NameOf) -> dict[str, Any]:
    return {
        "position": row["position"],
        "author": name_of(row["author"]),
        "authorId": row["author"],
        "body": row["body"],
        "createdAt": row["at"],
    }


def entry_json(row: Row, name_of: NameOf) -> dict[str, Any]:
    return {
        "position": row["position"],
        "type": row["type"],
        "at": row["at"],
        "actor": name_of(row["actor"]),
        "actorId": row["actor"],
        "sentence": row["sentence"],
    }


def parent_json(row: Row) -> dict[str, Any]:
    """A parent, as its children see it."""
    plan = orjson.loads(row["plan"]) if row["plan"] is not None else {}
    done = row["state"] == JobState.COMPLETED.value
    result = orjson.loads(row["result"]) if done and row["result"] is not None else None
    return {
        "jobId": row["id"],
        "key": plan.get("local"),
        "title": row["title"],
        "state": row["state"],
        "attempt": row["attempt"],
        "endedAt": row["finished_at"],
        "result": result if result is not None else ({} if done else None),
    }
