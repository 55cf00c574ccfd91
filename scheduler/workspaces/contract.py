"""What a workspace promises: where an attempt works on a node, what it finds there, what it leaves.

The environment, the programs and the folders of an attempt are those of the node that it runs on.
What only the server knows, that is what the job says and what lets its process talk to the server,
comes with the assignment.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from domain.errors import CrewlogError
from domain.event import Event
from domain.job.aggregate import Job
from domain.job.result import ParentResult
from scheduler.executors.contract import AttemptSpec


class CannotLaunch(CrewlogError):
    """The job cannot be run here; the text says what is missing and what to do."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """All that a node is told of an attempt. Values of the environment are not in its
    representation.
    """

    job: Job
    attempt: int
    argv: tuple[str, ...] = field(repr=False)
    """As it was given."""
    env: Mapping[str, str] = field(repr=False)
    """What was given with the job."""
    cwd: str
    """As it was given; empty where the job names none."""
    parents: Sequence[ParentResult]
    server_env: Mapping[str, str] = field(repr=False)
    """What lets the process talk to this server."""
    output_limit: int


@dataclass(frozen=True, slots=True)
class Leavings:
    """What an attempt left: its artifacts as `events`, the result in its file, and what is wrong
    with it all, as a sentence, or None.
    """

    events: Sequence[Event] = ()
    result: dict[str, Any] | None = None
    problem: str | None = None


class Workspaces(Protocol):
    """The workspaces of one node."""

    @property
    def node(self) -> str:
        """The name of the node, for the event that says where an attempt started."""
        ...

    async def prepare(self, assignment: Assignment) -> AttemptSpec:
        """Make the place, and say what is to run there. Again changes nothing that the attempt may
        have made. CannotLaunch when a program is known to be absent; OSError when the disk refuses.
        """
        ...

    def left_nothing(self, job: Job, attempt: int) -> bool:
        """Whether it is known at once that there is nothing to gather."""
        ...

    async def gather(self, job: Job, attempt: int) -> Leavings:
        """What an ended attempt left; twice gives the same. `job` is as it is now. OSError when it
        cannot be kept.
        """
        ...

    async def discard(self, job_id: str, attempt: int) -> None:
        """Remove the place of an attempt whose end is in the log."""
        ...

    async def sweep(self, keep: Collection[tuple[str, int]]) -> None:
        """Remove the places of all attempts but these."""
        ...
