"""The job: the state of one, folded from its own stream, and which commands that state allows."""

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
"""Characters of a comment, a feedback or a reason."""

RESULT_FILE = "result.json"
"""What the file is called in which an attempt may leave its result."""

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
    """Names the driver: what is done with its processes."""
    state: JobState = JobState.QUEUED
    attempt: int = 0
    active: bool = False
    """The current attempt has been started and has not ended: something runs it."""
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
    """Attempts that failed since a person last set it going."""
    given: dict[str, Any] | None = None
    """The result that the current attempt handed in; once completed, the job's."""
    block_asked: str | None = None
    gave_up: bool = False
    approved: bool = False
    rejected: bool = False
    """The current attempt was told no, and its template says that this ends the job."""
    trusted: bool = False
    pending: tuple[str, ...] = ()
    """Approvals that are waited for, oldest first."""
    asked: tuple[str, ...] = ()
    """Approvals of which the job heard no answer, also those that it waits for no more, oldest
    first.
    """
    stranded_by: str | None = None
    cancel_requested_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    ended_version: int = 0
    """The version of the stream with the last ``job.finished``."""
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
        """What its template says; for a job of its own, that nothing is asked of it."""
        return self.plan or _NO_TERMS

    @property
    def planned(self) -> bool:
        """It has a plan, as jobs of crews do: what becomes of it after an attempt is for that to
        say. A job of its own ends as its process does.
        """
        return self.plan is not None

    @property
    def over(self) -> bool:
        """Nothing can make it run again."""
        return self.deleted or self.archived or (self.ended and not self.planned)

    @property
    def needs_approval(self) -> bool:
        """A person must approve before it may be queued."""
        return self.terms.approval and not self.approved

    # The life of an attempt

    def queue(self, after: Mapping[str, int] | None = None) -> list[Event]:
        """Let the held job start when there is room; `after` is the attempt of each parent."""
        self._require(JobState.HELD, "queued")
        return [JobQueued(attempt=self.attempt + 1, after=dict(after or {}))]

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
        if self.active:
            return [asked]
        return [asked, self._end(self.attempt, Outcome.CANCELLED, "Cancelled before it started.")]

    def lose_attempt(self, attempt: int, reason: str, error_id: str) -> list[Event]:
        """The attempt's process vanished. A command may have done half its work, so it isn't run
        again unless its template says that it may be.
        """
        self.require_current(attempt)
        outcome = Outcome.CANCELLED if self.cancel_requested else Outcome.FAILED
        ended = self._end(attempt, outcome, reason, error_id=error_id)
        return [JobAttemptLost(attempt=attempt, reason=reason), *self.end_attempt(ended)]

    def end_attempt(self, ended: JobFinished, problem: str | None = None) -> list[Event]:
        """The current attempt is over as `ended` says; what becomes of the job?

        A job of its own ends with its attempt, as its process did. In a crew, what the worker
        itself said counts more than how its process left; else a failure is tried again while
        retries remain, and then the job is blocked. `problem` says what is wrong with what it left.

        StaleAttempt from any attempt but the current one, JobAlreadyEnded after the end.
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
            # It left by itself before it was sent a signal: what was asked for holds all the same.
            return [ended.model_copy(update={"outcome": Outcome.CANCELLED})]
        if self.block_asked is not None:
            asked = _over(ended, AttemptOutcome.BLOCKED, self.block_asked)
            blocked = JobBlocked(attempt=ended.attempt, reason=self.block_asked, gave_up=False)
            return [asked, blocked]
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
        """A result that is none, of a job whose end does not depend on it."""
        if problem is None:
            return []
        return [JobArtifactsDropped(attempt=attempt, names=[RESULT_FILE], reason=problem)]

    def fail(self, reason: str) -> list[Event]:
        """End a job that no attempt holds, without success."""
        if self.ended:
            raise JobAlreadyEnded(self.state)
        return [self._end(self.attempt, Outcome.FAILED, reason)]

    def report(self, event: JobProgressed | JobOutput | JobOutputDropped) -> list[Event]:
        """Something the current attempt has to say while it runs."""
        self.require_current(event.attempt)
        return [event]

    def expire_lease(self, attempt: int) -> list[Event]:
        """The worker was silent for too long."""
        self.require_current(attempt)
        return [JobLeaseExpired(attempt=attempt)]

    # What its worker says

    def give_result(self, attempt: int, result: dict[str, Any]) -> list[Event]:
        """Hand in the result; the last one given counts. It was checked against the schema."""
        self.require_current(attempt)
        return [JobResultGiven(attempt=attempt, result=result)]

    def ask_block(self, attempt: int, reason: str) -> list[Event]:
        """The worker cannot go on; the job is blocked when it has left. WrongState for a job of its
        own.
        """
        self.require_current(attempt)
        if not self.planned:
            raise WrongState("A job of its own cannot be blocked: it ends as its exit code says.")
        return [JobBlockAsked(attempt=attempt, reason=_text(reason, "A reason"))]

    # What people say

    def message(self, text: str) -> list[Event]:
        """Say something to a job that has not ended."""
        if self.ended:
            raise JobAlreadyEnded(self.state)
        return [JobMessaged(text=_text(text, "A message"))]

    def comment(self, text: str) -> list[Event]:
        """Write something that workers of this and later attempts read."""
        return [JobCommented(text=_text(text, "A comment"))]

    def unblock(self) -> list[Event]:
        """Let a blocked job go on: it is held, and to be released anew."""
        self._require(JobState.BLOCKED, "unblocked")
        return [JobUnblocked()]

    def redo(self, feedback: str) -> list[Event]:
        """Have a job that has ended, or is blocked, done again: it is held, and to be released
        anew.
        """
        if not self.ended and self.state is not JobState.BLOCKED:
            raise WrongState(f"Job is {self.state}: it cannot be redone.")
        if self.archived or self.deleted:
            gone = "deleted" if self.deleted else "archived"
            raise WrongState(f"Job is {gone}: it cannot be redone.")
        if self.sealed and not self.planned:
            raise WrongState("Its private values were removed when it ended: submit it anew.")
        comment: list[Event] = [JobCommented(text=feedback)] if feedback.strip() else []
        return [JobRedone(feedback=_text(feedback, "Feedback") if comment else ""), *comment]

    def make_stale(self, parent: str) -> list[Event]:
        """A parent is done again. Nothing where this job has not begun, or is off the board; one
        that is being cancelled ends with it.
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
        """This job cannot start any more; nothing where it is marked so already, or has ended."""
        if self.ended or self.stranded_by is not None:
            return []
        return [JobStranded(parent=parent, reason=reason)]

    def free(self, parent: str) -> list[Event]:
        """What stranded it is being done after all."""
        return [] if self.stranded_by is None else [JobFreed(parent=parent)]

    # Approvals

    def wait_for(self, approval: str, description: str) -> list[Event]:
        """Wait for an answer: the current attempt's, or before the first one. WrongState when the
        job is being cancelled: nobody answers any more.
        """
        if self.cancel_requested:
            raise WrongState("Job is being cancelled: nothing more can be asked for it.")
        if not self.active:
            self._require(JobState.HELD, "approved")
        attempt = self.attempt if self.active else 0
        return [JobApprovalRequested(attempt=attempt, approval=approval, description=description)]

    def answer(self, approval: str, resolution: str) -> list[Event]:
        """An approval that is waited for was answered, or never will be."""
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
        """A job that waits to be released is blocked instead."""
        if self.ended:
            raise JobAlreadyEnded(self.state)
        return [JobBlocked(attempt=self.attempt, reason=reason, gave_up=False)]

    def trust(self) -> list[Event]:
        """Approve what it asks from now on."""
        return [] if self.trusted else [JobTrusted()]

    # Off the board

    def archive(self) -> list[Event]:
        """Take a job off the board; again changes nothing. In a crew, one that nobody runs ends
        with it.
        """
        if self.archived:
            return []
        return [*self._put_away("archived"), JobArchived()]

    def unarchive(self) -> list[Event]:
        return [JobUnarchived()] if self.archived else []

    def delete(self) -> list[Event]:
        """Hide a job for good, as `archive` takes it off the board."""
        return [] if self.deleted else [*self._put_away("deleted"), JobDeleted()]

    def _put_away(self, done: str) -> list[Event]:
        if self.ended:
            return []
        if self.active or not self.planned:
            raise WrongState(f"Job is {self.state}: cancel it, then it can be {done}.")
        return [self._end(self.attempt, Outcome.CANCELLED, f"It was {done} before it was done.")]

    def _end(
        self, attempt: int, outcome: Outcome, reason: str, *, error_id: str | None = None
    ) -> JobFinished:
        """An end without a process to tell of."""
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
        """StaleAttempt unless this attempt is the one that holds the job, JobAlreadyEnded after
        it.
        """
        if self.ended:
            raise JobAlreadyEnded(self.state)
        if attempt != self.attempt or not self.active:
            raise StaleAttempt(attempt, self.attempt)


def evolve(job: Job, event: Event, version: int, at: str) -> Job:
    """The job after one more event of its own stream, which is drafted and not in the log yet."""
    return moved(job, drafted(event, version, at))


def moved(job: Job, fact: Fact) -> Job:
    """Fold one event of the job's own stream. Pure; one of no consequence only moves the
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
"""What only commands ask about, beside how the job stands."""


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
