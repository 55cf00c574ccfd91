"""Schedules as JSON (`contracts/board.md` §8): what requests say, and what answers show."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from api.dialects.job_json import JobObject
from api.edge.short_forms import brief
from api.edge.texts import CARRIABLE, Body
from domain.clock import format_time, parse_time
from domain.errors import BadInput
from domain.schedule.aggregate import CatchUp, ScheduleState
from domain.schedule.catch_up import GRACE
from projections.projection import Row
from projections.schedules import schedule_of

_WINDOW = re.compile(r"([0-9]{1,9})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

Text = Annotated[str, Field(max_length=1_000), CARRIABLE]
RuleSpec = Annotated[
    dict[str, Any],
    Field(
        max_length=10,
        description="A cadence (daily, weekly, monthly, hourly, minutely), or cron, rrule, once.",
    ),
]
CatchUpSpec = Annotated[
    str | dict[str, Any],
    Field(description='"latest", "none", {"all": "24h"} or {"mode": "all", "windowS": 86400}.'),
]


class Terms(Body):
    """The terms that can be changed. What is left out stays as it is."""

    name: Text | None = None
    inputs: dict[str, Any] | None = None
    rule: RuleSpec | None = None
    timezone: Text | None = None
    catch_up: CatchUpSpec | None = None
    overlap: Text | None = None
    jitter_s: Annotated[float, Field(ge=0, le=1e9)] | None = None
    ends_at: Text | None = Field(None, description="ISO 8601; null: it has no end.")
    max_firings: Annotated[int, Field(ge=-(2**53), le=2**53)] | None = None


class ScheduleRequest(Terms):
    """A schedule to be made."""

    template_id: Text | None = Field(
        None, validation_alias=AliasChoices("templateId", "template_id", "template")
    )
    enabled: bool = True


class ScheduleChange(Terms):
    """Other terms for a schedule. Its template stays, and `enable` and `disable` have routes of
    their own.
    """

    template_id: Any = Field(
        None, validation_alias=AliasChoices("templateId", "template_id", "template")
    )
    enabled: Any = None


class PreviewRequest(Body):
    """A rule that is not saved yet."""

    rule: RuleSpec
    timezone: Text | None = None
    n: Annotated[int, Field(ge=1, le=100)] = 10


class ScheduleObject(BaseModel):
    """A schedule. Nulls are given, never left out; times are ISO 8601 in UTC."""

    model_config = ConfigDict(extra="forbid")

    id: str
    name: str
    template: str
    templateId: str
    inputs: dict[str, Any]
    rule: dict[str, Any]
    ruleText: str
    timezone: str
    enabled: bool
    state: Literal["active", "disabled", "paused", "ended"]
    stateReason: str | None
    nextRunAt: str | None
    lastRunAt: str | None
    lastOutcome: Literal["spawned", "skipped", "failed"] | None
    lastError: str | None
    failuresInARow: int
    firings: int = Field(description="By the rule; those by hand are not counted.")
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
        description="Fields that lists show only the beginning of; the schedule has them whole."
    )


class ScheduleAnswer(BaseModel):
    schedule: ScheduleObject


class ScheduleList(BaseModel):
    schedules: list[ScheduleObject]


class ScheduleJobs(BaseModel):
    """A page of the jobs that a schedule made; `cursor` asks for the next one."""

    jobs: list[JobObject]
    cursor: str | None
    hasMore: bool


class RunNowAnswer(BaseModel):
    """The crew that was made, its jobs in dependency order."""

    jobIds: list[str]
    crewId: str


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


class FiringPage(BaseModel):
    items: list[FiringObject]
    cursor: int | None = Field(description="What `before` asks for the next page with.")
    hasMore: bool


def terms_of(body: Terms) -> dict[str, Any]:
    """The terms that a body gives, by the field names of ``schedule.created``. BadInput for what
    says nothing.
    """
    given = body.model_fields_set
    terms: dict[str, Any] = {}
    for name in ("name", "inputs", "rule", "timezone", "overlap"):
        if getattr(body, name) is not None:
            terms[name] = getattr(body, name)
    if "name" in terms:
        terms["name"] = terms["name"].strip()
    if body.catch_up is not None:
        terms |= _catch_up(body.catch_up)
    if body.jitter_s is not None:
        terms["jitter_ms"] = round(body.jitter_s * 1000)
    for name in ("ends_at", "max_firings"):
        if name in given:
            terms[name] = getattr(body, name)
    return terms


def _catch_up(given: str | dict[str, Any]) -> dict[str, Any]:
    if isinstance(given, str):
        return {"catch_up": given}
    if "all" in given:
        return {"catch_up": CatchUp.ALL, "catch_up_window_ms": _window_ms(given["all"])}
    terms: dict[str, Any] = {"catch_up": str(given.get("mode", ""))}
    window = given.get("windowS", given.get("window_s"))
    if window is not None:
        terms["catch_up_window_ms"] = _window_ms(window)
    return terms


def _window_ms(given: Any) -> int:
    """A time span: seconds, or like 90m, 24h, 7d."""
    if isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given <= 1e9:
        return round(given * 1000)
    found = _WINDOW.fullmatch(given.strip()) if isinstance(given, str) else None
    if found is None:
        raise BadInput("catchUp", "A window is a number of seconds, or like 90m, 24h or 7d.")
    return int(found[1]) * _SECONDS[found[2]] * 1000


def schedule_json(row: Row, now: datetime) -> dict[str, Any]:
    """The schedule object. `nextRunAt` is reckoned from `now`: a view has no clock."""
    schedule = schedule_of(row)
    following = None
    try:
        text = schedule.parsed.describe()
        if schedule.state is ScheduleState.ACTIVE:
            following = schedule.next_after(begin_of(row, now), row["firings"])
    except BadInput as error:
        # A rule that was good once, on another machine: the list of all the others must show.
        text = f"This server cannot read the rule: {error}"
    all_of_them = schedule.catch_up is CatchUp.ALL
    return {
        "id": row["id"],
        "name": row["name"],
        "template": row["template"],
        "templateId": row["template"],
        "inputs": schedule.inputs,
        "rule": schedule.rule,
        "ruleText": text,
        "timezone": row["timezone"],
        "enabled": schedule.state is ScheduleState.ACTIVE,
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
    """The schedule object as lists show it: inputs that are long are shortened."""
    inputs, whole = brief(schedule["inputs"])
    return schedule if whole else {**schedule, "inputs": inputs or {}, "shortened": ["inputs"]}


def begin_of(row: Row, now: datetime) -> datetime:
    """After which its next times come: it may have dealt with one that a clock showed early."""
    reached = parse_time(max(row["since"], row["last_nominal"] or ""))
    return max(reached, now) if reached <= now + GRACE else now


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
