"""Schedules as JSON. Null fields are present, never left out. Times are ISO 8601 in UTC."""

from datetime import datetime
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from api.edge.short_forms import brief
from domain.clock import format_time, parse_time
from domain.errors import BadInput
from domain.schedule.aggregate import CatchUp, ScheduleState
from domain.schedule.catch_up import GRACE
from projections.projection import Row
from projections.schedules import schedule_of, used_firings


class ScheduleObject(BaseModel):
    """A schedule. Null fields are present, never left out. Times are ISO 8601 in UTC."""

    model_config = ConfigDict(extra="forbid")

    id: str
    name: str
    template: str
    inputs: dict[str, Any]
    rule: dict[str, Any]
    ruleText: str
    timezone: str
    state: Literal["active", "disabled", "paused", "ended"]
    stateReason: str | None
    nextRunAt: str | None
    lastRunAt: str | None
    lastOutcome: Literal["spawned", "skipped", "failed"] | None
    lastError: str | None
    failuresInARow: int
    firings: int = Field(description="Firings by the rule, without those by hand.")
    missed: int
    skipped: int
    catchUp: str | dict[str, Any]
    overlap: Literal["allow", "skip", "cancel"]
    jitterS: float
    endsAt: str | None
    maxFirings: int | None
    ownerId: str
    createdAt: str
    updatedAt: str
    version: int = Field(description="The ETag.")
    shortened: list[str] = Field(
        description="Fields that lists show shortened; the schedule itself has them whole."
    )


class Preview(BaseModel):
    """The next times of a rule, without jitter."""

    times: list[str]
    ruleText: str
    timezone: str


class FiringObject(BaseModel):
    """One time that came: fired, or missed (then `count` times up to `through`)."""

    position: int
    nominal: str
    through: str | None
    count: int
    dueAt: str | None
    firedAt: str | None
    lateMs: int | None
    spawnLateMs: int | None
    firing: int | None
    catchUp: bool
    manual: bool
    outcome: Literal["spawned", "skipped", "failed", "missed"] | None
    crewId: str | None
    jobIds: list[str]
    reason: str | None
    path: str | None


def schedule_json(row: Row, now: datetime) -> dict[str, Any]:
    """The schedule object. `nextRunAt` is computed from `now`, because a view has no clock."""
    schedule = schedule_of(row)
    following = None
    try:
        text = schedule.parsed.describe()
        if schedule.state is ScheduleState.ACTIVE:
            following = schedule.next_after(begin_of(row, now), used_firings(row))
    except BadInput as error:
        # The rule was valid on another machine. The list must still show all other schedules.
        text = f"This server cannot read the rule: {error}"
    all_of_them = schedule.catch_up is CatchUp.ALL
    return {
        "id": row["id"],
        "name": row["name"],
        "template": row["template"],
        "inputs": schedule.inputs,
        "rule": schedule.rule,
        "ruleText": text,
        "timezone": row["timezone"],
        "state": row["state"],
        "stateReason": row["state_reason"],
        "nextRunAt": format_time(following) if following is not None else None,
        "lastRunAt": row["last_run_at"],
        "lastOutcome": row["last_outcome"],
        "lastError": row["last_error"],
        "failuresInARow": row["failures"],
        "firings": row["firings"],
        "missed": row["missed"],
        "skipped": row["skipped"],
        "catchUp": {"mode": "all", "windowS": row["catch_up_window_ms"] / 1000}
        if all_of_them
        else row["catch_up"],
        "overlap": row["overlap"],
        "jitterS": row["jitter_ms"] / 1000,
        "endsAt": row["ends_at"],
        "maxFirings": row["max_firings"],
        "ownerId": row["owner"],
        "createdAt": row["created_at"],
        "updatedAt": row["updated_at"],
        "version": row["version"],
        "shortened": [],
    }


def schedule_brief(schedule: dict[str, Any]) -> dict[str, Any]:
    """The schedule object as lists show it: long inputs are shortened."""
    inputs, whole = brief(schedule["inputs"])
    return schedule if whole else {**schedule, "inputs": inputs or {}, "shortened": ["inputs"]}


def begin_of(row: Row, now: datetime) -> datetime:
    """The time after which its next times come: now, or a time within the next minute that a wrong
    clock has fired already. One that was only missed is still fired.
    """
    last = row["last_nominal"] or ""
    if last and (row["last_run_at"] or "") >= last:
        return max(now, parse_time(last)) if parse_time(last) <= now + GRACE else now
    return now


def firing_json(row: Row) -> dict[str, Any]:
    """One time of a schedule's history."""
    return {
        "position": row["position"],
        "nominal": row["nominal"],
        "through": row["through"],
        "count": row["count"],
        "dueAt": row["due_at"],
        "firedAt": row["fired_at"],
        "lateMs": row["late_ms"],
        "spawnLateMs": row["spawn_late_ms"],
        "firing": row["firing"],
        "catchUp": bool(row["catch_up"]),
        "manual": bool(row["manual"]),
        "outcome": row["outcome"],
        "crewId": row["crew"],
        "jobIds": orjson.loads(row["jobs"]),
        "reason": row["reason"],
        "path": row["path"],
    }
