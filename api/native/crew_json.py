"""Crews as JSON. Null fields are present, never left out. Times are ISO 8601 in UTC."""

from collections.abc import Sequence
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from api.edge.security import NameOf
from api.edge.short_forms import brief
from api.native.job_json import JobBrief, listed
from projections.crews import counts_of, state_of
from projections.jobs import jobs_of_ids
from projections.projection import Row
from projections.reading import Reading

CREW_STATES = (
    "held",
    "running",
    "waiting_for_approval",
    "blocked",
    "failed",
    "completed",
    "deleted",
)


class CrewBrief(BaseModel):
    """A crew. `state` follows from its jobs."""

    model_config = ConfigDict(extra="forbid")

    id: str
    number: int = Field(description="Counts the crews of its template, as in `deploy #42`.")
    name: str
    template: str
    inputs: dict[str, Any]
    state: Literal[
        "held", "running", "waiting_for_approval", "blocked", "failed", "completed", "deleted"
    ]
    counts: dict[str, int] = Field(
        description="Jobs by state. `stranded` ones are held and cannot start at present."
    )
    ownerId: str
    owner: str
    scheduleId: str | None
    nominalAt: str | None = Field(description="The time of the schedule that it was made for.")
    notBefore: str | None
    createdAt: str
    jobIds: list[str] = Field(description="In dependency order.")
    position: int
    shortened: list[str] = Field(description="Fields that lists show shortened.")


class CrewObject(CrewBrief):
    """A crew with its jobs, in dependency order, without deleted ones."""

    jobs: list[JobBrief]


def crew_json(row: Row, counts: dict[str, int], name_of: NameOf) -> dict[str, Any]:
    """A crew. `counts` has the number of its jobs by state."""
    return {
        "id": row["id"],
        "number": row["number"],
        "name": row["name"],
        "template": row["template"],
        "inputs": orjson.loads(row["inputs"]),
        "state": state_of(counts),
        "counts": counts,
        "ownerId": row["owner"],
        "owner": name_of(row["owner"]),
        "scheduleId": row["schedule"],
        "nominalAt": row["nominal"],
        "notBefore": row["not_before"],
        "createdAt": row["created_at"],
        "jobIds": [member["id"] for member in orjson.loads(row["members"])],
        "position": row["position"],
        "shortened": [],
    }


def crew_listed(row: Row, counts: dict[str, int], name_of: NameOf) -> dict[str, Any]:
    """A crew as lists show it: long inputs are shortened."""
    crew = crew_json(row, counts, name_of)
    inputs, whole = brief(crew["inputs"])
    return crew if whole else {**crew, "inputs": inputs or {}, "shortened": ["inputs"]}


def crew_whole(reading: Reading, row: Row, name_of: NameOf) -> dict[str, Any]:
    """The crew with its jobs."""
    members = [member["id"] for member in orjson.loads(row["members"])]
    rows = {found["id"]: found for found in jobs_of_ids(reading, members)}
    there = [rows[one] for one in members if one in rows and not rows[one]["deleted"]]
    return crew_of(row, there, name_of)


def crew_of(row: Row, jobs: Sequence[Row], name_of: NameOf) -> dict[str, Any]:
    """The crew with these jobs."""
    crew = crew_json(row, counts_of(jobs), name_of)
    return {**crew, "jobs": [listed(job, name_of) for job in jobs]}
