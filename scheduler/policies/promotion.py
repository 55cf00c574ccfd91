"""What follows for the other jobs of a crew when one of its jobs changes."""

from functools import partial

from domain.approval.commands import Approvals
from domain.clock import Clock, system_clock
from domain.crew.commands import Crews, failed
from domain.draft import Draft
from domain.errors import NotFound
from domain.job.aggregate import Job
from domain.job.events import JobState, job_id_of
from domain.log import Context, Recorded
from scheduler.policies.policy import Reaction

ACTOR = "system:crews"


class Promotion:
    """Releases jobs whose parents are done, marks jobs whose parents never will be, and withdraws
    questions that no job waits for.

    It looks at the present state and not at the event's data, so handling an event twice changes
    nothing.
    """

    name = "crews"
    types = (
        "job.approval_answered",
        "job.attempt_ended",
        "job.blocked",
        "job.cancel_requested",
        "job.deleted",
        "job.finished",
        "job.freed",
        "job.made_stale",
        "job.redone",
    )

    def __init__(self, crews: Crews, approvals: Approvals, clock: Clock = system_clock) -> None:
        self._crews = crews
        self._approvals = approvals
        self._clock = clock

    async def react(self, event: Recorded) -> Reaction | None:
        draft = await self._crews.apart(partial(self._drafted, event))
        return Reaction(draft.events, draft.expected) if draft else None

    def _drafted(self, event: Recorded) -> Draft:
        draft = Draft(Context(actor=ACTOR, cause=event.id), self._clock)
        try:
            job = self._crews.job(job_id_of(event.subject) or "")
        except NotFound:
            return draft
        self._about_job(event, job, draft)
        return draft

    def _about_job(self, event: Recorded, job: Job, draft: Draft) -> None:
        if event.type == "job.approval_answered":
            self._crews.release(job, draft)
            return
        self._approvals.withdraw(job, draft)
        if job.links.crew is None or event.type == "job.cancel_requested":
            return
        if job.state is JobState.COMPLETED:
            self._crews.release_children(job, draft)
        elif failed(job):
            self._crews.strand(job, _why(job), draft)
        elif job.state is JobState.HELD:
            self._strand_again(job, draft)

    def _strand_again(self, job: Job, draft: Draft) -> None:
        """The job or a parent that stranded it is being done again; another parent may still
        block it.
        """
        obstacle = self._crews.hopeless(job, draft)
        if obstacle is not None:
            draft.check(obstacle)
            draft.job(job, job.strand(obstacle.id, _why(obstacle)))


def _why(parent: Job) -> str:
    title = parent.title or parent.id
    if parent.state is JobState.BLOCKED:
        return f"“{title}” gave up."
    ended = str(parent.state).replace("_", " ")
    return f"“{title}” is {ended}."
