"""The log: append, read, tail. Everything that crewlog knows is in it or follows from it."""

import asyncio
import logging
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import orjson
from eventsourcing.persistence import OperationalError, PersistenceError

from domain.errors import CrewlogError, LogRefused, LogUnavailable
from domain.event import Catalogue, schemas
from domain.log.appender import AppendCommand, Appender
from domain.log.envelope import PAGE_BYTES, NewEvent, uuid7
from domain.log.lock import OwnerLock
from domain.log.mapper import EventMapper
from domain.log.place import Place
from domain.log.recent import RecentEvents
from domain.log.recorded import Recorded
from domain.log.recorder import Datastore, SQLiteLogRecorder, sqlite_version
from domain.log.reserve import Reserve
from domain.log.shared import SharedPages
from domain.log.upgrade import FORMAT, upgrade
from domain.log.wakeup import LoopSide
from domain.redaction import Redactor

logger = logging.getLogger("crewlog.log")

PAGE = 500
"""Events a read gives at most unless asked otherwise."""

_STRETCH = 20_000
"""Positions that are looked at in one go, between looks at whether the log is being closed."""

_PATIENCE_S = 1.0

T = TypeVar("T")

_SCAN = 50_000
"""Positions that one page of a rarely matching filter looks at before it hands back a cursor."""


class EventLog:
    """One log, owned by this process. Thread-safe; `append` and `tail` are for event loops.

    Built by `open_sqlite_log`; another store gives another recorder and passes tests/conformance.
    """

    def __init__(
        self,
        writer: SQLiteLogRecorder,
        reader: SQLiteLogRecorder,
        mapper: EventMapper,
        lock: OwnerLock,
        reserve: Reserve,
        place: Place,
        catalogue: Catalogue,
    ) -> None:
        self.catalogue = catalogue
        """The event classes that this log reads by."""
        self._writer = writer
        self._reader = reader
        self._mapper = mapper
        self._lock = lock
        self._place = place
        self._reserve = reserve
        self.id = writer.meta()["id"]
        """A name that this log keeps for ever; what derives from it says whose it is."""
        self._recent = RecentEvents(writer.max_notification_id() or 0)
        self._far = SharedPages()
        self._grown = threading.Condition()
        self._sides: dict[asyncio.AbstractEventLoop, LoopSide] = {}
        self._closed = False
        self._appender = Appender(writer, place, self._committed, reserve, catalogue)
        self._pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="log-reader")
        self._doubt: Callable[[], object] | None = None
        """The last look at the disk that failed, until it succeeds."""
        self._looked_through = threading.Event()
        self._pool.submit(self._look_through)

    @property
    def redactor(self) -> Redactor:
        """What takes credentials out on the way into this log."""
        return self._mapper.redactor

    @property
    def head(self) -> int:
        """The newest position that is durable and visible to readers; 0 for an empty log."""
        return self._recent.head

    # Writing

    async def append(
        self,
        events: Sequence[NewEvent],
        expected: Mapping[str, int],
        *,
        checkpoint: tuple[str, int] | None = None,
        essential: bool = False,
    ) -> Sequence[Recorded]:
        """Write all of `events` or none, and return them with their positions once they are
        durable. What is `essential` is written also when hardly any room is left, as the ends of
        jobs always are.

        `expected` names the version that each stream must have (0: it must not exist); it covers
        every stream written to and may name more, which are then only checked. `checkpoint` is a
        reader's name and the position it has dealt with, stored in the same transaction; it must
        move forward.

        Raises VersionConflict when an expectation fails, LogUnavailable when the store cannot
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
        """`append` for a thread that has no event loop."""
        answered = threading.Event()
        command = self._command(events, expected, checkpoint, answered)
        self._appender.submit(command)
        answered.wait()
        if isinstance(command.outcome, CrewlogError):
            raise command.outcome
        return command.outcome or []

    async def writable(self) -> bool:
        """Whether the store takes what is appended: the last append was written and there is room
        for more, or a small write is taken now. Tried, since nobody may append for long after
        there is room again.
        """
        if self._appender.failing or self._appender.low or self._reserve.is_low():
            with suppress(LogUnavailable):
                await self.append((), {})
        failing = self._appender.failing or self._appender.low
        return not failing and self._place.lost() is None

    async def problem(self) -> str | None:
        """What keeps the log from being read or written: a sentence, None where nothing does."""
        if not await self.writable():
            return self._place.lost() or "It cannot be written."
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._unreadable)

    def _command(
        self,
        events: Sequence[NewEvent],
        expected: Mapping[str, int],
        checkpoint: tuple[str, int] | None,
        answer: "threading.Event | tuple[object, asyncio.Future[Sequence[Recorded]]]",
    ) -> AppendCommand:
        versions = dict(expected)
        stored = []
        for new in events:
            if new.stream not in versions:
                raise ValueError(f"An append to {new.stream} must state the version it expects.")
            versions[new.stream] += 1
            stored.append(self._mapper.stored(new, versions[new.stream]))
        actors = [new.context.actor for new in events]
        essential = any(new.event.essential for new in events)
        return AppendCommand(stored, actors, expected, checkpoint, answer, essential)

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

    def _look(self, look: Callable[[], T]) -> T:
        """Ask the disk. LogUnavailable where it does not answer, which is remembered."""
        try:
            return look()
        except PersistenceError as error:
            self._doubt = look
            raise LogUnavailable(f"The log cannot be read: {error}") from error

    def _unreadable(self) -> str | None:
        """Blocks on the disk: the last look that failed, and both ends of the log."""
        # Of a log of ordinary length all was looked at by then.
        self._looked_through.wait(_PATIENCE_S)
        doubt = self._doubt
        try:
            if doubt is not None:
                self._look(doubt)
                self._doubt = None
            self._from_disk(0, 1, None, ())
            self._from_disk(0, 1, None, (), newest_first=True)
        except LogUnavailable as unavailable:
            return str(unavailable)
        return None

    def _look_through(self) -> None:
        """Look once at all of the table, so that damage is known before somebody needs the place.
        It is all done by the database, at the speed of the disk.
        """
        head = self.head
        for after in range(0, head, _STRETCH):
            if self._closed:
                return
            to = min(after + _STRETCH, head)
            try:
                self._look(partial(self._require_dense, after, to))
            except LogUnavailable as unavailable:
                logger.error("%s 'crewlog log verify' says where", unavailable)
                break
        self._looked_through.set()

    def _require_dense(self, after: int, to: int) -> None:
        if self._reader.count(after, to) != to - after:
            raise OperationalError(f"events between {after} and {to} are missing")

    def read(
        self,
        after: int,
        limit: int = PAGE,
        subject: str | None = None,
        types: Sequence[str] = (),
        *,
        before: int | None = None,
        actor: str | None = None,
    ) -> list[Recorded]:
        """Up to `limit` events past the position `after`, in order; fewer once they come to
        PAGE_BYTES, and at least one if there is one. Blocks on the disk when it must.
        """
        if before is None and actor is None:
            near = self._recent.read(after, limit, subject)
            if near is not None and (not types or near[1] >= self.head):
                return [e for e in near[0] if not types or e.type in types]
        return self._from_disk(after, limit, subject, types, before, actor)[0]

    def _from_disk(
        self,
        after: int,
        limit: int,
        subject: str | None,
        types: Sequence[str],
        before: int | None = None,
        actor: str | None = None,
        newest_first: bool = False,
        page_bytes: int = PAGE_BYTES,
    ) -> tuple[list[Recorded], bool]:
        """A page, and whether it is all that matches."""
        rows, whole = self._look(
            partial(
                self._reader.select_rows,
                after,
                limit,
                before=before,
                subject=subject,
                types=types,
                actor=actor,
                newest_first=newest_first,
                page_bytes=page_bytes,
            )
        )
        return [Recorded(*row, self.catalogue) for row in rows], whole

    def page(
        self,
        after: int,
        limit: int,
        *,
        before: int | None = None,
        subject: str | None = None,
        types: Sequence[str] = (),
        actor: str | None = None,
    ) -> tuple[list[Recorded], int | None]:
        """A page and the position to go on after, None at the end.

        The work and the bytes of one page are bounded: where a filter matches rarely, or events
        are large, the page may be short or empty and still give a position to go on after.
        """
        end = min(self.head, before - 1 if before is not None else self.head)
        unindexed = subject is None and (bool(types) or actor is not None)
        stop = min(end, after + _SCAN) if unindexed else end
        found, whole = self._from_disk(after, limit, subject, types, stop + 1, actor)
        if not whole:
            last = found[-1].position
            return found, last if last < end else None
        return found, stop if stop < end else None

    def event_at(self, position: int) -> Recorded | None:
        """The event at a position, or None past the head."""
        if position <= 0:
            return None
        found, _ = self._from_disk(position - 1, 1, None, (), position + 1)
        return found[0] if found else None

    def stream(
        self, name: str, after_version: int = 0, types: Sequence[str] = ()
    ) -> list[Recorded]:
        """Every event of one stream past a version, in order; only of these types, if any."""
        return self._of_stream(name, gt=after_version, types=types)

    def last_of_stream(self, name: str) -> Recorded | None:
        """The newest event of one stream, or None where there is no such stream."""
        newest = self._of_stream(name, desc=True, limit=1)
        return newest[0] if newest else None

    def first_of_stream(self, name: str) -> Recorded | None:
        """The oldest event of one stream, or None where there is no such stream."""
        oldest = self._of_stream(name, limit=1)
        return oldest[0] if oldest else None

    def _of_stream(self, name: str, **part: Any) -> list[Recorded]:
        rows = self._look(partial(self._reader.select_stream, name, **part))
        return [Recorded(*row, self.catalogue) for row in rows]

    def last_about(self, subject: str) -> int:
        """The newest position about a subject; 0 where there is none."""
        found, _ = self._from_disk(0, 1, subject, (), newest_first=True)
        return found[0].position if found else 0

    def pages(self, after: int = 0, subject: str | None = None) -> Iterator[list[Recorded]]:
        """The log as it stands now, page by page, for exports, verification and rebuilds."""
        end = self.head + 1
        while page := self._from_disk(after, 1_000, subject, (), end)[0]:
            yield page
            after = page[-1].position

    def hashed_pages(
        self, after: int, head: int, subject: str | None = None
    ) -> Iterator[list[tuple[Recorded, bytes | None]]]:
        """The log from past `after` up to `head`, page by page, each event with its leaf hash."""
        while True:
            look = partial(
                self._reader.select_hashed, after, 1_000, before=head + 1, subject=subject
            )
            rows = self._look(look)
            if not rows:
                return
            page = [(Recorded(*row, self.catalogue), hashed) for row, hashed in rows]
            yield page
            after = page[-1][0].position

    def checkpoint(self, name: str) -> int:
        """The position up to which the reader of that name has dealt with the log; 0 at first."""
        return self._look(partial(self._reader.max_tracking_id, name)) or 0

    # Live reading

    def tail(
        self,
        after: int,
        subject: str | None = None,
        types: Sequence[str] = (),
        limit: int = PAGE,
        before: int | None = None,
        page_bytes: int = PAGE_BYTES,
    ) -> "Tail":
        """Pages of events past `after`, from disk and then live, with no gap and no repeat, for
        ever; or until the log has reached `before`. A page ends once its events come to
        `page_bytes`. Readers at the same place are given the same page: do not change it.
        """
        return Tail(self, after, subject, types, limit, before, page_bytes)

    def read_near(
        self, after: int, limit: int, subject: str | None, page_bytes: int
    ) -> tuple[list[Recorded], int] | None:
        """What memory has past `after`, and how far that goes; None where only the disk knows."""
        return self._recent.read(after, limit, subject, page_bytes)

    async def read_far(
        self, after: int, limit: int, subject: str | None, types: Sequence[str], page_bytes: int
    ) -> tuple[list[Recorded], int]:
        """The same from the disk, without holding up the event loop, once for all who want it."""

        async def read() -> tuple[list[Recorded], int, bool]:
            head = self.head
            page, whole = await asyncio.get_running_loop().run_in_executor(self._pool, from_disk)
            if not whole:
                return page, page[-1].position, True
            return page, max(head, page[-1].position if page else 0), False

        from_disk = partial(self._from_disk, after, limit, subject, types, page_bytes=page_bytes)
        return await self._far.get((after, limit, subject, *types, page_bytes), read)

    def side(self) -> LoopSide:
        """Where readers on the running event loop wait for what is committed next."""
        return self._side(asyncio.get_running_loop())

    def wait_beyond(
        self, position: int, timeout_s: float, unless: Callable[[], bool] = lambda: False
    ) -> None:
        """Block a thread until the head has passed `position`, `unless` is true, or the time is
        over.
        """
        with self._grown:
            self._grown.wait_for(
                lambda: self.head > position or self._closed or unless(), timeout_s
            )

    def wake_all(self) -> None:
        """Let blocked threads look at the state of the world again (at shutdown)."""
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
        self, pages: Iterator[Sequence[Recorded]], actors: Callable[[Recorded], str]
    ) -> int:
        """Write exported events at their own positions into an empty log, in one transaction.

        Returns how many. Raises LogRefused when the log is not empty.
        """
        if self.head:
            raise LogRefused(
                f"This log holds {self.head} events already: an import needs an empty one."
            )
        with self._writer.datastore.transaction(commit=True) as cursor:
            count = 0
            for page in pages:
                self._writer._insert_events(
                    cursor,
                    [self._mapper.to_stored_event(event) for event in page],
                    first_position=count + 1,
                    actors=[actors(event) for event in page],
                )
                count += len(page)
        return count

    def versions(self) -> dict[str, str]:
        """What the storage is made of: for readyz and doctor."""
        return {"store": "sqlite", "sqlite": sqlite_version(), "format": str(FORMAT)}

    def close(self) -> None:
        """Write what is waiting and let go of the files."""
        if self._closed:
            return
        self._appender.close()
        self._closed = True
        self.wake_all()
        self._pool.shutdown(wait=True)
        stores = [self._reader.datastore, self._writer.datastore]
        if self._place.lost() is not None:
            # Whoever closes last, and may write, removes by their names what SQLite keeps beside
            # a log. They are another's now.
            stores.reverse()
        for store in stores:
            store.close()
        self._lock.release()


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
    ) -> None:
        self._log = log
        self._subject = subject
        self._types = types
        self._limit = limit
        self._before = before
        self._page_bytes = page_bytes
        self._side: LoopSide | None = None
        self.position = after
        """Everything up to here was given out, or did not match."""

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
        """Sleep until something was committed after the look at the head in this same step."""
        side = self._side
        if side is None:
            side = self._side = self._log.side()
        # Whoever ends at a position ends there whatever the event at it is about.
        subject = self._subject if self._before is None else None
        waiter = side.waiter(subject)
        try:
            await waiter
        except asyncio.CancelledError:
            side.forget(subject, waiter)
            raise


def open_sqlite_log(
    directory: Path,
    *,
    redactor: Redactor,
    catalogue: Catalogue,
    purpose: str = "crewlog",
) -> EventLog:
    """Open (or make) the log in `directory` and own it until closed. One of an older format is
    brought to today's first, which the server's log tells of.

    Raises LogRefused when another process owns it or a newer version wrote it; the file is then
    untouched.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = OwnerLock(directory / "owner.lock").acquire(purpose)
    except OSError as error:
        raise LogRefused(
            f"The data directory {directory} cannot be used: {error.strerror}."
        ) from error
    path = directory / "log.db"
    stores: list[Datastore] = []
    try:
        new = _is_new(path)
        if not new:
            _refuse_newer(path, catalogue)
        # SQLite gives its other files the mode of the first.
        path.touch(mode=0o600)
        stores.append(Datastore(path, writes=True))
        writer = SQLiteLogRecorder(stores[-1])
        if not new:
            upgrade(writer, _Said(path))
        writer.create_table()
        stores.append(Datastore(path, writes=False, connections=4))
        reader = SQLiteLogRecorder(stores[-1])
        _describe(writer, catalogue)
        mapper = EventMapper(redactor)
        return EventLog(writer, reader, mapper, lock, Reserve(path), Place(path), catalogue)
    except (PersistenceError, sqlite3.Error) as error:
        _let_go(stores, lock)
        raise LogRefused(f"The log {path} cannot be opened: {error}") from error
    except BaseException:
        _let_go(stores, lock)
        raise


def _let_go(stores: list[Datastore], lock: OwnerLock) -> None:
    for store in stores:
        store.close()
    lock.release()


class _Said:
    """Tells the server's log how far the upgrade is, at every tenth of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tenths = -1

    def __call__(self, done: int, of: int) -> None:
        tenths = 10 * done // of if of else 10
        if tenths > self._tenths:
            self._tenths = tenths
            logger.warning(
                "%s is upgraded to format %d, a hash for each event: %d %% of %d events",
                self._path,
                FORMAT,
                10 * tenths,
                of,
            )


def _describe(writer: SQLiteLogRecorder, catalogue: Catalogue) -> None:
    """Say in the log itself what it is, unless it says so already."""
    said = writer.meta()
    ours = orjson.loads(said.get("schemas", "{}")) | schemas(catalogue)
    now = {
        "id": said.get("id") or uuid7(),
        "format": str(FORMAT),
        "schemas": orjson.dumps(ours, option=orjson.OPT_SORT_KEYS).decode(),
    }
    if now != said:
        writer.set_meta(now)


def _is_new(path: Path) -> bool:
    """Whether nothing is in the file yet; a first start may have been killed before it was."""
    if not path.exists() or not path.stat().st_size:
        return True
    datastore = Datastore(path, writes=False)
    try:
        return not SQLiteLogRecorder(datastore).tables()
    finally:
        datastore.close()


def _refuse_newer(path: Path, catalogue: Catalogue) -> None:
    datastore = Datastore(path, writes=False)
    try:
        meta = SQLiteLogRecorder(datastore).meta()
    finally:
        datastore.close()
    if int(meta.get("format", "0")) > FORMAT:
        raise LogRefused(
            f"The log {path} has format {meta['format']}; this version of crewlog reads up "
            f"to {FORMAT}. A newer version wrote it: use that one. Nothing was changed."
        )
    ours = schemas(catalogue)
    for name, number in orjson.loads(meta.get("schemas", "{}")).items():
        if number > ours.get(name, number):
            raise LogRefused(
                f"The log {path} holds {name} events of schema {number}; this version of crewlog "
                f"reads up to {ours[name]}. A newer version wrote it: use that one. "
                "Nothing was changed."
            )
