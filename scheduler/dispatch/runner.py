"""The runner of one attempt: its driver follows it, and then its end is appended to the log."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from domain.errors import JobAlreadyEnded, LogUnavailable, NotFound, StaleAttempt, VersionConflict
from domain.event import Event
from domain.job.aggregate import Job
from domain.job.commands import Jobs
from domain.job.events import (
    JobArtifactsDropped,
    JobFinished,
    JobOutputDropped,
    Outcome,
)
from domain.log import Context
from scheduler.drivers.contract import Drivers, Fenced, Followed, driver_of
from scheduler.executors.contract import Exit
from scheduler.executors.passing import PASSING
from scheduler.workspaces.contract import Leavings, Workspaces

logger = logging.getLogger("crewlog.runner")

_BACKOFF_S = (0.1, 0.25, 0.5, 1.0, 2.0)

T = TypeVar("T")


class Runner:
    """Follows attempts to their end in the log."""

    def __init__(self, jobs: Jobs, drivers: Drivers, workspaces: Workspaces) -> None:
        self._jobs = jobs
        self._drivers = drivers
        self._workspaces = workspaces

    async def see_through(self, followed: Followed) -> None:
        """Follow the process, wait for its exit, append the end, discard the spool.

        While the log cannot be written, the process goes on writing into its spool, nothing is
        lost, and this tries again. If this coroutine is cancelled, the process stays and can be
        adopted.
        """
        job, attempt, running = followed.job, followed.attempt, followed.running
        driver = driver_of(self._drivers, job)
        try:
            lines = await _persistently(lambda: driver.follow(followed))
            ended = await running.wait()
            await _persistently(
                lambda: self._end(job, attempt, ended, lines, followed.context),
                (LogUnavailable, VersionConflict),
            )
        except (Fenced, StaleAttempt, JobAlreadyEnded, NotFound):
            logger.warning("attempt %d of job %s is not current any more", attempt, job.id)
            await running.cancel()
            await running.wait()
        await running.discard()

    async def _end(
        self, launched: Job, attempt: int, ended: Exit, lines: int, context: Context
    ) -> None:
        error_id = secrets.token_hex(6) if ended.error else None
        if error_id is not None:
            logger.error(
                "attempt %d of job %s (%s): %s", attempt, launched.id, error_id, ended.error
            )
        left = Leavings()
        if not self._workspaces.left_nothing(launched, attempt):
            left = await self._left_by(await self._jobs.loaded(launched.id), attempt)

        def decide(job: Job) -> list[Event]:
            job.require_current(attempt)
            events: list[Event] = []
            if ended.output_bytes > ended.kept_bytes:
                dropped = ended.output_bytes - ended.kept_bytes
                events += job.report(
                    JobOutputDropped(attempt=attempt, from_offset=ended.kept_bytes, bytes=dropped)
                )
            events += left.events
            if left.result is not None and job.given is None and ended.exit_code == 0:
                events += job.give_result(attempt, left.result)
                job = replace(job, given=left.result)
            if ended.reason == "lost":
                return events + job.lose_attempt(attempt, ended.error or "", error_id or "")
            finished = _finished(job, ended, lines, error_id)
            return events + job.end_attempt(finished, left.problem)

        await self._jobs.execute(launched.id, decide, context)

    async def _left_by(self, job: Job, attempt: int) -> Leavings:
        """What the attempt left. Raises LogUnavailable while it cannot be stored, such as on a full
        disk: then it is tried again. Files that can never be stored are reported as dropped.
        """
        try:
            return await self._workspaces.gather(job, attempt)
        except OSError as error:
            logger.error("what attempt %d of job %s left is not kept: %s", attempt, job.id, error)
            if error.errno not in PASSING:
                why = f"they could not be kept ({error.strerror})"
                dropped = JobArtifactsDropped(attempt=attempt, names=["artifacts/"], reason=why)
                return Leavings([dropped])
            raise LogUnavailable(f"What the attempt left cannot be kept: {error}") from error


def _finished(job: Job, ended: Exit, lines: int, error_id: str | None) -> JobFinished:
    outcome = {
        "exited": Outcome.COMPLETED if ended.exit_code == 0 else Outcome.FAILED,
        "cancelled": Outcome.CANCELLED,
        "timed_out": Outcome.TIMED_OUT,
        "spawn_failed": Outcome.FAILED,
    }[ended.reason]
    reason = ended.error or ""
    if outcome is Outcome.CANCELLED and not job.cancel_requested:
        # Ended by its lease or by an answer: the job decides what that means.
        outcome = Outcome.FAILED
        reason = reason or "The worker gave no sign of life."
    return JobFinished(
        attempt=job.attempt,
        outcome=outcome,
        exit_code=ended.exit_code,
        reason=reason,
        error_id=error_id,
        run_ms=ended.duration_ms,
        lines=lines,
        output_bytes=ended.output_bytes,
    )


async def _persistently(
    work: Callable[[], Awaitable[T]],
    passing: tuple[type[Exception], ...] = (LogUnavailable,),
) -> T:
    """Try again, with growing waits, while the log is unavailable or the error is `passing`."""
    tries = 0
    while True:
        try:
            return await work()
        except passing:
            await asyncio.sleep(_BACKOFF_S[min(tries, len(_BACKOFF_S) - 1)])
            tries += 1
