"""A draft: events for several streams that are appended together or not at all."""

from collections.abc import Sequence

from domain.clock import Clock, format_time, system_clock
from domain.event import Event
from domain.job.aggregate import Job, evolve
from domain.log import Context, NewEvent, new_events


class Draft:
    """Collects the events that a command or a policy wants to append, with the versions it
    has read.
    """

    def __init__(self, context: Context, clock: Clock = system_clock) -> None:
        self.context = context
        self.clock = clock
        self.events: list[NewEvent] = []
        self.expected: dict[str, int] = {}
        self.jobs: dict[str, Job] = {}
        """Jobs that were read, as they are after the drafted events."""

    def __bool__(self) -> bool:
        return bool(self.events)

    def add(self, stream: str, version: int, events: Sequence[Event]) -> None:
        """Add events to a stream whose version was `version` when it was read."""
        if events:
            self.expected.setdefault(stream, version)
            self.events += new_events(stream, list(events), self.context, self.clock)

    def check(self, job: Job) -> None:
        """Let the append fail if the job has changed since it was read."""
        self.expected.setdefault(job.stream, job.version)

    def job(self, job: Job, events: Sequence[Event]) -> Job:
        """Add events to the job's stream. Returns the job after them."""
        self.add(job.stream, job.version, events)
        at = format_time(self.clock())
        for event in events:
            job = evolve(job, event, job.version + 1, at)
        self.jobs[job.id] = job
        return job
