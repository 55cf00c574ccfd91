"""The envelope around every event: who, when, why, and where in the order of all things."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import orjson

from domain.catalogue import CATALOGUE
from domain.clock import Clock, format_time, system_clock
from domain.entropy import random_bytes
from domain.event import Event, Json

_STREAM_NAME = re.compile(r"[a-z][a-z0-9]*-[A-Za-z0-9._~-]{1,200}(?:/[a-z0-9][a-z0-9._-]{0,60})?")

PAGE_BYTES = 4 * 1024 * 1024
"""A page of events ends once their states come to so much: one event may hold lines of a MiB."""

_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}

ENVELOPE_FIELDS = ("schema", "id", "at", "actor", "request_id", "cause", "data")
"""What the stored state holds; position, stream, version and type are columns beside it."""


def uuid7() -> str:
    """A time-ordered UUID (RFC 9562 section 5.7): 48 bits of milliseconds, then random bits."""
    text = ((time.time_ns() // 1_000_000).to_bytes(6, "big") + random_bytes(10)).hex()
    variant = _VARIANT[text[16]]
    return f"{text[:8]}-{text[8:12]}-7{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"


def subject_of(stream: str) -> str:
    """The part before ``/``: the thing that a stream and its sub-streams are about."""
    return stream.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Context:
    """Who does something and why, carried from the door to every event that it causes."""

    actor: str
    request_id: str | None = None
    cause: str | None = None


SYSTEM = Context(actor="system")


class NewEvent(NamedTuple):
    """An event on its way into the log. `at` is ISO 8601 in UTC; `id` a UUIDv7."""

    stream: str
    event: Event
    context: Context
    at: str
    id: str


@lru_cache(maxsize=4_096)
def _check_name(stream: str) -> None:
    if not _STREAM_NAME.fullmatch(stream):
        raise ValueError(f"{stream!r} is not a stream name: noun-id or noun-id/sub.")


def new_events(
    stream: str, events: list[Event], context: Context, clock: Clock = system_clock
) -> list[NewEvent]:
    """Put events of one command into envelopes that share their time.

    Raises ValueError for a stream name outside ``noun-id`` or ``noun-id/sub``.
    """
    _check_name(stream)
    at = format_time(clock())
    return [NewEvent(stream, event, context, at, uuid7()) for event in events]


class Recorded:
    """An event of the log. The stored bytes are decoded on first use, once for all who share it.

    `position` counts from 1 without gaps, `version` likewise within the stream; `data` is a JSON
    object of today's schema (older ones are upcast here).
    """

    __slots__ = (
        "_data",
        "_encoded",
        "_state",
        "_subject",
        "position",
        "state",
        "stream",
        "type",
        "version",
    )

    def __init__(
        self,
        position: int,
        stream: str,
        version: int,
        type: str,
        state: bytes,
    ) -> None:
        self.position = position
        self.stream = stream
        self.version = version
        self.type = type
        self.state = state
        self._state: Json | None = None
        self._data: Json | None = None
        self._subject: str | None = None
        self._encoded: dict[str, list[bytes]] | None = None

    def __repr__(self) -> str:
        return f"<{self.position} {self.type} {self.stream}@{self.version}>"

    @property
    def subject(self) -> str:
        subject = self._subject
        if subject is None:
            subject = self._subject = subject_of(self.stream)
        return subject

    @property
    def decoded(self) -> Json:
        """The stored state with `data` upcast."""
        if self._state is None:
            state: Json = orjson.loads(self.state)
            event_class = CATALOGUE.get(self.type)
            if event_class is not None and state["schema"] < event_class.schema_number:
                state["data"] = event_class.upcast(state["data"], state["schema"])
            self._state = state
        return self._state

    @property
    def data(self) -> Json:
        data = self._data
        if data is None:
            data = self._data = self.decoded["data"]
        return data

    @property
    def schema(self) -> int:
        return int(self.decoded["schema"])

    @property
    def id(self) -> str:
        return str(self.decoded["id"])

    @property
    def at(self) -> str:
        return str(self.decoded["at"])

    @property
    def actor(self) -> str:
        return str(self.decoded["actor"])

    @property
    def request_id(self) -> str | None:
        value: str | None = self.decoded["request_id"]
        return value

    @property
    def cause(self) -> str | None:
        value: str | None = self.decoded["cause"]
        return value

    def event(self) -> Event:
        """The typed event. Raises KeyError for a type that this version does not know."""
        return CATALOGUE[self.type].read(self.data)

    @property
    def wire(self) -> bytes:
        """The whole envelope as one line of JSON, made from the stored bytes as they are.

        Stream and type names hold nothing that JSON would escape, so they are spliced in.
        """
        return (
            b'{"position":%d,"stream":"%s","version":%d,"type":"%s",'
            % (self.position, self.stream.encode(), self.version, self.type.encode())
            + self.state[1:]
        )

    def frames(self, form: str, encode: Callable[["Recorded"], list[bytes]]) -> list[bytes]:
        """This event in the wire form `form`, encoded at first use and shared by every reader after
        it.
        """
        if self._encoded is None:
            self._encoded = {}
        made = self._encoded.get(form)
        if made is None:
            made = self._encoded[form] = encode(self)
        return made

    def as_json(self) -> Json:
        """The envelope as a JSON object, in the field order of the wire."""
        value: Json = orjson.loads(self.wire)
        return value


def encode_state(new: NewEvent, data: bytes, request_id: str | None) -> bytes:
    """The stored bytes of an event: one JSON object on one line, in the order of ENVELOPE_FIELDS.

    `data` is the JSON of the event; id and time hold nothing that JSON would escape.
    """
    context = new.context
    return b'{"schema":%d,"id":"%s","at":"%s","actor":%s,"request_id":%s,"cause":%s,"data":%s}' % (
        new.event.schema_number,
        new.id.encode(),
        new.at.encode(),
        orjson.dumps(context.actor),
        orjson.dumps(request_id),
        orjson.dumps(context.cause),
        data,
    )
