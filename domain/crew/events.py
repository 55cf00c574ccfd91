"""The crew: jobs that were committed together, and the parents of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from domain.errors import NotFound
from domain.event import Event


class CrewMember(BaseModel):
    """One job of a crew. `parents` are job ids."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    local: str
    """The job's id in the template."""
    title: str
    parents: list[str]


class CrewCommitted(Event, type="crew.committed"):
    """A template became jobs. This event and the ``job.submitted`` of each job are one append."""

    template: str
    name: str
    inputs: dict[str, Any]
    owner: str
    schedule: str | None
    nominal: str | None
    """The schedule's nominal time that the crew was made for."""
    not_before: str | None
    jobs: list[CrewMember]
    """In dependency order."""
    rendered: list[str] = Field(default_factory=list)
    """Inputs that were not given and whose defaults have expressions: a rerun renders them anew."""
    timezone: str | None = None
    """The zone of its dates; null if it is not known."""


class CrewNotFound(NotFound):
    def __init__(self, crew_id: str) -> None:
        super().__init__("Crew not found")
        self.crew_id = crew_id


@dataclass(frozen=True, slots=True)
class Crew:
    """The jobs of a crew, and which job waits for which."""

    id: str
    owner: str
    members: tuple[CrewMember, ...]

    def children(self, job_id: str) -> list[str]:
        """The jobs that wait directly for this one, in dependency order."""
        return [member.id for member in self.members if job_id in member.parents]

    def descendants(self, job_id: str) -> list[str]:
        """The jobs that wait directly or indirectly for this one, in dependency order."""
        found = {job_id}
        for member in self.members:
            if found.intersection(member.parents):
                found.add(member.id)
        return [member.id for member in self.members if member.id in found and member.id != job_id]


def crew_stream(crew_id: str) -> str:
    return f"crew-{crew_id}"


STRANDED = "stranded"
"""Counts as the state of a held job that cannot start unless something changes."""

CREW_STATES = ("blocked", "waiting_for_approval", "running", "held", "failed", "completed")


def crew_state(states: Sequence[str]) -> str:
    """The state of a crew, from the states of its jobs: the one that most needs attention.

    ``blocked`` if a person must unblock a job, ``waiting_for_approval`` if a job asks, ``running``
    if any job can go on, ``held`` before the first job has begun, ``completed`` if all are
    completed, otherwise ``failed``. `states` are JobState values, or ``stranded`` for a held job
    that cannot start.
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
