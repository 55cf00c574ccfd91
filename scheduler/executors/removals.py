"""What is to be removed from the disk, removed in a thread, as much at a time as has come."""

import asyncio
from collections.abc import Callable


class Removals:
    """Belongs to one event loop. Nobody waits for a removal; what a server that stops has not got
    to, the next one sweeps.
    """

    def __init__(self) -> None:
        self._waiting: list[Callable[[], object]] = []
        self._working: asyncio.Task[None] | None = None

    def put(self, remove: Callable[[], object]) -> None:
        """To be called in the thread; it must not raise."""
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
