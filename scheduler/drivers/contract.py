"""What a driver promises: it turns what a process says into events, and what people say into what
the process hears.

There is one for each kind of job, and `Job.kind` names it. It knows nothing of the queue, of where
the process runs, or of what becomes of the job when it has ended.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from domain.errors import CrewlogError
from domain.job.aggregate import Job
from domain.log import Context
from scheduler.executors.contract import AttemptSpec, Running


class Fenced(Exception):
    """This attempt is no longer the job's current one: whatever it still has to say is not
    written.
    """


@dataclass(frozen=True, slots=True)
class Followed:
    """An attempt whose process runs, or has ended and was not heard to its end."""

    job: Job
    """As it was when the attempt began or was adopted."""
    attempt: int
    running: Running
    context: Context
    beat: Callable[[], None]
    """To be called at each sign of life."""


class Driver(Protocol):
    """What is done with the processes of one kind of job. Serves all of them."""

    def outfit(self, spec: AttemptSpec) -> AttemptSpec:
        """The spec with what this kind needs beside its command: channels, an inbox, a host."""
        ...

    async def follow(self, followed: Followed) -> int:
        """Bring what the process says into the log until nothing comes any more, and give the
        number of lines that the job then has. What it needs to go on it finds in the log and in the
        channels: it may be cancelled anywhere, and called anew by this server or by the next one.

        LogUnavailable and OSError that may pass: it is called again. Fenced when the attempt is not
        current.
        """
        ...


Drivers = Mapping[str, Driver]
"""By kind."""


class NoDriver(CrewlogError):
    """This version knows no such kind of job."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"This server has no driver for jobs of the kind {kind!r}.")


def driver_of(drivers: Drivers, job: Job) -> Driver:
    """The driver of the job's kind, or NoDriver."""
    driver = drivers.get(job.kind)
    if driver is None:
        raise NoDriver(job.kind)
    return driver
