"""Schedules in the words of the board (`contracts/board.md` §8)."""

from typing import Any

from pydantic import AliasChoices, BaseModel, Field

from api.native.schedule_json import FiringObject
from api.native.schedule_json import ScheduleObject as NativeSchedule
from api.native.schedule_requests import Terms, Text
from domain.schedule.aggregate import ScheduleState


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


class ScheduleObject(NativeSchedule):
    """A schedule, and how the board names its template and its state."""

    templateId: str
    enabled: bool


class ScheduleAnswer(BaseModel):
    schedule: ScheduleObject


class ScheduleList(BaseModel):
    schedules: list[ScheduleObject]


class RunNowAnswer(BaseModel):
    """The crew that was made, its jobs in dependency order."""

    jobIds: list[str]
    crewId: str


class FiringPage(BaseModel):
    items: list[FiringObject]
    cursor: int | None = Field(description="What `before` asks for the next page with.")
    hasMore: bool


def board_schedule(shown: dict[str, Any]) -> dict[str, Any]:
    """The object of the board, of ours."""
    enabled = shown["state"] == ScheduleState.ACTIVE.value
    return {**shown, "templateId": shown["template"], "enabled": enabled}
