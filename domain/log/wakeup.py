"""How the appender's thread reaches readers and callers on an event loop: one hop for a
whole commit.
"""

import asyncio
import threading

from domain.errors import CrewlogError
from domain.log.appender import AppendCommand


class LoopSide:
    """One event loop's waiting readers, by subject, and its unanswered appends."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._guard = threading.Lock()
        self._woken: set[str] = set()
        self._answered: list[AppendCommand] = []
        self._scheduled = False
        self._waiting: dict[str | None, set[asyncio.Future[None]]] = {}

    def waiter(self, subject: str | None) -> "asyncio.Future[None]":
        """A future that is done after the next commit about `subject` (None: any commit).

        The caller must have read the log in the same step, without an await in between. It must
        `forget` the waiter if it is cancelled.
        """
        future: asyncio.Future[None] = self.loop.create_future()
        waiting = self._waiting.get(subject)
        if waiting is None:
            waiting = self._waiting[subject] = set()
        waiting.add(future)
        return future

    def forget(self, subject: str | None, waiter: "asyncio.Future[None]") -> None:
        """Drop a waiter that is not needed any more."""
        waiting = self._waiting.get(subject)
        if waiting is not None:
            waiting.discard(waiter)
            if not waiting:
                del self._waiting[subject]

    def tell(self, subjects: set[str], batch: list[AppendCommand]) -> None:
        """Let the loop wake the readers of these subjects and answer its own callers of the batch.

        Called on the appender's thread after each commit. It takes one hop to the loop, however
        much there is.
        """
        mine = [command for command in batch if _side_of(command) is self]
        with self._guard:
            self._woken |= subjects
            self._answered += mine
            if self._scheduled or not (self._woken or self._answered):
                return
            self._scheduled = True
        try:
            self.loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:
            # The loop was closed while callers waited: nobody is left to answer.
            self._scheduled = False

    def _deliver(self) -> None:
        with self._guard:
            self._scheduled = False
            woken, self._woken = self._woken, set()
            answered, self._answered = self._answered, []
        if woken:
            for subject in [None, *(woken & self._waiting.keys())]:
                for waiting in self._waiting.pop(subject, ()):
                    if not waiting.done():
                        waiting.set_result(None)
        for command in answered:
            if isinstance(command.answer, threading.Event):
                continue
            future = command.answer[1]
            if future.done():
                continue
            if isinstance(command.outcome, CrewlogError):
                future.set_exception(command.outcome)
            else:
                future.set_result(command.outcome or [])


def _side_of(command: AppendCommand) -> object:
    """The event loop of the caller that waits for this command; None for a thread."""
    return None if isinstance(command.answer, threading.Event) else command.answer[0]
