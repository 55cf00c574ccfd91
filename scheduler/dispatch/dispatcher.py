"""The dispatcher: a policy that reads the log and, whenever a job is queued and there is room,
starts it.

It claims an attempt by appending ``job.started`` at the version of the job that it has seen, so two
dispatchers can never start the same one. What it remembers is only a cursor and what it is running;
a new one finds both in the views and adopts what still runs.
"""

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

from domain.clock import Clock, system_clock
from domain.errors import (
    CrewlogError,
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
from domain.job.events import JobFinished, JobState, Outcome, job_id_of
from domain.log import Context, EventLog, Recorded
from projections.engine import Views
from projections.jobs import open_jobs
from scheduler.dispatch.launch import CannotLaunch, Launch
from scheduler.drivers.command import Runner
from scheduler.drivers.unfinished import Unfinished
from scheduler.executors.contract import AttemptSpec, Executor, Running
from scheduler.follower import Follower
from scheduler.policies.lease import Leases

logger = logging.getLogger("crewlog.dispatcher")

ACTOR = "system:dispatcher"

_FOLLOWED = (
    "job.queued",
    "job.cancel_requested",
    "job.approval_requested",
    "job.approval_answered",
    "job.blocked",
    "job.made_stale",
    "job.archived",
    "job.finished",
    "job.deleted",
)
_RETRY_S = 0.5
_TICK_S = 1.0


@dataclass(slots=True)
class _Waiting:
    """A job in the queue. `owner` is looked up only where it matters."""

    event: Recorded | None
    owner: str | None = None


@dataclass(slots=True)
class _Attempt:
    """An attempt that is being seen through."""

    owner: str | None = None
    number: int | None = None
    """None until it is in the log."""
    task: "asyncio.Task[None] | None" = None
    running: Running | None = None
    ending: bool = False
    """Its process is to be ended, also one that has not begun yet."""
    waits: bool = False
    """For a person's answer: it holds no place."""


class Dispatcher:
    """Runs up to `capacity` attempts at a time, and up to `owner_capacity` of one owner (0: no such
    limit), first queued first started. A capacity of 0 holds all.
    """

    name = "dispatcher"

    def __init__(
        self,
        log: EventLog,
        views: Views,
        jobs: Jobs,
        executor: Executor,
        launch: Launch,
        *,
        capacity: int,
        owner_capacity: int = 0,
        leases: Leases | None = None,
        clock: Clock = system_clock,
    ) -> None:
        self._log = log
        self._views = views
        self._jobs = jobs
        self._executor = executor
        self._launch = launch
        self._leases = leases or Leases()
        self.unfinished = Unfinished()
        """The lines that running jobs have begun and not ended."""
        self._runner = Runner(log, jobs, launch, self._leases.beat, self.unfinished, clock)
        self._clock = clock
        self.capacity = capacity
        self.owner_capacity = owner_capacity
        self.ticked_at: datetime | None = None
        """When it last gave a sign of life: once a second while it works."""
        self.follower = Follower(
            log, self.name, _FOLLOWED, self._handle, begin=self._take_over, page_end=self._fill
        )
        self._queue: dict[str, _Waiting] = {}
        self._attempts: dict[str, _Attempt] = {}
        self._stopping = False

    @property
    def active(self) -> int:
        """Attempts that hold a place."""
        return sum(not attempt.waits for attempt in self._attempts.values())

    @property
    def waiting(self) -> int:
        """Attempts that wait for an approval and hold none."""
        return len(self._attempts) - self.active

    @property
    def queued(self) -> int:
        """Jobs that wait for a place."""
        return len(self._queue)

    async def run(self) -> None:
        """Adopt what runs, then follow the log until cancelled. Goes on after any failure of the
        log.
        """
        ticking = asyncio.create_task(self._tick(), name="dispatcher's heartbeat")
        try:
            await self.follower.run()
        finally:
            ticking.cancel()

    async def _tick(self) -> None:
        """No sign of life while one event takes longer than a tick: whatever that hangs in, nothing
        is started meanwhile.
        """
        handled: int | None = None
        while True:
            handling = self.follower.handling
            if handling is None or handling != handled:
                handled = handling
                self.ticked_at = self._clock()
            await asyncio.sleep(_TICK_S)

    async def stop(self, *, cancel_jobs: bool, grace_s: float = 7.0) -> None:
        """Start nothing more. Leave what runs to be adopted, or cancel it and wait up to `grace_s`
        seconds.
        """
        self._stopping = True
        if cancel_jobs and self._attempts:
            for job_id in list(self._attempts):
                await self._cancel_for_stop(job_id)
            if tasks := self._tasks():
                await asyncio.wait(tasks, timeout=grace_s)
        tasks = self._tasks()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)

    def _tasks(self) -> "list[asyncio.Task[None]]":
        return [attempt.task for attempt in self._attempts.values() if attempt.task is not None]

    async def _cancel_for_stop(self, job_id: str) -> None:
        context = Context(actor="system:shutdown")
        try:
            await self._jobs.execute(
                job_id, lambda job: job.request_cancel("The server is being stopped."), context
            )
        except CrewlogError as error:
            logger.warning("job %s could not be cancelled: %s", job_id, error)
        await self._cancel(job_id)

    # Taking over

    async def _take_over(self) -> int:
        """Find the queue and the held jobs in the views; run on where an earlier server stopped."""
        await self._views.caught_up(timeout_s=60.0)
        with self._views.reading() as reading:
            opened = open_jobs(reading)
            position = reading.positions["jobs"]
        self._launch.sealed.sweep(self._is_wanted)
        kept = {(row["id"], row["attempt"]) for row in opened.active}
        await self._executor.sweep(kept)
        left = await self._executor.unwanted(kept)
        self._queue = {row["id"]: _Waiting(None, row["owner"]) for row in opened.queued}
        for row in opened.active:
            self._begin(row["id"], row["owner"], self._adopt(row["id"], row["attempt"]))
        for job_id, attempts in groupby(sorted(left), itemgetter(0)):
            # A job whose earlier attempt is still there begins no other; one that runs has begun.
            name = job_id if job_id not in self._attempts else f"{job_id}, before"
            self._begin(name, None, self._end_left(list(attempts)))
        self._launch.sweep(kept)
        self._fill()
        return position

    def _is_wanted(self, job_id: str) -> bool:
        try:
            return not self._jobs.load(job_id).over
        except JobNotFound:
            return False

    async def _end_left(self, attempts: list[tuple[str, int]]) -> None:
        """They were taken from their job just before an earlier server stopped, and a process of
        them is still there.
        """
        for job_id, attempt in attempts:
            running = await self._executor.adopt(job_id, attempt)
            if running is not None:
                await running.cancel()
                await running.wait()
                await running.discard()

    # Following

    async def _handle(self, event: Recorded) -> None:
        job_id = job_id_of(event.subject)
        if job_id is None:
            return
        if event.type == "job.queued":
            self._queue[job_id] = _Waiting(event)
        elif event.type == "job.cancel_requested":
            await self._cancel(job_id)
        elif event.type in ("job.approval_requested", "job.approval_answered"):
            await self._look_again(job_id)
        else:
            self._queue.pop(job_id, None)
            if event.type == "job.made_stale":
                await self._cancel(job_id)
            elif job_id not in self._attempts:
                # It ended before any attempt of ours: nothing else will look at its sealed part.
                self._forget(job_id)

    async def _look_again(self, job_id: str) -> None:
        """A question was asked or answered: does the attempt hold a place?"""
        attempt = self._attempts.get(job_id)
        if attempt is None or attempt.running is None:
            return
        try:
            job = self._jobs.load(job_id)
        except JobNotFound:
            return
        if job.rejected:
            await self._cancel(job_id)
        waits = job.active and job.state is JobState.WAITING_FOR_APPROVAL
        if waits != attempt.waits:
            attempt.waits = waits
            await (attempt.running.hold() if waits else attempt.running.release())
            self._fill()

    async def _cancel(self, job_id: str) -> None:
        attempt = self._attempts.get(job_id)
        if attempt is not None:
            attempt.ending = True
            if attempt.running is not None:
                await attempt.running.cancel()

    def _fill(self) -> None:
        """Start queued jobs while there is room."""
        if not self._queue or self._stopping:
            return
        room = self.capacity - self.active
        if room <= 0:
            return
        held = Counter(a.owner for a in self._attempts.values() if not a.waits)
        chosen: list[tuple[str, _Waiting]] = []
        for job_id, waiting in self._queue.items():
            # An attempt that was taken from the job may still be on its way out.
            if job_id not in self._attempts and self._may_start(job_id, waiting, held):
                chosen.append((job_id, waiting))
                held[waiting.owner] += 1
                if len(chosen) == room:
                    break
        for job_id, waiting in chosen:
            del self._queue[job_id]
            self._begin(job_id, waiting.owner, self._claim(job_id, waiting.event))

    def _may_start(self, job_id: str, waiting: _Waiting, held: "Counter[str | None]") -> bool:
        if not self.owner_capacity:
            return True
        if waiting.owner is None:
            try:
                waiting.owner = self._jobs.load(job_id).owner
            except (JobNotFound, LogUnavailable):
                return True
        return held[waiting.owner] < self.owner_capacity

    def _begin(self, job_id: str, owner: str | None, work: Coroutine[Any, Any, None]) -> None:
        attempt = self._attempts[job_id] = _Attempt(owner)
        attempt.task = asyncio.create_task(self._guarded(job_id, work), name=f"attempt of {job_id}")

    async def _guarded(self, job_id: str, work: Coroutine[Any, Any, None]) -> None:
        mine = self._attempts[job_id]
        try:
            await work
        except Exception as error:
            error_id = secrets.token_hex(6)
            logger.exception("the attempt of job %s is given up (%s)", job_id, error_id)
            if mine.number is not None:
                reason = "The server met an error that it does not know; its log says more."
                if isinstance(error, OSError):
                    reason = f"The files of the running job cannot be used: {error.strerror}."
                await self._give_up(job_id, mine.number, reason, error_id)
        finally:
            self._attempts.pop(job_id, None)
            self._fill()

    async def _give_up(self, job_id: str, attempt: int, reason: str, error_id: str) -> None:
        """After an error that nobody foresaw: end the process that may run, then the attempt."""
        running = None
        try:
            running = await self._executor.adopt(job_id, attempt)
            if running is not None:
                await running.cancel()
                await running.wait()
        except Exception:
            logger.exception("the process of job %s may still run (%s)", job_id, error_id)
        await self._persistently(
            job_id,
            lambda current: current.lose_attempt(attempt, reason, error_id),
            Context(actor=ACTOR),
        )
        if running is not None:
            await running.discard()
        await asyncio.to_thread(self._launch.discard, job_id, attempt)

    def _forget(self, job_id: str) -> None:
        """Remove the private part of a job that will not run again."""
        if self._launch.sealed.has(job_id) and not self._is_wanted(job_id):
            self._launch.sealed.discard(job_id)

    # One attempt

    async def _claim(self, job_id: str, queued: Recorded | None) -> None:
        context = Context(actor=ACTOR, cause=queued.id if queued else None)
        job = await self._start_in_log(job_id, context)
        if job is None:
            # It ended between the queue and here, while this held its place: `_handle` left it.
            self._forget(job_id)
        else:
            self._attempts[job_id].number = job.attempt
            await self._run(job, job.attempt, context)

    async def _start_in_log(self, job_id: str, context: Context) -> Job | None:
        """Append ``job.started``; None when the job needs no attempt any more."""
        while True:
            try:
                changed = await self._jobs.execute(
                    job_id, lambda job: job.start(self._executor.name), context
                )
                return changed.job
            except (WrongState, JobNotFound):
                return None
            except (LogUnavailable, VersionConflict):
                await asyncio.sleep(_RETRY_S)

    async def _adopt(self, job_id: str, attempt: int) -> None:
        context = Context(actor=ACTOR)
        self._attempts[job_id].number = attempt
        job = await self._load(job_id)
        if job.cancel_requested or job.rejected:
            self._attempts[job_id].ending = True
        if job.node != self._executor.name:
            # The log was brought here from elsewhere: what it says runs is not ours to run again.
            await self._lose(job, attempt, f"It ran on {job.node}, which this server cannot reach.")
            return
        running = await self._executor.adopt(job_id, attempt)
        if running is None:
            # Claimed, and the server died before the process began: this attempt begins now.
            await self._run(job, attempt, context)
        else:
            logger.info("adopted attempt %d of job %s", attempt, job_id)
            await self._see_through(job, attempt, running, context)

    async def _load(self, job_id: str) -> Job:
        while True:
            try:
                return self._jobs.load(job_id)
            except LogUnavailable:
                await asyncio.sleep(_RETRY_S)

    async def _spec(self, job: Job, attempt: int) -> AttemptSpec:
        while True:
            try:
                if job.plan is None:  # no parents to read, no files to write
                    return self._launch.spec(job, attempt)
                return await asyncio.to_thread(self._launch.spec, job, attempt)
            except LogUnavailable:
                await asyncio.sleep(_RETRY_S)

    async def _run(self, job: Job, attempt: int, context: Context) -> None:
        try:
            running = await self._executor.start(await self._spec(job, attempt))
        except CannotLaunch as error:
            await self._fail(job, attempt, str(error), context)
            return
        except OSError as error:
            await self._fail(
                job, attempt, f"The process could not be started: {error.strerror}.", context
            )
            return
        await self._see_through(job, attempt, running, context)

    async def _see_through(
        self, job: Job, attempt: int, running: Running, context: Context
    ) -> None:
        mine = self._attempts[job.id]
        mine.running = running
        if mine.ending:
            await running.cancel()
        with suppress(LogUnavailable):
            await self._look_again(job.id)
        watch = self._watch(job, attempt, mine)
        try:
            await self._runner.see_through(job, attempt, running, context)
        finally:
            if watch is not None:
                watch.cancel()
        self._forget(job.id)
        if not self._launch.discard_empty(job.id, attempt):
            await asyncio.to_thread(self._launch.discard, job.id, attempt)

    def _watch(self, job: Job, attempt: int, mine: _Attempt) -> "asyncio.Task[None] | None":
        lease_ms = job.terms.lease_ms
        if not lease_ms:
            return None

        async def expired() -> None:
            logger.warning("attempt %d of job %s gave no sign of life", attempt, job.id)
            try:
                await self._jobs.execute(
                    job.id, lambda current: current.expire_lease(attempt), Context(actor=ACTOR)
                )
            except (WrongState, JobNotFound):
                return
            await self._cancel(job.id)

        watching = self._leases.watch(job.id, attempt, lease_ms / 1000, lambda: mine.waits, expired)
        return asyncio.create_task(watching, name=f"lease of {job.id}")

    async def _lose(self, job: Job, attempt: int, reason: str) -> None:
        error_id = secrets.token_hex(6)
        logger.error("attempt %d of job %s is lost (%s): %s", attempt, job.id, error_id, reason)
        await self._persistently(
            job.id,
            lambda current: current.lose_attempt(attempt, reason, error_id),
            Context(actor=ACTOR),
        )

    async def _fail(self, job: Job, attempt: int, reason: str, context: Context) -> None:
        error_id = secrets.token_hex(6)
        logger.error("job %s could not be started (%s): %s", job.id, error_id, reason)

        def decide(current: Job) -> list[Event]:
            outcome = Outcome.CANCELLED if current.cancel_requested else Outcome.FAILED
            ended = JobFinished(
                attempt=attempt,
                outcome=outcome,
                exit_code=None,
                reason=reason,
                error_id=error_id,
                run_ms=0,
                lines=0,
                output_bytes=0,
            )
            return current.end_attempt(ended)

        await self._persistently(job.id, decide, context)

    async def _persistently(
        self, job_id: str, decide: Callable[[Job], list[Event]], context: Context
    ) -> None:
        """Bring an end into the log, however long that cannot be written."""
        while True:
            try:
                await self._jobs.execute(job_id, decide, context)
                break
            except (JobAlreadyEnded, JobNotFound, StaleAttempt):
                break
            except (LogUnavailable, VersionConflict):
                await asyncio.sleep(_RETRY_S)
        self._forget(job_id)
