"""The job's states and events.

States are finer than any one dialect needs; each dialect translates them (docs/job-states.md).
Output is in the sub-stream ``job-<id>/output``, so that the job's own stream stays short enough to
be folded for each command.
"""

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from domain.event import Event, Json


class JobState(StrEnum):
    """The state of a job. The last four are final."""

    HELD = "held"
    """Accepted, but must not start yet: it waits for a parent or a time."""
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    WAITING_FOR_APPROVAL = "waiting_for_approval"
    BLOCKED = "blocked"
    """Stopped until a person unblocks it."""
    REVIEW = "review"
    """Reserved: the work is done and waits for a person's decision."""
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
    """The things that a job belongs to, by id."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parent: str | None = None
    crew: str | None = None
    schedule: str | None = None
    request: str | None = None


class JobPlan(BaseModel):
    """What a job of a crew has beyond its command. Parents are job ids."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    local: str
    """The job's id in the template, unique in the crew."""
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
    """Who may answer, beside administrators: ``owner`` or e-mail addresses. Empty: the owner."""
    lease_ms: int
    """Longest time in ms without a sign of life of the worker; 0: no limit."""
    result_schema: dict[str, Any] | None
    not_before: str | None


class JobSubmitted(Event, type="job.submitted", schema=2):
    """A job was asked for. `argv` is redacted, and the environment's values are never here."""

    kind: str
    label: str
    title: str
    owner: str
    argv: list[str]
    cwd: str
    env_names: list[str]
    sealed: bool
    """A private file holds the full argv and the environment's values until the job has ended."""
    timeout_ms: int
    labels: list[str]
    links: Links
    plan: JobPlan | None = None
    """None for a job of its own, which has no crew."""

    @classmethod
    def upcast(cls, data: Json, schema: int) -> Json:
        return {**data, "plan": None}


class JobQueued(Event, type="job.queued", schema=2):
    """The job may start as soon as there is room. Jobs start in the order of these events in
    the log.
    """

    attempt: int
    after: dict[str, int] = Field(default_factory=dict)
    """The attempt of each parent whose result this job uses, by job id."""

    @classmethod
    def upcast(cls, data: Json, schema: int) -> Json:
        return {**data, "after": {}}


class JobStarted(Event, type="job.started"):
    """An attempt took the job. Fences every earlier attempt."""

    attempt: int
    node: str
    timeout_ms: int


class JobOutput(Event, type="job.output"):
    """Lines that the attempt wrote, stdout and stderr merged. In ``job-<id>/output``."""

    attempt: int
    first_line: int
    """Number of the first of these lines among all lines of the job, from 1."""
    lines: list[str]
    end_offset: int
    """Bytes of the attempt's output that are in the log after this event."""


class JobOutputDropped(Event, type="job.output_dropped"):
    """The attempt wrote more than the job may keep. `bytes` bytes from `from_offset` on are
    not in the log.
    """

    attempt: int
    from_offset: int
    bytes: int


class JobProgressed(Event, type="job.progressed"):
    """The worker reported its progress: `fraction`, a decimal string from 0 to 1 or none,
    and a sentence.
    """

    attempt: int
    fraction: str | None
    text: str


class JobMessaged(Event, type="job.messaged"):
    """A person or an agent said something to the job."""

    text: str


class JobCancelRequested(Event, type="job.cancel_requested", essential=True):
    """A job's end was asked for. The dispatcher reads this and ends its process."""

    reason: str


class JobPaused(Event, type="job.paused"):
    """Reserved: an agent's turn is held back."""

    attempt: int


class JobResumed(Event, type="job.resumed"):
    """Reserved: an agent goes on."""

    attempt: int


class JobAttemptLost(Event, type="job.attempt_lost"):
    """The process of the attempt is gone, and nobody knows how it ended."""

    attempt: int
    reason: str


class JobFinished(Event, type="job.finished", schema=2, essential=True):
    """The job has ended. It may be queued again, and then end again."""

    attempt: int
    """0 if it ended before any attempt."""
    outcome: Outcome
    exit_code: int | None
    """The exit code; negative: the signal that killed the process; none: there was no process."""
    reason: str
    error_id: str | None
    run_ms: int
    lines: int
    output_bytes: int
    crew: str | None = None
    """The crew, whose other jobs depend on this end."""

    @classmethod
    def upcast(cls, data: Json, schema: int) -> Json:
        return {**data, "crew": None}


class AttemptOutcome(StrEnum):
    """How an attempt ended after which the job continues."""

    CRASHED = "crashed"
    TIMED_OUT = "timed_out"
    BLOCKED = "blocked"


class JobAttemptEnded(Event, type="job.attempt_ended", essential=True):
    """The attempt has ended and the job has not: it is tried again, or waits for a person. Fields
    are as in ``job.finished``.
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
    """A person wants the job done again, and may say what was wrong."""

    feedback: str


class JobMadeStale(Event, type="job.made_stale"):
    """A parent is done again, so this job's result is out of date. Fences the running attempt."""

    attempt: int
    parent: str


class JobStranded(Event, type="job.stranded"):
    """A parent has ended without success or is blocked for good: unless that changes, this job can
    never start.
    """

    parent: str
    reason: str


class JobFreed(Event, type="job.freed"):
    """The job that stranded this one is being done after all."""

    parent: str


class JobCommented(Event, type="job.commented"):
    """A comment for the workers of the job."""

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
    """A file that the attempt left. Its bytes are kept under their SHA-256."""

    attempt: int
    artifact: str
    name: str
    """Path below the attempt's artifacts folder, with ``/``."""
    sha256: str
    size: int
    mime: str


class JobArtifactsDropped(Event, type="job.artifacts_dropped"):
    """Files that the attempt left and that are not kept."""

    attempt: int
    names: list[str]
    reason: str


class JobApprovalRequested(Event, type="job.approval_requested"):
    """The job waits for a person's answer, and holds no place meanwhile."""

    attempt: int
    """0 before the first attempt."""
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
    """Later questions of this job are approved, unless a person must answer them."""


class JobLeaseExpired(Event, type="job.lease_expired"):
    """The worker gave no sign of life for longer than its lease: the attempt is ended."""

    attempt: int


class JobArchived(Event, type="job.archived"):
    """Archived: off the board, kept in history."""


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
    """The job that a subject is about; None for a subject of another kind."""
    return subject[4:] if subject.startswith("job-") else None
