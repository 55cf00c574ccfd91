"""Group commit: one thread writes all that is waiting in one transaction and answers everyone after
it.

A commit costs one fsync whatever it holds, so a busy log is as durable as an idle one and much
faster.
"""

import asyncio
import logging
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from eventsourcing.persistence import (
    IntegrityError,
    OperationalError,
    PersistenceError,
    StoredEvent,
    Tracking,
)

from domain.errors import CrewlogError, LogUnavailable, VersionConflict
from domain.event import Catalogue
from domain.log.place import Place
from domain.log.recorded import Recorded
from domain.log.recorder import SQLiteLogRecorder
from domain.log.reserve import Reserve

logger = logging.getLogger("crewlog.log")

_MAX_COMMANDS = 512
_MAX_BYTES = 8 * 1024 * 1024
_CACHED_VERSIONS = 200_000

Outcome = Sequence[Recorded] | CrewlogError


@dataclass(slots=True)
class AppendCommand:
    """Events of one caller. All of them are written, or none."""

    events: Sequence[StoredEvent]
    actors: Sequence[str]
    expected: Mapping[str, int]
    checkpoint: tuple[str, int] | None
    answer: "threading.Event | tuple[object, asyncio.Future[Sequence[Recorded]]]"
    """Whoever waits for the outcome: a thread, or a future and the side of its event loop."""
    essential: bool = False
    """It is written also when the disk is nearly full."""
    outcome: Outcome | None = None


class Appender:
    """Owns the writing connection and the head. `committed` is called on its thread after each
    commit.
    """

    def __init__(
        self,
        recorder: SQLiteLogRecorder,
        place: Place,
        committed: Callable[[list[Recorded], list[AppendCommand]], None],
        reserve: Reserve,
        catalogue: Catalogue,
    ) -> None:
        self._catalogue = catalogue
        self._recorder = recorder
        self._reserve = reserve
        self._place = place
        self._committed = committed
        self._head = recorder.max_notification_id() or 0
        self._versions: OrderedDict[str, int] = OrderedDict()
        self._checkpoints: dict[str, int] = {}
        self.failing = False
        """The last write failed, and none has succeeded since."""
        self.low = False
        """So little is left on the disk that only what is essential is written."""
        self._waiting: queue.SimpleQueue[AppendCommand | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="log-appender", daemon=True)
        self._thread.start()

    def submit(self, command: AppendCommand) -> None:
        """Queue a command; it is answered once it is durable or refused."""
        if self._closed:
            raise LogUnavailable("The log is closed.")
        self._waiting.put(command)

    def close(self) -> None:
        """Write what is waiting, then stop."""
        if not self._closed:
            self._closed = True
            self._waiting.put(None)
            self._thread.join()

    def _run(self) -> None:
        while True:
            batch, more = self._take()
            if batch:
                written = self._write(batch)
                self._committed(written, batch)
            if not more:
                return

    def _take(self) -> tuple[list[AppendCommand], bool]:
        first = self._waiting.get()
        if first is None:
            return [], False
        batch, size = [first], _size(first)
        while len(batch) < _MAX_COMMANDS and size < _MAX_BYTES:
            try:
                command = self._waiting.get_nowait()
            except queue.Empty:
                break
            if command is None:
                return batch, False
            batch.append(command)
            size += _size(command)
        return batch, True

    def _write(self, batch: list[AppendCommand]) -> list[Recorded]:
        try:
            if self.failing:
                self._recover()
            self._reserve.hold()
            self.low = self._reserve.is_low()
            return self._commit(batch, self._judge(batch))
        except IntegrityError:
            # A version that was not cached was wrong. Look every stream up and judge again: the
            # commands that conflict fail alone, and the rest of the batch is written.
            self._versions.clear()
            self._look_up({s for command in batch for s in command.expected})
            try:
                return self._commit(batch, self._judge(batch))
            except PersistenceError as error:
                return self._refuse(batch, error)
        except PersistenceError as error:
            return self._refuse(batch, error)
        except Exception as error:
            logger.exception("The appender met an error that it does not know.")
            return self._refuse(batch, error)

    def _judge(self, batch: list[AppendCommand]) -> list[AppendCommand]:
        """Check each command's expectations as if those before it were written;
        answer the losers.
        """
        known = self._versions
        unknown = {
            stream
            for command in batch
            for stream, expected in command.expected.items()
            if stream not in known and not (expected == 0 and _writes(command, stream))
        }
        self._look_up(unknown)
        accepted: list[AppendCommand] = []
        ahead: dict[str, int] = {}
        for command in batch:
            if self.low and not command.essential and (command.events or command.checkpoint):
                command.outcome = LogUnavailable("Hardly any room is left on the disk.")
                continue
            conflict = self._conflict(command, ahead)
            if conflict is not None:
                command.outcome = conflict
                continue
            command.outcome = None
            for event in command.events:
                ahead[str(event.originator_id)] = event.originator_version
            accepted.append(command)
        return accepted

    def _recover(self) -> None:
        """After a failure nobody can be sure what reached the disk: ask it, and publish what did.
        Then see that it can be written to again, whether or not the batch at hand writes anything.
        """
        self._require_place()
        whole = False
        while not whole:
            rows, whole = self._recorder.select_rows(self._head, -1)
            if rows:
                self._head = rows[-1][0]
                self._committed([Recorded(*row, self._catalogue) for row in rows], [])
        self._recorder.rewrite_meta()
        self.failing = False

    def _require_place(self) -> None:
        """OperationalError where what was written is in no file that anybody finds again."""
        lost = self._place.lost()
        if lost is not None:
            raise OperationalError(lost)

    def _conflict(self, command: AppendCommand, ahead: Mapping[str, int]) -> VersionConflict | None:
        if command.checkpoint is not None:
            name, position = command.checkpoint
            if name not in self._checkpoints:
                self._checkpoints[name] = self._recorder.max_tracking_id(name) or 0
            if position <= self._checkpoints[name]:
                return VersionConflict(f"checkpoint {name}", position, self._checkpoints[name])
        for stream, expected in command.expected.items():
            actual = ahead.get(stream, self._versions.get(stream, 0))
            if actual != expected:
                return VersionConflict(stream, expected, actual)
        return None

    def _look_up(self, streams: set[str]) -> None:
        if streams:
            self._versions.update(self._recorder.stream_versions(list(streams)))

    def _commit(self, batch: list[AppendCommand], accepted: list[AppendCommand]) -> list[Recorded]:
        events = [event for command in accepted for event in command.events]
        trackings = [Tracking(*c.checkpoint) for c in accepted if c.checkpoint is not None]
        if not events and not trackings:
            for command in accepted:
                command.outcome = []
            return []
        self._recorder.insert_events(
            events,
            first_position=self._head + 1,
            actors=[actor for command in accepted for actor in command.actors],
            trackings=trackings,
        )
        self._require_place()
        recorded: list[Recorded] = []
        for command in accepted:
            mine = [
                Recorded(
                    position,
                    str(e.originator_id),
                    e.originator_version,
                    e.topic,
                    e.state,
                    self._catalogue,
                )
                for position, e in enumerate(command.events, self._head + 1)
            ]
            self._head += len(mine)
            command.outcome = mine
            recorded.extend(mine)
        for event in recorded:
            self._versions[event.stream] = event.version
            self._versions.move_to_end(event.stream)
        while len(self._versions) > _CACHED_VERSIONS:
            self._versions.popitem(last=False)
        self._checkpoints.update((t.application_name, t.notification_id) for t in trackings)
        return recorded

    def _refuse(self, batch: list[AppendCommand], error: Exception) -> list[Recorded]:
        logger.error("The log could not be written: %s", error)
        # What reached the disk is known only to the disk: believe nothing that was cached.
        self._versions.clear()
        self._checkpoints.clear()
        self.failing = True
        for command in batch:
            if not isinstance(command.outcome, VersionConflict):
                command.outcome = LogUnavailable(f"The log cannot be written: {error}")
        return []


def _writes(command: AppendCommand, stream: str) -> bool:
    """Whether the command makes this stream: the table itself then checks that
    there is none yet.
    """
    return any(event.originator_id == stream for event in command.events)


def _size(command: AppendCommand) -> int:
    return sum(len(event.state) for event in command.events)
