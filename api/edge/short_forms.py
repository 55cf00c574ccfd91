"""Lists that stay small: short forms of what people may make long, and pages bounded by bytes."""

from collections.abc import Iterable
from typing import Any

import orjson

from projections.jobs import shortened

PAGE_BYTES = 2 * 1024 * 1024
"""What the items of a page may come to as JSON, but for the last one."""

_MOST = 2_000
_ITEMS = 20


def bounded(items: Iterable[Any], most: int = PAGE_BYTES) -> tuple[list[orjson.Fragment], bool]:
    """The first items as JSON, until they come to `most` bytes, and whether these are all."""
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
    """JSON as lists show it, and whether it is whole: long texts end with an ellipsis, long lists
    and objects after their first members; what is deep or still large is null.
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
