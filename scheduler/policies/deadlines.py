"""Deadlines: held jobs are released at their start time, and questions expire without an answer.

Questions that nobody waits for any more are withdrawn at the start.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from domain.approval.aggregate import approval_id_of
from domain.approval.commands import Approvals
from domain.clock import Clock, format_time, parse_time, system_clock
from domain.crew.commands import Crews
from domain.draft import Draft
from domain.errors import LogUnavailable, NotFound, VersionConflict
from domain.job.aggregate import Job
from domain.log import Context, EventLog, Recorded
from projections.approvals import approvals_nobody_waits_for, approvals_with_expiry
from projections.engine import Views
from projections.jobs import jobs_held_until
from scheduler.follower import Follower
from scheduler.policies.timers import Timers

_FOLLOWED = ("crew.committed", "approval.requested")
_RETRY_S = 0.5
_CONTEXT = Context(actor="system:clock")


class Deadlines:
    """Sets its timers from the views at the start, and then follows the log."""

    def __init__(
        self,
        log: EventLog,
        views: Views,
        crews: Crews,
        approvals: Approvals,
        timers: Timers,
        clock: Clock = system_clock,
    ) -> None:
        self._views = views
        self._crews = crews
        self._approvals = approvals
        self._timers = timers
        self._clock = clock
        self.follower = Follower(log, "deadlines", _FOLLOWED, self._set, begin=self._begin)

    async def run(self) -> None:
        """Runs until cancelled. Survives every failure of the log."""
        await self.follower.run()

    async def _begin(self) -> int:
        await self._views.caught_up(timeout_s=60.0)
        now = format_time(self._clock())
        with self._views.reading() as reading:
            for row in jobs_held_until(reading, now):
                self._release_at(row["id"], row["not_before"])
            for row in approvals_with_expiry(reading):
                self._expire_at(row["id"], row["expires_at"])
            # Versions up to 0.3 left the questions of jobs without a crew.
            for approval_id in approvals_nobody_waits_for(reading):
                withdraw = partial(self._approvals.withdraw_left, approval_id, _CONTEXT)
                action = partial(self._persistently, withdraw)
                self._timers.at(f"withdraw {approval_id}", self._clock(), action)
            return min(reading.positions["jobs"], reading.positions["approvals"])

    async def _set(self, event: Recorded) -> None:
        if event.type == "crew.committed":
            until = event.data["not_before"]
            for member in event.data["jobs"]:
                if until and not member["parents"]:
                    self._release_at(member["id"], until)
        elif event.data["expires_at"]:
            self._expire_at(approval_id_of(event.subject) or "", event.data["expires_at"])

    def _release_at(self, job_id: str, at: str) -> None:
        action = partial(self._persistently, partial(self._release, job_id))
        self._timers.at(f"release {job_id}", parse_time(at), action)

    def _expire_at(self, approval_id: str, at: str) -> None:
        expire = partial(self._approvals.expire, approval_id, _CONTEXT)
        action = partial(self._persistently, expire)
        self._timers.at(f"expire {approval_id}", parse_time(at), action)

    async def _release(self, job_id: str) -> None:
        def decide(job: Job, draft: Draft) -> Job:
            return self._crews.release(job, draft)

        await self._crews.change(job_id, decide, _CONTEXT)

    async def _persistently(self, work: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await work()
                return
            except NotFound:
                return
            except (LogUnavailable, VersionConflict):
                await asyncio.sleep(_RETRY_S)
