"""The log as a whole: what must hold of every event in it, and how it leaves and enters a store.

An export is NDJSON, one envelope a line (`Recorded.wire`), in the order of positions. An import
takes back the very bytes, so export, import and export again give the same file. Whatever is
imported, and whatever `verify` walks over, is held against the same rules.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
from eventsourcing.persistence import PersistenceError
from pydantic import ValidationError

import domain.jobs  # noqa: F401 - the types of all events must be known before they are checked
from domain.clock import format_time, parse_time
from domain.errors import CrewlogError, LogDamaged, LogRefused, LogUnavailable
from domain.event import _TYPE_NAME, REGISTRY, Json
from domain.log.envelope import _STREAM_NAME, ENVELOPE_FIELDS, Recorded
from domain.log.log import FORMAT, EventLog
from domain.log.recorder import Datastore, Row, SQLiteLogRecorder

_COLUMNS = ("position", "stream", "version", "type")
_PAGE = 1_000
_LOWEST = -(1 << 63)
"""The lowest position that a store can hold, where none should be below 1."""


class BadExport(CrewlogError):
    """A line of an export that no log can have written; nothing of the export was imported."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"Line {line}: {reason} Nothing was imported.")
        self.line = line


class Stored(Recorded):
    """An event and the columns beside it, by which a store finds what it is about and whose it is.

    Readers filter by these and believe them, so they must say what the event itself says.
    """

    __slots__ = ("columns",)

    def __init__(self, row: Row, subject: str, actor: str) -> None:
        super().__init__(*row)
        self.columns = (subject, actor)


@dataclass(slots=True)
class Verified:
    """What a walk over a sound log has seen. `unknown` counts events of types that this version
    does not know.
    """

    events: int = 0
    streams: int = 0
    unknown: dict[str, int] = field(default_factory=dict)


class Walk:
    """Checks events one by one, in the order of a whole log from its first position.

    Remembers the version of each stream, so its memory grows with the number of streams.
    """

    def __init__(self) -> None:
        self.position = 0
        """Everything up to here is sound."""
        self._versions: dict[str, int] = {}
        self._unknown: dict[str, int] = {}

    def step(self, event: Recorded) -> None:
        """Check the next event. LogDamaged with its position (the missing one, where there is a
        gap).
        """
        expected = self.position + 1
        if event.position < 1:
            raise LogDamaged(event.position, "positions count from 1.")
        if event.position != expected:
            raise LogDamaged(expected, f"missing; the next event is at {event.position}.")
        reason = (
            self._wrong_place(event)
            or _wrong_envelope(event)
            or self._wrong_data(event)
            or _wrong_columns(event)
        )
        if reason is not None:
            raise LogDamaged(expected, reason)
        self._versions[event.stream] = event.version
        self.position = expected

    def verified(self) -> Verified:
        return Verified(self.position, len(self._versions), dict(sorted(self._unknown.items())))

    def _wrong_place(self, event: Recorded) -> str | None:
        if not isinstance(event.stream, str) or not _STREAM_NAME.fullmatch(event.stream):
            return "the name of its stream is not one of noun-id or noun-id/sub."
        if not isinstance(event.type, str) or not _TYPE_NAME.fullmatch(event.type):
            return "the name of its type is not one of noun.past_tense."
        expected = self._versions.get(event.stream, 0) + 1
        if event.version != expected:
            return f"version {event.version} of {event.stream}, where {expected} must follow."
        return None

    def _wrong_data(self, event: Recorded) -> str | None:
        known = REGISTRY.get(event.type)
        if known is None:
            self._unknown[event.type] = self._unknown.get(event.type, 0) + 1
            return None
        if event.schema > known.schema_number:
            return (
                f"{event.type} of schema {event.schema}; "
                f"this version knows up to {known.schema_number}."
            )
        try:
            event.event()
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"]) or "data"
            return f"its data is not that of {event.type}: {where}: {error.errors()[0]['msg']}."
        return None


def _wrong_envelope(event: Recorded) -> str | None:
    state = _state_of(event)
    if state is None:
        return "the stored bytes are not a JSON object."
    missing = [name for name in ENVELOPE_FIELDS if name not in state]
    if missing:
        return f"the envelope has no {missing[0]}."
    wrong = next((name for name, is_right in _FIELDS.items() if not is_right(state[name])), None)
    if wrong is not None:
        return f"the envelope's {wrong} is not valid."
    try:
        event.decoded  # noqa: B018 - reading it brings the data up to today's schema
    except Exception as error:
        return f"its data cannot be brought up to today's schema: {error!r}."
    return None


def _wrong_columns(event: Recorded) -> str | None:
    if not isinstance(event, Stored):
        return None
    subject, actor = event.columns
    if subject != event.subject:
        return f"it is filed under the subject {subject!r}, and is about {event.subject}."
    if actor != event.actor:
        return f"it is filed under the actor {actor!r}, and is by {event.actor}."
    return None


def _state_of(event: Recorded) -> Json | None:
    if not isinstance(event.state, bytes):
        return None
    try:
        state = orjson.loads(event.state)
    except orjson.JSONDecodeError:
        return None
    return state if isinstance(state, dict) else None


def _is_uuid(value: Any) -> bool:
    try:
        return isinstance(value, str) and str(UUID(value)) == value
    except ValueError:
        return False


def _is_time(value: Any) -> bool:
    # Text order is time order only while every time has the one form.
    try:
        return isinstance(value, str) and format_time(parse_time(value)) == value
    except ValueError:
        return False


def _is_text_or_none(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


_FIELDS: dict[str, Callable[[Any], bool]] = {
    "schema": _is_count,
    "id": _is_uuid,
    "at": _is_time,
    "actor": lambda value: isinstance(value, str) and value != "",
    "request_id": _is_text_or_none,
    "cause": _is_text_or_none,
    "data": lambda value: isinstance(value, dict),
}


def verify(pages: Iterable[Sequence[Recorded]], *, written: int = 0) -> Verified:
    """Walk a whole log from its first position and say what it holds.

    `written` is the highest position that was ever given out, when the store knows it. Raises
    LogDamaged at the first position where density, versions, decoding or the envelope is broken.
    """
    walk = Walk()
    for page in pages:
        for event in page:
            walk.step(event)
    if walk.position < written:
        raise LogDamaged(walk.position + 1, f"missing, as is all up to {written}.")
    return walk.verified()


def read_export(lines: Iterable[bytes]) -> Iterator[list[Recorded]]:
    """The events of an export of a whole log, checked, by page. BadExport names the first bad
    line.
    """
    walk = Walk()
    page: list[Recorded] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            event = _event_of(line.strip())
            walk.step(event)
        except LogDamaged as damage:
            raise BadExport(number, f"{damage} {_hint(walk, event)}".rstrip()) from damage
        except ValueError as error:
            raise BadExport(number, f"{error}") from error
        page.append(event)
        if len(page) == _PAGE:
            yield page
            page = []
    if page:
        yield page


def _hint(walk: Walk, event: Recorded) -> str:
    if walk.position or event.position == 1:
        return ""
    return "Only the export of a whole log can be imported."


def _event_of(line: bytes) -> Recorded:
    try:
        envelope = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ValueError("this is not JSON.") from error
    if not isinstance(envelope, dict):
        raise ValueError("this is not a JSON object.")
    missing = [name for name in (*_COLUMNS, *ENVELOPE_FIELDS) if name not in envelope]
    if missing:
        raise ValueError(f"the envelope has no {missing[0]}.")
    position, stream, version, type_name = (envelope.pop(name) for name in _COLUMNS)
    if not (_is_count(position) and _is_count(version)):
        raise ValueError("position and version must be whole numbers from 1.")
    if not (isinstance(stream, str) and isinstance(type_name, str)):
        raise ValueError("stream and type must be texts.")
    event = Recorded(position, stream, version, type_name, orjson.dumps(envelope))
    ahead = event.wire[: len(event.wire) - len(event.state) + 1]
    if line.startswith(ahead):
        # The bytes as they were stored: encoding them again could spell a number otherwise.
        event = Recorded(position, stream, version, type_name, b"{" + line[len(ahead) :])
    return event


def import_export(log: EventLog, lines: Iterable[bytes]) -> int:
    """Write an export into the empty `log`, all or nothing, and return how many events it had.

    Positions, ids and all else are kept, and nothing is redacted again. Raises BadExport,
    LogRefused when the log is not empty, LogUnavailable when it cannot be written.
    """
    try:
        return log.import_rows(read_export(lines), lambda event: event.actor)
    except PersistenceError as error:
        raise LogUnavailable(f"The log cannot be written: {error}") from error


class StoredLog:
    """A log read beside whoever owns it: nothing is locked, nothing is written."""

    def __init__(self, recorder: SQLiteLogRecorder) -> None:
        self._recorder = recorder
        self.written = _written(recorder)
        """The highest position that was ever given out."""
        self.head = recorder.max_notification_id() or 0
        """The newest position at the time of opening."""

    def pages(self) -> Iterator[list[Recorded]]:
        """The log up to its head of now, by page. LogDamaged where the file itself is broken."""
        start = _LOWEST
        while True:
            try:
                rows = self._recorder.select_columns(start, _PAGE)
            except PersistenceError as error:
                at = max(1, start)
                raise LogDamaged(at, f"the file cannot be read: {error}.") from error
            if not rows:
                return
            page: list[Recorded] = [Stored(*row) for row in rows]
            yield page
            start = page[-1].position + 1


def _written(recorder: SQLiteLogRecorder) -> int:
    with recorder.datastore.transaction(commit=False) as cursor:
        cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'")
        row = cursor.fetchone()
    return int(row[0]) if row else 0


@contextmanager
def stored_log(directory: Path) -> Iterator[StoredLog]:
    """The log in a data directory, whether a server runs on it or not.

    LogRefused when there is none, it is no log, or a newer version wrote it.
    """
    path = directory / "log.db"
    if not path.is_file():
        raise LogRefused(f"There is no log in {directory}.")
    datastore = Datastore(path, writes=False)
    try:
        recorder = SQLiteLogRecorder(datastore)
        try:
            wrote = int(recorder.meta().get("format", "0"))
            stored = StoredLog(recorder)
        except (PersistenceError, sqlite3.Error, ValueError) as error:
            # The library lets the errors of opening a file through as they are.
            raise LogRefused(f"{path} is not a log of crewlog: {error}.") from error
        if wrote > FORMAT:
            raise LogRefused(
                f"The log {path} has format {wrote}; this version of crewlog reads up to "
                f"{FORMAT}. A newer version wrote it: use that one."
            )
        yield stored
    finally:
        datastore.close()
