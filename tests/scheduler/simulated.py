"""Time that a test controls: a clock that stands still, and timers that fire when it moves."""

import asyncio
import heapq
import itertools
from datetime import datetime, timedelta

from scheduler.policies.timers import Action


class SimulatedTimers:
    """Timers (`scheduler.policies.timers`) with their own clock.

    Nothing happens until `advance`.
    """

    def __init__(self, now: datetime) -> None:
        self.now = now
        self._heap: list[tuple[datetime, int, str]] = []
        self._timers: dict[str, tuple[int, Action]] = {}
        self._numbers = itertools.count()

    def clock(self) -> datetime:
        return self.now

    def at(self, key: str, when: datetime, action: Action) -> None:
        number = next(self._numbers)
        self._timers[key] = (number, action)
        heapq.heappush(self._heap, (when, number, key))

    def cancel(self, key: str) -> None:
        self._timers.pop(key, None)

    def start(self) -> None: ...

    def stop(self) -> None:
        self._timers.clear()

    @property
    def keys(self) -> set[str]:
        """The keys of the timers that are set."""
        return set(self._timers)

    def due(self, key: str) -> datetime | None:
        """The time of this key's timer."""
        number = self._timers[key][0] if key in self._timers else None
        return next((when for when, other, _ in self._heap if other == number), None)

    async def advance(self, span: timedelta) -> None:
        """Move on, and run every timer that becomes due on the way, at its time and in order.
        Actions that are due at once run at once.
        """
        end = self.now + span
        while due := self._next(end):
            when = self.now = max(self.now, due[0])
            actions = [due[1]]
            while more := self._next(when):
                actions.append(more[1])
            await asyncio.gather(*(action() for action in actions))
        self.now = end

    def _next(self, end: datetime) -> tuple[datetime, Action] | None:
        while self._heap and self._heap[0][0] <= end:
            when, number, key = heapq.heappop(self._heap)
            current = self._timers.get(key)
            if current is not None and current[0] == number:
                del self._timers[key]
                return when, current[1]
        return None
