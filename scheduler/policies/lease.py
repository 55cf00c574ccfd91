"""Leases: a worker that promised signs of life and gives none is stuck, whatever its process does.

A process that exists proves nothing: it may hang for ever. A job whose template names a lease is
watched, and each call of the worker API, and whatever it writes, renews it. Signs of life are not
events; a server that starts again gives every worker a whole lease.
"""

import asyncio
from collections.abc import Awaitable, Callable


class Leases:
    """When each attempt was last heard of. Seconds of the event loop's clock."""

    def __init__(self) -> None:
        self._heard: dict[tuple[str, int], float] = {}

    def beat(self, job_id: str, attempt: int) -> None:
        """A sign of life. Of an attempt that is not watched it means nothing."""
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
        """Call `expired` once the attempt was silent for `lease_s`; runs until then, or cancelled.

        While `waiting` holds, a person is waited for and the lease does not run.
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
