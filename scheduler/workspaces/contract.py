"""What a workspace promises: a place where an attempt works on a node, with its files and
environment.

An attempt uses the environment, programs and folders of the node that it runs on. What only the
server knows comes with the assignment: the job's data, and how its process can talk to the server.
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
    """Everything that a node is told about an attempt. Its representation shows no values of the
    environment.
    """

    job: Job
    attempt: int
    argv: tuple[str, ...] = field(repr=False)
    """The original arguments."""
    env: Mapping[str, str] = field(repr=False)
    """The variables that were given with the job."""
    cwd: str
    """The original directory; empty if the job names none."""
    parents: Sequence[ParentResult]
    server_env: Mapping[str, str] = field(repr=False)
    """The variables with which the process can talk to this server."""
    output_limit: int


@dataclass(frozen=True, slots=True)
class Leavings:
    """What an attempt left: its artifacts as `events`, the result from its file, and a sentence
    about what is wrong with them, or None.
    """

    events: Sequence[Event] = ()
    result: dict[str, Any] | None = None
    problem: str | None = None


class Workspaces(Protocol):
    """The workspaces of one node."""

    @property
    def node(self) -> str:
        """The name of the node, for ``job.started``."""
        ...

    async def prepare(self, assignment: Assignment) -> AttemptSpec:
        """Make the place, and return the spec to run there. Repeating it changes nothing that the
        attempt may have written. Raises CannotLaunch if a program is known to be missing, OSError
        if the disk refuses.
        """
        ...

    def left_nothing(self, job: Job, attempt: int) -> bool:
        """Whether it is clear at once that there is nothing to gather."""
        ...

    async def gather(self, job: Job, attempt: int) -> Leavings:
        """What an ended attempt left. Repeating it gives the same. `job` is the present job. Raises
        OSError if it cannot be stored.
        """
        ...

    async def discard(self, job_id: str, attempt: int) -> None:
        """Remove the place of an attempt whose end is in the log."""
        ...

    async def sweep(self, keep: Collection[tuple[str, int]]) -> None:
        """Remove the places of all attempts but these."""
        ...
