"""What a crew is made of, and what comes back."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from api.edge.texts import CARRIABLE, Body


class CrewRequest(Body):
    """A template to become a crew."""

    template_id: Annotated[str, Field(min_length=1, max_length=500), CARRIABLE]
    inputs: dict[str, Any] = Field(default_factory=dict)
    timezone: Annotated[str, Field(max_length=64), CARRIABLE] | None = Field(
        None, description="Whose date `today` is, and of `nominal`; else UTC."
    )
    scheduled_at: Annotated[str, Field(max_length=64), CARRIABLE] | None = Field(
        None, description="Nothing starts before this time (ISO 8601 with an offset)."
    )


class CrewCreated(BaseModel):
    """A committed crew; `jobIds` stand in dependency order."""

    jobIds: list[str]
    crewId: str
