"""The whole log: the rules that every event must keep, export and import.

An export is NDJSON: one envelope with its leaf hash on each line, in the order of positions, and a
last line with the number of events (docs/log-format.md). An import stores the same bytes, so
export, import and export again give the same file. Import and `verify` check the same rules.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from uuid import UUID

import orjson
from pydantic import ValidationError

from domain.clock import format_time, parse_time
from domain.errors import CrewlogError, LogDamaged
from domain.event import TYPE_NAME, Catalogue, Json
from domain.log.description import FORMAT
from domain.log.envelope import ENVELOPE_FIELDS, STREAM_NAME
from domain.log.leaf import canonical_envelope, leaf_hash
from domain.log.log import EventLog
from domain.log.recorded import Recorded
from domain.log.store import Row

_COLUMNS = ("position", "stream", "version", "type")
_PAGE = 1_000
_ENDED = "export.ended"


class BadExport(CrewlogError):
    """A line of an export that no log can have written. Nothing of the export was imported."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"Line {line}: {reason} Nothing was imported.")
        self.line = line


class Stored(Recorded):
    """An event and what is stored beside it: its leaf hash and, in a database, the columns subject
    and actor.

    Readers filter by these columns, so they must agree with the event itself. Formats before 2 have
    no hashes.
    """

    __slots__ = ("columns", "hash", "hashed")

    def __init__(
        self,
        row: Row,
        hash: bytes | None,
        catalogue: Catalogue,
        *,
        hashed: bool = True,
        columns: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(*row, catalogue)
        self.hash = hash
        self.hashed = hashed
        """Whether the event must have a hash."""
        self.columns = columns


@dataclass(slots=True)
class Verified:
    """What a walk over a sound log found. `unknown` counts events of types that this version does
    not know; `unhashed` counts events of older formats, in which a changed character cannot be
    detected.
    """

    events: int = 0
    streams: int = 0
    unknown: dict[str, int] = field(default_factory=dict)
    unhashed: int = 0


class Walk:
    """Checks events one by one, in the order of a whole log from its first position.

    It remembers the version of each stream, so its memory grows with the number of streams.
    """

    def __init__(self) -> None:
        self.position = 0
        """Every position up to here is sound."""
        self._versions: dict[str, int] = {}
        self._unknown: dict[str, int] = {}
        self._unhashed = 0

    def step(self, event: Stored) -> None:
        """Check the next event. Raises LogDamaged with its position, or with the missing position
        if there is a gap.
        """
        expected = self.position + 1
        if event.position < 1 and not self.position and isinstance(event.stream, str):
            raise LogDamaged(event.position, "positions count from 1.")
        if event.position < expected:
            # Rows come in order, and no two have the same position: this one is none.
            raise LogDamaged(
                expected, f"the file cannot be read: a row there has the position {event.position}."
            )
        if event.position != expected:
            raise LogDamaged(expected, f"missing; the next event is at {event.position}.")
        reason = (
            self._wrong_place(event)
            or _wrong_envelope(event)
            or self._wrong_data(event)
            or _wrong_columns(event)
            or _wrong_hash(event)
        )
        if reason is not None:
            raise LogDamaged(expected, reason)
        self._versions[event.stream] = event.version
        self._unhashed += not event.hashed
        self.position = expected

    def verified(self) -> Verified:
        unknown = dict(sorted(self._unknown.items()))
        return Verified(self.position, len(self._versions), unknown, self._unhashed)

    def _wrong_place(self, event: Recorded) -> str | None:
        if not isinstance(event.stream, str) or not STREAM_NAME.fullmatch(event.stream):
            return "the name of its stream is not one of noun-id or noun-id/sub."
        if not isinstance(event.type, str) or not TYPE_NAME.fullmatch(event.type):
            return "the name of its type is not one of noun.past_tense."
        expected = self._versions.get(event.stream, 0) + 1
        if event.version != expected:
            return f"version {event.version} of {event.stream}, where {expected} must follow."
        return None

    def _wrong_data(self, event: Recorded) -> str | None:
        known = event.catalogue.get(event.type)
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


def _wrong_columns(event: Stored) -> str | None:
    if event.columns is None:
        return None
    subject, actor = event.columns
    if subject != event.subject:
        return f"it is filed under the subject {subject!r}, and is about {event.subject}."
    if actor != event.actor:
        return f"it is filed under the actor {actor!r}, and is by {event.actor}."
    return None


def _wrong_hash(event: Stored) -> str | None:
    if not event.hashed:
        return None
    if event.hash is None:
        return "it has no hash."
    if event.hash != leaf_hash(event.stream, event.version, event.type, event.state):
        return "its hash does not fit: something in the event was changed."
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
    # The order of texts is the order of times only if every time has this one form.
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


def verify(pages: Iterable[Sequence[Stored]], *, written: int = 0) -> Verified:
    """Walk a whole log from its first position, and say what it holds.

    `written` is the highest position that was ever given out, if the store knows it. Raises
    LogDamaged at the first position where density, a version, the data, the envelope or its hash is
    wrong.
    """
    walk = Walk()
    for page in pages:
        for event in page:
            walk.step(event)
    if walk.position < written:
        raise LogDamaged(walk.position + 1, f"missing, as is all up to {written}.")
    return walk.verified()


# Out


def export_lines(log: EventLog, after: int = 0, subject: str | None = None) -> Iterator[bytes]:
    """The log up to its present head as an export, some lines at a time.

    The hashes are the stored ones, so a change that was made in the file shows in the export.
    """
    head, events, leaves = log.head, 0, sha256()
    for page in log.blocking.hashed_pages(after, head, subject):
        yield b"".join(_line(event, hashed) for event, hashed in page)
        events += len(page)
        for _, hashed in page:
            leaves.update(hashed or b"")
    end = {
        "type": _ENDED,
        "format": FORMAT,
        "events": events,
        "after": after,
        "head": head,
        "subject": subject,
        "hash": leaves.hexdigest(),
    }
    yield orjson.dumps(end) + b"\n"


def _line(event: Recorded, hashed: bytes | None) -> bytes:
    canonical = canonical_envelope(event.stream, event.version, event.type, event.state)
    ahead = b'{"position":%d,"hash":"%s",' % (event.position, (hashed or b"").hex().encode())
    return ahead + canonical[1:] + b"\n"


def end_of_export(line: bytes) -> Json | None:
    """The content of an export's last line; None if this is not the last line."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) and value.get("type") == _ENDED else None


# In


class Export:
    """Reads an export of a whole log and checks all of it. Raises BadExport with the first bad
    line.

    An export of format 1 has neither hashes nor a last line, so nobody can tell whether it is
    complete.
    """

    def __init__(self, lines: Iterable[bytes], catalogue: Catalogue) -> None:
        self._lines = lines
        self._catalogue = catalogue
        self._walk = Walk()
        self._leaves = sha256()
        self.hashed = False
        """Whether the export has format 2 or later. Known after the first page."""

    def pages(self) -> Iterator[list[Stored]]:
        """The events by page. The last page comes only after everything else was checked."""
        page: list[Stored] = []
        ended, number = False, 0
        for number, line in enumerate(self._lines, 1):
            if not line.strip():
                continue
            try:
                if ended:
                    raise ValueError("there is something after the last line of the export.")
                envelope = _object_of(line)
                if envelope.get("type") == _ENDED:
                    self._end(envelope)
                    ended = True
                    continue
                event = _event_of(line.strip(), envelope, self._catalogue)
                self._take(event)
            except LogDamaged as damage:
                raise BadExport(number, f"{damage} {self._hint(event)}".rstrip()) from damage
            except ValueError as error:
                raise BadExport(number, f"{error}") from error
            if len(page) == _PAGE:
                yield page
                page = []
            page.append(event)
        if not ended and (self.hashed or not self._walk.position):
            raise BadExport(number + 1, "its last line is missing: it was cut.")
        yield page

    def _take(self, event: Stored) -> None:
        if not self._walk.position:
            self.hashed = event.hashed
        elif event.hashed != self.hashed:
            raise ValueError("it has no hash." if self.hashed else "it alone has a hash.")
        self._leaves.update(event.hash or b"")
        self._walk.step(event)

    def _end(self, end: Json) -> None:
        if end.get("format") != FORMAT:
            raise ValueError(f"this version of crewlog reads exports up to format {FORMAT}.")
        if end.get("subject") is not None or end.get("after") != 0:
            raise ValueError("only the export of a whole log can be imported.")
        here = self._walk.position
        if here and not self.hashed:
            raise ValueError("its events have no hashes.")
        self.hashed = True
        if not end.get("events") == end.get("head") == here:
            raise ValueError(f"the export had {end.get('events')} events, and {here} are here.")
        if end.get("hash") != self._leaves.hexdigest():
            raise ValueError("the hash over the whole export does not fit.")

    def _hint(self, event: Stored) -> str:
        if self._walk.position or event.position == 1:
            return ""
        return "Only the export of a whole log can be imported."


def _object_of(line: bytes) -> Json:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ValueError("this is not JSON.") from error
    if not isinstance(value, dict):
        raise ValueError("this is not a JSON object.")
    return value


def _event_of(line: bytes, envelope: Json, catalogue: Catalogue) -> Stored:
    missing = [name for name in (*_COLUMNS, *ENVELOPE_FIELDS) if name not in envelope]
    if missing:
        raise ValueError(f"the envelope has no {missing[0]}.")
    position, stream, version, type_name = (envelope.pop(name) for name in _COLUMNS)
    if not (_is_count(position) and _is_count(version)):
        raise ValueError("position and version must be whole numbers from 1.")
    if not (isinstance(stream, str) and isinstance(type_name, str)):
        raise ValueError("stream and type must be texts.")
    hashed = "hash" in envelope
    leaf = _leaf_of(envelope.pop("hash", None)) if hashed else None
    found = Stored((position, stream, version, type_name, orjson.dumps(envelope)), leaf, catalogue)
    ahead = _ahead_of(found) if hashed else found.wire[: len(found.wire) - len(found.state) + 1]
    state = found.state
    if line.startswith(ahead):
        # The bytes as they were stored: encoding them again might write a number differently.
        state = b"{" + line[len(ahead) :]
    return Stored((position, stream, version, type_name, state), leaf, catalogue, hashed=hashed)


def _ahead_of(event: Stored) -> bytes:
    line = _line(event, event.hash)
    return line[: len(line) - len(event.state)]


def _leaf_of(text: Any) -> bytes | None:
    try:
        return bytes.fromhex(text)
    except (TypeError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class Imported:
    """What was imported. Without hashes nobody can tell whether the export was complete."""

    events: int
    hashed: bool


def import_export(log: EventLog, lines: Iterable[bytes]) -> Imported:
    """Write an export into the empty `log`, all or nothing, and say what it held.

    Positions, ids and all else stay the same, and nothing is redacted again. Raises BadExport,
    LogRefused if the log is not empty, LogUnavailable if it cannot be written.
    """
    export = Export(lines, log.catalogue)
    events = log.import_rows(export.pages(), lambda event: event.actor)
    return Imported(events, export.hashed)
