"""Commands on jobs: load the aggregate, let it decide, append what it decided."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from domain.clock import Clock, system_clock
from domain.decide import decide as decided
from domain.draft import Draft
from domain.errors import (
    IdempotencyMismatch,
    JobNotFound,
    PreconditionFailed,
    VersionConflict,
)
from domain.event import Event
from domain.folded import FoldedStreams, Kept
from domain.idempotency import RequestAccepted, idempotency_stream
from domain.job.aggregate import Job, moved
from domain.job.events import (
    JobQueued,
    JobSubmitted,
    job_stream,
)
from domain.log import Context, EventLog, NewEvent, Recorded, new_events

Decide = Callable[[Job], list[Event]]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A caller's key, and the fingerprint of the request."""

    principal: str
    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Submission:
    """The answer to a submission. `replayed` is true if an earlier request with the key made
    the job.
    """

    job_id: str
    events: tuple[Recorded, Recorded]
    """``job.submitted`` and ``job.queued``, as they are in the log."""
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Changed:
    """The job after a command, and the position of its newest event (0: there was nothing to
    do).
    """

    job: Job
    position: int


class Jobs:
    """The jobs of one log."""

    def __init__(self, log: EventLog, clock: Clock = system_clock) -> None:
        self._log = log
        self._clock = clock
        self._folded = FoldedStreams(log, fold, job_stream)

    def load(self, job_id: str) -> Job:
        """The job, folded from its own stream. Raises JobNotFound if there is none or it was
        deleted.
        """
        return self._present(job_id).state

    async def apart(self, look: Callable[[], T]) -> T:
        """The result of `look`, which may load jobs. Runs it off the event loop if the store
        waits.
        """
        return await self._log.apart(look)

    async def loaded(self, job_id: str) -> Job:
        """`load` for event loops, which must not block on the store."""
        return await self.apart(partial(self.load, job_id))

    def ever(self, job_id: str) -> Job:
        """`load` that also finds a deleted job: other jobs still depend on it."""
        job = self._folded.latest(job_id).state
        if job.version == 0:
            raise JobNotFound(job_id)
        return job

    async def submitted(self, job_id: str) -> JobSubmitted:
        """The request that made the job. Raises JobNotFound as `load` does."""
        await self._log.apart(partial(self.load, job_id))
        first = await self._log.first_of_stream(job_stream(job_id))
        assert first is not None
        submitted = first.event()
        assert isinstance(submitted, JobSubmitted)
        return submitted

    def _present(self, job_id: str) -> Kept[Job]:
        kept = self._folded.latest(job_id)
        if kept.version == 0 or kept.state.deleted:
            raise JobNotFound(job_id)
        return kept

    async def submit(
        self,
        job_id: str,
        submitted: JobSubmitted,
        context: Context,
        idempotency: IdempotencyKey | None = None,
    ) -> Submission:
        """Accept a job and queue it. Raises IdempotencyMismatch if the key was used for
        another request.
        """
        stream = job_stream(job_id)
        events = new_events(stream, [submitted, JobQueued(attempt=1)], context, self._clock)
        expected = {stream: 0}
        if idempotency is not None:
            events.append(self._accepted(idempotency, job_id, context))
            expected[events[-1].stream] = 0
        try:
            recorded = await self._log.append(events, expected)
        except VersionConflict as conflict:
            if idempotency is None or conflict.stream == stream:
                raise
            return await self._log.apart(partial(self._replay, idempotency))
        return Submission(job_id, (recorded[0], recorded[1]))

    def _accepted(self, key: IdempotencyKey, job_id: str, context: Context) -> NewEvent:
        accepted = RequestAccepted(fingerprint=key.fingerprint, result=job_id)
        stream = idempotency_stream(key.principal, key.key)
        return new_events(stream, [accepted], context, self._clock)[0]

    def _replay(self, key: IdempotencyKey) -> Submission:
        job_id = replay_of(self._log, key)
        begun = (JobSubmitted.type, JobQueued.type)
        submitted, queued = self._log.blocking.stream(job_stream(job_id), types=begun)[:2]
        return Submission(job_id, (submitted, queued), replayed=True)

    async def execute(
        self, job_id: str, decide: Decide, context: Context, *, if_match: int | None = None
    ) -> Changed:
        """Let the job decide and append its events. Decides again if another writer was first.

        Raises JobNotFound, what `decide` raises, and PreconditionFailed if `if_match` is not the
        present version.
        """

        def decision(draft: Draft) -> Kept[Job]:
            kept = self._present(job_id)
            precondition(kept.state, if_match)
            draft.add(kept.state.stream, kept.version, decide(kept.state))
            return kept

        kept, recorded = await decided(self._log, decision, context, self._clock)
        after = self._folded.further(job_id, recorded, kept) if recorded else kept
        return Changed(after.state, after.position)


def fold(job_id: str, events: Sequence[Recorded], job: Job | None = None) -> Job:
    """The job after these events of its own stream."""
    job = job or Job(job_id)
    for recorded in events:
        job = moved(job, recorded)
    return job


def replay_of(log: EventLog, key: IdempotencyKey) -> str:
    """The id that an earlier request with this key made. Raises IdempotencyMismatch if that was
    another request.
    """
    first = log.blocking.stream(idempotency_stream(key.principal, key.key))[0]
    if first.data["fingerprint"] != key.fingerprint:
        raise IdempotencyMismatch
    return str(first.data["result"])


def precondition(job: Job, if_match: int | None) -> None:
    """Raises PreconditionFailed unless the job has this version."""
    if if_match is not None and job.version != if_match:
        raise PreconditionFailed(
            f"The job is at version {job.version}, not {if_match}: read it again, then repeat."
        )
