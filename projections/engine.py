"""The engine: reads the log, folds it into every projection, and stores position and rows in one
transaction.

It runs on a thread of its own and is the only writer of the views database. That database may be
deleted at any time, even while the engine runs: it is then filled again. A rebuild fills a new
generation of a projection's table beside the live one. When both are at the same position, the
digests are compared and the new one replaces the old. A new version of a projection is filled in
the same way if its columns are the stored ones; until then, older rows are as the old version made
them. A table with other columns cannot be read by the present code: it is dropped at the start, and
the view cannot be read until the new table is full.
"""

import asyncio
import contextlib
import logging
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    delete,
    event,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import DatabaseError, SQLAlchemyError
from sqlalchemy.pool import QueuePool
from sqlalchemy.types import TypeEngine

from domain.errors import LogUnavailable, NotFound, Unavailable, WrongState
from domain.log import EventLog
from domain.log.sqlite.reserve import Reserve
from projections.counting import Counting
from projections.filling import CannotFold, Filling
from projections.moment import at_the_moment
from projections.projection import Projection

logger = logging.getLogger("crewlog.projections")

_FORMAT = "1"
_LIVE_PAGE = 1_000
_REBUILD_PAGE = 2_500
_RETRY_S = 0.5
_LINGER_S = 0.05
_ZERO = f"{0:032x}"


class ViewsUnavailable(Unavailable):
    """The views cannot answer now: they are being filled, or cannot be written."""


class ViewFailed(ViewsUnavailable):
    """One view has met an event that it cannot fold, and stops there until the cause is fixed."""

    def __init__(self, name: str, failure: CannotFold) -> None:
        super().__init__(
            f"The view of {name} has failed {failure.what}; the other views go on. See "
            f"'crewlog projections status' for the reason. Once the cause is fixed, start the "
            f"server again, or rebuild the view: crewlog projections rebuild {name}"
        )


class UnknownProjection(NotFound):
    def __init__(self, name: str) -> None:
        super().__init__(f"There is no projection with the name {name!r}.")


class RebuildRuns(WrongState):
    def __init__(self, name: str) -> None:
        super().__init__(f"A rebuild of {name} is already running: wait for its end.")


@dataclass(frozen=True, slots=True)
class ProjectionStatus:
    """The state of one projection. `progress` is 0 to 1; `rebuild_matched` belongs to the last
    rebuild, if any.
    """

    name: str
    version: int
    position: int
    lag: int
    status: str
    progress: float
    digest: str
    unknown_events: int
    rebuild_matched: bool | None
    failure: str | None


class _Slot:
    """One projection: its live filling, if any, and the one that will replace it."""

    def __init__(self, projection: Projection) -> None:
        self.projection = projection
        self.live: Filling | None = None
        self.next: Filling | None = None
        self.outdated = False
        """The live filling is of another version, and stays only until the next one is full."""
        self.matched: bool | None = None
        self.counting: Counting | None = None
        """Checks, before the live table is replaced, whether it holds what was written to it."""

    @property
    def failure(self) -> CannotFold | None:
        """Why it cannot be read; None if it can, or will be once it is full."""
        shown = self.live or self.next
        return shown.failure if shown is not None else None

    def take(self, live: Filling | None, following: Filling | None) -> None:
        """Hold these from now on. Other threads read meanwhile, and always find one of the two."""
        self.stop_counting()
        if live is None:
            self.next, self.live = following, None
        else:
            self.live, self.next = live, following

    def stop_counting(self) -> None:
        if self.counting is not None:
            self.counting.stop()
            self.counting = None

    def fillings(self) -> Iterator[Filling]:
        for filling in (self.live, self.next):
            if filling is not None:
                yield filling


class Reading:
    """A consistent look at the views: every table at one moment."""

    def __init__(
        self,
        connection: Connection,
        tables: dict[str, Table],
        positions: dict[str, int],
        failures: dict[str, CannotFold],
    ) -> None:
        self.connection = connection
        self._tables = tables
        self._failures = failures
        self.positions = positions
        """The log position of each view."""

    def table(self, name: str) -> Table:
        """The live table of a projection. Raises ViewsUnavailable while it is filled for the first
        time, ViewFailed if its fold has failed.
        """
        failure = self._failures.get(name)
        if failure is not None:
            raise ViewFailed(name, failure)
        table = self._tables.get(name)
        if table is None:
            raise ViewsUnavailable(f"The view of {name} is being built; try again in a moment.")
        return table

    def rows(self, statement: Any) -> list[dict[str, Any]]:
        """All rows of a select, by column name."""
        return [dict(row) for row in self.connection.execute(statement).mappings()]


class Views:
    """The views database, and the thread that keeps it up to date with the log."""

    def __init__(self, path: Path, log: EventLog, projections: Sequence[Projection]) -> None:
        self._path = path
        self._log = log
        self._slots = {p.name: _Slot(p) for p in projections}
        self._metadata = MetaData()
        self._states = Table(
            "fillings",
            MetaData(),
            Column("name", String, primary_key=True),
            Column("generation", Integer, primary_key=True),
            Column("version", Integer, nullable=False),
            Column("live", Integer, nullable=False),
            Column("position", Integer, nullable=False),
            Column("digest", String, nullable=False),
            Column("unknown", Integer, nullable=False),
        )
        self._requests: list[str] = []
        self._guard = threading.Lock()
        self._stopping = False
        self._started = False
        self._doubted = False
        self._again = False
        self._files: list[tuple[int, int] | None] = []
        self.error: str | None = None
        """Why the views cannot be written now; None if they can."""
        self._wanted = threading.Event()
        self._waiters: list[tuple[int, asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._engine = self._open()
        self._thread = threading.Thread(target=self._run, name="projections", daemon=True)

    # Lifetime

    def start(self) -> None:
        """Begin to follow the log."""
        self._started = True
        self._thread.start()

    def close(self) -> None:
        """Stop after the present page. Nothing is lost: position and rows are one transaction."""
        self._stopping = True
        self._wanted.set()
        self._log.wake_all()
        if self._started:
            self._thread.join()
        for slot in self._slots.values():
            slot.stop_counting()
        self._engine.dispose()

    def _open(self) -> Engine:
        engine = _make_engine(self._path)
        try:
            self._load(engine)
        except DatabaseError as error:
            logger.warning("The views database is unusable (%s): it is built anew.", error.orig)
            engine.dispose()
            _remove(self._path)
            engine = _make_engine(self._path)
            self._load(engine)
        # All three files exist by now, and stay while a connection is open.
        self._files = _identities(self._path)
        # Events that the log accepts on a full disk must become visible, too.
        Reserve(self._path).hold()
        return engine

    def _reopen_if_replaced(self) -> None:
        """Start again if one of the files is gone or was replaced: open connections would go on
        with the old files, which nobody else sees.
        """
        self._doubted = False
        if _identities(self._path) == self._files:
            return
        logger.warning("The views database was removed or replaced: it is filled again.")
        for slot in self._slots.values():
            slot.stop_counting()
        self._engine.dispose()
        # The remaining files may be incomplete.
        _remove(self._path)
        self._engine = self._open()
        with self._guard:
            self._requests.clear()  # all views are being filled anyway

    def _load(self, engine: Engine) -> None:
        """Take over what an earlier run left, if it belongs to this log and to the present
        versions.
        """
        identity = f"{_FORMAT}:{self._log.id}"
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE IF NOT EXISTS about (log TEXT NOT NULL)"))
            self._states.create(connection, checkfirst=True)
            about = connection.execute(text("SELECT log FROM about")).scalar()
            furthest = max(
                (row.position for row in connection.execute(select(self._states))), default=0
            )
            if about != identity or furthest > self._log.head:
                self._forget_all(connection)
                connection.execute(text("INSERT INTO about VALUES (:log)"), {"log": identity})
            for slot in self._slots.values():
                self._take_up(connection, slot)

    def _forget_all(self, connection: Connection) -> None:
        for row in connection.execute(select(self._states)).all():
            connection.execute(text(f"DROP TABLE IF EXISTS {row.name}_{row.generation}"))
        connection.execute(delete(self._states))
        connection.execute(text("DELETE FROM about"))

    def _take_up(self, connection: Connection, slot: _Slot) -> None:
        projection = slot.projection
        found = connection.execute(
            select(self._states).where(self._states.c.name == projection.name)
        ).all()
        live: Filling | None = None
        following: Filling | None = None
        slot.outdated = False
        for row in found:
            table = projection.table(row.generation, self._metadata)
            old = row.version != projection.version
            if old and not (row.live and _has_columns(connection, table)):
                self._drop(connection, projection.name, row.generation)
                continue
            filling = Filling(projection, row.generation, table)
            filling.resume(row.position, row.digest, row.unknown)
            if row.live:
                live, slot.outdated = filling, old
            else:
                following = filling
        if following is None and (live is None or slot.outdated):
            newest = max((row.generation for row in found), default=0)
            following = self._begin(connection, projection, newest + 1)
        slot.take(live, following)

    def _begin(self, connection: Connection, projection: Projection, generation: int) -> Filling:
        table = projection.table(generation, self._metadata)
        table.create(connection)
        connection.execute(
            self._states.insert().values(
                name=projection.name,
                generation=generation,
                version=projection.version,
                live=0,
                position=0,
                digest=_ZERO,
                unknown=0,
            )
        )
        return Filling(projection, generation, table)

    def _drop(self, connection: Connection, name: str, generation: int) -> None:
        connection.execute(text(f"DROP TABLE IF EXISTS {name}_{generation}"))
        connection.execute(
            delete(self._states).where(
                self._states.c.name == name, self._states.c.generation == generation
            )
        )

    # The thread

    def _run(self) -> None:
        while not self._stopping:
            try:
                worked = self._step()
                self.error = None
            except (SQLAlchemyError, LogUnavailable, OSError) as error:
                logger.error("The views cannot be written: %s", error)
                self.error = str(error)
                self._roll_back()
                self._log.wait_beyond(self._log.head, _RETRY_S, lambda: self._stopping)
                continue
            if not worked:
                self._log.wait_beyond(
                    self._lowest(),
                    5.0,
                    lambda: self._stopping or bool(self._requests) or self._doubted or self._again,
                )
                self._linger()

    def _linger(self) -> None:
        """Let more events come before they are folded together, unless a reader waits for them.

        A transaction for each event would cost the server more than the events themselves.
        """
        self._wanted.clear()
        if not self._waiters and not self._stopping and not self._requests:
            self._wanted.wait(_LINGER_S)

    def _lowest(self) -> int:
        return min(
            (f.position for s in self._slots.values() for f in s.fillings() if f.failure is None),
            default=self._log.head,
        )

    def _step(self) -> bool:
        """Fold one page of the live fillings, then one of those that are being rebuilt. False:
        there was nothing to do.
        """
        self._again = False
        self._reopen_if_replaced()
        self._begin_requested()
        live = [s.live for s in self._slots.values() if s.live is not None]
        behind = [s.next for s in self._slots.values() if s.next is not None]
        worked = self._advance(live, _LIVE_PAGE)
        worked = self._advance(behind, _REBUILD_PAGE) or worked
        return self._promote() or worked

    def _begin_requested(self) -> None:
        for name in list(self._requests):
            slot = self._slots[name]
            newest = max((f.generation for f in slot.fillings()), default=0)
            with self._engine.begin() as connection:
                if slot.next is not None:
                    self._drop(connection, name, slot.next.generation)
                filling = self._begin(connection, slot.projection, newest + 1)
            with self._guard:
                slot.next = filling
                self._requests.remove(name)

    def _advance(self, fillings: list[Filling], limit: int) -> bool:
        """Fold one page into the fillings with the lowest position. They share reading and
        decoding.
        """
        healthy = [f for f in fillings if f.failure is None]
        if not healthy:
            return False
        position = min(f.position for f in healthy)
        head = self._log.head
        if position >= head:
            return False
        group = [f for f in healthy if f.position == position]
        page = self._log.blocking.read(position, limit)
        covered = page[-1].position if page else head
        folding = group[0]
        try:
            with self._engine.begin() as connection:
                for folding in group:
                    folding.fold(connection, page, covered)
                self._save(connection, group)
        except CannotFold as failed:
            # Nothing of the page was written for any of them: the others fold it again.
            logger.exception("The view of %s has failed %s", folding.projection.name, failed.what)
            folding.failure = failed
            self._roll_back()
        else:
            for filling in group:
                filling.publish()
        self._release_waiters()
        return True

    def _save(self, connection: Connection, group: list[Filling]) -> None:
        connection.execute(
            _SAVE,
            [
                {
                    "name": filling.projection.name,
                    "generation": filling.generation,
                    "position": filling.position,
                    "digest": filling.digest,
                    "unknown": filling.unknown,
                }
                for filling in group
            ],
        )

    def _promote(self) -> bool:
        """Replace each live filling whose rebuilt one has caught up."""
        promoted = False
        for slot in self._slots.values():
            ready = slot.next
            if ready is None or ready.failure is not None:
                continue
            live = slot.live
            goal = self._log.head if live is None or live.failure else live.position
            if ready.position != goal:
                continue
            compared = live is not None and live.failure is None and not slot.outdated
            if compared and not self._counted(slot):
                continue
            with self._engine.begin() as connection:
                if live is not None:
                    self._drop(connection, live.projection.name, live.generation)
                connection.execute(
                    self._states.update()
                    .where(
                        self._states.c.name == ready.projection.name,
                        self._states.c.generation == ready.generation,
                    )
                    .values(live=1)
                )
            if compared and live is not None and slot.counting is not None:
                slot.matched = live.digest == ready.digest and slot.counting.matched is True
                if not slot.counting.matched:
                    logger.error(
                        "%s: the live table does not hold what was written to it",
                        slot.projection.name,
                    )
                elif not slot.matched:
                    logger.error(
                        "%s: the rebuilt digest %s differs from the live one %s at position %d",
                        slot.projection.name,
                        ready.digest,
                        live.digest,
                        ready.position,
                    )
            slot.outdated = False
            slot.take(ready, None)
            promoted = True
        if promoted:
            self._release_waiters()
        return promoted

    def _counted(self, slot: _Slot) -> bool:
        """Whether the rows of the live table were counted. The table is not trusted to hold what
        was written to it, because that is what a rebuild checks. Starts the count, and returns at
        once.
        """
        if slot.counting is None and slot.live is not None:
            slot.counting = Counting(self._engine, slot.live, self._look_again)
        return slot.counting is not None and slot.counting.finished

    def _look_again(self) -> None:
        self._again = True
        self._wanted.set()
        self._log.wake_all()

    def _roll_back(self) -> None:
        """After a failed transaction: set every filling back to what the database holds."""
        with contextlib.suppress(SQLAlchemyError), self._engine.connect() as connection:
            saved = {(r.name, r.generation): r for r in connection.execute(select(self._states))}
            for slot in self._slots.values():
                for filling in slot.fillings():
                    row = saved.get((slot.projection.name, filling.generation))
                    if row is not None:
                        filling.resume(row.position, row.digest, row.unknown)

    # Reading

    @property
    def position(self) -> int:
        """The position that every view without a failure has reached; -1 while one of them has
        never been filled.
        """
        lowest = None
        for slot in self._slots.values():
            if slot.failure is not None:
                continue
            if slot.live is None:
                return -1
            if lowest is None or slot.live.committed.position < lowest:
                lowest = slot.live.committed.position
        return self._log.head if lowest is None else lowest

    async def caught_up(self, timeout_s: float = 5.0) -> None:
        """Wait until the views show everything that was in the log at this call (read your writes).
        Failed views are left out: their readers get the error.

        Raises ViewsUnavailable if that takes more than `timeout_s` seconds.
        """
        try:
            goal = await self._log.newest()
        except LogUnavailable as error:
            raise ViewsUnavailable(str(error)) from error
        if self.position >= goal:
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._guard:
            self._waiters.append((goal, loop, future))
        self._wanted.set()
        if self.position >= goal:
            self._release_waiters()
        try:
            await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            raise ViewsUnavailable(self._why_behind(goal)) from None
        finally:
            with self._guard:
                self._waiters = [w for w in self._waiters if w[2] is not future]

    def _why_behind(self, goal: int) -> str:
        if self.error:
            return "The views cannot be written at the moment; accepted requests are not lost."
        lowest = max(0, self._lowest())
        return f"The views are being built: they are at {lowest} of {goal}. Try again in a moment."

    def _release_waiters(self) -> None:
        position = self.position
        with self._guard:
            due = [w for w in self._waiters if w[0] <= position]
            if not due:
                return
            self._waiters = [w for w in self._waiters if w[0] > position]
        by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        for _, loop, future in due:
            by_loop.setdefault(loop, []).append(future)
        for loop, futures in by_loop.items():
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_resolve, futures)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Reading]:
        """Look at all views at one moment, within `one_moment` at that of the first reading. Raises
        ViewsUnavailable if the database cannot be read.
        """
        try:
            with at_the_moment(self, self._read()) as reading:
                yield reading
        except SQLAlchemyError as error:
            self._doubted = True
            self._log.wake_all()
            raise ViewsUnavailable(f"The views cannot be read: {type(error).__name__}.") from error

    @contextlib.contextmanager
    def _read(self) -> Iterator[Reading]:
        with self._engine.connect() as connection, connection.begin():
            states = connection.execute(_LIVE).all()
            tables = {
                name: self._slots[name].projection.table(generation, self._metadata)
                for name, generation, _ in states
                if name in self._slots
            }
            failures = {
                name: slot.failure for name, slot in self._slots.items() if slot.failure is not None
            }
            positions = {name: at for name, _, at in states}
            yield Reading(connection, tables, positions, failures)

    # Status and rebuilds

    def rebuild(self, name: str) -> None:
        """Ask for a rebuild beside the live table. Raises UnknownProjection, or RebuildRuns
        while one runs.
        """
        slot = self._slots.get(name)
        if slot is None:
            raise UnknownProjection(name)
        with self._guard:
            filled = slot.next is not None and slot.next.failure is None
            if filled or name in self._requests:
                raise RebuildRuns(name)
            self._requests.append(name)
        self._wanted.set()
        self._log.wake_all()

    def status(self) -> list[ProjectionStatus]:
        """The state of every projection."""
        head = self._log.head
        return [self._status_of(slot, head) for slot in self._slots.values()]

    def _status_of(self, slot: _Slot, head: int) -> ProjectionStatus:
        live, filling = slot.live, slot.next
        rebuilding = filling is not None or slot.projection.name in self._requests
        shown_filling = live or filling
        assert shown_filling is not None
        shown = shown_filling.committed
        at = filling.committed.position if filling is not None else 0
        failure = next((f.failure for f in slot.fillings() if f.failure), None)
        return ProjectionStatus(
            name=slot.projection.name,
            version=slot.projection.version,
            position=shown.position,
            lag=max(0, head - shown.position),
            status="failed" if failure else "rebuilding" if rebuilding else "live",
            progress=round(at / head, 4) if rebuilding and head else 1.0,
            digest=shown.digest,
            unknown_events=shown.unknown,
            rebuild_matched=slot.matched,
            failure=str(failure) if failure is not None else None,
        )

    def recount(self) -> dict[str, str]:
        """The digests, counted from the tables themselves, for tests and `doctor`."""
        with self._engine.connect() as connection, connection.begin():
            return {
                name: slot.live.recount(connection)
                for name, slot in self._slots.items()
                if slot.live is not None
            }


_SAVE = text(
    "UPDATE fillings SET position = :position, digest = :digest, unknown = :unknown "
    "WHERE name = :name AND generation = :generation"
)
_LIVE = text("SELECT name, generation, position FROM fillings WHERE live = 1")


def _resolve(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


def _files_of(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]


def _identities(path: Path) -> list[tuple[int, int] | None]:
    """The identity of each file of the database; None for a missing one."""
    found: list[tuple[int, int] | None] = []
    for file in _files_of(path):
        try:
            stat = os.stat(file)
        except FileNotFoundError:
            found.append(None)
        else:
            found.append((stat.st_dev, stat.st_ino))
    return found


def _remove(path: Path) -> None:
    for file in _files_of(path):
        file.unlink(missing_ok=True)


def _has_columns(connection: Connection, table: Table) -> bool:
    """Whether the stored table of that name has these columns."""

    def shape(columns: Iterable[tuple[str, TypeEngine[Any], bool]]) -> list[tuple[str, str, bool]]:
        dialect = connection.dialect
        return [(name, type_.compile(dialect), nullable) for name, type_, nullable in columns]

    inspector = inspect(connection)
    if not inspector.has_table(table.name):
        return False
    stored = inspector.get_columns(table.name)
    return shape((c["name"], c["type"], c["nullable"]) for c in stored) == shape(
        (c.name, c.type, bool(c.nullable)) for c in table.columns
    )


def _make_engine(path: Path) -> Engine:
    if not path.exists():
        # Old files beside a missing database would be taken for the newest part of this one.
        _remove(path)
    path.touch(mode=0o600)
    # A connection must fail if the file is gone: an empty new file is not the views.
    address = f"{path.resolve().as_uri()}?mode=rw"
    engine = create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(address, uri=True, check_same_thread=False, timeout=10.0),
        poolclass=QueuePool,
        pool_size=8,
        max_overflow=16,
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _: Any) -> None:
        # The driver's own transaction handling leaves reads outside any transaction; begin them
        # explicitly.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        # The views can be made again from the log, so the last rows need not survive a power cut.
        connection.execute("PRAGMA synchronous=NORMAL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine
