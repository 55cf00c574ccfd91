"""Commands that concern a crew: what releases a job, and what a change of one means for the others.

Each writes into a `Draft`, so that what follows from a step is in the same append as the step.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from domain.approval.commands import Approvals, Question
from domain.clock import Clock, format_time, system_clock
from domain.crew.events import Crew, CrewCommitted, CrewNotFound, crew_stream
from domain.decide import decide as decided
from domain.draft import Draft
from domain.errors import WrongState
from domain.folded import FoldedStreams
from domain.job.aggregate import Job
from domain.job.commands import Changed, Jobs, precondition
from domain.job.events import ENDED, JobState
from domain.log import Context, EventLog, Recorded

T = TypeVar("T")


class Crews:
    """The crews of one log."""

    def __init__(
        self, log: EventLog, jobs: Jobs, approvals: Approvals, clock: Clock = system_clock
    ) -> None:
        self._log = log
        self._jobs = jobs
        self._approvals = approvals
        self._clock = clock
        self._folded = FoldedStreams(log, _fold, crew_stream)

    def load(self, crew_id: str) -> Crew:
        """CrewNotFound when there is none."""
        kept = self._folded.latest(crew_id)
        if kept.version == 0:
            raise CrewNotFound(crew_id)
        return kept.state

    def job(self, job_id: str) -> Job:
        """A job as it is, also when it was deleted: what it did still counts for others."""
        return self._jobs.ever(job_id)

    async def apart(self, look: Callable[[], T]) -> T:
        """What `look` gives, which may read jobs and crews: not on the event loop where that would
        wait.
        """
        return await self._log.apart(look)

    def parents(self, job: Job) -> list[Job]:
        """The jobs that it waits for, in the order in which its template names them."""
        return [self.job(parent) for parent in _parents(job)]

    def _seen(self, job_id: str, draft: Draft) -> Job:
        """A job as the draft has it: looked up once, however many wait for it, and then as it is
        after what the draft does to it.
        """
        job = draft.jobs.get(job_id)
        if job is None:
            job = draft.jobs[job_id] = self.job(job_id)
        return job

    def active(self, crew_id: str) -> bool:
        """Whether any of its jobs may still do something by itself, or asked a person something.
        One that is blocked does nothing more, nor does what waits for it.
        """
        jobs = {member.id: self.job(member.id) for member in self.load(crew_id).members}
        done = {id for id, job in jobs.items() if job.state is JobState.COMPLETED}

        def goes_on(job: Job) -> bool:
            if job.state is JobState.HELD:
                # While a parent is open, that is who may go on.
                return bool(job.pending) or done.issuperset(_parents(job))
            return not job.ended and job.state is not JobState.BLOCKED

        return any(goes_on(job) for job in jobs.values())

    # What follows from what

    def release(self, job: Job, draft: Draft) -> Job:
        """Queue a held job if nothing holds it any more, or ask for the approval that it needs.

        Nothing while a parent is open or its time has not come. The parents are part of the
        append's condition: one that is redone in between makes it fail.
        """
        if job.state is not JobState.HELD or job.archived or job.pending:
            return job
        parents = [self._seen(parent, draft) for parent in _parents(job)]
        for parent in parents:
            draft.check(parent)
        if any(parent.state is not JobState.COMPLETED for parent in parents):
            return job
        terms = job.terms
        if terms.not_before and terms.not_before > format_time(self._clock()):
            return job
        if job.needs_approval:
            asked = Question(f"May “{job.title}” start?", " ".join(job.argv) or terms.body or None)
            job = self._approvals.ask(job, asked, draft)
            if job.needs_approval:
                return job
        return draft.job(job, job.queue({parent.id: parent.attempt for parent in parents}))

    def release_children(self, parent: Job, draft: Draft) -> None:
        """A job is done: whoever waited only for it may go."""
        for child in self._related(parent, Crew.children, draft):
            self.release(child, draft)

    def strand(self, job: Job, reason: str, draft: Draft) -> None:
        """A job will not be done: say so on all that wait for it, also by others that do."""
        draft.check(job)
        hopeless = {job.id}
        for waiting in self._related(job, Crew.descendants, draft):
            if not waiting.ended and hopeless.intersection(_parents(waiting)):
                hopeless.add(waiting.id)
                draft.job(waiting, waiting.strand(job.id, reason))

    def free(self, job: Job, draft: Draft) -> None:
        """A job is being done after all."""
        for waiting in self._related(job, Crew.descendants, draft):
            if waiting.stranded_by == job.id:
                draft.job(waiting, waiting.free(job.id))

    def hopeless(self, job: Job, draft: Draft) -> Job | None:
        """The first of all that it waits for that will not be done, or None."""
        seen: set[str] = set()
        waiting = [job]
        while waiting:
            for parent_id in _parents(waiting.pop()):
                if parent_id not in seen:
                    seen.add(parent_id)
                    parent = self._seen(parent_id, draft)
                    if failed(parent):
                        return parent
                    if parent.state is not JobState.COMPLETED:
                        waiting.append(parent)
        return None

    def _related(self, job: Job, who: Callable[[Crew, str], list[str]], draft: Draft) -> list[Job]:
        if job.links.crew is None:
            return []
        crew = self.load(job.links.crew)
        return [self._seen(other, draft) for other in who(crew, job.id)]

    # Commands of people

    async def unblock(
        self, job_id: str, context: Context, *, if_match: int | None = None
    ) -> Changed:
        """Let a blocked job go on. WrongState unless it is blocked."""
        return await self.change(job_id, self._unblocked, context, if_match=if_match)

    async def redo(
        self, job_id: str, feedback: str, context: Context, *, if_match: int | None = None
    ) -> Changed:
        """Have it done again. What was made of its old result is made anew, in its turn."""

        def decide(job: Job, draft: Draft) -> Job:
            return self._redone(job, feedback, draft)

        return await self.change(job_id, decide, context, if_match=if_match)

    async def retry(self, job_id: str, context: Context, *, if_match: int | None = None) -> Changed:
        """Set going again what stands still without success: what has ended is done again, and what
        is blocked goes on. WrongState for every other job.
        """
        return await self.change(job_id, self._retried, context, if_match=if_match)

    async def retry_crew(self, crew_id: str, context: Context) -> tuple[list[str], int]:
        """Set going again whatever stands still in it without success, and what waits for that: the
        jobs, and the position. WrongState where there is nothing of the kind.
        """

        def decision(draft: Draft) -> list[str]:
            retried: list[str] = []
            for member in self.load(crew_id).members:
                job = self._seen(member.id, draft)
                if stands_still(job) and not (job.archived or job.deleted):
                    retried.append(job.id)
                    self._retried(job, draft)
            if not retried:
                raise WrongState("Nothing in this crew has failed, was cancelled or is blocked.")
            return retried

        done = await decided(self._log, decision, context, self._clock)
        return done.outcome, done.position

    def _retried(self, job: Job, draft: Draft) -> Job:
        if job.ended and job.state is not JobState.COMPLETED:
            return self._redone(job, "", draft)
        return self._unblocked(job, draft)

    def _unblocked(self, job: Job, draft: Draft) -> Job:
        job = draft.job(job, job.unblock())
        self.free(job, draft)
        return self.release(job, draft)

    def _redone(self, job: Job, feedback: str, draft: Draft) -> Job:
        job = draft.job(job, job.redo(feedback))
        again = {job.id}
        for other in self._related(job, Crew.descendants, draft):
            # One that is released in between must be looked at again.
            draft.check(other)
            # What is off the board keeps its result, and who used that one has nothing new.
            if again.intersection(_parents(other)):
                other = draft.job(other, other.make_stale(job.id))
                if other.state is JobState.HELD:
                    again.add(other.id)
            if other.stranded_by in again:
                draft.job(other, other.free(other.stranded_by))
        return self.release(job, draft)

    async def change(
        self,
        job_id: str,
        decide: Callable[[Job, Draft], Job],
        context: Context,
        *,
        if_match: int | None = None,
    ) -> Changed:
        """Let `decide` draft what is to happen, append it, and decide again when somebody else was
        first. Raises JobNotFound, PreconditionFailed, and what `decide` raises.
        """

        def decision(draft: Draft) -> Job:
            job = self._jobs.load(job_id)
            precondition(job, if_match)
            return decide(job, draft)

        after, recorded = await decided(self._log, decision, context, self._clock)
        if not recorded:
            return Changed(after, await self._log.last_about(after.stream))
        return Changed(after, recorded[-1].position)


def _fold(crew_id: str, events: Sequence[Recorded], crew: Crew | None) -> Crew:
    crew = crew or Crew(crew_id, "", ())
    for recorded in events:
        committed = recorded.event()
        assert isinstance(committed, CrewCommitted)
        crew = Crew(crew_id, committed.owner, tuple(committed.jobs))
    return crew


def _parents(job: Job) -> list[str]:
    return job.terms.parents


def stands_still(job: Job) -> bool:
    """It has ended without success, or is blocked: only a person sets it going again."""
    return job.state is JobState.BLOCKED or (job.ended and job.state is not JobState.COMPLETED)


def failed(job: Job) -> bool:
    """It has ended without success, or stands still because its retries are used up."""
    if job.state in ENDED:
        return job.state is not JobState.COMPLETED
    return job.state is JobState.BLOCKED and job.gave_up
