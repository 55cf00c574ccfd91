"""Removes things from the disk in a thread, several at a time."""

import asyncio
from collections.abc import Callable


class Removals:
    """Belongs to one event loop. Nobody waits for a removal. When a server stops, the next one
    sweeps the rest.
    """

    def __init__(self) -> None:
        self._waiting: list[Callable[[], object]] = []
        self._working: asyncio.Task[None] | None = None

    def put(self, remove: Callable[[], object]) -> None:
        """Call `remove` in the thread; it must not raise."""
        self._waiting.append(remove)
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work(), name="removals")

    async def _work(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            await asyncio.to_thread(_remove, batch)


def _remove(batch: list[Callable[[], object]]) -> None:
    for remove in batch:
        remove()
