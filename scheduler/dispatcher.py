"""The dispatcher: a policy that reads the log and, whenever a job is queued and there is room,
starts it.

It claims an attempt by appending ``job.started`` at the version of the job that it has seen, so two
dispatchers can never start the same one. What it remembers is only a cursor and what it is running;
a new one finds both in the views and adopts what still runs.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine
from typing import Any

from domain.clock import Clock, system_clock
from domain.errors import (
    CrewlogError,
    JobAlreadyEnded,
    JobNotFound,
    LogUnavailable,
    VersionConflict,
    WrongState,
)
from domain.event import Event
from domain.job import Job, JobFinished, Outcome, job_id_of
from domain.jobs import Jobs
from domain.log import Context, EventLog, Recorded, Tail
from projections.engine import Views, ViewsUnavailable
from projections.jobs import open_jobs
from scheduler.executor import Executor, Running
from scheduler.launch import CannotLaunch, Launch
from scheduler.runner import Runner

logger = logging.getLogger("crewlog.dispatcher")

_FOLLOWED = ("job.queued", "job.cancel_requested", "job.finished", "job.deleted")
_RETRY_S = 0.5


class Dispatcher:
    """Runs up to `capacity` attempts at a time, first queued first started. A capacity of 0 holds
    all.
    """

    def __init__(
        self,
        log: EventLog,
        views: Views,
        jobs: Jobs,
        executor: Executor,
        launch: Launch,
        *,
        capacity: int,
        clock: Clock = system_clock,
    ) -> None:
        self._log = log
        self._views = views
        self._jobs = jobs
        self._executor = executor
        self._launch = launch
        self._runner = Runner(log, jobs, clock)
        self._clock = clock
        self.capacity = capacity
        self._position = 0
        self._tail: Tail | None = None
        self._queue: dict[str, Recorded | None] = {}
        self._attempts: dict[str, asyncio.Task[None]] = {}
        self._running: dict[str, Running] = {}
        self._cancelled: set[str] = set()
        self._stopping = False

    @property
    def position(self) -> int:
        """How far this reader of the log is."""
        return self._position if self._tail is None else self._tail.position

    @property
    def active(self) -> int:
        """Attempts that hold a place."""
        return len(self._attempts)

    @property
    def queued(self) -> int:
        """Jobs that wait for a place."""
        return len(self._queue)

    async def run(self) -> None:
        """Adopt what runs, then follow the log until cancelled. Goes on after any failure of the
        log.
        """
        await self._take_over()
        while True:
            try:
                self._tail = self._log.tail(self._position, types=_FOLLOWED)
                async for page in self._tail:
                    for event in page:
                        await self._handle(event)
                        self._position = event.position
                    self._fill()
            except LogUnavailable as error:
                logger.error("The dispatcher cannot read the log: %s", error)
                await asyncio.sleep(_RETRY_S)

    async def stop(self, *, cancel_jobs: bool, grace_s: float = 7.0) -> None:
        """Start nothing more. Leave what runs to be adopted, or cancel it and wait up to `grace_s`
        seconds.
        """
        self._stopping = True
        if cancel_jobs and self._attempts:
            for job_id in list(self._attempts):
                await self._cancel_for_stop(job_id)
            await asyncio.wait(self._attempts.values(), timeout=grace_s)
        for task in self._attempts.values():
            task.cancel()
        if self._attempts:
            await asyncio.wait(self._attempts.values(), timeout=1.0)

    async def _cancel_for_stop(self, job_id: str) -> None:
        context = Context(actor="system:shutdown")
        try:
            await self._jobs.execute(
                job_id, lambda job: job.request_cancel("The server is being stopped."), context
            )
        except CrewlogError as error:
            logger.warning("job %s could not be cancelled: %s", job_id, error)
        await self._cancel(job_id)

    async def _take_over(self) -> None:
        """Find the queue and the held jobs in the views; run on where an earlier server stopped."""
        while True:
            try:
                await self._views.caught_up(timeout_s=60.0)
                with self._views.reading() as reading:
                    queued, held = open_jobs(reading)
                    position = reading.positions["jobs"]
                break
            except ViewsUnavailable as error:
                logger.warning("The dispatcher waits for the views: %s", error)
                await asyncio.sleep(_RETRY_S)
        known = {row["id"] for row in (*queued, *held)}
        self._launch.sealed.sweep(known)
        await self._executor.sweep([(row["id"], row["attempt"]) for row in held])
        self._position = position
        self._queue = {row["id"]: None for row in queued}
        for row in held:
            self._begin(row["id"], self._adopt(row["id"], row["attempt"]))
        self._fill()

    async def _handle(self, event: Recorded) -> None:
        job_id = job_id_of(event.subject)
        if job_id is None:
            return
        if event.type == "job.queued":
            self._queue[job_id] = event
        elif event.type == "job.cancel_requested":
            await self._cancel(job_id)
        else:
            self._queue.pop(job_id, None)
            if job_id not in self._attempts:
                # It ended before any attempt of ours: nothing else will open the sealed part again.
                self._launch.sealed.discard(job_id)

    async def _cancel(self, job_id: str) -> None:
        if job_id in self._attempts:
            self._cancelled.add(job_id)
            running = self._running.get(job_id)
            if running is not None:
                await running.cancel()

    def _fill(self) -> None:
        """Start queued jobs while there is room."""
        while self._queue and len(self._attempts) < self.capacity and not self._stopping:
            job_id, event = next(iter(self._queue.items()))
            del self._queue[job_id]
            self._begin(job_id, self._claim(job_id, event))

    def _begin(self, job_id: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._guarded(job_id, work), name=f"attempt of {job_id}")
        self._attempts[job_id] = task

    async def _guarded(self, job_id: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            logger.exception("the attempt of job %s was given up by the dispatcher", job_id)
        finally:
            self._attempts.pop(job_id, None)
            self._running.pop(job_id, None)
            self._cancelled.discard(job_id)
            self._fill()

    async def _claim(self, job_id: str, queued: Recorded | None) -> None:
        context = Context(actor="system:dispatcher", cause=queued.id if queued else None)
        job = await self._start_in_log(job_id, context)
        if job is None:
            # It ended between the queue and here, while this held its place: `_handle` left it.
            self._launch.sealed.discard(job_id)
        else:
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
        context = Context(actor="system:dispatcher")
        job = self._jobs.load(job_id)
        if job.cancel_requested:
            self._cancelled.add(job_id)
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

    async def _run(self, job: Job, attempt: int, context: Context) -> None:
        try:
            spec = self._launch.spec(job, attempt)
            running = await self._executor.start(spec)
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
        self._running[job.id] = running
        if job.id in self._cancelled:
            await running.cancel()
        await self._runner.see_through(job, attempt, running, context)
        self._launch.sealed.discard(job.id)

    async def _lose(self, job: Job, attempt: int, reason: str) -> None:
        error_id = secrets.token_hex(6)
        logger.error("attempt %d of job %s is lost (%s): %s", attempt, job.id, error_id, reason)
        context = Context(actor="system:dispatcher")
        await self._persistently(
            job.id, lambda current: current.lose_attempt(attempt, reason, error_id), context
        )

    async def _fail(self, job: Job, attempt: int, reason: str, context: Context) -> None:
        error_id = secrets.token_hex(6)
        logger.error("job %s could not be started (%s): %s", job.id, error_id, reason)

        def decide(current: Job) -> list[Event]:
            outcome = Outcome.CANCELLED if current.cancel_requested else Outcome.FAILED
            return current.finish(
                JobFinished(
                    attempt=attempt,
                    outcome=outcome,
                    exit_code=None,
                    reason=reason,
                    error_id=error_id,
                    run_ms=0,
                    lines=0,
                    output_bytes=0,
                )
            )

        await self._persistently(job.id, decide, context)

    async def _persistently(
        self, job_id: str, decide: Callable[[Job], list[Event]], context: Context
    ) -> None:
        """Bring an end into the log, however long that cannot be written."""
        while True:
            try:
                await self._jobs.execute(job_id, decide, context)
                break
            except (JobAlreadyEnded, JobNotFound):
                break
            except LogUnavailable:
                await asyncio.sleep(_RETRY_S)
        self._launch.sealed.discard(job_id)
