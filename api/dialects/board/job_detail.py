"""One job with all that belongs to it, in the words of the board (`contracts/board.md` §5.2)."""

from collections.abc import Callable
from typing import Any

import orjson

from api.dialects.board.job_json import job_json
from projections.attempts import job_attempts
from projections.comments import job_comments
from projections.engine import Reading
from projections.jobs import jobs_of_ids
from projections.projection import Row
from projections.timeline import newest_of_job

_EVENTS = 500
_COMMENTS = 200
"""What one answer gives of a job that much was said of: the newest."""

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
"""The board has five outcomes of a run; `detailedOutcome` keeps what this loses."""


def detail_json(reading: Reading, row: Row, name_of: Callable[[str], str]) -> dict[str, Any]:
    """The job object, and beside its fields the lists of the board's detail."""
    job = job_json(row)
    entries, earlier = newest_of_job(reading, row["id"], _EVENTS)
    comments, earlier_comments = job_comments(reading, row["id"], _COMMENTS)
    parents = {parent["id"]: parent for parent in jobs_of_ids(reading, job["parents"])}
    return {
        **job,
        "job": job,
        "runs": [run_json(run) for run in job_attempts(reading, row["id"])],
        "events": [event_json(entry, name_of) for entry in entries],
        "earlierEvents": earlier,
        "comments": [comment_json(comment, name_of) for comment in comments],
        "earlierComments": earlier_comments,
        "parentResults": [
            parent_result(parents[parent]) for parent in job["parents"] if parent in parents
        ],
    }


def run_json(run: Row) -> dict[str, Any]:
    """An attempt, as the board's run. Its id, with the job's, names its log."""
    return {
        "id": f"run-{run['attempt']}",
        "jobId": run["job_id"],
        "attempt": run["attempt"],
        "outcome": _BOARD_OUTCOMES.get(run["outcome"]) if run["outcome"] else None,
        "detailedOutcome": run["outcome"],
        "startedAt": run["started_at"],
        "endedAt": run["ended_at"],
        "node": run["node"],
        "workerPid": None,
        "lastHeartbeatAt": None,
        "leaseExpired": bool(run["lease_expired"]),
        "metadata": orjson.loads(run["result"]) if run["result"] is not None else None,
        "error": run["reason"] or None,
        "errorId": run["error_id"],
        "exitCode": run["exit_code"],
        "runMs": run["run_ms"],
        "lines": run["lines"],
        "costSpent": 0,
        "costSaved": 0,
        "sessionName": f"{run['job_id']}_run-{run['attempt']}",
    }


def event_json(entry: Row, name_of: Callable[[str], str]) -> dict[str, Any]:
    """Something that happened, as the board's event; `id` is its position in the log."""
    return {
        "id": entry["position"],
        "jobId": entry["job_id"],
        "kind": entry["type"].partition(".")[2],
        "payload": {"sentence": entry["sentence"]},
        "createdAt": entry["at"],
        **timeline_entry(entry, name_of),
    }


def timeline_entry(entry: Row, name_of: Callable[[str], str]) -> dict[str, Any]:
    """Something that happened, for a timeline."""
    return {
        "position": entry["position"],
        "timestamp": entry["at"],
        "actor": entry["actor"],
        "actorName": name_of(entry["actor"]),
        "type": entry["type"],
        "sentence": entry["sentence"],
    }


def comment_json(comment: Row, name_of: Callable[[str], str]) -> dict[str, Any]:
    return {
        "id": comment["position"],
        "jobId": comment["job_id"],
        "author": name_of(comment["author"]),
        "authorId": comment["author"],
        "body": comment["body"],
        "createdAt": comment["at"],
    }


def parent_result(parent: Row) -> dict[str, Any]:
    """What a parent left for its children; `metadata` is null until it is done."""
    done = parent["state"] == "completed"
    plan = orjson.loads(parent["plan"]) if parent["plan"] is not None else {}
    result = orjson.loads(parent["result"]) if done and parent["result"] is not None else None
    return {
        "jobId": parent["id"],
        "key": plan.get("local"),
        "title": parent["title"],
        "metadata": result if result is not None else ({} if done else None),
        "completedAt": parent["finished_at"] if done else None,
        "attempt": parent["attempt"],
    }
