"""The job: what can happen to one, and which commands its state allows.

States are finer than any one dialect needs and each dialect translates them (docs/job-states.md).
Output is kept in the sub-stream ``job-<id>/output``, so that the job's own stream stays short
enough to be folded on each command.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from domain.errors import Invalid, JobAlreadyEnded, StaleAttempt, WrongState
from domain.event import Event


class JobState(StrEnum):
    """Where a job stands. The last four are ends."""

    HELD = "held"
    """Accepted, and not to be started yet: a parent or a time is waited for."""
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    WAITING_FOR_APPROVAL = "waiting_for_approval"
    BLOCKED = "blocked"
    """Stopped until a person unblocks it."""
    REVIEW = "review"
    """The work is there and waits to be resolved."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"


ENDED = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED, JobState.TIMED_OUT})


class Outcome(StrEnum):
    """How a job ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"


class Links(BaseModel):
    """What a job belongs to, by id."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parent: str | None = None
    crew: str | None = None
    schedule: str | None = None
    request: str | None = None


class JobSubmitted(Event, type="job.submitted"):
    """Somebody asked for work. `argv` is as the log may know it; environment values never are in
    it.
    """

    kind: str
    label: str
    title: str
    owner: str
    argv: list[str]
    cwd: str
    env_names: list[str]
    sealed: bool
    """The full argv and the environment's values lie in a private file until the job has ended."""
    timeout_ms: int
    labels: list[str]
    links: Links


class JobQueued(Event, type="job.queued"):
    """The job may start as soon as there is room. The log's order of these is the order of
    starting.
    """

    attempt: int


class JobStarted(Event, type="job.started"):
    """An attempt took the job. Fences every earlier attempt."""

    attempt: int
    node: str
    timeout_ms: int


class JobOutput(Event, type="job.output"):
    """Lines that the attempt wrote, merged stdout and stderr. Lives in ``job-<id>/output``."""

    attempt: int
    first_line: int
    """Number of the first of these lines in the whole job, from 1."""
    lines: list[str]
    end_offset: int
    """Bytes of the attempt's output that are in the log with this event."""


class JobOutputDropped(Event, type="job.output_dropped"):
    """The attempt wrote more than the job may keep: from this byte on, so many bytes are not in the
    log.
    """

    attempt: int
    from_offset: int
    bytes: int


class JobProgressed(Event, type="job.progressed"):
    """The worker says how far it is: `fraction` 0 to 1 as a decimal string, or none, and a
    sentence.
    """

    attempt: int
    fraction: str | None
    text: str


class JobMessaged(Event, type="job.messaged"):
    """A person or an agent said something to the job."""

    text: str


class JobCancelRequested(Event, type="job.cancel_requested"):
    """Somebody wants the job stopped; whoever runs it reads this and stops it."""

    reason: str


class JobPaused(Event, type="job.paused"):
    """Reserved: an agent's turn is held back."""

    attempt: int


class JobResumed(Event, type="job.resumed"):
    """Reserved: an agent goes on."""

    attempt: int


class JobAttemptLost(Event, type="job.attempt_lost"):
    """What ran the attempt is gone without a trace of how it ended."""

    attempt: int
    reason: str


class JobFinished(Event, type="job.finished"):
    """The job has ended. Exactly one of these follows each time a job was queued."""

    attempt: int
    """0 when it ended before any attempt."""
    outcome: Outcome
    exit_code: int | None
    """Of the process; negative is the signal that killed it; none where there was no process."""
    reason: str
    error_id: str | None
    run_ms: int
    lines: int
    output_bytes: int


class JobArchived(Event, type="job.archived"):
    """Taken off the board, kept in history."""


class JobUnarchived(Event, type="job.unarchived"):
    """Put back on the board."""


class JobDeleted(Event, type="job.deleted"):
    """A tombstone: hidden from every list and look-up; the log keeps what happened."""


@dataclass(frozen=True, slots=True)
class Job:
    """The state of one job, folded from its own stream. Commands return events
    and change nothing.
    """

    id: str
    version: int = 0
    state: JobState = JobState.QUEUED
    attempt: int = 0
    node: str | None = None
    argv: tuple[str, ...] = ()
    cwd: str = ""
    env_names: tuple[str, ...] = ()
    sealed: bool = False
    timeout_ms: int = 0
    owner: str = ""
    links: Links = field(default_factory=Links)
    cancel_requested: bool = False
    started_at: str | None = None
    archived: bool = False
    deleted: bool = False

    @property
    def stream(self) -> str:
        return job_stream(self.id)

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    def start(self, node: str) -> list[Event]:
        """Take the queued job for its next attempt. WrongState unless it is queued."""
        self._require(JobState.QUEUED, "started")
        return [JobStarted(attempt=self.attempt + 1, node=node, timeout_ms=self.timeout_ms)]

    def request_cancel(self, reason: str) -> list[Event]:
        """Ask for the end. A job that no attempt holds ends at once; asking again changes nothing.

        JobAlreadyEnded once it has ended.
        """
        if self.ended:
            raise JobAlreadyEnded(self.state)
        if self.cancel_requested:
            return []
        asked = JobCancelRequested(reason=reason)
        if self.state in (JobState.RUNNING, JobState.PAUSED, JobState.WAITING_FOR_APPROVAL):
            return [asked]
        return [asked, _end(self.attempt, Outcome.CANCELLED, "Cancelled before it started.")]

    def lose_attempt(self, attempt: int, reason: str, error_id: str) -> list[Event]:
        """The attempt's process vanished. A command may have done half its work, so it isn't run
        again.
        """
        self._require_current(attempt)
        outcome = Outcome.CANCELLED if self.cancel_requested else Outcome.FAILED
        return [
            JobAttemptLost(attempt=attempt, reason=reason),
            _end(attempt, outcome, reason, error_id=error_id),
        ]

    def finish(self, finished: JobFinished) -> list[Event]:
        """The current attempt reports the end. StaleAttempt from any other, JobAlreadyEnded after
        it.
        """
        self._require_current(finished.attempt)
        return [finished]

    def report(self, event: JobProgressed | JobOutput | JobOutputDropped) -> list[Event]:
        """Something the current attempt has to say while it runs."""
        self._require_current(event.attempt)
        return [event]

    def message(self, text: str) -> list[Event]:
        """Say something to a job that has not ended."""
        if self.ended:
            raise JobAlreadyEnded(self.state)
        if not text.strip():
            raise Invalid("A message needs a text.")
        return [JobMessaged(text=text)]

    def archive(self) -> list[Event]:
        """Take an ended job off the board; again changes nothing."""
        if not self.ended:
            raise WrongState(f"Job is {self.state}: only a job that has ended can be archived.")
        return [] if self.archived else [JobArchived()]

    def unarchive(self) -> list[Event]:
        return [JobUnarchived()] if self.archived else []

    def delete(self) -> list[Event]:
        """Hide an ended job for good."""
        if not self.ended:
            raise WrongState(f"Job is {self.state}: cancel it before deleting it.")
        return [] if self.deleted else [JobDeleted()]

    def _require(self, state: JobState, done: str) -> None:
        if self.ended:
            raise JobAlreadyEnded(self.state)
        if self.state is not state:
            raise WrongState(f"Job is {self.state}: it cannot be {done}.")

    def _require_current(self, attempt: int) -> None:
        if self.ended:
            raise JobAlreadyEnded(self.state)
        if attempt != self.attempt or self.attempt == 0:
            raise StaleAttempt(attempt, self.attempt)


def job_stream(job_id: str) -> str:
    """The stream of the job's own events; also its subject."""
    return f"job-{job_id}"


def output_stream(job_id: str) -> str:
    """The sub-stream of the job's output."""
    return f"job-{job_id}/output"


def job_id_of(subject: str) -> str | None:
    """The job that a subject is about, or None for something else."""
    return subject[4:] if subject.startswith("job-") else None


def evolve(job: Job, event: Event, version: int, at: str) -> Job:
    """Fold one event of the job's own stream. Pure; an event of no consequence only moves the
    version.
    """
    job = replace(job, version=version)
    match event:
        case JobSubmitted():
            return replace(
                job,
                state=JobState.HELD,
                argv=tuple(event.argv),
                cwd=event.cwd,
                env_names=tuple(event.env_names),
                sealed=event.sealed,
                timeout_ms=event.timeout_ms,
                owner=event.owner,
                links=event.links,
            )
        case JobQueued():
            return replace(job, state=JobState.QUEUED, cancel_requested=False)
        case JobStarted():
            return replace(
                job,
                state=JobState.RUNNING,
                attempt=event.attempt,
                node=event.node,
                started_at=at,
            )
        case JobCancelRequested():
            return replace(job, cancel_requested=True)
        case JobPaused():
            return replace(job, state=JobState.PAUSED)
        case JobResumed():
            return replace(job, state=JobState.RUNNING)
        case JobFinished():
            return replace(job, state=JobState(event.outcome))
        case JobArchived():
            return replace(job, archived=True)
        case JobUnarchived():
            return replace(job, archived=False)
        case JobDeleted():
            return replace(job, deleted=True)
        case _:
            return job


def _end(
    attempt: int, outcome: Outcome, reason: str, *, error_id: str | None = None
) -> JobFinished:
    return JobFinished(
        attempt=attempt,
        outcome=outcome,
        exit_code=None,
        reason=reason,
        error_id=error_id,
        run_ms=0,
        lines=0,
        output_bytes=0,
    )
