"""What can be asked of ``/api/jobs``: bodies and filters, and what they mean."""

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag
from pydantic.json_schema import SkipJsonSchema

from api.edge.texts import CARRIABLE, Body
from api.native.job_requests import NewJob
from domain.errors import Invalid
from projections.jobs import STATES

_SPELLINGS = {**{state: state for state in STATES}, "canceled": "cancelled"}
"""What a filter takes, and which state it means: CodePlane spells one of them in its own way."""


STATE_LIST = rf"^[ ,]*$|(?:^|,) *(?:{'|'.join(sorted(_SPELLINGS))}) *(?:,|$)"


class JobRequest(NewJob):
    """A command to run, without a shell."""

    template_id: SkipJsonSchema[None] = Field(None, exclude=True)


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


CREW_TAG, JOB_TAG = "crew-request", "job-request"


def _kind(body: Any) -> str:
    """A body is told apart by its fields: ``templateId`` is a crew (`contracts/board.md`)."""
    if isinstance(body, CrewRequest):
        return CREW_TAG
    if not isinstance(body, dict):
        return JOB_TAG
    named = body.get("templateId", body.get("template_id"))
    return JOB_TAG if named is None else CREW_TAG


Submitted = Annotated[
    Annotated[JobRequest, Tag(JOB_TAG)] | Annotated[CrewRequest, Tag(CREW_TAG)],
    Discriminator(_kind),
]
"""The body of ``POST /api/jobs``."""


def states_of(given: str | None) -> frozenset[str]:
    """The states that a comma list selects, in either spelling. Unknown names select nothing, as
    CodePlane's page relies on (`contracts/codeplane.md` §3); Invalid if all are unknown.
    """
    if not given:
        return frozenset()
    names = [name.strip() for name in given.split(",") if name.strip()]
    selected = frozenset(_SPELLINGS[name] for name in names if name in _SPELLINGS)
    if names and not selected:
        raise Invalid(f"No such state. States are {', '.join(STATES)}.")
    return selected
