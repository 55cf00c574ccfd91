"""The log: append, read, tail. Everything that crewlog knows is in it or follows from it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

from domain.errors import CrewlogError, LogUnavailable
from domain.event import Catalogue
from domain.log.appender import AppendCommand, Appender
from domain.log.description import described
from domain.log.envelope import PAGE_BYTES, NewEvent
from domain.log.mapper import EventMapper
from domain.log.reads import PAGE, BlockingReads, Reads
from domain.log.recent import RecentEvents
from domain.log.recorded import Recorded
from domain.log.shared import SharedPages
from domain.log.short_look import TooLong, short
from domain.log.store import Query, Store, StoreFailed
from domain.log.wakeup import LoopSide
from domain.redaction import Redactor

T = TypeVar("T")


class EventLog(Reads):
    """One log, as this process reads and writes it. Thread-safe. Coroutines and `tail` are for
    event loops; `blocking` and `append_blocking` are for threads.

    Several of these objects may share one store, if the store allows it (`domain/log/store.py`).
    """

    def __init__(self, store: Store, redactor: Redactor, catalogue: Catalogue) -> None:
        """Takes over the store; `close` closes it. Raises StoreFailed if the store does not
        answer.
        """
        recent = RecentEvents(store.head_blocking())
        super().__init__(store, recent, catalogue)
        self.blocking = BlockingReads(store, recent, catalogue)
        self._store = store
        self._mapper = EventMapper(redactor)
        self.id = store.amend_meta(lambda stored: described(stored, catalogue))["id"]
        """The log's identity, which never changes. Files derived from the log store it."""
        self._far = SharedPages()
        self._grown = threading.Condition()
        self._sides: dict[asyncio.AbstractEventLoop, LoopSide] = {}
        self._closed = False
        self._appender = Appender(store, recent.head, self._committed, catalogue)
        self._unwatch = store.watch(self._appender.look)
        # Catches what was committed between the look at the head and the watch.
        self._appender.look()

    @property
    def redactor(self) -> Redactor:
        """Removes credentials from everything that is appended to this log."""
        return self._mapper.redactor

    # Writing
    async def append(
        self,
        events: Sequence[NewEvent],
        expected: Mapping[str, int],
        *,
        checkpoint: tuple[str, int] | None = None,
        essential: bool = False,
    ) -> Sequence[Recorded]:
        """Write all of `events` or none. Returns them with their positions once they are durable.
        `essential` events, such as the ends of jobs, are written even if hardly any room is left.

        `expected` is the version that each stream must have (0: it must not exist). It must cover
        every stream that is written to, and may name others, which are then only checked.
        `checkpoint` is a reader's name and the position that it has handled. It is stored in the
        same transaction and must move forward.

        Raises VersionConflict if an expected version is wrong, LogUnavailable if the store cannot
        write.
        """
        side = self._side(asyncio.get_running_loop())
        future: asyncio.Future[Sequence[Recorded]] = side.loop.create_future()
        command = self._command(events, expected, checkpoint, (side, future))
        command.essential = command.essential or essential
        self._appender.submit(command)
        return await future

    def append_blocking(
        self,
        events: Sequence[NewEvent],
        expected: Mapping[str, int],
        *,
        checkpoint: tuple[str, int] | None = None,
    ) -> Sequence[Recorded]:
        """`append` for a thread without an event loop."""
        answered = threading.Event()
        command = self._command(events, expected, checkpoint, answered)
        self._appender.submit(command)
        answered.wait()
        if isinstance(command.outcome, CrewlogError):
            raise command.outcome
        return command.outcome or []

    async def writable(self) -> bool:
        """Whether the store accepts appends: the last append was written and there is room for
        more, or a small write succeeds now. It is tried, because there may be no other append for
        long after there is room again.
        """
        if self._appender.failing or self._store.obstacle() is not None:
            with suppress(LogUnavailable):
                await self.append((), {})
        return not self._appender.failing and self._store.obstacle() is None

    async def problem(self) -> str | None:
        """A sentence about what prevents reading or writing the log; None if nothing does."""
        if not await self.writable():
            return self._store.obstacle() or "It cannot be written."
        try:
            await self._store.check()
        except StoreFailed as failed:
            return f"The log cannot be read: {failed}"
        return None

    def _command(
        self,
        events: Sequence[NewEvent],
        expected: Mapping[str, int],
        checkpoint: tuple[str, int] | None,
        answer: "threading.Event | tuple[object, asyncio.Future[Sequence[Recorded]]]",
    ) -> AppendCommand:
        reached = dict(expected)
        versions = []
        for new in events:
            if new.stream not in reached:
                raise ValueError(f"An append to {new.stream} must state the version it expects.")
            reached[new.stream] += 1
            versions.append(reached[new.stream])
        stored = self._mapper.stored(events, versions)
        actors = [new.context.actor for new in events]
        essential = any(new.event.essential for new in events)
        return AppendCommand(stored, actors, expected, checkpoint, essential, answer)

    def _committed(self, recorded: list[Recorded], batch: list[AppendCommand]) -> None:
        subjects: set[str] = set()
        if recorded:
            subjects = self._recent.extend(recorded)
            with self._grown:
                self._grown.notify_all()
        for command in batch:
            if isinstance(command.answer, threading.Event):
                command.answer.set()
        for side in list(self._sides.values()):
            side.tell(subjects, batch)

    # Reading

    async def apart(self, look: Callable[[], T]) -> T:
        """The result of `look`, which may read through `blocking` and change nothing outside of
        itself. Runs it in a thread if the store waits for a network or if it has much to read,
        otherwise here.
        """
        if not self._store.waits:
            with suppress(TooLong):
                return short(look)
        return await asyncio.to_thread(look)

    # Live reading

    def tail(
        self,
        after: int,
        subject: str | None = None,
        types: Sequence[str] = (),
        limit: int = PAGE,
        before: int | None = None,
        page_bytes: int = PAGE_BYTES,
        *,
        patient: bool = False,
    ) -> "Tail":
        """Pages of events after `after`: first from the store, then live, without gap or repeat.
        Ends when the log has reached `before`; without `before` it never ends. A page ends once its
        events reach `page_bytes`. Readers at the same place share a page, so do not change it.
        `patient` readers, the streams of clients, may be told of a commit up to 8 ms later if
        there are many of them.
        """
        return Tail(self, after, subject, types, limit, before, page_bytes, patient)

    def read_near(
        self, after: int, limit: int, subject: str | None, page_bytes: int
    ) -> tuple[list[Recorded], int] | None:
        """What memory has after `after`, and up to which position; None if only the store knows."""
        return self._recent.read(after, limit, subject, page_bytes)

    async def read_far(
        self, after: int, limit: int, subject: str | None, types: Sequence[str], page_bytes: int
    ) -> tuple[list[Recorded], int]:
        """The same from the store, read once for all readers that want it."""

        async def read() -> tuple[list[Recorded], int, bool]:
            head = self.head
            page, whole = await self._asked(query)
            if not whole:
                return page, page[-1].position, True
            return page, max(head, page[-1].position if page else 0), False

        query = Query(after=after, subject=subject, types=types, limit=limit, page_bytes=page_bytes)
        return await self._far.get((after, limit, subject, *types, page_bytes), read)

    def side(self) -> LoopSide:
        """Where readers on the running event loop wait for the next commit."""
        return self._side(asyncio.get_running_loop())

    def wait_beyond(
        self, position: int, timeout_s: float, unless: Callable[[], bool] = lambda: False
    ) -> None:
        """Block a thread until the head has passed `position`, `unless` returns true, or the
        time is over.
        """
        with self._grown:
            self._grown.wait_for(
                lambda: self.head > position or self._closed or unless(), timeout_s
            )

    def wake_all(self) -> None:
        """Wake blocked threads so that they check their condition again (at shutdown)."""
        with self._grown:
            self._grown.notify_all()

    def _side(self, loop: asyncio.AbstractEventLoop) -> LoopSide:
        side = self._sides.get(loop)
        if side is None:
            for other in [other for other in self._sides if other.is_closed()]:
                del self._sides[other]
            side = self._sides[loop] = LoopSide(loop)
        return side

    # The whole

    def import_rows(
        self, pages: Iterable[Sequence[Recorded]], actors: Callable[[Recorded], str]
    ) -> int:
        """Write exported events at their own positions into an empty log, all or nothing. Returns
        how many. Open the log anew afterwards. Blocks.

        Raises LogRefused if the log is not empty, LogUnavailable if it cannot be written.
        """
        stored = self._mapper.to_stored_event
        try:
            return self._store.fill([(stored(e), actors(e)) for e in page] for page in pages)
        except StoreFailed as failed:
            raise LogUnavailable(f"The log cannot be written: {failed}") from failed

    def versions(self) -> dict[str, str]:
        """The versions of the storage, for readyz and doctor."""
        return self._store.versions()

    def close(self) -> None:
        """Write everything that waits, and release the store."""
        if self._closed:
            return
        self._unwatch()
        self._appender.close()
        self._closed = True
        self.wake_all()
        self._store.close()


class Tail:
    """A subscriber: a position and nothing else. A slow one costs nothing and loses nothing."""

    def __init__(
        self,
        log: EventLog,
        after: int,
        subject: str | None,
        types: Sequence[str],
        limit: int,
        before: int | None,
        page_bytes: int,
        patient: bool,
    ) -> None:
        self._log = log
        self._patient = patient
        self._subject = subject
        self._types = types
        self._limit = limit
        self._before = before
        self._page_bytes = page_bytes
        self._side: LoopSide | None = None
        self.position = after
        """Every event up to here was returned, or did not match."""

    def __aiter__(self) -> AsyncIterator[list[Recorded]]:
        return self

    async def __anext__(self) -> list[Recorded]:
        log, before = self._log, self._before
        while True:
            if before is not None and self.position >= before - 1:
                raise StopAsyncIteration
            if self.position >= log.head:
                await self._growth()
                continue
            near = log.read_near(self.position, self._limit, self._subject, self._page_bytes)
            if near is None:
                page, covered = await log.read_far(
                    self.position, self._limit, self._subject, self._types, self._page_bytes
                )
            else:
                page, covered = near
                if self._types:
                    page = [event for event in page if event.type in self._types]
            if before is not None and page and page[-1].position >= before:
                page = [event for event in page if event.position < before]
            self.position = covered
            if page:
                return page

    async def _growth(self) -> None:
        """Sleep until there is a commit after the look at the head in this same step."""
        side = self._side
        if side is None:
            side = self._side = self._log.side()
        # A reader with an end position stops there, even if the last event does not match its
        # filter.
        subject = self._subject if self._before is None else None
        waiter = side.waiter(subject, patient=self._patient)
        try:
            await waiter
        except asyncio.CancelledError:
            side.forget(subject, waiter)
            raise
