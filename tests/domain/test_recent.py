"""The window of the newest events keeps few of them decoded."""

import gc

import orjson

from domain.catalogue import CATALOGUE
from domain.log import Recorded
from domain.log.recent import RecentEvents

STATE = orjson.dumps(
    {"schema": 1, "id": "i", "at": "t", "actor": "a", "request_id": None, "cause": None}
    | {"data": {"links": {"of": ["x"]}}}
)


def event(position: int) -> Recorded:
    return Recorded(position, f"job-{position}", 1, "job.noted", STATE, CATALOGUE)


def decoded(events: list[Recorded]) -> int:
    """How many of these events hold decoded JSON, for the garbage collector to walk."""
    held = ([at for at in gc.get_referents(one) if at is not CATALOGUE] for one in events)
    return sum(any(isinstance(at, dict) for at in found) for found in held)


def test_the_oldest_of_the_window_are_kept_as_bytes_and_decoded_for_who_asks() -> None:
    recent = RecentEvents(0)
    events = [event(position) for position in range(1, 2_001)]
    for at in range(0, len(events), 50):
        page = events[at : at + 50]
        recent.extend(page)
        assert all(one.data == {"links": {"of": ["x"]}} for one in page)
    page, _ = recent.read(0, 2_000, None) or ([], 0)
    assert page == events
    assert decoded(events) == decoded(events[-512:]) == 512
    assert events[0].data == {"links": {"of": ["x"]}}
    assert events[0].decoded["actor"] == "a"
