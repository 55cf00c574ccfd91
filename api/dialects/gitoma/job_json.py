"""A job as gitoma's JSON (`contracts/gitoma.md` §3)."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from domain.job.events import JobState
from projections.jobs import exit_code
from projections.projection import Row

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


def status_json(row: Row) -> dict[str, Any]:
    return {
        "status": STATUSES[JobState(row["state"])],
        "label": row["label"],
        "created_at": _offset_time(row["created_at"]),
        "finished_at": _offset_time(row["finished_at"]) if row["finished_at"] else None,
        "error_id": row["error_id"],
        "exit_code": exit_code(row),
    }


def _offset_time(text: str) -> str:
    return text.removesuffix("Z") + "+00:00"
