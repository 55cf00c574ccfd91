"""How the appender's thread reaches readers and callers on an event loop: one hop for a whole
commit.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence

from domain.errors import CrewlogError
from domain.log.appender import AppendCommand
from domain.log.envelope import Recorded


class LoopSide:
    """One event loop's waiting readers (by subject) and unanswered appends."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._guard = threading.Lock()
        self._woken: set[str] = set()
        self._answered: list[tuple[asyncio.Future[Sequence[Recorded]], AppendCommand]] = []
        self._scheduled = False
        self._waiting: dict[str | None, set[asyncio.Future[None]]] = {}

    async def wait(self, subject: str | None) -> None:
        """Sleep until something about `subject` (None: anything) was committed.

        The caller must have read the log in the same step, without awaiting between the two.
        """
        future: asyncio.Future[None] = self.loop.create_future()
        waiting = self._waiting.setdefault(subject, set())
        waiting.add(future)
        try:
            await future
        finally:
            waiting.discard(future)
            if not waiting and self._waiting.get(subject) is waiting:
                del self._waiting[subject]

    def answering(
        self, future: "asyncio.Future[Sequence[Recorded]]"
    ) -> Callable[[AppendCommand], None]:
        """The `done` of a command whose caller awaits `future`."""

        def done(command: AppendCommand) -> None:
            with self._guard:
                self._answered.append((future, command))

        return done

    def wake(self, subjects: set[str]) -> None:
        """Note what was committed; called on the appender's thread, followed by `flush`."""
        with self._guard:
            self._woken |= subjects

    def flush(self) -> None:
        """Have the loop deal with all that was noted; called on the appender's thread."""
        with self._guard:
            if self._scheduled or not (self._woken or self._answered):
                return
            self._scheduled = True
        try:
            self.loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:
            # The loop was closed with callers still waiting: there is nobody left to tell.
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
        for future, command in answered:
            if future.done():
                continue
            if isinstance(command.outcome, CrewlogError):
                future.set_exception(command.outcome)
            else:
                future.set_result(command.outcome or [])
