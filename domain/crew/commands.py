"""Commands on crews: what releases a job, and what a change of one job means for the others.

Each writes into a `Draft`, so that a step and its consequences are in one append.
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
        """The crew. Raises CrewNotFound."""
        kept = self._folded.latest(crew_id)
        if kept.version == 0:
            raise CrewNotFound(crew_id)
        return kept.state

    def job(self, job_id: str) -> Job:
        """The job as it is, even if it was deleted: other jobs still depend on it."""
        return self._jobs.ever(job_id)

    async def apart(self, look: Callable[[], T]) -> T:
        """The result of `look`, which may read jobs and crews. Runs it off the event loop if the
        store waits for a network.
        """
        return await self._log.apart(look)

    def parents(self, job: Job) -> list[Job]:
        """The jobs that it waits for, in the order of its template."""
        return [self.job(parent) for parent in _parents(job)]

    def _seen(self, job_id: str, draft: Draft) -> Job:
        """The job as the draft has it: read from the log once, and then as the draft has
        changed it.
        """
        job = draft.jobs.get(job_id)
        if job is None:
            job = draft.jobs[job_id] = self.job(job_id)
        return job

    def active(self, crew_id: str) -> bool:
        """Whether a job of the crew may still go on by itself, or waits for an approval. A blocked
        job does nothing by itself, and neither do the jobs that wait for it.
        """
        jobs = {member.id: self.job(member.id) for member in self.load(crew_id).members}
        done = {id for id, job in jobs.items() if job.state is JobState.COMPLETED}

        def goes_on(job: Job) -> bool:
            if job.state is JobState.HELD:
                # While a parent is open, that parent is the one that may go on.
                return bool(job.pending) or done.issuperset(_parents(job))
            return not job.ended and job.state is not JobState.BLOCKED

        return any(goes_on(job) for job in jobs.values())

    # What follows from what

    def release(self, job: Job, draft: Draft) -> Job:
        """Queue a held job if nothing holds it any more, or ask for the approval that it needs.

        Does nothing while a parent is open or its start time has not come. The append also checks
        the versions of the parents, so it fails if a parent is redone in between.
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
            question = Question(
                f"May “{job.title}” start?", " ".join(job.argv) or terms.body or None
            )
            job = self._approvals.ask(job, question, draft)
            if job.needs_approval:
                return job
        return draft.job(job, job.queue({parent.id: parent.attempt for parent in parents}))

    def release_children(self, parent: Job, draft: Draft) -> None:
        """Release the children that waited only for this job, which is done."""
        for child in self._related(parent, Crew.children, draft):
            self.release(child, draft)

    def strand(self, job: Job, reason: str, draft: Draft) -> None:
        """Mark every direct and indirect child: this job will not be done, so they cannot start."""
        draft.check(job)
        hopeless = {job.id}
        for waiting in self._related(job, Crew.descendants, draft):
            if not waiting.ended and hopeless.intersection(_parents(waiting)):
                hopeless.add(waiting.id)
                draft.job(waiting, waiting.strand(job.id, reason))

    def free(self, job: Job, draft: Draft) -> None:
        """Unmark the children of a job that is being done after all."""
        for waiting in self._related(job, Crew.descendants, draft):
            if waiting.stranded_by == job.id:
                draft.job(waiting, waiting.free(job.id))

    def hopeless(self, job: Job, draft: Draft) -> Job | None:
        """The first direct or indirect parent that will not be done; None if there is none."""
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
        """Let a blocked job go on. Raises WrongState unless it is blocked."""
        return await self.change(job_id, self._unblocked, context, if_match=if_match)

    async def redo(
        self, job_id: str, feedback: str, context: Context, *, if_match: int | None = None
    ) -> Changed:
        """Have the job done again, and then every job that used its old result."""

        def decide(job: Job, draft: Draft) -> Job:
            return self._redone(job, feedback, draft)

        return await self.change(job_id, decide, context, if_match=if_match)

    async def retry(self, job_id: str, context: Context, *, if_match: int | None = None) -> Changed:
        """Set a job going again: redo it if it has ended without success, unblock it if it is
        blocked. Raises WrongState for every other job.
        """
        return await self.change(job_id, self._retried, context, if_match=if_match)

    async def retry_crew(self, crew_id: str, context: Context) -> tuple[list[str], int]:
        """Set every failed, cancelled or blocked job of the crew going again, and what waits for
        them. Returns these jobs and the position. Raises WrongState if there are none.
        """

        def decision(draft: Draft) -> list[str]:
            retried: list[str] = []
            for member in self.load(crew_id).members:
                job = self._seen(member.id, draft)
                if stands_still(job) and not (job.archived or job.deleted):
                    retried.append(job.id)
                    self._retried(job, draft)
            if not retried:
                raise WrongState("No job of this crew has failed, was cancelled or is blocked.")
            return retried

        done = await decided(self._log, decision, context, self._clock, long=True)
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
            # A child that another command releases meanwhile must be looked at again.
            draft.check(other)
            # An archived job keeps its result, so jobs that used it are not redone.
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
        """Let `decide` draft the change, and append it. Decides again if another writer was first.
        Raises JobNotFound, PreconditionFailed, and what `decide` raises.
        """

        def decision(draft: Draft) -> Job:
            job = self._jobs.load(job_id)
            precondition(job, if_match)
            return decide(job, draft)

        # In a dense crew it looks at every job, and at every parent of each.
        after, recorded = await decided(self._log, decision, context, self._clock, long=True)
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
    """Whether the job has ended without success or is blocked: only a person sets it going
    again.
    """
    return job.state is JobState.BLOCKED or (job.ended and job.state is not JobState.COMPLETED)


def failed(job: Job) -> bool:
    """Whether the job has ended without success, or its retries are used up."""
    if job.state in ENDED:
        return job.state is not JobState.COMPLETED
    return job.state is JobState.BLOCKED and job.gave_up
