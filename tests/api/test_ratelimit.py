"""A principal gets `limit` hits in any window and a correct wait, and is forgotten in the end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.edge.rate_limit import SlidingWindow


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_limit_is_reached_exactly_and_each_key_has_its_own() -> None:
    window = SlidingWindow(limit=20, window_s=60, clock=Clock())
    assert [window.hit("ada") for _ in range(20)] == [None] * 20
    assert window.hit("ada") == 60
    assert window.hit("bob") is None


def test_the_window_slides_rather_than_starting_anew() -> None:
    clock = Clock()
    window = SlidingWindow(limit=2, window_s=60, clock=clock)
    assert window.hit("ada") is None
    clock.now += 40
    assert window.hit("ada") is None
    assert window.hit("ada") == 20
    clock.now += 20
    assert window.hit("ada") is None
    assert window.hit("ada") == 40


def test_refused_hits_do_not_prolong_the_wait() -> None:
    clock = Clock()
    window = SlidingWindow(limit=1, window_s=10, clock=clock)
    window.hit("ada")
    for _ in range(9):
        clock.now += 1
        assert window.hit("ada") is not None
    clock.now += 1
    assert window.hit("ada") is None


def test_the_wait_is_a_whole_second_at_least() -> None:
    clock = Clock()
    window = SlidingWindow(limit=1, window_s=10, clock=clock)
    window.hit("ada")
    clock.now += 9.999
    assert window.hit("ada") == 1


@given(
    limit=st.integers(1, 4),
    steps=st.lists(st.floats(0, 20, allow_nan=False), max_size=40),
)
def test_no_window_ever_holds_more_and_the_wait_always_suffices(
    limit: int, steps: list[float]
) -> None:
    clock = Clock()
    window = SlidingWindow(limit=limit, window_s=10, clock=clock)
    accepted: list[float] = []
    for step in steps:
        clock.now += step
        wait = window.hit("ada")
        if wait is not None:
            clock.now += wait
            assert window.hit("ada") is None
        accepted.append(clock.now)
        assert sum(1 for moment in accepted if clock.now - moment < 10 - 1e-6) <= limit


def test_idle_keys_are_forgotten() -> None:
    clock = Clock()
    window = SlidingWindow(limit=2, window_s=60, clock=clock)
    for number in range(1000):
        window.hit(f"visitor {number}")
    clock.now += 30
    window.hit("visitor 0")
    clock.now += 30
    window.hit("late")
    assert len(window) == 2
    assert window.hit("visitor 0") is None
    assert window.hit("visitor 0") == 30


def test_a_refused_key_is_not_kept_alive_by_asking() -> None:
    clock = Clock()
    window = SlidingWindow(limit=1, window_s=60, clock=clock)
    window.hit("ada")
    clock.now += 59
    assert window.hit("ada") == 1
    clock.now += 1
    window.hit("bob")
    assert len(window) == 1


@pytest.mark.parametrize(("limit", "window_s"), [(0, 60.0), (20, 0.0), (-1, 1.0)])
def test_a_limit_that_cannot_be_is_refused(limit: int, window_s: float) -> None:
    with pytest.raises(ValueError, match="rate limit"):
        SlidingWindow(limit=limit, window_s=window_s)
