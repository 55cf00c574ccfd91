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
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from domain.errors import LogUnavailable, NotFound, WrongState
from domain.log import EventLog
from domain.log.sqlite.reserve import Reserve
from projections.counting import Counting
from projections.database import damage, identities, make_engine, remove
from projections.filling import CannotFold, DamagedState, Filling, works_of
from projections.generations import Generations
from projections.projection import Projection
from projections.reading import Reading, ViewsUnavailable, at_the_moment
from projections.slot import ProjectionStatus, Slot
from projections.waiters import Waiters

logger = logging.getLogger("crewlog.projections")

_LIVE_PAGE = 1_000
_REBUILD_PAGE = 2_500
_RETRY_S = 0.5
_LINGER_S = 0.1
_MEND_AGAIN_S = 60.0
"""If the file is damaged again this soon, its disk is, and filling it again would never end."""


class UnknownProjection(NotFound):
    def __init__(self, name: str) -> None:
        super().__init__(f"There is no projection with the name {name!r}.")


class RebuildRuns(WrongState):
    def __init__(self, name: str) -> None:
        super().__init__(f"A rebuild of {name} is already running: wait for its end.")


class Views:
    """The views database, and the thread that keeps it up to date with the log."""

    def __init__(self, path: Path, log: EventLog, projections: Sequence[Projection]) -> None:
        self._path = path
        self._log = log
        self._slots = {p.name: Slot(p) for p in projections}
        self._generations = Generations()
        self._requests: list[str] = []
        self._guard = threading.Lock()
        self._stopping = False
        self._started = False
        self._doubted = False
        self._again = False
        self._damage: str | None = None
        """What a reader or the thread has found in the file, to be mended at the next step."""
        self._mended_at = -_MEND_AGAIN_S
        self._files: list[tuple[int, int] | None] = []
        self.error: str | None = None
        """Why the views cannot be written now; None if they can."""
        self._wanted = threading.Event()
        self._waiters = Waiters()
        self._engine = self._open()
        self._given_up: Engine | None = None
        """The engine of the files that were there before; readers may still use it."""
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
        self._given_up = self._engine
        self._engine.dispose()

    def _open(self) -> Engine:
        engine = make_engine(self._path)
        try:
            self._load(engine)
        except (DatabaseError, DamagedState) as error:
            cause = getattr(error, "orig", error)
            logger.warning("The views database is unusable (%s): it is built anew.", cause)
            engine.dispose()
            remove(self._path)
            engine = make_engine(self._path)
            self._load(engine)
        # All three files exist by now, and stay while a connection is open.
        self._files = identities(self._path)
        # Events that the log accepts on a full disk must become visible, too.
        Reserve(self._path).hold()
        return engine

    def _reopen_if_lost(self) -> None:
        """Start again if one of the files is gone or was replaced: open connections would go on
        with the old files, which nobody else sees. Also if the content is damaged: no retry would
        mend it, and all of it can be made again from the log.
        """
        damage, self._damage = self._damage, None
        self._doubted = False
        if identities(self._path) != self._files:
            logger.warning("The views database was removed or replaced: it is filled again.")
        elif damage is not None:
            logger.error("The views database is damaged (%s): it is filled again.", damage)
            self._mended_at = time.monotonic()
        else:
            return
        for slot in self._slots.values():
            slot.stop_counting()
        self._given_up = self._engine
        self._engine.dispose()
        # The remaining files may be incomplete.
        remove(self._path)
        self._engine = self._open()
        with self._guard:
            self._requests.clear()  # all views are being filled anyway

    def _note_damage(self, error: Exception) -> None:
        if time.monotonic() - self._mended_at >= _MEND_AGAIN_S:
            self._damage = self._damage or damage(error)

    def _load(self, engine: Engine) -> None:
        with engine.begin() as connection:
            log = self._log
            self._generations.load(connection, self._slots.values(), log.id, log.head)

    # The thread

    def _run(self) -> None:
        while not self._stopping:
            try:
                worked = self._step()
                self.error = None
            except (SQLAlchemyError, LogUnavailable, OSError) as error:
                logger.error("The views cannot be written: %s", error)
                self.error = str(error)
                self._note_damage(error)
                self._rest()
                continue
            except Exception as error:
                # Without this thread every view would stand still, and nobody would be told.
                logger.exception("The thread of the views met an unexpected error.")
                self.error = f"an unexpected error: {type(error).__name__}"
                self._rest()
                continue
            if not worked:
                self._log.wait_beyond(
                    self._lowest(),
                    5.0,
                    lambda: self._stopping or bool(self._requests) or self._doubted or self._again,
                )
            self._linger()

    def _rest(self) -> None:
        """After a failed step."""
        self._roll_back()
        self._log.wait_beyond(self._log.head, _RETRY_S, lambda: self._stopping)

    def _linger(self) -> None:
        """Let more events come before they are folded together, unless a reader waits for them or
        they fill a page.

        A transaction for each event would cost the server more than the events themselves.
        """
        if self._log.head - self._lowest() >= _LIVE_PAGE:
            return
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
        self._reopen_if_lost()
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
                    self._generations.drop(connection, name, slot.next.generation)
                filling = self._generations.begin(connection, slot.projection, newest + 1)
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
        try:
            works = works_of(page, group)
            with self._engine.begin() as connection:
                for work in works:
                    work.filling.fold(connection, work, covered)
                self._generations.save(connection, group)
        except CannotFold as failed:
            # Nothing of the page was written for any of them: the others fold it again.
            name = failed.filling.projection.name
            logger.exception("The view of %s has failed %s", name, failed.what)
            failed.filling.failure = failed
            self._roll_back()
        else:
            for filling in group:
                filling.publish()
        self._release_waiters()
        return True

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
                self._generations.replace(connection, live, ready)
            if compared:
                slot.compare()
            slot.outdated = False
            slot.take(ready, None)
            promoted = True
        if promoted:
            self._release_waiters()
        return promoted

    def _counted(self, slot: Slot) -> bool:
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
        try:
            with contextlib.suppress(SQLAlchemyError), self._engine.connect() as connection:
                self._generations.resume(connection, self._slots.values())
        except DamagedState as error:
            self._damage = self._damage or str(error)

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

    async def caught_up(self, timeout_s: float = 5.0, *, goal: int | None = None) -> None:
        """Wait until the views show everything up to the position `goal`; by default, everything
        that was in the log at this call (read your writes). Failed views are left out: their
        readers get the error.

        Raises ViewsUnavailable if that takes more than `timeout_s` seconds.
        """
        if goal is None:
            try:
                goal = await self._log.newest()
            except LogUnavailable as error:
                raise ViewsUnavailable(str(error)) from error
        if self.position >= goal:
            return
        with self._waiters.joined(goal) as there:
            self._wanted.set()
            if self.position >= goal:
                self._release_waiters()
            try:
                await asyncio.wait_for(there, timeout_s)
            except TimeoutError:
                raise ViewsUnavailable(self._why_behind(goal)) from None

    def _why_behind(self, goal: int) -> str:
        if self.error:
            return "The views cannot be written at the moment; accepted requests are not lost."
        lowest = max(0, self._lowest())
        return f"The views are being built: they are at {lowest} of {goal}. Try again in a moment."

    def _release_waiters(self) -> None:
        self._waiters.release(self.position)

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
            self._note_damage(error)
            self._log.wake_all()
            raise ViewsUnavailable(f"The views cannot be read: {type(error).__name__}.") from error

    @contextlib.contextmanager
    def _read(self) -> Iterator[Reading]:
        with self._connected() as connection, connection.begin():
            states = self._generations.live(connection)
            tables = {
                name: self._generations.table(self._slots[name].projection, generation)
                for name, generation, _ in states
                if name in self._slots
            }
            failures = {
                name: slot.failure for name, slot in self._slots.items() if slot.failure is not None
            }
            positions = {name: at for name, _, at in states}
            yield Reading(connection, tables, positions, failures)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Connection]:
        engine = self._engine
        pool = engine.pool
        try:
            with engine.connect() as connection:
                yield connection
        finally:
            # To dispose of an engine closes what is in its pool then: this came back later.
            if engine is self._given_up or engine is not self._engine:
                pool.dispose()
                engine.dispose()

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
        head, asked = self._log.head, self._requests
        return [slot.status(head, requested=name in asked) for name, slot in self._slots.items()]

    def recount(self) -> dict[str, str]:
        """The digests, counted from the tables themselves, for tests and `doctor`."""
        with self._engine.connect() as connection, connection.begin():
            return {
                name: slot.live.recount(connection)
                for name, slot in self._slots.items()
                if slot.live is not None
            }
