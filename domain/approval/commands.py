"""Commands on approvals: ask, answer, expire, withdraw, trust."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from domain.approval.aggregate import (
    AlreadyResolved,
    Approval,
    ApprovalExpired,
    ApprovalNotFound,
    ApprovalRequested,
    ApprovalResolved,
    ApprovalState,
    ApprovalWithdrawn,
    approval_stream,
    moved,
)
from domain.clock import Clock, format_time, system_clock
from domain.decide import decide
from domain.draft import Draft
from domain.errors import Invalid
from domain.event import Event
from domain.job.aggregate import LONGEST_TEXT, Job
from domain.job.commands import Changed, Jobs
from domain.job.events import JobState
from domain.log import Context, EventLog

RESOLUTIONS = ("approved", "rejected")


@dataclass(frozen=True, slots=True)
class Question:
    """A question. With empty `approvers` the people named by the job's template may answer, or else
    the owner.
    """

    description: str
    proposed_action: str | None = None
    explicit: bool = False
    approvers: tuple[str, ...] = ()
    expires_at: str | None = None


@dataclass(frozen=True, slots=True)
class Resolved:
    """An approval after an answer, and the position of that command's newest event."""

    approval: Approval
    position: int


class Approvals:
    """The approvals of one log."""

    def __init__(self, log: EventLog, jobs: Jobs, clock: Clock = system_clock) -> None:
        self._log = log
        self._jobs = jobs
        self._clock = clock

    def load(self, approval_id: str) -> Approval:
        """The approval. Raises ApprovalNotFound if there is none or its job was deleted."""
        approval = self._raw(approval_id)
        if approval.version == 0 or self._jobs.ever(approval.job).deleted:
            raise ApprovalNotFound(approval_id)
        return approval

    def pending(self, job: Job) -> list[Approval]:
        """The job's unanswered approvals, oldest first."""
        found = [self._raw(approval_id) for approval_id in job.asked]
        return [approval for approval in found if approval.state is ApprovalState.PENDING]

    # Into a draft

    def ask(self, job: Job, question: Question, draft: Draft, approval_id: str = "") -> Job:
        """Ask, and let the job wait. If the job is trusted, the answer is given at once."""
        if not question.description.strip() or len(question.description) > LONGEST_TEXT:
            raise Invalid(f"An approval needs a description of 1 to {LONGEST_TEXT} characters.")
        approval_id = approval_id or str(uuid.uuid4())
        named = question.approvers or tuple(job.terms.approvers)
        requested = ApprovalRequested(
            job=job.id,
            attempt=job.attempt if job.active else 0,
            owner=job.owner,
            description=question.description,
            proposed_action=question.proposed_action,
            explicit=question.explicit,
            approvers=list(named),
            expires_at=question.expires_at,
        )
        stream = approval_stream(approval_id)
        draft.add(stream, 0, [requested])
        job = draft.job(job, job.wait_for(approval_id, question.description))
        if job.trusted and not question.explicit:
            answer = ApprovalResolved(
                job=job.id, resolution="approved", comment=None, by_trust=True
            )
            draft.add(stream, 0, [answer])
            job = draft.job(job, job.answer(approval_id, "approved"))
        return job

    def tell(self, job: Job, approval: Approval, state: ApprovalState, draft: Draft) -> Job:
        """Apply an answer to the waiting job: it goes on, is blocked, or fails before it began.
        Does nothing if the job no longer waits for this approval.
        """
        if approval.id not in job.pending:
            return job
        job = draft.job(job, job.answer(approval.id, state.value))
        if job.active or state is ApprovalState.APPROVED or job.state is not JobState.HELD:
            return job
        why = f"Approval {state}" + (f": {approval.comment}" if approval.comment else ".")
        fails = job.terms.on_reject == "fail"
        return draft.job(job, job.fail(why) if fails else job.block_held(why))

    def withdraw(self, job: Job, draft: Draft) -> None:
        """Withdraw all approvals whose answers the job does not wait for any more."""
        for approval in self.pending(job):
            if approval.id not in job.pending or job.cancel_requested:
                job = self._close(approval, job, ApprovalState.WITHDRAWN, draft)

    def _close(self, approval: Approval, job: Job, state: ApprovalState, draft: Draft) -> Job:
        """Close an approval without an answer, as expired or withdrawn."""
        over: Event
        if state is ApprovalState.EXPIRED:
            over = ApprovalExpired(job=approval.job)
        else:
            cancelled = approval.id in job.pending
            reason = "The job is being cancelled." if cancelled else "Whoever asked has ended."
            over = ApprovalWithdrawn(job=approval.job, reason=reason)
        draft.add(approval_stream(approval.id), approval.version, [over])
        return self.tell(job, approval, state, draft)

    def _too_late(self, approval: Approval, job: Job) -> ApprovalState | None:
        """The state of a pending approval after its deadline or its job's end are taken into
        account.
        """
        if approval.overdue(format_time(self._clock())):
            return ApprovalState.EXPIRED
        if approval.id not in job.pending or job.cancel_requested:
            return ApprovalState.WITHDRAWN
        return None

    # Commands

    async def request(
        self, job_id: str, attempt: int, question: Question, context: Context
    ) -> Resolved:
        """Ask for the current attempt. Raises StaleAttempt for any other attempt."""
        approval_id = str(uuid.uuid4())

        def decision(draft: Draft) -> None:
            job = self._jobs.load(job_id)
            job.require_current(attempt)
            self.ask(job, question, draft, approval_id)

        position = await self._append(decision, context)
        return Resolved(await self._log.apart(partial(self.load, approval_id)), position)

    async def resolve(
        self, approval_id: str, resolution: str, comment: str | None, context: Context
    ) -> Resolved:
        """Answer: ``approved`` or ``rejected``. Raises AlreadyResolved if it was answered before,
        its time has passed, or its job is being cancelled or has ended.
        """
        if resolution not in RESOLUTIONS:
            raise Invalid("The resolution must be 'approved' or 'rejected'.")
        if comment is not None and len(comment) > LONGEST_TEXT:
            raise Invalid(f"A comment has at most {LONGEST_TEXT} characters.")

        late: ApprovalState | None = None

        def decision(draft: Draft) -> None:
            nonlocal late
            approval = self.load(approval_id)
            approval.require_pending()
            job = self._jobs.ever(approval.job)
            late = self._too_late(approval, job)
            if late is not None:
                self._close(approval, job, late, draft)
                return
            event = approval.resolve(resolution, comment, by_trust=False)
            draft.add(approval_stream(approval_id), approval.version, [event])
            state = ApprovalState(resolution)
            self.tell(job, replace(approval, comment=comment), state, draft)

        position = await self._append(decision, context)
        if late is not None:
            raise AlreadyResolved(late)
        return Resolved(await self._log.apart(partial(self.load, approval_id)), position)

    async def withdraw_left(self, approval_id: str, context: Context) -> None:
        """Withdraw it if its job does not wait for it any more. Does nothing otherwise."""

        def decision(draft: Draft) -> None:
            approval = self._raw(approval_id)
            job = self._jobs.ever(approval.job)
            if approval.state is ApprovalState.PENDING and approval.id not in job.pending:
                self._close(approval, job, ApprovalState.WITHDRAWN, draft)

        await self._append(decision, context)

    async def expire(self, approval_id: str, context: Context) -> None:
        """Let it expire. Does nothing if it was answered before."""

        def decision(draft: Draft) -> None:
            approval = self._raw(approval_id)
            if approval.version and approval.state is ApprovalState.PENDING:
                self._close(approval, self._jobs.ever(approval.job), ApprovalState.EXPIRED, draft)

        await self._append(decision, context)

    async def trust(self, job_id: str, context: Context) -> tuple[int, Changed]:
        """Approve everything that the job asks, now and later, except questions that a person must
        answer.

        Returns how many approvals that answered now.
        """
        count = 0

        def decision(draft: Draft) -> None:
            nonlocal count
            job = self._jobs.load(job_id)
            count = 0
            waiting = [approval for approval in self.pending(job) if not approval.explicit]
            job = draft.job(job, job.trust())
            for approval in waiting:
                late = self._too_late(approval, job)
                if late is not None:
                    job = self._close(approval, job, late, draft)
                    continue
                count += 1
                event = approval.resolve("approved", None, by_trust=True)
                draft.add(approval_stream(approval.id), approval.version, [event])
                job = self.tell(job, approval, ApprovalState.APPROVED, draft)

        position = await self._append(decision, context)
        job = await self._log.apart(partial(self._jobs.load, job_id))
        return count, Changed(job, position or await self._log.last_about(job.stream))

    async def _append(self, decision: Callable[[Draft], None], context: Context) -> int:
        return (await decide(self._log, decision, context, self._clock)).position

    def _raw(self, approval_id: str) -> Approval:
        approval = Approval(approval_id)
        for stored in self._log.blocking.stream(approval_stream(approval_id)):
            approval = moved(approval, stored)
        return approval
