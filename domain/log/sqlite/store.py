"""The store of one SQLite file that one process owns. Its lock refuses a second writer."""

import asyncio
import logging
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from eventsourcing.persistence import (
    IntegrityError,
    OperationalError,
    PersistenceError,
    StoredEvent,
    Tracking,
)

from domain.errors import LogRefused, LogUnavailable
from domain.event import Catalogue
from domain.log.description import FORMAT, refuse_newer
from domain.log.judgement import judge
from domain.log.sqlite.datastore import Datastore
from domain.log.sqlite.indexes import INDEXES, STRETCH
from domain.log.sqlite.lock import OwnerLock
from domain.log.sqlite.place import Place
from domain.log.sqlite.recorder import LogRecorder, sqlite_version
from domain.log.sqlite.reserve import Reserve
from domain.log.sqlite.upgrade import upgrade
from domain.log.store import Append, Page, Query, StoreFailed, Verdict

logger = logging.getLogger("crewlog.log")

_READERS = 4
_CACHED_VERSIONS = 200_000

_SLICE = 1_000
"""Events that are read to their ends at once: they may be long, and a read that takes long keeps
the write-ahead log from being begun again.
"""

_PATIENCE_S = 1.0

T = TypeVar("T")


class SQLiteStore:
    """Fulfils `Store` for one writer. `open_sqlite_store` makes it, with the lock that ensures that
    it is the only one.

    Because of that lock, the versions and the head that it remembers are the committed ones.
    """

    waits = False
    """Finding a stream costs less than changing threads. Reads that may be long run in a thread."""

    def __init__(self, path: Path, writer: LogRecorder, reader: LogRecorder, lock: OwnerLock):
        self._writer = writer
        self._reader = reader
        self._lock = lock
        self._head = writer.head()
        self._place = Place(path)
        self._reserve = Reserve(path)
        self._versions: OrderedDict[str, int] = OrderedDict()
        self._checkpoints: dict[str, int] = {}
        self._pool = ThreadPoolExecutor(max_workers=_READERS, thread_name_prefix="log-reader")
        self._closed = False
        self._doubt: Callable[[], object] | None = None
        """The last look at the disk that failed, until it succeeds."""
        self._flaw: Callable[[], object] | None = None
        """The same of looking it through, which says more of what is wrong than a reader can."""
        self._looked_through = threading.Event()
        self._pool.submit(self._look_through)

    # Writing

    def append(self, batch: Sequence[Append]) -> Sequence[Verdict]:
        try:
            if not self._reserve.held:
                with self._writing():
                    self._reserve.hold()
            low = self._reserve.was_low()
            try:
                return self._commit(batch, low)
            except IntegrityError:
                # A stream that was not looked up exists. Look every stream up and judge again: the
                # appends that conflict fail alone, and the rest of the batch is written.
                self._versions.clear()
                self._look_up({stream for append in batch for stream in append.expected})
                return self._commit(batch, low)
        except PersistenceError as error:
            # Only the disk knows what reached it: `prove` asks.
            self._versions.clear()
            self._checkpoints.clear()
            raise StoreFailed(str(error)) from error

    def _commit(self, batch: Sequence[Append], low: bool) -> list[Verdict]:
        self._look_up(self._unknown(batch))
        taken = [append for append in batch if not (low and _can_wait(append))]
        conflicts = judge(taken, self._version, self._reached)
        held = [a for a, conflict in zip(taken, conflicts, strict=True) if conflict is None]
        self._write(held)
        position = self._head + 1 - sum(len(append.events) for append in held)
        judged = iter(conflicts)
        verdicts: list[Verdict] = []
        for append in batch:
            if low and _can_wait(append):
                verdicts.append(LogUnavailable("The disk is almost full: free some space."))
                continue
            conflict = next(judged)
            if conflict is not None:
                verdicts.append(conflict)
                continue
            verdicts.append(position if append.events else 0)
            position += len(append.events)
        return verdicts

    def _write(self, held: Sequence[Append]) -> None:
        events = [event for append in held for event in append.events]
        trackings = [Tracking(*a.checkpoint) for a in held if a.checkpoint is not None]
        if not events and not trackings:
            return
        actors = [actor for append in held for actor in append.actors]
        with self._writing():
            self._writer.insert(events, actors, self._head + 1, trackings)
        self._head += len(events)
        versions = self._versions
        for event in events:
            stream = str(event.originator_id)
            versions[stream] = event.originator_version
            versions.move_to_end(stream)
        while len(versions) > _CACHED_VERSIONS:
            versions.popitem(last=False)
        self._checkpoints.update((t.application_name, t.notification_id) for t in trackings)

    def _unknown(self, batch: Sequence[Append]) -> set[str]:
        """Streams that must be looked up. A stream that an append creates is not: the table itself
        checks that it does not exist.
        """
        known = self._versions
        return {
            stream
            for append in batch
            for stream, expected in append.expected.items()
            if stream not in known and not (expected == 0 and _writes(append, stream))
        }

    def _look_up(self, streams: set[str]) -> None:
        if streams:
            self._versions.update(self._writer.stream_versions(list(streams)))

    def _version(self, stream: str) -> int:
        return self._versions.get(stream, 0)

    def _reached(self, name: str) -> int:
        if name not in self._checkpoints:
            self._checkpoints[name] = self._writer.max_tracking_id(name) or 0
        return self._checkpoints[name]

    def prove(self) -> None:
        try:
            lost = self._place.lost()
            if lost is not None:
                raise OperationalError(lost)
            self._head = self._writer.head()
            with self._writing():
                self._writer.rewrite_meta()
        except PersistenceError as error:
            raise StoreFailed(str(error)) from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Every write is within it. Raises OperationalError if another program wrote before or
        meanwhile, or if the written file is not the one that a later start would open.
        """
        with self._place.written() as foreign:
            if foreign is not None:
                raise OperationalError(foreign)
            yield
        lost = self._place.known()
        if lost is not None:
            raise OperationalError(lost)

    def fill(self, pages: Iterable[Sequence[tuple[StoredEvent, str]]]) -> int:
        if self._head:
            raise LogRefused(
                f"This log holds {self._head} events already: an import needs an empty one."
            )
        try:
            with self._writing(), self._writer.datastore.transaction(commit=True) as cursor:
                count = 0
                for page in pages:
                    events, actors = [event for event, _ in page], [actor for _, actor in page]
                    self._writer.insert_rows(cursor, events, actors, count + 1)
                    count += len(page)
        except PersistenceError as error:
            raise StoreFailed(str(error)) from error
        self._head = count
        return count

    def obstacle(self) -> str | None:
        lost = self._place.lost()
        if lost is None and self._reserve.is_low():
            return "The disk is almost full: free some space."
        return lost

    # Reading

    async def read(self, query: Query) -> Page:
        return await self._in_thread(partial(self.read_blocking, query))

    def read_blocking(self, query: Query) -> Page:
        return self._look(partial(self._reader.select, query))

    async def checkpoint(self, name: str) -> int:
        return await self._in_thread(partial(self.checkpoint_blocking, name))

    def checkpoint_blocking(self, name: str) -> int:
        return self._look(partial(self._reader.max_tracking_id, name)) or 0

    async def head(self) -> int:
        return self._head

    def head_blocking(self) -> int:
        return self._head

    async def _in_thread(self, look: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, look)

    def _look(self, look: Callable[[], T]) -> T:
        """Ask the disk, and remember if it does not answer."""
        try:
            return look()
        except PersistenceError as error:
            self._doubt = look
            raise StoreFailed(str(error)) from error

    async def check(self) -> None:
        await self._in_thread(self._require_readable)

    def _require_readable(self) -> None:
        """Raises the error of the last failed look, and checks both ends of the log."""
        # In a log of ordinary length everything was examined by then.
        self._looked_through.wait(_PATIENCE_S)
        flaw, doubt = self._flaw, self._doubt
        if flaw is not None:
            self._look(flaw)
            self._flaw = None
        if doubt is not None:
            self._look(doubt)
            self._doubt = None
        self.read_blocking(Query(limit=1))
        self.read_blocking(Query(limit=1, newest_first=True))

    def _look_through(self) -> None:
        """Read the whole table once and look each event up in each index, so that damage is known
        before somebody needs that part. The database does all of it, at the speed of the disk.
        """
        head = self._head
        try:
            for after in range(0, head, STRETCH):
                if not self._is_whole(after, min(after + STRETCH, head)):
                    break
        except Exception:
            logger.exception("The log could not be looked through.")
        finally:
            self._looked_through.set()

    def _is_whole(self, after: int, to: int) -> bool:
        """Whether all of it can be read. False also if the store is closed meanwhile."""
        looks: list[Callable[[], object]] = [
            partial(self._require_readable_to_its_end, start, min(start + _SLICE, to))
            for start in range(after, to, _SLICE)
        ]
        looks += [partial(self._require_found, index, after, to) for index in INDEXES]
        for look in looks:
            if self._closed:
                return False
            try:
                look()
            except PersistenceError as error:
                self._flaw = look
                logger.error("The log cannot be read: %s; 'crewlog log verify' says where", error)
                return False
        return True

    def _require_readable_to_its_end(self, after: int, to: int) -> None:
        """Raises OperationalError with the first position that cannot be read."""
        trouble = self._trouble(after, to)
        while trouble is not None and to - after > 1:
            middle = (after + to) // 2
            earlier = self._trouble(after, middle)
            if earlier is None:
                after = middle
            else:
                trouble, to = earlier, middle
        if trouble is not None:
            raise OperationalError(f"the event at {to} cannot be read: {trouble}")

    def _trouble(self, after: int, to: int) -> str | None:
        try:
            found = self._reader.readable(after, to)
        except PersistenceError as error:
            return f"{error}"
        return None if found == to - after else "it is missing"

    def _require_found(self, index: str, after: int, to: int) -> None:
        try:
            missing = self._reader.not_found(index, after, to)
        except PersistenceError as error:
            raise OperationalError(f"the index {index} cannot be read: {error}") from error
        if missing is not None:
            raise OperationalError(f"the index {index} does not lead to the event at {missing}")

    def watch(self, grown: Callable[[], None]) -> Callable[[], None]:
        # There is no other writer.
        return lambda: None

    # About itself

    def meta(self) -> dict[str, str]:
        return self._look(self._reader.meta)

    def amend_meta(self, change: Callable[[dict[str, str]], dict[str, str]]) -> dict[str, str]:
        try:
            with self._writing():
                return self._writer.amend_meta(change)
        except PersistenceError as error:
            raise StoreFailed(str(error)) from error

    def versions(self) -> dict[str, str]:
        return {"store": "sqlite", "sqlite": sqlite_version(), "format": str(FORMAT)}

    def close(self) -> None:
        self._closed = True
        self._pool.shutdown(wait=True)
        stores = [self._reader.datastore, self._writer.datastore]
        if self._place.lost() is not None:
            # The last process to close, if it may write, removes by name the files that SQLite
            # keeps beside a log. They belong to another database now.
            stores.reverse()
        for store in stores:
            store.close()
        self._place.close()
        self._lock.release()


def _can_wait(append: Append) -> bool:
    """Whether it is refused while the disk is almost full."""
    return not append.essential and bool(append.events or append.checkpoint)


def _writes(append: Append, stream: str) -> bool:
    return any(event.originator_id == stream for event in append.events)


def open_sqlite_store(directory: Path, *, catalogue: Catalogue, purpose: str) -> SQLiteStore:
    """Open (or make) the store in `directory` and own it until it is closed. A log of an older
    format is upgraded first; the server's log reports the progress.

    Raises LogRefused if another process owns it or a newer version wrote it. The file is then not
    changed.
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
            refuse_newer(_meta_of(path), catalogue, str(path))
        # SQLite gives its other files the mode of this one.
        path.touch(mode=0o600)
        stores.append(Datastore(path, writes=True))
        writer = LogRecorder(stores[-1])
        if not new:
            upgrade(writer, Told(path))
        writer.create_table()
        stores.append(Datastore(path, writes=False, connections=_READERS))
        return SQLiteStore(path, writer, LogRecorder(stores[-1]), lock)
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


class Told:
    """Reports the progress of the upgrade in the server's log, at every tenth of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tenths = -1

    def __call__(self, done: int, of: int) -> None:
        tenths = 10 * done // of if of else 10
        if tenths > self._tenths:
            self._tenths = tenths
            logger.warning(
                "%s is being upgraded to format %d, a hash for each event: %d %% of %d events",
                self._path,
                FORMAT,
                10 * tenths,
                of,
            )


def _is_new(path: Path) -> bool:
    """Whether the file is still empty. A first start may have been killed before it wrote
    anything.
    """
    if not path.exists() or not path.stat().st_size:
        return True
    datastore = Datastore(path, writes=False)
    try:
        return not LogRecorder(datastore).tables()
    finally:
        datastore.close()


def _meta_of(path: Path) -> dict[str, str]:
    datastore = Datastore(path, writes=False)
    try:
        return LogRecorder(datastore).meta()
    finally:
        datastore.close()
