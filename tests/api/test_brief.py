"""Short forms of JSON for lists, and pages that end by their size."""

from typing import Any

import orjson
import pytest

from api.edge.short_forms import bounded, brief


def test_a_page_ends_once_its_items_come_to_the_bound() -> None:
    page, whole = bounded(({"n": n, "text": "x" * 90} for n in range(10)), 250)
    assert [item["n"] for item in orjson.loads(orjson.dumps(page))] == [0, 1, 2]
    assert not whole


def test_a_page_has_at_least_one_item_however_large() -> None:
    page, whole = bounded(["x" * 1_000, "y"], 10)
    assert (len(page), whole) == (1, False)
    assert bounded(["x" * 1_000], 10)[1], "There is no other item."
    assert bounded([], 10) == ([], True)


@pytest.mark.parametrize(
    "value", [{}, {"a": 1}, {"text": "x" * 1_000}, {"list": [1.5, None, True]}]
)
def test_what_is_short_stays_as_it_is(value: Any) -> None:
    assert brief(value) == (value, True)


@pytest.mark.parametrize(
    "value",
    [
        {"text": "é" * 60_000},
        {"list": ["x" * 400] * 5_000},
        {f"name {n}": "x" * 400 for n in range(5_000)},
        {"deep": [[[[["x" * 400] * 20] * 20] * 20] * 20]},
        {"wide": [[["\0" * 400] * 20] * 20] * 20},
        {"n" * 60_000: 1},
    ],
)
def test_what_is_long_is_bounded(value: Any) -> None:
    short, whole = brief(value)
    assert not whole
    assert len(orjson.dumps(short)) <= 20_000
