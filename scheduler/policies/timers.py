"""Timers: do something at an instant. They are only in memory, so their users set them again after
a restart.
"""

import asyncio
import heapq
import itertools
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from domain.clock import Clock, system_clock

logger = logging.getLogger("crewlog.timers")

Action = Callable[[], Awaitable[None]]

AHEAD = timedelta(seconds=30)
_AT_ONCE = 64
_STALE = 64


class Timers(Protocol):
    """Does things at their times, each once, on the running event loop; late rather than never."""

    def at(self, key: str, when: datetime, action: Action) -> None:
        """Do `action` at `when` (aware), or at once if that has passed. Replaces an earlier timer
        of this key that has not begun.
        """
        ...

    def cancel(self, key: str) -> None:
        """Forget the timer of this key, if there is one."""
        ...

    def start(self) -> None:
        """Begin, on the running event loop. Timers may be set before."""
        ...

    def stop(self) -> None:
        """Begin nothing more, and cancel actions that have begun."""
        ...


class ApsTimers:
    """Timers on one job of APScheduler, which wakes for the earliest of them.

    A job a timer would cost fifty times as much, and many that are due at once would hold up the
    loop. It is armed at most `ahead`: a loop's own clock does not see when the wall clock is set.
    The library is read when the first timer is set: a start
    needs none of it.
    """

    def __init__(self, clock: Clock = system_clock, ahead: timedelta = AHEAD) -> None:
        self._clock = clock
        self._ahead = ahead
        self._started = False
        self._scheduler: Any = None
        self._beginning: asyncio.Task[None] | None = None
        self._heap: list[tuple[datetime, int, str]] = []
        self._timers: dict[str, tuple[int, Action]] = {}
        self._numbers = itertools.count()
        self._running: set[asyncio.Task[None]] = set()
        self._draining = False

    def at(self, key: str, when: datetime, action: Action) -> None:
        number = next(self._numbers)
        self._timers[key] = (number, action)
        heapq.heappush(self._heap, (when, number, key))
        if self._heap[0][1] == number:
            self._arm()
        self._compact()

    def cancel(self, key: str) -> None:
        self._timers.pop(key, None)

    def start(self) -> None:
        self._started = True
        self._arm()

    def stop(self) -> None:
        self._started = False
        if self._beginning is not None:
            self._beginning.cancel()
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=False)
            self._scheduler = None
        for task in self._running:
            task.cancel()

    async def _begin_scheduler(self) -> None:
        made = await asyncio.to_thread(_scheduler)
        made.start()
        self._scheduler = made
        self._arm()

    def _arm(self) -> None:
        if not self._started or self._draining or not self._heap:
            return
        if self._scheduler is None:
            if self._beginning is None:
                self._beginning = asyncio.create_task(self._begin_scheduler(), name="timers")
            return
        wait = min(self._heap[0][0] - self._clock(), self._ahead)
        self._scheduler.add_job(
            self._wake,
            "date",
            run_date=system_clock() + max(wait, timedelta(0)),
            id="wake",
            replace_existing=True,
            misfire_grace_time=None,
            # The next wake-up may come before APScheduler has recorded the end of this one.
            max_instances=1_000,
        )

    async def _wake(self) -> None:
        if self._draining:
            return
        self._draining = True
        try:
            while due := self._due(_AT_ONCE):
                for key, action in due:
                    self._begin(key, action)
                # Other tasks run between a few actions and the next.
                await asyncio.sleep(0)
        finally:
            self._draining = False
            self._arm()

    def _due(self, limit: int) -> list[tuple[str, Action]]:
        now = self._clock()
        due: list[tuple[str, Action]] = []
        while self._heap and self._heap[0][0] <= now and len(due) < limit:
            _, number, key = heapq.heappop(self._heap)
            current = self._timers.get(key)
            if current is not None and current[0] == number:
                del self._timers[key]
                due.append((key, current[1]))
        return due

    def _begin(self, key: str, action: Action) -> None:
        task = asyncio.create_task(_guarded(key, action), name=f"timer {key}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _compact(self) -> None:
        """Drop replaced and cancelled timers once they are half of the heap."""
        if len(self._heap) > 2 * len(self._timers) + _STALE:
            numbers = {number for number, _ in self._timers.values()}
            self._heap = [entry for entry in self._heap if entry[1] in numbers]
            heapq.heapify(self._heap)


def _scheduler() -> Any:
    from apscheduler.schedulers.asyncio import AsyncIOScheduler  # type: ignore[import-untyped]

    return AsyncIOScheduler(timezone=UTC)


async def _guarded(key: str, action: Action) -> None:
    try:
        await action()
    except Exception:
        logger.exception("the timer %s failed", key)
