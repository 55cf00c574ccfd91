"""The unfinished line of a running job: a prompt, a row of dots.

It is no event, because a line is an event only once it is whole. Until then it is kept here for
readers, redacted as in the log. It is lost with the server; the next one reads it from the spool
again.
"""

import asyncio
from dataclasses import dataclass

LONGEST = 4_096
"""Most bytes of such a line that are shown."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """The beginning of an unfinished line. `line` is the number that the line will have."""

    attempt: int
    line: int
    text: str


class Unfinished:
    """Unfinished lines by job. Belongs to one event loop."""

    def __init__(self) -> None:
        self._beginnings: dict[str, Beginning] = {}
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}

    def of(self, job_id: str) -> Beginning | None:
        return self._beginnings.get(job_id)

    def put(self, job_id: str, beginning: Beginning | None) -> None:
        """None: there is no unfinished line now."""
        if beginning == self._beginnings.get(job_id):
            return
        if beginning is None:
            del self._beginnings[job_id]
        else:
            self._beginnings[job_id] = beginning
        for waiting in self._waiting.pop(job_id, ()):
            if not waiting.done():
                waiting.set_result(None)

    def waiter(self, job_id: str) -> "asyncio.Future[None]":
        """A future that is done at the next change. The caller must `forget` it in the end."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(job_id, set()).add(waiter)
        return waiter

    def forget(self, job_id: str, waiter: "asyncio.Future[None]") -> None:
        waiting = self._waiting.get(job_id)
        if waiting is not None:
            waiting.discard(waiter)
            if not waiting:
                del self._waiting[job_id]
