"""Leases: a worker that promised signs of life and gives none is stuck, whatever its process does.

A living process proves nothing: it may hang for ever. A job whose template has a lease is watched.
Each call of the worker API, and each output, renews the lease. Signs of life are not events; after
a restart of the server every worker gets a whole lease.
"""

import asyncio
from collections.abc import Awaitable, Callable


class Leases:
    """When each attempt gave its last sign of life. Seconds of the event loop's clock."""

    def __init__(self) -> None:
        self._heard: dict[tuple[str, int], float] = {}

    def beat(self, job_id: str, attempt: int) -> None:
        """A sign of life. It has no effect for an attempt that is not watched."""
        if (job_id, attempt) in self._heard:
            self._heard[job_id, attempt] = asyncio.get_running_loop().time()

    async def watch(
        self,
        job_id: str,
        attempt: int,
        lease_s: float,
        waiting: Callable[[], bool],
        expired: Callable[[], Awaitable[None]],
    ) -> None:
        """Call `expired` once the attempt was silent for `lease_s`. Runs until then, or until
        cancelled.

        While `waiting` returns true, the attempt waits for a person and the lease does not run.
        """
        clock = asyncio.get_running_loop().time
        key = (job_id, attempt)
        self._heard[key] = clock()
        try:
            while (left := self._heard[key] + lease_s - clock()) > 0:
                await asyncio.sleep(left)
                if waiting():
                    self._heard[key] = clock()
        finally:
            del self._heard[key]
        await expired()
