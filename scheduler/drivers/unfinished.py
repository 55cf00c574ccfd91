"""The line that a running job has begun and not ended: a prompt, a row of dots.

It is no event, for a line is one only once it is whole. It is kept here while it stands, redacted
as it would be in the log, for whoever looks on; it goes with the server, and the next one reads it
from the spool again.
"""

import asyncio
from dataclasses import dataclass

LONGEST = 4_096
"""Bytes of such a line that are shown."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """How a line begins. `line` is the number that it will have."""

    attempt: int
    line: int
    text: str


class Unfinished:
    """By job. Belongs to one event loop."""

    def __init__(self) -> None:
        self._beginnings: dict[str, Beginning] = {}
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}

    def of(self, job_id: str) -> Beginning | None:
        return self._beginnings.get(job_id)

    def put(self, job_id: str, beginning: Beginning | None) -> None:
        """None: no line is begun now."""
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
        """What is done at the next change. Whoever has it must `forget` it in the end."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(job_id, set()).add(waiter)
        return waiter

    def forget(self, job_id: str, waiter: "asyncio.Future[None]") -> None:
        waiting = self._waiting.get(job_id)
        if waiting is not None:
            waiting.discard(waiter)
            if not waiting:
                del self._waiting[job_id]
