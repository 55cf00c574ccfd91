"""What can happen to a job: its states, and its events.

States are finer than any one dialect needs and each dialect translates them (docs/job-states.md).
Output is kept in the sub-stream ``job-<id>/output``, so that the job's own stream stays short
enough to be folded on each command.
"""

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from domain.event import Event, Json


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


class JobPlan(BaseModel):
    """What a job of a crew is told beyond its command. Ids of parents are job ids."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    local: str
    """Its id in the template, unique in the crew."""
    template: str
    body: str
    assignee: str | None
    parents: list[str]
    workspace: str
    """``scratch``, or the absolute path of a kept directory."""
    max_retries: int
    approval: bool
    """A person must approve before the first attempt."""
    on_reject: str
    """``answer``: a rejection goes to the worker. ``fail``: it ends the job."""
    approvers: list[str]
    """Who may answer beside admins: ``owner`` or e-mail addresses; nobody named is the owner."""
    lease_ms: int
    """Longest silence of a worker, or 0."""
    result_schema: dict[str, Any] | None
    not_before: str | None


class JobSubmitted(Event, type="job.submitted", schema=2):
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
    plan: JobPlan | None = None
    """None for a job of its own, without a crew."""

    @classmethod
    def upcast(cls, data: Json, schema: int) -> Json:
        return {**data, "plan": None}


class JobQueued(Event, type="job.queued", schema=2):
    """The job may start as soon as there is room. The log's order of these is the order of
    starting.
    """

    attempt: int
    after: dict[str, int] = Field(default_factory=dict)
    """The attempt of each parent whose result this one uses, by job id."""

    @classmethod
    def upcast(cls, data: Json, schema: int) -> Json:
        return {**data, "after": {}}


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


class JobCancelRequested(Event, type="job.cancel_requested", essential=True):
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


class JobFinished(Event, type="job.finished", schema=2, essential=True):
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
    crew: str | None = None
    """The crew whose other jobs this end concerns."""

    @classmethod
    def upcast(cls, data: Json, schema: int) -> Json:
        return {**data, "crew": None}


class AttemptOutcome(StrEnum):
    """How an attempt ended after which the job goes on."""

    CRASHED = "crashed"
    TIMED_OUT = "timed_out"
    BLOCKED = "blocked"


class JobAttemptEnded(Event, type="job.attempt_ended", essential=True):
    """An attempt is over and the job is not: it is tried again, or waits for a person. Fields as in
    ``job.finished``.
    """

    attempt: int
    outcome: AttemptOutcome
    exit_code: int | None
    reason: str
    error_id: str | None
    run_ms: int
    lines: int
    output_bytes: int


class JobBlocked(Event, type="job.blocked"):
    """The job stands still until a person unblocks it or has it done again."""

    attempt: int
    reason: str
    gave_up: bool
    """Its retries are used up."""


class JobUnblocked(Event, type="job.unblocked"):
    """A person let it go on; its retries count anew."""


class JobRedone(Event, type="job.redone"):
    """A person wants it done again, and says what was wrong."""

    feedback: str


class JobMadeStale(Event, type="job.made_stale"):
    """A parent is done again, so what this job made of its result counts no more. Fences the
    running attempt.
    """

    attempt: int
    parent: str


class JobStranded(Event, type="job.stranded"):
    """A parent has ended without success, or stands still for good: as things are, this job can
    never start.
    """

    parent: str
    reason: str


class JobFreed(Event, type="job.freed"):
    """What stranded the job is being done after all."""

    parent: str


class JobCommented(Event, type="job.commented"):
    """Somebody wrote something to whoever works on the job."""

    text: str


class JobResultGiven(Event, type="job.result_given"):
    """The worker handed in its result. It counts when the attempt ends."""

    attempt: int
    result: dict[str, Any]


class JobBlockAsked(Event, type="job.block_asked"):
    """The worker cannot go on without a person. It counts when the attempt ends."""

    attempt: int
    reason: str


class JobArtifactStored(Event, type="job.artifact_stored"):
    """A file that the attempt left; its bytes are kept under their SHA-256."""

    attempt: int
    artifact: str
    name: str
    """Path below the attempt's folder of artifacts, with ``/``."""
    sha256: str
    size: int
    mime: str


class JobArtifactsDropped(Event, type="job.artifacts_dropped"):
    """Files that the attempt left and that were not kept."""

    attempt: int
    names: list[str]
    reason: str


class JobApprovalRequested(Event, type="job.approval_requested"):
    """The job waits for a person's answer, without holding a place."""

    attempt: int
    """0 before its first attempt."""
    approval: str
    description: str


class JobApprovalAnswered(Event, type="job.approval_answered", schema=2):
    """Approved, rejected, expired or withdrawn."""

    attempt: int
    approval: str
    resolution: str
    waiting: int = 0
    """Approvals that the job still waits for."""

    @classmethod
    def upcast(cls, data: Json, schema: int) -> Json:
        return {**data, "waiting": 0}


class JobTrusted(Event, type="job.trusted"):
    """What this job asks from now on is approved unless it must be asked explicitly."""


class JobLeaseExpired(Event, type="job.lease_expired"):
    """The worker gave no sign of life for longer than its lease: the attempt is ended."""

    attempt: int


class JobArchived(Event, type="job.archived"):
    """Taken off the board, kept in history."""


class JobUnarchived(Event, type="job.unarchived"):
    """Put back on the board."""


class JobDeleted(Event, type="job.deleted"):
    """A tombstone: hidden from every list and look-up; the log keeps what happened."""


def job_stream(job_id: str) -> str:
    """The stream of the job's own events; also its subject."""
    return f"job-{job_id}"


def output_stream(job_id: str) -> str:
    """The sub-stream of the job's output."""
    return f"job-{job_id}/output"


def job_id_of(subject: str) -> str | None:
    """The job that a subject is about, or None for something else."""
    return subject[4:] if subject.startswith("job-") else None
