"""Requests that wait until the views have reached a position."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator


class Waiters:
    """The requests that wait on an event loop. The thread of the views wakes them."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: list[tuple[int, asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @contextlib.contextmanager
    def joined(self, goal: int) -> Iterator[asyncio.Future[None]]:
        """Waits for this position: within the block, the future is done once it is reached."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._guard:
            self._waiting.append((goal, loop, future))
        try:
            yield future
        finally:
            with self._guard:
                self._waiting = [one for one in self._waiting if one[2] is not future]

    def release(self, position: int) -> None:
        """Wake every request that waits for this position or an earlier one."""
        with self._guard:
            due = [one for one in self._waiting if one[0] <= position]
            if not due:
                return
            self._waiting = [one for one in self._waiting if one[0] > position]
        by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        for _, loop, future in due:
            by_loop.setdefault(loop, []).append(future)
        for loop, futures in by_loop.items():
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_resolve, futures)


def _resolve(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
