"""The requests of ``/crews``, and their meaning."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from api.edge.texts import CARRIABLE, Body
from api.native.crew_json import CREW_STATES
from api.native.job_requests import OwnerOf, Word, moment_of, words_of
from projections.crews import CrewFilter

Zone = Annotated[str, Field(max_length=64), CARRIABLE]
Inputs = dict[str, Any]

_TODAY = "The time zone of the dates `today` and `nominal`. Default: UTC."


class NewCrew(Body):
    """A template and its inputs."""

    template: Annotated[str, Field(min_length=1, max_length=500), CARRIABLE]
    inputs: Inputs = Field(default_factory=dict)
    timezone: Zone | None = Field(None, description=_TODAY)
    not_before: Zone | None = Field(
        None, description="No job starts before this time (ISO 8601 with an offset)."
    )


class CrewAgain(Body):
    """Changes for another crew of the same template."""

    inputs: Inputs = Field(default_factory=dict, description="They replace earlier inputs.")
    timezone: Zone | None = Field(
        None, description=_TODAY.replace("UTC", "that of the crew, or UTC if it is not known")
    )


class CrewQuery(BaseModel):
    """Which crews, and how many. A crew must pass every filter."""

    state: Word | None = Field(None, description=f"By comma: {', '.join(CREW_STATES)}.")
    owner: Word | None = Field(None, description="`me`, an owner's id or a person's address.")
    template: Annotated[str, Field(max_length=500), CARRIABLE] | None = None
    number: int | None = Field(None, ge=1, le=2**53)
    schedule: Word | None = None
    label: Annotated[str, Field(max_length=64), CARRIABLE] | None = Field(
        None, description="A label of one of its jobs."
    )
    text: Word | None = Field(
        None, description="Text in the name or template, or at the beginning of the id."
    )
    created_after: Word | None = Field(None, description="ISO 8601 with an offset, like all times.")
    created_before: Word | None = None
    limit: int = Field(50, ge=1, le=100)
    cursor: Word | None = Field(None, description="From the page before.")

    def filter(self, owner_of: OwnerOf) -> CrewFilter:
        """Raises BadInput, with the name of the filter, for an unknown word."""
        return CrewFilter(
            states=words_of("state", self.state, CREW_STATES),
            owner=None if self.owner is None else owner_of(self.owner),
            template=self.template,
            number=self.number,
            schedule=self.schedule,
            label=self.label,
            text=self.text,
            created_after=moment_of("created_after", self.created_after),
            created_before=moment_of("created_before", self.created_before),
        )
