"""Limits how often one principal may ask."""

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable

# A client that waits as long as it was told must pass, even if clock plus wait is rounded down.
_ROUNDING_S = 1e-6


class SlidingWindow:
    """At most `limit` hits of one key in any `window_s` seconds (`contracts/gitoma.md` §4).

    Only accepted hits count, so asking again while refused does not prolong the wait. A key is
    dropped once its last accepted hit has left the window: memory is bounded by the active keys,
    each with at most `limit` times. For one event loop, not for several threads.
    """

    def __init__(
        self,
        limit: int = 20,
        window_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if limit < 1 or window_s <= 0:
            raise ValueError("A rate limit needs a limit of at least 1 and a window above 0 s.")
        self.limit = limit
        self.window_s = window_s
        self._clock = clock
        self._hits: OrderedDict[str, deque[float]] = OrderedDict()

    def __len__(self) -> int:
        """The number of remembered keys."""
        return len(self._hits)

    def hit(self, key: str) -> int | None:
        """Count a hit of `key`. None if it may pass, otherwise the seconds to wait, at least 1."""
        now = self._clock()
        self._forget_idle_keys(now)
        times = self._hits.setdefault(key, deque())
        while times and self._has_left(times[0], now):
            times.popleft()
        if len(times) >= self.limit:
            return max(1, math.ceil(self.window_s - (now - times[0])))
        times.append(now)
        self._hits.move_to_end(key)
        return None

    def _forget_idle_keys(self, now: float) -> None:
        # Keys are in the order of their last accepted hit: the idle ones come first.
        while self._hits:
            key, times = next(iter(self._hits.items()))
            if not self._has_left(times[-1], now):
                return
            del self._hits[key]

    def _has_left(self, moment: float, now: float) -> bool:
        return now - moment >= self.window_s - _ROUNDING_S
