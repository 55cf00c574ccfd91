"""The envelope around every event: who, when, why, and the place in the order of all events."""

import re
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import orjson

from domain.clock import Clock, format_time, system_clock
from domain.entropy import random_bytes
from domain.event import Event

STREAM_NAME = re.compile(r"[a-z][a-z0-9]*-[A-Za-z0-9._~-]{1,200}(?:/[a-z0-9][a-z0-9._-]{0,60})?")

PAGE_BYTES = 4 * 1024 * 1024
"""Most bytes of states in a page of events: one event may hold lines of a MiB."""

_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}

ENVELOPE_FIELDS = ("schema", "id", "at", "actor", "request_id", "cause", "data")
"""The fields of the stored state. Position, stream, version and type are columns beside it."""


def uuid7() -> str:
    """A time-ordered UUID (RFC 9562 section 5.7): 48 bits of milliseconds, then random bits."""
    return uuid7s(1)[0]


def uuid7s(count: int) -> list[str]:
    """That many, of one time."""
    time_part = (time.time_ns() // 1_000_000).to_bytes(6, "big").hex()
    begun = f"{time_part[:8]}-{time_part[8:]}-7"
    digits = random_bytes(10 * count).hex()
    return [
        f"{begun}{digits[at : at + 3]}-{_VARIANT[digits[at + 3]]}{digits[at + 4 : at + 7]}-"
        f"{digits[at + 7 : at + 19]}"
        for at in range(0, 20 * count, 20)
    ]


def subject_of(stream: str) -> str:
    """The part before ``/``: the thing that a stream and its sub-streams are about."""
    return stream.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Context:
    """Who acts and why. Passed from the request to every event that it causes."""

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
    if not STREAM_NAME.fullmatch(stream):
        raise ValueError(f"{stream!r} is not a stream name: noun-id or noun-id/sub.")


def new_events(
    stream: str, events: list[Event], context: Context, clock: Clock = system_clock
) -> list[NewEvent]:
    """Put the events of one command into envelopes with one time.

    Raises ValueError for a stream name that is not ``noun-id`` or ``noun-id/sub``.
    """
    _check_name(stream)
    at = format_time(clock())
    ids = uuid7s(len(events))
    return [NewEvent(stream, event, context, at, id) for event, id in zip(events, ids, strict=True)]


def encode_state(new: NewEvent, data: bytes, request_id: str | None) -> bytes:
    """The stored bytes of an event: one JSON object on one line, in the order of ENVELOPE_FIELDS.

    `data` is the JSON of the event. Id and time hold no character that JSON escapes.
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
