"""The dispatcher: reads the log, and starts a job whenever one is queued and there is room.

It claims an attempt by appending ``job.started`` at the version of the job that it has seen, so two
dispatchers can never start the same one. It remembers only a cursor and its running attempts. A new
dispatcher finds both in the views, and adopts the attempts that still run.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from itertools import groupby
from operator import itemgetter

from domain.clock import Clock, system_clock
from domain.errors import CrewlogError, JobNotFound
from domain.job.commands import Jobs
from domain.job.events import job_id_of
from domain.log import Context, EventLog, Recorded
from projections.engine import Views
from projections.jobs import open_jobs
from scheduler.dispatch.assignments import Assignments
from scheduler.dispatch.attempt import Attempt, Equipment
from scheduler.dispatch.queue import FairQueue
from scheduler.drivers.contract import Drivers
from scheduler.executors.contract import Executor
from scheduler.follower import Follower
from scheduler.policies.lease import Leases
from scheduler.workspaces.contract import Workspaces

logger = logging.getLogger("crewlog.dispatcher")

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
_TICK_S = 1.0


class Dispatcher:
    """Runs up to `capacity` attempts at a time, and up to `owner_capacity` of one owner (0: no such
    limit), first queued first started. A capacity of 0 starts nothing. The driver of the job's kind
    decides what happens with a process.
    """

    name = "dispatcher"

    def __init__(
        self,
        log: EventLog,
        views: Views,
        jobs: Jobs,
        executor: Executor,
        workspaces: Workspaces,
        assignments: Assignments,
        drivers: Drivers,
        *,
        capacity: int,
        owner_capacity: int = 0,
        leases: Leases | None = None,
        clock: Clock = system_clock,
    ) -> None:
        self._views = views
        self._jobs = jobs
        self._equipment = Equipment(
            jobs, executor, workspaces, assignments, drivers, leases or Leases()
        )
        self._clock = clock
        self.capacity = capacity
        self.ticked_at: datetime | None = None
        """Its last sign of life, which it gives once a second while it works."""
        self.follower = Follower(
            log, self.name, _FOLLOWED, self._handle, begin=self._take_over, page_end=self._fill
        )
        self._queue = FairQueue(owner_capacity)
        self._attempts: dict[str, Attempt] = {}
        self._stopping = False

    @property
    def owner_capacity(self) -> int:
        """Places that one owner may have; 0: no limit."""
        return self._queue.owner_capacity

    @property
    def active(self) -> int:
        """Attempts that hold a place."""
        return sum(not attempt.waits for attempt in self._attempts.values())

    @property
    def waiting(self) -> int:
        """Attempts that wait for an approval and hold no place."""
        return len(self._attempts) - self.active

    @property
    def queued(self) -> int:
        """Jobs that wait for a place."""
        return len(self._queue)

    async def run(self) -> None:
        """Adopt running attempts, then follow the log until cancelled. Survives every
        failure of the log.
        """
        ticking = asyncio.create_task(self._tick(), name="dispatcher's heartbeat")
        try:
            await self.follower.run()
        finally:
            ticking.cancel()

    async def _tick(self) -> None:
        """Give signs of life, but none while one event takes longer than a tick: whatever blocks
        it, nothing is started meanwhile.
        """
        handled: int | None = None
        while True:
            handling = self.follower.handling
            if handling is None or handling != handled:
                handled = handling
                self.ticked_at = self._clock()
            await asyncio.sleep(_TICK_S)

    async def stop(self, *, cancel_jobs: bool, grace_s: float = 7.0) -> None:
        """Start nothing more. Leave running attempts to be adopted, or cancel their jobs and wait
        up to `grace_s` seconds.
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
        if (attempt := self._attempts.get(job_id)) is not None:
            await attempt.cancel()

    # Taking over

    async def _take_over(self) -> int:
        """Find the queue and the jobs with an attempt in the views. Returns the position after
        which to follow.
        """
        await self._views.caught_up(timeout_s=60.0)
        with self._views.reading() as reading:
            opened = open_jobs(reading)
            position = reading.positions["jobs"]
        equipment = self._equipment
        await equipment.sweep_sealed()
        kept = {(row["id"], row["attempt"]) for row in opened.active}
        await equipment.executor.sweep(kept)
        left = await equipment.executor.unwanted(kept)
        for row in opened.queued:
            self._queue.put(row["id"], owner=row["owner"])
        for row in opened.active:
            self._begin(row["id"], row["owner"], partial(Attempt.adopt, number=row["attempt"]))
        for job_id, attempts in groupby(sorted(left), itemgetter(0)):
            # A job whose earlier attempt still lives begins no other one.
            name = job_id if job_id not in self._attempts else f"{job_id}, before"
            self._begin(name, None, partial(Attempt.end_left, attempts=list(attempts)))
        await equipment.workspaces.sweep(kept)
        self._fill()
        return position

    # Following

    async def _handle(self, event: Recorded) -> None:
        job_id = job_id_of(event.subject)
        if job_id is None:
            return
        attempt = self._attempts.get(job_id)
        if event.type == "job.queued":
            self._queue.put(job_id, event, await self._owner_of(job_id))
        elif event.type == "job.cancel_requested":
            if attempt is not None:
                await attempt.cancel()
        elif event.type in ("job.approval_requested", "job.approval_answered"):
            if attempt is not None:
                await attempt.look_again()
        else:
            self._queue.drop(job_id)
            if attempt is None:
                # It ended before any attempt of this server: nothing else will remove its sealed
                # part.
                await self._equipment.forget(job_id)
            elif event.type == "job.made_stale":
                await attempt.cancel()

    def _fill(self) -> None:
        """Start queued jobs while there is room."""
        if self._stopping:
            return
        owners = (attempt.owner for attempt in self._attempts.values() if not attempt.waits)
        # An attempt that has lost its job may still be ending.
        for waiting in self._queue.choose(self.capacity - self.active, owners, self._attempts):
            claim = partial(Attempt.claim, queued=waiting.event)
            self._begin(waiting.job_id, waiting.owner, claim)

    async def _owner_of(self, job_id: str) -> str | None:
        """The job's owner, if owners have a limit."""
        if not self.owner_capacity:
            return None
        try:
            return (await self._jobs.loaded(job_id)).owner
        except JobNotFound:
            return None

    def _begin(
        self, job_id: str, owner: str | None, work: Callable[[Attempt], Awaitable[None]]
    ) -> None:
        attempt = self._attempts[job_id] = Attempt(self._equipment, job_id, owner, self._fill)
        attempt.task = asyncio.create_task(
            self._guarded(attempt, work), name=f"attempt of {job_id}"
        )

    async def _guarded(self, attempt: Attempt, work: Callable[[Attempt], Awaitable[None]]) -> None:
        try:
            await work(attempt)
        except Exception as error:
            error_id = secrets.token_hex(6)
            logger.exception("gave up the attempt of job %s (%s)", attempt.job_id, error_id)
            await attempt.give_up(error, error_id)
        finally:
            self._attempts.pop(attempt.job_id, None)
            self._fill()
