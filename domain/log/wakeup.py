"""How the appender's thread reaches readers and callers on an event loop: one hop for a
whole commit.
"""

import asyncio
import threading

from domain.errors import CrewlogError
from domain.log.appender import AppendCommand

_LONGEST_REST_S = 0.008
"""The longest that patient readers wait for a commit that has happened. What comes in a longer rest
does not fit into their sockets, and to wait for these costs more than it saves: measured with 4, 8,
16 and 100 ms (`docs/performance.md`).
"""


class _Waiting:
    """Futures of readers, by subject; None waits for any commit."""

    def __init__(self) -> None:
        self._by_subject: dict[str | None, set[asyncio.Future[None]]] = {}

    def add(self, subject: str | None, future: "asyncio.Future[None]") -> None:
        waiting = self._by_subject.get(subject)
        if waiting is None:
            waiting = self._by_subject[subject] = set()
        waiting.add(future)

    def forget(self, subject: str | None, future: "asyncio.Future[None]") -> None:
        waiting = self._by_subject.get(subject)
        if waiting is not None:
            waiting.discard(future)
            if not waiting:
                del self._by_subject[subject]

    def wake(self, subjects: set[str]) -> bool:
        """Wake those of these subjects, and those of any. Whether there were some."""
        woken = [self._by_subject.pop(None, set())]
        woken += [self._by_subject.pop(one) for one in subjects & self._by_subject.keys()]
        for futures in woken:
            for future in futures:
                if not future.done():
                    future.set_result(None)
        return any(woken)


class LoopSide:
    """One event loop's waiting readers, by subject, and its unanswered appends.

    Patient readers, the streams of clients, are woken in rounds. After a round they rest for as
    long as it has taken, at most `_LONGEST_REST_S`. So whoever appends has a turn between two
    rounds, and if commits come faster than they can be sent, each stream gets several with one
    write.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._guard = threading.Lock()
        self._woken: set[str] = set()
        self._answered: list[AppendCommand] = []
        self._scheduled = False
        self._prompt = _Waiting()
        self._patient = _Waiting()
        self._due: set[str] = set()
        """Subjects that the patient readers are still to be told."""
        self._resting = False

    def waiter(self, subject: str | None, *, patient: bool = False) -> "asyncio.Future[None]":
        """A future that is done after the next commit about `subject` (None: any commit).

        The caller must have read the log in the same step, without an await in between. It must
        `forget` the waiter if it is cancelled.
        """
        future: asyncio.Future[None] = self.loop.create_future()
        (self._patient if patient else self._prompt).add(subject, future)
        return future

    def forget(self, subject: str | None, waiter: "asyncio.Future[None]") -> None:
        """Drop a waiter that is not needed any more."""
        self._prompt.forget(subject, waiter)
        self._patient.forget(subject, waiter)

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
            self._prompt.wake(woken)
            self._due |= woken
            if not self._resting:
                self._begin_round()
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

    def _begin_round(self) -> None:
        """Wake the patient readers. They run before what is scheduled after them."""
        due, self._due = self._due, set()
        began = self.loop.time()
        self._resting = self._patient.wake(due)
        if self._resting:
            self.loop.call_soon(self._rest, began)

    def _rest(self, began: float) -> None:
        taken = self.loop.time() - began
        self.loop.call_later(min(taken, _LONGEST_REST_S), self._end_rest)

    def _end_rest(self) -> None:
        self._resting = False
        if self._due:
            self._begin_round()


def _side_of(command: AppendCommand) -> object:
    """The event loop of the caller that waits for this command; None for a thread."""
    return None if isinstance(command.answer, threading.Event) else command.answer[0]
