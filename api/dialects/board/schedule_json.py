"""Schedules in the board's terms (`contracts/board.md` §8)."""

from typing import Any

from pydantic import AliasChoices, BaseModel, Field

from api.native.schedule_json import FiringObject
from api.native.schedule_json import ScheduleObject as NativeSchedule
from api.native.schedule_requests import Terms, Text
from domain.schedule.aggregate import ScheduleState


class ScheduleRequest(Terms):
    """A new schedule."""

    template_id: Text | None = Field(
        None, validation_alias=AliasChoices("templateId", "template_id", "template")
    )
    enabled: bool = True


class ScheduleChange(Terms):
    """New terms for a schedule. Its template cannot change; `enable` and `disable` have
    routes of their own.
    """

    template_id: Any = Field(
        None, validation_alias=AliasChoices("templateId", "template_id", "template")
    )
    enabled: Any = None


class ScheduleObject(NativeSchedule):
    """A schedule, with the board's names for its template and state."""

    templateId: str
    enabled: bool


class ScheduleAnswer(BaseModel):
    schedule: ScheduleObject


class ScheduleList(BaseModel):
    """Schedules; `cursor` asks for more."""

    schedules: list[ScheduleObject]
    cursor: str | None


class RunNowAnswer(BaseModel):
    """The new crew. Its jobs are in dependency order."""

    jobIds: list[str]
    crewId: str


class FiringPage(BaseModel):
    items: list[FiringObject]
    cursor: int | None = Field(description="The value of `before` for the next page.")
    hasMore: bool


def board_schedule(shown: dict[str, Any]) -> dict[str, Any]:
    """The board's object, made from the native one."""
    enabled = shown["state"] == ScheduleState.ACTIVE.value
    return {**shown, "templateId": shown["template"], "enabled": enabled}
