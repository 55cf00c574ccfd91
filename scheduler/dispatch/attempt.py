"""The life of one attempt, from the claim to its end in the log."""

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from domain.errors import (
    JobAlreadyEnded,
    JobNotFound,
    LogUnavailable,
    StaleAttempt,
    VersionConflict,
    WrongState,
)
from domain.event import Event
from domain.job.aggregate import Job
from domain.job.commands import Jobs
from domain.job.events import JobFinished, JobState, Outcome
from domain.log import Context, Recorded
from scheduler.dispatch.assignments import Assignments
from scheduler.dispatch.runner import Runner
from scheduler.drivers.contract import Drivers, Followed, NoDriver, driver_of
from scheduler.executors.contract import AttemptSpec, Executor, Running
from scheduler.policies.lease import Leases
from scheduler.workspaces.contract import CannotLaunch, Workspaces

logger = logging.getLogger("crewlog.dispatcher")

ACTOR = "system:dispatcher"

_RETRY_S = 0.5


@dataclass(frozen=True, slots=True)
class Equipment:
    """The node's executor and workspaces, and the parts of this server that attempts need."""

    jobs: Jobs
    executor: Executor
    workspaces: Workspaces
    assignments: Assignments
    drivers: Drivers
    leases: Leases

    def is_wanted(self, job_id: str) -> bool:
        """Whether the job may run again."""
        try:
            return not self.jobs.load(job_id).over
        except JobNotFound:
            return False

    async def forget(self, job_id: str) -> None:
        """Remove the private part of a job that will not run again."""
        sealed = self.assignments.sealed
        if sealed.has(job_id) and not await self.jobs.apart(partial(self.is_wanted, job_id)):
            sealed.discard(job_id)

    async def sweep_sealed(self) -> None:
        """Remove the private parts of all jobs that will not run again."""
        await self.jobs.apart(partial(self.assignments.sealed.sweep, self.is_wanted))


class Attempt:
    """One attempt of a job. Calls `place_changed` when it takes or leaves its place."""

    def __init__(
        self,
        equipment: Equipment,
        job_id: str,
        owner: str | None,
        place_changed: Callable[[], None],
    ) -> None:
        self._jobs = equipment.jobs
        self._equipment = equipment
        self._runner = Runner(equipment.jobs, equipment.drivers, equipment.workspaces)
        self._place_changed = place_changed
        self.job_id = job_id
        self.owner = owner
        self.waits = False
        """It waits for a person's answer, and holds no place."""
        self.task: asyncio.Task[None] | None = None
        self._number: int | None = None
        """None until it is in the log."""
        self._running: Running | None = None
        self._ending = False
        """Its process must end, even if it has not begun yet."""

    # How it comes to be

    async def claim(self, queued: Recorded | None) -> None:
        """Claim the job's next attempt and run it. Does nothing if the job needs no attempt
        any more.
        """
        context = Context(actor=ACTOR, cause=queued.id if queued else None)
        job = await self._start_in_log(context)
        if job is None:
            # It ended between the queue and here, while this held its place: nobody else has seen
            # it.
            await self._equipment.forget(self.job_id)
        else:
            self._number = job.attempt
            await self._run(job, job.attempt, context)

    async def adopt(self, number: int) -> None:
        """Go on with an attempt that an earlier server began."""
        self._number = number
        job = await self._load()
        if job.cancel_requested or job.rejected:
            self._ending = True
        if job.node != self._equipment.workspaces.node:
            # The log was copied here from another machine: the running attempt is not ours to run
            # again.
            why = f"It ran on {job.node}, which this server cannot reach."
            await self._lose(number, why, secrets.token_hex(6))
            return
        running = await self._equipment.executor.adopt(self.job_id, number)
        if running is None:
            # Claimed, but the server died before the process began: this attempt begins now.
            await self._run(job, number, Context(actor=ACTOR))
        else:
            logger.info("adopted attempt %d of job %s", number, self.job_id)
            await self._see_through(job, number, running, Context(actor=ACTOR))

    async def end_left(self, attempts: list[tuple[str, int]]) -> None:
        """End attempts (job id, number) that lost their job just before an earlier server stopped,
        and whose processes still run.
        """
        for job_id, number in attempts:
            running = await self._equipment.executor.adopt(job_id, number)
            if running is not None:
                await running.cancel()
                await running.wait()
                await running.discard()

    async def _start_in_log(self, context: Context) -> Job | None:
        """Append ``job.started``; None if the job needs no attempt any more."""
        node = self._equipment.workspaces.node
        while True:
            try:
                return (
                    await self._jobs.execute(self.job_id, lambda job: job.start(node), context)
                ).job
            except (WrongState, JobNotFound):
                return None
            except (LogUnavailable, VersionConflict):
                await asyncio.sleep(_RETRY_S)

    async def _load(self) -> Job:
        while True:
            try:
                return await self._jobs.loaded(self.job_id)
            except LogUnavailable:
                await asyncio.sleep(_RETRY_S)

    # What happens to it

    async def cancel(self) -> None:
        """End its process, even if that has not begun yet."""
        self._ending = True
        if self._running is not None:
            await self._running.cancel()

    async def look_again(self) -> None:
        """A question was asked or answered: check whether it still holds a place."""
        if self._running is None:
            return
        try:
            job = await self._jobs.loaded(self.job_id)
        except JobNotFound:
            return
        if job.rejected:
            await self.cancel()
        waits = job.active and job.state is JobState.WAITING_FOR_APPROVAL
        if waits != self.waits:
            self.waits = waits
            await (self._running.hold() if waits else self._running.release())
            self._place_changed()

    # How it runs

    async def _run(self, job: Job, number: int, context: Context) -> None:
        try:
            running = await self._equipment.executor.start(await self._spec(job, number))
        except (CannotLaunch, NoDriver) as error:
            await self._fail(number, str(error), context)
            return
        except OSError as error:
            why = f"The process could not be started: {error.strerror}."
            await self._fail(number, why, context)
            return
        await self._see_through(job, number, running, context)

    async def _spec(self, job: Job, number: int) -> AttemptSpec:
        driver = driver_of(self._equipment.drivers, job)
        while True:
            try:
                assignment = await self._equipment.assignments.of(job, number)
                return driver.outfit(await self._equipment.workspaces.prepare(assignment))
            except LogUnavailable:
                await asyncio.sleep(_RETRY_S)

    async def _see_through(self, job: Job, number: int, running: Running, context: Context) -> None:
        self._running = running
        if self._ending:
            await running.cancel()
        with suppress(LogUnavailable):
            await self.look_again()
        beat = partial(self._equipment.leases.beat, self.job_id, number)
        watch = self._watch(job, number)
        try:
            await self._runner.see_through(Followed(job, number, running, context, beat))
        finally:
            if watch is not None:
                watch.cancel()
        await self._equipment.forget(self.job_id)
        await self._equipment.workspaces.discard(self.job_id, number)

    def _watch(self, job: Job, number: int) -> "asyncio.Task[None] | None":
        """Watch its lease, if it has one."""
        lease_ms = job.terms.lease_ms
        if not lease_ms:
            return None

        async def expired() -> None:
            logger.warning("attempt %d of job %s gave no sign of life", number, job.id)
            try:
                await self._jobs.execute(
                    job.id, lambda current: current.expire_lease(number), Context(actor=ACTOR)
                )
            except (WrongState, JobNotFound):
                return
            await self.cancel()

        watching = self._equipment.leases.watch(
            job.id, number, lease_ms / 1000, lambda: self.waits, expired
        )
        return asyncio.create_task(watching, name=f"lease of {job.id}")

    # How it ends without its process

    async def give_up(self, error: Exception, error_id: str) -> None:
        """After an unexpected error: end the process that may run, and then the attempt."""
        number = self._number
        if number is None:
            return
        reason = "The server met an unexpected error; its log says more."
        if isinstance(error, OSError):
            reason = f"The files of the running job cannot be used: {error.strerror}."
        if isinstance(error, NoDriver):
            reason = str(error)
        running = None
        try:
            running = await self._equipment.executor.adopt(self.job_id, number)
            if running is not None:
                await running.cancel()
                await running.wait()
        except Exception:
            logger.exception("the process of job %s may still run (%s)", self.job_id, error_id)
        await self._lose(number, reason, error_id)
        if running is not None:
            await running.discard()
        await self._equipment.workspaces.discard(self.job_id, number)

    async def _lose(self, number: int, reason: str, error_id: str) -> None:
        logger.error("attempt %d of job %s is lost (%s): %s", number, self.job_id, error_id, reason)
        await self._end(
            lambda job: job.lose_attempt(number, reason, error_id), Context(actor=ACTOR)
        )

    async def _fail(self, number: int, reason: str, context: Context) -> None:
        error_id = secrets.token_hex(6)
        logger.error("job %s could not be started (%s): %s", self.job_id, error_id, reason)

        def decide(current: Job) -> list[Event]:
            outcome = Outcome.CANCELLED if current.cancel_requested else Outcome.FAILED
            ended = JobFinished(
                attempt=number,
                outcome=outcome,
                exit_code=None,
                reason=reason,
                error_id=error_id,
                run_ms=0,
                lines=0,
                output_bytes=0,
            )
            return current.end_attempt(ended)

        await self._end(decide, context)

    async def _end(self, decide: Callable[[Job], list[Event]], context: Context) -> None:
        """Append the end of the attempt, and try until the log can be written."""
        while True:
            try:
                await self._jobs.execute(self.job_id, decide, context)
                break
            except (JobAlreadyEnded, JobNotFound, StaleAttempt):
                break
            except (LogUnavailable, VersionConflict):
                await asyncio.sleep(_RETRY_S)
        await self._equipment.forget(self.job_id)
