"""Keeps lists small: short forms of long values, and pages limited in bytes."""

from collections.abc import Iterable
from typing import Any

import orjson

from projections.jobs import shortened

PAGE_BYTES = 2 * 1024 * 1024
"""Most bytes of a page's items as JSON, not counting the last one."""

_MOST = 2_000
_ITEMS = 20


def bounded(items: Iterable[Any], most: int = PAGE_BYTES) -> tuple[list[orjson.Fragment], bool]:
    """The first items as JSON, until they reach `most` bytes, and whether these are all."""
    page: list[orjson.Fragment] = []
    size = 0
    for item in items:
        if size >= most:
            return page, False
        encoded = orjson.dumps(item)
        page.append(orjson.Fragment(encoded))
        size += len(encoded)
    return page, True


def brief(value: Any) -> tuple[Any, bool]:
    """A JSON value as lists show it, and whether it is whole. Long texts end with an ellipsis, long
    lists and objects end after their first members; deep or still large values become null.
    """
    if len(orjson.dumps(value)) <= _MOST:
        return value, True
    short = _shortened(value, 3)
    return short if len(orjson.dumps(short)) <= 10 * _MOST else None, False


def _shortened(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return shortened(value)
    if not isinstance(value, dict | list):
        return value
    if not depth:
        return None
    if isinstance(value, list):
        return [_shortened(one, depth - 1) for one in value[:_ITEMS]]
    return {
        shortened(name): _shortened(one, depth - 1) for name, one in list(value.items())[:_ITEMS]
    }
