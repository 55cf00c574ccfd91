"""The crew: jobs that were committed together, and what each of them waits for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from domain.errors import NotFound
from domain.event import Event


class CrewMember(BaseModel):
    """One job of a crew. `parents` are job ids."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    local: str
    """Its id in the template."""
    title: str
    parents: list[str]


class CrewCommitted(Event, type="crew.committed"):
    """A template became jobs: this and the ``job.submitted`` of each are one append."""

    template: str
    name: str
    inputs: dict[str, Any]
    owner: str
    schedule: str | None
    nominal: str | None
    """The time of the schedule that it was made for."""
    not_before: str | None
    jobs: list[CrewMember]
    """In dependency order."""


class CrewNotFound(NotFound):
    def __init__(self, crew_id: str) -> None:
        super().__init__("Crew not found")
        self.crew_id = crew_id


@dataclass(frozen=True, slots=True)
class Crew:
    """Who belongs to a crew, and who waits for whom."""

    id: str
    owner: str
    members: tuple[CrewMember, ...]

    def children(self, job_id: str) -> list[str]:
        """Jobs that wait for this one, in dependency order."""
        return [member.id for member in self.members if job_id in member.parents]

    def descendants(self, job_id: str) -> list[str]:
        """All that wait for this one, by any way, in dependency order."""
        found = {job_id}
        for member in self.members:
            if found.intersection(member.parents):
                found.add(member.id)
        return [member.id for member in self.members if member.id in found and member.id != job_id]


def crew_stream(crew_id: str) -> str:
    return f"crew-{crew_id}"


STRANDED = "stranded"
"""How a held job counts that cannot start as things are."""

CREW_STATES = ("blocked", "waiting_for_approval", "running", "held", "failed", "completed")


def crew_state(states: Sequence[str]) -> str:
    """The state of a crew, from those of its jobs: what most needs looking at.

    ``blocked`` when a job waits for a person to unblock it, ``waiting_for_approval`` when one asks,
    ``running`` while any job can go on, ``held`` before the first has begun, ``completed`` when all
    are, else ``failed``: nothing moves any more and not all was done. `states` are JobState values,
    and ``stranded`` for a held job that cannot start as things are.
    """
    there = set(states)
    for state in ("blocked", "waiting_for_approval"):
        if state in there:
            return state
    if there & {"running", "queued", "paused", "review"}:
        return "running"
    if there <= {"held"}:
        return "held"
    if there == {"completed"}:
        return "completed"
    if there & {"failed", "cancelled", "timed_out", STRANDED}:
        return "failed"
    return "running"
