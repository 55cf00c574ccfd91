"""Crews as JSON."""

from collections.abc import Callable
from typing import Any

import orjson

from api.dialects.codeplane.job_json import job_json
from api.edge.short_forms import brief
from projections.crews import find_crew, state_of
from projections.engine import Reading
from projections.jobs import jobs_of_ids
from projections.projection import Row


def crew_json(row: Row, counts: dict[str, int], name_of: Callable[[str], str]) -> dict[str, Any]:
    """A crew; `state` follows from its jobs, which `counts` has by state."""
    return {
        "id": row["id"],
        "name": row["name"],
        "templateId": row["template"],
        "inputs": orjson.loads(row["inputs"]),
        "state": state_of(counts),
        "counts": counts,
        "ownerId": row["owner"],
        "owner": name_of(row["owner"]),
        "scheduleId": row["schedule"],
        "nominalAt": row["nominal"],
        "scheduledAt": row["not_before"],
        "createdAt": row["created_at"],
        "jobIds": [member["id"] for member in orjson.loads(row["members"])],
        "position": row["position"],
    }


def crew_brief(row: Row, counts: dict[str, int], name_of: Callable[[str], str]) -> dict[str, Any]:
    """A crew as lists show it: inputs that are long are shortened, and `shortened` names them."""
    crew = crew_json(row, counts, name_of)
    crew["inputs"], whole = brief(crew["inputs"])
    return {**crew, "shortened": [] if whole else ["inputs"]}


def graph_json(reading: Reading, job: Row) -> dict[str, Any]:
    """The whole crew of a job in dependency order; a job of its own is a graph of one."""
    if job["crew"] is None:
        return {"crewId": None, "jobs": [_node(job_json(job))]}
    members = orjson.loads(find_crew(reading, job["crew"])["members"])
    rows = {row["id"]: row for row in jobs_of_ids(reading, [m["id"] for m in members])}
    nodes = [
        _node(job_json(rows[member["id"]]))
        for member in members
        if member["id"] in rows and not rows[member["id"]]["deleted"]
    ]
    return {"crewId": job["crew"], "jobs": nodes}


def _node(job: dict[str, Any]) -> dict[str, Any]:
    shown = (
        "id",
        "key",
        "title",
        "assignee",
        "status",
        "state",
        "parents",
        "outcome",
        "attempts",
        "failures",
        "gaveUp",
        "strandedBy",
        "blockReason",
        "failureReason",
        "cancelRequestedAt",
        "archivedAt",
        "startedAt",
        "completedAt",
    )
    return {name: job[name] for name in shown}
