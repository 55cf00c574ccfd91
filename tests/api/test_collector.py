"""Garbage in cycles goes, old objects are not walked while there is work."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from api.process import collector


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


class Time:
    """A clock, and how much of it a processor was used."""

    def __init__(self) -> None:
        self._now = self._used_s = 0.0

    def passes(self, seconds: float, of_a_processor: float) -> None:
        self._now += seconds
        self._used_s += of_a_processor

    def clock(self) -> float:
        return self._now

    def used(self) -> float:
        return self._used_s


class _Node:
    def __init__(self) -> None:
        self.itself = self


def _aged() -> "weakref.ref[_Node]":
    """A cycle that nobody holds any more, among the old objects."""
    node = _Node()
    for _ in range(3):
        kept: list[list[object]] = [[] for _ in range(2 * collector.YOUNG)]
    del kept
    return weakref.ref(node)


def test_young_garbage_goes_by_itself() -> None:
    collector.begin()
    cycles = [weakref.ref(_Node()) for _ in range(3 * collector.YOUNG)]
    assert sum(cycle() is not None for cycle in cycles) <= collector.YOUNG


def test_old_objects_are_never_walked_at_work_and_once_it_rests() -> None:
    collector.begin()
    time = Time()
    old = collector.OldObjects(time.clock, time.used)
    walks = [generation["collections"] for generation in gc.get_stats()]
    lost = _aged()
    kept: list[list[list[object]]] = [[[]] for _ in range(25 * collector.YOUNG)]
    for _ in range(5):
        time.passes(1.0, of_a_processor=0.5)
        assert not old.look()
    now = [generation["collections"] for generation in gc.get_stats()]
    assert now[0] > walks[0] + 20
    assert now[1:] == walks[1:]
    assert lost() is not None
    seen = []
    for _ in range(7):
        time.passes(1.0, of_a_processor=0.01)
        seen.append(old.look())
    assert seen == [False, False, True, False, False, False, False]
    assert lost() is None
    assert len(kept) == 25 * collector.YOUNG


def test_memory_that_has_doubled_is_a_reason_at_work() -> None:
    collector.begin()
    old = collector.OldObjects()
    lost = _aged()
    kept = [str(number) for number in range(3_000_000)]
    assert old.look()
    assert lost() is None
    assert len(kept) == 3_000_000
