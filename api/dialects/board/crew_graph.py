"""A crew as the graph of its jobs (`contracts/board.md` §5.3)."""

from typing import Any

import orjson

from api.dialects.board.job_json import job_json
from projections.crews import find_crew
from projections.jobs import jobs_of_ids
from projections.projection import Row
from projections.reading import Reading


def graph_json(reading: Reading, job: Row) -> dict[str, Any]:
    """The job's whole crew in dependency order. A job of its own is a graph of one."""
    if job["crew"] is None:
        return {"jobs": [_node(job_json(job))]}
    members = orjson.loads(find_crew(reading, job["crew"])["members"])
    rows = {row["id"]: row for row in jobs_of_ids(reading, [m["id"] for m in members])}
    nodes = [
        _node(job_json(rows[member["id"]]))
        for member in members
        if member["id"] in rows and not rows[member["id"]]["deleted"]
    ]
    return {"jobs": nodes}


def _node(job: dict[str, Any]) -> dict[str, Any]:
    return {name: job[name] for name in ("id", "title", "assignee", "status", "parents")}
