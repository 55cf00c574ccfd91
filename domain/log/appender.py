"""Group commit: one thread gives the store everything that waits in one transaction, and then
answers every caller.

A commit costs one fsync whatever it holds, so a busy log is as durable as an idle one, and much
faster. The thread also publishes what was committed, by this log or by another writer: in the order
of positions, each event once.
"""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from domain.errors import CrewlogError, LogUnavailable
from domain.event import Catalogue
from domain.log.recorded import Recorded
from domain.log.store import Append, Query, Store, StoreFailed, Verdict

logger = logging.getLogger("crewlog.log")

_MAX_COMMANDS = 512
_MAX_BYTES = 8 * 1024 * 1024

_PAGE = 1_000
"""Events of another writer that are published at once."""

Outcome = Sequence[Recorded] | CrewlogError


@dataclass(slots=True)
class AppendCommand(Append):
    """An append, and the caller that waits for it."""

    answer: "threading.Event | tuple[object, asyncio.Future[Sequence[Recorded]]]"
    """The waiting caller: a thread, or a future with the side of its event loop."""
    outcome: Outcome | None = None


class _Look:
    """Makes the appender look for commits of other writers."""


_LOOK = _Look()


class Appender:
    """The only writer of this log to the store. Calls `committed` on its thread, with the committed
    events in order and the commands that have their outcome.
    """

    def __init__(
        self,
        store: Store,
        head: int,
        committed: Callable[[list[Recorded], list[AppendCommand]], None],
        catalogue: Catalogue,
    ) -> None:
        self._store = store
        self._committed = committed
        self._catalogue = catalogue
        self._published = head
        self.failing = False
        """The last write failed, and none has succeeded since."""
        self._waiting: queue.SimpleQueue[AppendCommand | _Look | None] = queue.SimpleQueue()
        self._looking = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="log-appender", daemon=True)
        self._thread.start()

    def submit(self, command: AppendCommand) -> None:
        """Queue a command. Its caller is answered once it is durable or refused."""
        if self._closed:
            raise LogUnavailable("The log is closed.")
        self._waiting.put(command)

    def look(self) -> None:
        """Publish soon what other writers have committed. Returns at once."""
        if not self._looking:
            self._looking = True
            self._waiting.put(_LOOK)

    def close(self) -> None:
        """Write everything that waits, then stop."""
        if not self._closed:
            self._closed = True
            self._waiting.put(None)
            self._thread.join()

    def _run(self) -> None:
        while True:
            batch, more = self._take()
            if batch:
                self._committed(self._write(batch), batch)
            if self._looking:
                self._looking = False
                self._look()
            if not more:
                return

    def _take(self) -> tuple[list[AppendCommand], bool]:
        """The waiting commands, up to the bounds of a batch, and whether more may come."""
        batch: list[AppendCommand] = []
        size = 0
        given = self._waiting.get()
        while True:
            if given is None:
                return batch, False
            if isinstance(given, AppendCommand):
                batch.append(given)
                size += _size(given)
            if len(batch) >= _MAX_COMMANDS or size >= _MAX_BYTES:
                return batch, True
            try:
                given = self._waiting.get_nowait()
            except queue.Empty:
                return batch, True

    def _write(self, batch: list[AppendCommand]) -> list[Recorded]:
        """Write the batch, give each command its outcome, and return the events to publish."""
        try:
            if self.failing:
                self._store.prove()
                self._catch_up()
                self.failing = False
            verdicts = self._store.append(batch)
        except StoreFailed as error:
            return self._refuse(batch, error)
        except Exception as error:
            logger.exception("The appender met an unexpected error: its batch fails.")
            return self._refuse(batch, error)
        recorded = self._answered(batch, verdicts)
        if not recorded:
            return recorded
        first = recorded[0].position
        if first > self._published + 1 and not self._look(before=first):
            # Their callers are answered. Readers get them once the events before them can be read.
            return []
        self._published = recorded[-1].position
        return recorded

    def _answered(self, batch: list[AppendCommand], verdicts: Sequence[Verdict]) -> list[Recorded]:
        """Give each command its outcome. Returns all events that were written."""
        written: list[Recorded] = []
        for command, verdict in zip(batch, verdicts, strict=True):
            if not isinstance(verdict, int):
                command.outcome = verdict
                continue
            command.outcome = mine = [
                Recorded(
                    position,
                    str(event.originator_id),
                    event.originator_version,
                    event.topic,
                    event.state,
                    self._catalogue,
                )
                for position, event in enumerate(command.events, verdict)
            ]
            written += mine
        return written

    def _look(self, before: int | None = None) -> bool:
        """Publish what other writers have committed. False if it cannot be read; the next append or
        look tries again.
        """
        try:
            self._catch_up(before)
        except StoreFailed as error:
            logger.error("Events of other writers cannot be read from the log: %s", error)
        except Exception:
            logger.exception("The appender met an unexpected error while it read the log.")
        else:
            return True
        self.failing = True
        return False

    def _catch_up(self, before: int | None = None) -> None:
        """Publish what is committed but not yet published: events of another writer, or of an
        append that failed.
        """
        whole = self._store.head_blocking() <= self._published
        while not whole:
            page = self._store.read_blocking(
                Query(after=self._published, before=before, limit=_PAGE)
            )
            whole = page.whole
            if page.rows:
                self._published = page.rows[-1][0]
                self._committed([Recorded(*row, self._catalogue) for row in page.rows], [])

    def _refuse(self, batch: list[AppendCommand], error: Exception) -> list[Recorded]:
        logger.error("The log cannot be written: %s", error)
        self.failing = True
        for command in batch:
            command.outcome = LogUnavailable(f"The log cannot be written: {error}")
        return []


def _size(command: AppendCommand) -> int:
    return sum(len(event.state) for event in command.events)
