"""The request for a crew, and its answer."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from api.edge.texts import CARRIABLE, Body


class CrewRequest(Body):
    """A template and its inputs."""

    template_id: Annotated[str, Field(min_length=1, max_length=500), CARRIABLE]
    inputs: dict[str, Any] = Field(default_factory=dict)
    timezone: Annotated[str, Field(max_length=64), CARRIABLE] | None = Field(
        None, description="The time zone of the dates `today` and `nominal`. Default: UTC."
    )
    scheduled_at: Annotated[str, Field(max_length=64), CARRIABLE] | None = Field(
        None, description="No job starts before this time (ISO 8601 with an offset)."
    )


class CrewCreated(BaseModel):
    """A committed crew. `jobIds` are in dependency order."""

    jobIds: list[str]
    crewId: str
