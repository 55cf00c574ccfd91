"""Garbage in cycles goes, old objects are not walked while there is work."""

import gc
import time
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


class _Node:
    def __init__(self) -> None:
        self.itself = self


def _aged() -> "weakref.ref[_Node]":
    """A cycle that nobody holds any more, among the old objects."""
    node = _Node()
    for _ in range(3):
        kept = [[] for _ in range(2 * collector.YOUNG)]  # type: ignore[var-annotated]
    del kept
    return weakref.ref(node)


def test_young_garbage_goes_by_itself() -> None:
    collector.begin()
    cycles = [weakref.ref(_Node()) for _ in range(3 * collector.YOUNG)]
    assert sum(cycle() is not None for cycle in cycles) <= collector.YOUNG


def test_old_objects_are_never_walked_at_work_and_once_it_rests() -> None:
    collector.begin()
    old = collector.OldObjects()
    walks = [generation["collections"] for generation in gc.get_stats()]
    lost = _aged()
    kept = [[[]] for _ in range(25 * collector.YOUNG)]  # type: ignore[var-annotated]
    assert not old.look()
    now = [generation["collections"] for generation in gc.get_stats()]
    assert now[0] > walks[0] + 20
    assert now[1:] == walks[1:]
    assert lost() is not None
    assert [_rested(old) for _ in range(3)] == [False, False, True]
    assert lost() is None
    assert not any(_rested(old) for _ in range(4))
    assert len(kept) == 25 * collector.YOUNG


def test_memory_that_has_doubled_is_a_reason_at_work() -> None:
    collector.begin()
    old = collector.OldObjects()
    lost = _aged()
    kept = [str(number) for number in range(3_000_000)]
    assert old.look()
    assert lost() is None
    assert len(kept) == 3_000_000


def _rested(old: collector.OldObjects) -> bool:
    """A look after no work for long enough to be seen: the rule is a share of time."""
    time.sleep(0.3)
    return old.look()
