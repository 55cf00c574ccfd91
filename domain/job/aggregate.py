"""The job: its state, folded from its own stream, and the commands that this state allows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from domain.errors import Invalid, JobAlreadyEnded, StaleAttempt, WrongState
from domain.event import Event
from domain.fact import Fact, drafted
from domain.job.events import (
    ENDED,
    AttemptOutcome,
    JobApprovalAnswered,
    JobApprovalRequested,
    JobArchived,
    JobArtifactsDropped,
    JobAttemptEnded,
    JobAttemptLost,
    JobBlockAsked,
    JobBlocked,
    JobCancelRequested,
    JobCommented,
    JobDeleted,
    JobFinished,
    JobFreed,
    JobLeaseExpired,
    JobMadeStale,
    JobMessaged,
    JobOutput,
    JobOutputDropped,
    JobPlan,
    JobProgressed,
    JobQueued,
    JobRedone,
    JobResultGiven,
    JobStarted,
    JobState,
    JobStranded,
    JobSubmitted,
    JobTrusted,
    JobUnarchived,
    JobUnblocked,
    Links,
    Outcome,
    job_stream,
)
from domain.job.transitions import Changes, changes_by

LONGEST_TEXT = 10_000
MOST_PENDING = 100
"""Approvals that a job may wait for at once: a cancel withdraws all of them in one append."""
"""Most characters of a comment, a feedback or a reason."""

RESULT_FILE = "result.json"
"""Name of the file in which an attempt may leave its result."""

_NO_TERMS = JobPlan(
    local="",
    template="",
    body="",
    assignee=None,
    parents=[],
    workspace="",
    max_retries=0,
    approval=False,
    on_reject="answer",
    approvers=[],
    lease_ms=0,
    result_schema=None,
    not_before=None,
)


@dataclass(frozen=True, slots=True)
class Job:
    """The state of one job, folded from its own stream. Commands return events
    and change nothing.
    """

    id: str
    version: int = 0
    kind: str = ""
    """Names the driver that handles the job's processes."""
    state: JobState = JobState.QUEUED
    attempt: int = 0
    active: bool = False
    """An attempt was started and has not ended."""
    node: str | None = None
    argv: tuple[str, ...] = ()
    cwd: str = ""
    env_names: tuple[str, ...] = ()
    sealed: bool = False
    timeout_ms: int = 0
    title: str = ""
    owner: str = ""
    links: Links = field(default_factory=Links)
    plan: JobPlan | None = None
    failures: int = 0
    """Failed attempts since a person last set the job going."""
    given: dict[str, Any] | None = None
    """The result of the current attempt; once the job is completed, the job's result."""
    block_asked: str | None = None
    gave_up: bool = False
    approved: bool = False
    rejected: bool = False
    """The current attempt's question was rejected, and the template says that this ends the job."""
    trusted: bool = False
    pending: tuple[str, ...] = ()
    """Approvals that the job waits for, oldest first."""
    asked: tuple[str, ...] = ()
    """Approvals whose answer the job has not heard, oldest first. Includes those that it no longer
    waits for.
    """
    stranded_by: str | None = None
    cancel_requested_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    ended_version: int = 0
    """The version of the stream at the last ``job.finished``."""
    archived_at: str | None = None
    deleted: bool = False

    @property
    def stream(self) -> str:
        return job_stream(self.id)

    @property
    def cancel_requested(self) -> bool:
        return self.cancel_requested_at is not None

    @property
    def archived(self) -> bool:
        return self.archived_at is not None

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def terms(self) -> JobPlan:
        """The job's part of its template; for a job of its own, a plan with every default."""
        return self.plan or _NO_TERMS

    @property
    def planned(self) -> bool:
        """Whether it has a plan, as jobs of crews do. The plan decides what follows an attempt. A
        job of its own simply ends as its process did.
        """
        return self.plan is not None

    @property
    def over(self) -> bool:
        """Whether nothing can make it run again."""
        return self.deleted or self.archived or (self.ended and not self.planned)

    @property
    def needs_approval(self) -> bool:
        """Whether a person must approve before it may be queued."""
        return self.terms.approval and not self.approved

    # The life of an attempt

    def queue(self, after: Mapping[str, int] | None = None) -> list[Event]:
        """Let the held job start as soon as there is room. `after` is the attempt of each
        parent.
        """
        self._require(JobState.HELD, "queued")
        return [JobQueued(attempt=self.attempt + 1, after=dict(after or {}))]

    def start(self, node: str) -> list[Event]:
        """Take the queued job for its next attempt. Raises WrongState unless it is queued."""
        self._require(JobState.QUEUED, "started")
        return [JobStarted(attempt=self.attempt + 1, node=node, timeout_ms=self.timeout_ms)]

    def request_cancel(self, reason: str) -> list[Event]:
        """Ask for the job's end. A job without a running attempt ends at once. Asking again changes
        nothing.

        Raises JobAlreadyEnded if it has ended.
        """
        if self.ended:
            raise JobAlreadyEnded(self.state)
        if self.cancel_requested:
            return []
        requested = JobCancelRequested(reason=reason)
        if self.active:
            return [requested]
        return [
            requested,
            self._end(self.attempt, Outcome.CANCELLED, "Cancelled before it started."),
        ]

    def lose_attempt(self, attempt: int, reason: str, error_id: str) -> list[Event]:
        """The attempt's process vanished. A command may have done half its work, so it is not run
        again unless its template allows that.
        """
        self.require_current(attempt)
        outcome = Outcome.CANCELLED if self.cancel_requested else Outcome.FAILED
        ended = self._end(attempt, outcome, reason, error_id=error_id)
        return [JobAttemptLost(attempt=attempt, reason=reason), *self.end_attempt(ended)]

    def end_attempt(self, ended: JobFinished, problem: str | None = None) -> list[Event]:
        """End the current attempt as `ended` says, and decide what becomes of the job.

        A job of its own ends with its attempt. In a crew, the worker's own report counts more than
        how its process ended; otherwise a failure is tried again while retries remain, and then the
        job is blocked. `problem` says what is wrong with the files that the attempt left.

        Raises StaleAttempt for any attempt but the current one, JobAlreadyEnded after the end.
        """
        self.require_current(ended.attempt)
        if self.links.crew is not None:
            ended = ended.model_copy(update={"crew": self.links.crew})
        if self.rejected:
            reason = "Approval rejected by operator"
            return [ended.model_copy(update={"outcome": Outcome.FAILED, "reason": reason})]
        if not self.planned:
            return [*self._not_kept(ended.attempt, problem), ended]
        if ended.outcome is Outcome.CANCELLED:
            return [ended]
        if self.given is not None:
            return [ended.model_copy(update={"outcome": Outcome.COMPLETED})]
        well = ended.outcome is Outcome.COMPLETED and problem is None and self.block_asked is None
        if self.cancel_requested and not well:
            # The process exited before it got a signal. The cancel that was asked for still counts.
            return [ended.model_copy(update={"outcome": Outcome.CANCELLED})]
        if self.block_asked is not None:
            over = _over(ended, AttemptOutcome.BLOCKED, self.block_asked)
            blocked = JobBlocked(attempt=ended.attempt, reason=self.block_asked, gave_up=False)
            return [over, blocked]
        if well:
            return [ended]
        timed_out = ended.outcome is Outcome.TIMED_OUT
        outcome = AttemptOutcome.TIMED_OUT if timed_out else AttemptOutcome.CRASHED
        over = _over(ended, outcome, problem or ended.reason)
        if self.failures < self.terms.max_retries:
            return [over, JobQueued(attempt=self.attempt + 1)]
        reason = over.reason or _plainly(over)
        return [over, JobBlocked(attempt=ended.attempt, reason=reason, gave_up=True)]

    def _not_kept(self, attempt: int, problem: str | None) -> list[Event]:
        """Record an invalid result of a job whose end does not depend on it."""
        if problem is None:
            return []
        return [JobArtifactsDropped(attempt=attempt, names=[RESULT_FILE], reason=problem)]

    def fail(self, reason: str) -> list[Event]:
        """End a job without a running attempt, as failed."""
        if self.ended:
            raise JobAlreadyEnded(self.state)
        return [self._end(self.attempt, Outcome.FAILED, reason)]

    def report(self, event: JobProgressed | JobOutput | JobOutputDropped) -> list[Event]:
        """A report of the current attempt while it runs."""
        self.require_current(event.attempt)
        return [event]

    def expire_lease(self, attempt: int) -> list[Event]:
        """The worker gave no sign of life within its lease."""
        self.require_current(attempt)
        return [JobLeaseExpired(attempt=attempt)]

    # What its worker says

    def give_result(self, attempt: int, result: dict[str, Any]) -> list[Event]:
        """Hand in the result, which was checked against the schema. The last one counts."""
        self.require_current(attempt)
        return [JobResultGiven(attempt=attempt, result=result)]

    def ask_block(self, attempt: int, reason: str) -> list[Event]:
        """The worker cannot go on. The job is blocked when its process has exited. Raises
        WrongState for a job of its own.
        """
        self.require_current(attempt)
        if not self.planned:
            raise WrongState("Only a job of a crew can be blocked; this one ends with its process.")
        return [JobBlockAsked(attempt=attempt, reason=_text(reason, "A reason"))]

    # What people say

    def message(self, text: str) -> list[Event]:
        """Send a message to a job that has not ended."""
        if self.ended:
            raise JobAlreadyEnded(self.state)
        return [JobMessaged(text=_text(text, "A message"))]

    def comment(self, text: str) -> list[Event]:
        """Write a comment, which workers of this and later attempts read."""
        return [JobCommented(text=_text(text, "A comment"))]

    def unblock(self) -> list[Event]:
        """Let a blocked job go on: it is held, and then released again."""
        self._require(JobState.BLOCKED, "unblocked")
        return [JobUnblocked()]

    def redo(self, feedback: str) -> list[Event]:
        """Have an ended or blocked job done again: it is held, and then released again."""
        if not self.ended and self.state is not JobState.BLOCKED:
            raise WrongState(f"Job is {self.state}: it cannot be redone.")
        if self.archived or self.deleted:
            gone = "deleted" if self.deleted else "archived"
            raise WrongState(f"Job is {gone}: it cannot be redone.")
        if self.sealed and not self.planned:
            raise WrongState("Its private values were removed when it ended: submit it again.")
        comment: list[Event] = [JobCommented(text=feedback)] if feedback.strip() else []
        return [JobRedone(feedback=_text(feedback, "Feedback") if comment else ""), *comment]

    def make_stale(self, parent: str) -> list[Event]:
        """A parent is done again. Does nothing if this job has not begun or is archived. A job that
        is being cancelled ends as cancelled.
        """
        if self.archived or self.deleted or self.state is JobState.HELD:
            return []
        if self.ended and self.state is not JobState.COMPLETED:
            return []
        stale = JobMadeStale(attempt=self.attempt, parent=parent)
        if self.active and self.cancel_requested:
            return [stale, self._end(self.attempt, Outcome.CANCELLED, "A parent is done again.")]
        return [stale]

    def strand(self, parent: str, reason: str) -> list[Event]:
        """Mark that this job cannot start any more. Does nothing if it is marked already, or
        has ended.
        """
        if self.ended or self.stranded_by is not None:
            return []
        return [JobStranded(parent=parent, reason=reason)]

    def free(self, parent: str) -> list[Event]:
        """Remove the mark: the parent that stranded this job is being done after all."""
        return [] if self.stranded_by is None else [JobFreed(parent=parent)]

    # Approvals

    def wait_for(self, approval: str, description: str) -> list[Event]:
        """Wait for an answer to the current attempt's question, or to one asked before the first
        attempt. Raises WrongState if the job is being cancelled: nobody will answer; and if it
        waits for MOST_PENDING answers already.
        """
        if self.cancel_requested:
            raise WrongState("Job is being cancelled: it cannot ask anything any more.")
        if len(self.pending) >= MOST_PENDING:
            raise WrongState(
                f"The job waits for {MOST_PENDING} answers already: it can ask again when one of "
                "them is given."
            )
        if not self.active:
            self._require(JobState.HELD, "approved")
        attempt = self.attempt if self.active else 0
        return [JobApprovalRequested(attempt=attempt, approval=approval, description=description)]

    def answer(self, approval: str, resolution: str) -> list[Event]:
        """An approval that the job waits for was answered, or will never be."""
        if approval not in self.pending:
            return []
        return [
            JobApprovalAnswered(
                attempt=self.attempt if self.active else 0,
                approval=approval,
                resolution=resolution,
                waiting=len(self.pending) - 1,
            )
        ]

    def block_held(self, reason: str) -> list[Event]:
        """Block a held job instead of releasing it."""
        if self.ended:
            raise JobAlreadyEnded(self.state)
        return [JobBlocked(attempt=self.attempt, reason=reason, gave_up=False)]

    def trust(self) -> list[Event]:
        """Approve everything that the job asks from now on."""
        return [] if self.trusted else [JobTrusted()]

    # Off the board

    def archive(self) -> list[Event]:
        """Archive the job. Archiving again changes nothing. A job of a crew that has no running
        attempt ends with it.
        """
        if self.archived:
            return []
        return [*self._put_away("archived"), JobArchived()]

    def unarchive(self) -> list[Event]:
        return [JobUnarchived()] if self.archived else []

    def delete(self) -> list[Event]:
        """Hide the job for good. The same rules as for `archive` apply."""
        return [] if self.deleted else [*self._put_away("deleted"), JobDeleted()]

    def _put_away(self, done: str) -> list[Event]:
        if self.ended:
            return []
        if self.active or not self.planned:
            raise WrongState(f"Job is {self.state}: cancel it first, then it can be {done}.")
        return [self._end(self.attempt, Outcome.CANCELLED, f"It was {done} before it was done.")]

    def _end(
        self, attempt: int, outcome: Outcome, reason: str, *, error_id: str | None = None
    ) -> JobFinished:
        """An end without a process."""
        return JobFinished(
            attempt=attempt,
            outcome=outcome,
            exit_code=None,
            reason=reason,
            error_id=error_id,
            run_ms=0,
            lines=0,
            output_bytes=0,
            crew=self.links.crew,
        )

    def _require(self, state: JobState, done: str) -> None:
        if self.ended:
            raise JobAlreadyEnded(self.state)
        if self.state is not state or self.archived:
            raise WrongState(f"Job is {self.state}: it cannot be {done}.")

    def require_current(self, attempt: int) -> None:
        """Raises StaleAttempt unless this attempt holds the job, JobAlreadyEnded if the job
        has ended.
        """
        if self.ended:
            raise JobAlreadyEnded(self.state)
        if attempt != self.attempt or not self.active:
            raise StaleAttempt(attempt, self.attempt)


def evolve(job: Job, event: Event, version: int, at: str) -> Job:
    """The job after one more event of its own stream, which is drafted and not yet in the log."""
    return moved(job, drafted(event, version, at))


def moved(job: Job, fact: Fact) -> Job:
    """Fold one event of the job's own stream. Pure. An event without effect only moves the
    version.
    """
    changes = changes_by(fact, job)
    remember = _REMEMBERED.get(fact.type)
    if remember is not None:
        changes = {**changes, **remember(job, fact)}
    return replace(job, version=fact.version, **changes)


def _submitted(_: Job, fact: Fact) -> Changes:
    event = JobSubmitted.read(fact.data)
    return {
        "argv": tuple(event.argv),
        "kind": event.kind,
        "cwd": event.cwd,
        "env_names": tuple(event.env_names),
        "sealed": event.sealed,
        "timeout_ms": event.timeout_ms,
        "title": event.title,
        "owner": event.owner,
        "links": event.links,
        "plan": event.plan,
    }


def _answered(job: Job, fact: Fact) -> Changes:
    approval, resolution = fact.data["approval"], fact.data["resolution"]
    fails = job.active and job.terms.on_reject == "fail"
    return {
        "asked": tuple(one for one in job.asked if one != approval),
        "approved": job.approved or (not job.active and resolution == "approved"),
        "rejected": job.rejected or (fails and resolution == "rejected"),
    }


_REMEMBERED: dict[str, Callable[[Job, Fact], Changes]] = {
    JobSubmitted.type: _submitted,
    JobStarted.type: lambda *_: {"block_asked": None, "rejected": False},
    JobFinished.type: lambda _, fact: {"ended_version": fact.version},
    JobRedone.type: lambda *_: {"approved": False},
    JobMadeStale.type: lambda *_: {"approved": False},
    JobBlockAsked.type: lambda _, fact: {"block_asked": fact.data["reason"]},
    JobApprovalRequested.type: lambda job, fact: {"asked": (*job.asked, fact.data["approval"])},
    JobApprovalAnswered.type: _answered,
    JobTrusted.type: lambda *_: {"trusted": True},
}
"""Fields that only commands ask about, beside the shared transitions."""


def _text(text: str, what: str) -> str:
    if not text.strip():
        raise Invalid(f"{what} needs a text.")
    if len(text) > LONGEST_TEXT:
        raise Invalid(f"{what} has at most {LONGEST_TEXT} characters.")
    return text


def _over(ended: JobFinished, outcome: AttemptOutcome, reason: str) -> JobAttemptEnded:
    fields = ended.model_dump(exclude={"outcome", "reason", "crew"})
    return JobAttemptEnded(outcome=outcome, reason=reason, **fields)


def _plainly(over: JobAttemptEnded) -> str:
    if over.outcome is AttemptOutcome.TIMED_OUT:
        return "The time limit passed."
    if over.exit_code is None:
        return "It could not be run."
    if over.exit_code < 0:
        return f"Killed by signal {-over.exit_code}."
    return f"Exit code {over.exit_code}."
