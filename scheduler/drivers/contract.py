"""What a driver promises: it turns the output of a process into events, and passes messages of
people on to the process.

There is one driver for each kind of job; `Job.kind` names it. It knows nothing of the queue, of the
place where the process runs, or of what follows from the job's end.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from domain.errors import CrewlogError
from domain.job.aggregate import Job
from domain.log import Context
from scheduler.executors.contract import AttemptSpec, Running


class Fenced(Exception):
    """This attempt is not the job's current one any more: the rest of its output is not written."""


@dataclass(frozen=True, slots=True)
class Followed:
    """An attempt whose process runs, or has ended and has output that was not yet read."""

    job: Job
    """The job as it was when the attempt began or was adopted."""
    attempt: int
    running: Running
    context: Context
    beat: Callable[[], None]
    """Call this at each sign of life."""


class Driver(Protocol):
    """Handles the processes of one kind of job. One object serves all of them."""

    def outfit(self, spec: AttemptSpec) -> AttemptSpec:
        """The spec with what this kind needs beside its command: channels, an inbox, a host
        program.
        """
        ...

    async def follow(self, followed: Followed) -> int:
        """Append the output of the process to the log until it is complete, and return the number
        of lines that the job then has. It may be cancelled anywhere, and called again by this
        server or the next one. The log and the channels hold everything that it needs to go on.

        After LogUnavailable, and OSError that may pass, it is called again. Raises Fenced if the
        attempt is not current.
        """
        ...


Drivers = Mapping[str, Driver]
"""Drivers by kind."""


class NoDriver(CrewlogError):
    """This version has no driver for this kind of job."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"This server has no driver for jobs of the kind {kind!r}.")


def driver_of(drivers: Drivers, job: Job) -> Driver:
    """The driver of the job's kind. Raises NoDriver."""
    driver = drivers.get(job.kind)
    if driver is None:
        raise NoDriver(job.kind)
    return driver
