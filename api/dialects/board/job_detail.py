"""One job with everything that belongs to it, in the board's terms (`contracts/board.md` §5.2)."""

from collections.abc import Callable
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from api.dialects.board.job_json import JobObject, job_json
from projections.attempts import newest_attempts
from projections.comments import job_comments
from projections.jobs import jobs_of_ids
from projections.projection import Row
from projections.reading import Reading
from projections.timeline import newest_of_job

_EVENTS = 500
_COMMENTS = 200
_RUNS = 200
"""Most entries of a job's history in one answer: the newest ones."""

_BOARD_OUTCOMES = {
    "completed": "completed",
    "blocked": "blocked",
    "gave_up": "gave_up",
    "crashed": "crashed",
    "failed": "crashed",
    "stale": "crashed",
    "cancelled": "crashed",
    "timed_out": "timed_out",
}
"""The board has five outcomes of a run. `detailedOutcome` keeps the exact one."""


class _Object(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RunObject(_Object):
    """An attempt, as the board's run."""

    id: str
    jobId: str
    outcome: Literal["completed", "blocked", "crashed", "timed_out", "gave_up"] | None
    detailedOutcome: str | None = Field(description="The exact outcome, beside the board's five.")
    startedAt: str
    endedAt: str | None
    workerPid: None
    lastHeartbeatAt: None
    leaseExpired: bool
    metadata: dict[str, Any] | None
    error: str | None
    errorId: str | None
    exitCode: int | None
    costSpent: float
    costSaved: float
    sessionName: str


class EventObject(_Object):
    """An event of the job. `id` is its position in the log."""

    id: int
    jobId: str
    runId: str | None
    kind: str
    payload: dict[str, Any]
    createdAt: str


class CommentObject(_Object):
    id: int
    jobId: str
    author: str
    body: str
    createdAt: str


class ParentResult(_Object):
    """The result of a parent for its children."""

    jobId: str
    title: str
    metadata: dict[str, Any] | None = Field(description="Null before the parent is done.")
    completedAt: str | None


class JobDetail(_Object):
    """One job with everything that belongs to it (`contracts/board.md` §5.3)."""

    job: JobObject
    runs: list[RunObject] = Field(description="The last 200.")
    earlierRuns: bool
    events: list[EventObject] = Field(description="The last 500.")
    earlierEvents: bool
    comments: list[CommentObject] = Field(description="The last 200.")
    earlierComments: bool
    parentResults: list[ParentResult]


def detail_json(reading: Reading, row: Row, name_of: Callable[[str], str]) -> dict[str, Any]:
    """The job, and everything that belongs to it."""
    job = job_json(row)
    runs, earlier_runs = newest_attempts(reading, row["id"], _RUNS)
    entries, earlier = newest_of_job(reading, row["id"], _EVENTS)
    comments, earlier_comments = job_comments(reading, row["id"], _COMMENTS)
    parents = {parent["id"]: parent for parent in jobs_of_ids(reading, job["parents"])}
    return {
        "job": job,
        "runs": list(map(run_json, runs)),
        "earlierRuns": earlier_runs,
        "events": [event_json(entry, name_of) for entry in entries],
        "earlierEvents": earlier,
        "comments": [comment_json(comment, name_of) for comment in comments],
        "earlierComments": earlier_comments,
        "parentResults": [
            parent_result(parents[parent]) for parent in job["parents"] if parent in parents
        ],
    }


def run_json(run: Row) -> dict[str, Any]:
    """An attempt as the board's run. Its id, together with the job's, names its log."""
    return {
        "id": f"run-{run['attempt']}",
        "jobId": run["job_id"],
        "outcome": _BOARD_OUTCOMES.get(run["outcome"]) if run["outcome"] else None,
        "detailedOutcome": run["outcome"],
        "startedAt": run["started_at"],
        "endedAt": run["ended_at"],
        "workerPid": None,
        "lastHeartbeatAt": None,
        "leaseExpired": bool(run["lease_expired"]),
        "metadata": orjson.loads(run["result"]) if run["result"] is not None else None,
        "error": run["reason"] or None,
        "errorId": run["error_id"],
        "exitCode": run["exit_code"],
        "costSpent": 0,
        "costSaved": 0,
        "sessionName": f"{run['job_id']}_run-{run['attempt']}",
    }


def event_json(entry: Row, name_of: Callable[[str], str]) -> dict[str, Any]:
    """An entry of the timeline as the board's event. `id` is its position in the log."""
    return {
        "id": entry["position"],
        "jobId": entry["job_id"],
        # The timeline does not name the attempt of an entry.
        "runId": None,
        "kind": entry["type"].partition(".")[2],
        "payload": {"sentence": entry["sentence"], "actor": name_of(entry["actor"])},
        "createdAt": entry["at"],
    }


def comment_json(comment: Row, name_of: Callable[[str], str]) -> dict[str, Any]:
    return {
        "id": comment["position"],
        "jobId": comment["job_id"],
        "author": name_of(comment["author"]),
        "body": comment["body"],
        "createdAt": comment["at"],
    }


def parent_result(parent: Row) -> dict[str, Any]:
    """The result of a parent for its children. `metadata` is null until the parent is done."""
    done = parent["state"] == "completed"
    result = orjson.loads(parent["result"]) if done and parent["result"] is not None else None
    return {
        "jobId": parent["id"],
        "title": parent["title"],
        "metadata": result if result is not None else ({} if done else None),
        "completedAt": parent["finished_at"] if done else None,
    }
