"""Regular expressions of schemas, matched within a time limit.

Python's own ``re`` needs a time that doubles with each character for expressions like ``^(a+)+$``,
and nothing else of the server runs meanwhile. `regex` can be told when to stop.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import regex  # type: ignore[import-untyped]

LIMIT_S = 0.25
"""For all the matching that one value needs."""

_deadline: ContextVar[float] = ContextVar("deadline")

_DOLLAR = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|\$", re.DOTALL)


class PatternTooSlow(Exception):
    """The time was over before a value could be matched."""

    def __init__(self, pattern: str) -> None:
        super().__init__(f"could not be matched with {pattern[:200]} in {LIMIT_S} s")


class BadPattern(Exception):
    """This is no regular expression."""


@contextmanager
def time_limit() -> Iterator[None]:
    """All that is matched within has `LIMIT_S` seconds together."""
    token = _deadline.set(time.monotonic() + LIMIT_S)
    try:
        yield
    finally:
        _deadline.reset(token)


@lru_cache(maxsize=1_000)
def compiled(pattern: str) -> Any:
    """The expression, where ``$`` means the very end, as in JSON Schema's ECMA 262, not also before
    a last newline. BadPattern.
    """
    ends = _DOLLAR.sub(lambda found: r"\Z" if found[0] == "$" else found[0], pattern)
    try:
        return regex.compile(ends)
    except (regex.error, RecursionError, OverflowError) as error:
        raise BadPattern(str(error)) from error


def found(pattern: str, text: str) -> bool:
    """Whether the text holds a match. PatternTooSlow, within `time_limit`; BadPattern."""
    left = _deadline.get(time.monotonic() + LIMIT_S) - time.monotonic()
    try:
        # The library takes a time of 0 for none at all.
        hit = compiled(pattern).search(text, timeout=max(left, 1e-3), concurrent=True)
    except TimeoutError:
        raise PatternTooSlow(pattern) from None
    return hit is not None


@lru_cache
def timed(kind: Any) -> Any:
    """The validator class of `jsonschema` with its keywords that match patterns put in place."""
    from jsonschema import ValidationError
    from jsonschema.validators import extend

    def pattern(_: Any, wanted: str, value: Any, __: Any) -> Iterator[ValidationError]:
        if isinstance(value, str) and not found(wanted, value):
            yield ValidationError(f"{value!r} does not match {wanted!r}")

    def pattern_properties(
        validator: Any, schemas: Mapping[str, Any], value: Any, _: Any
    ) -> Iterator[ValidationError]:
        if isinstance(value, dict):
            for wanted, schema in schemas.items():
                for name, member in value.items():
                    if found(wanted, name):
                        yield from validator.descend(member, schema, path=name, schema_path=wanted)

    def additional_properties(
        validator: Any, wanted: Any, value: Any, schema: Mapping[str, Any]
    ) -> Iterator[ValidationError]:
        if not isinstance(value, dict):
            return
        patterns = schema.get("patternProperties", ())
        extras = [
            name
            for name in value
            if name not in schema.get("properties", ())
            and not any(found(each, name) for each in patterns)
        ]
        if isinstance(wanted, dict):
            for name in extras:
                yield from validator.descend(value[name], wanted, path=name)
        elif wanted is False and extras:
            yield ValidationError(f"{', '.join(map(repr, extras))} not expected")

    extended: Callable[..., Any] = extend
    return extended(
        kind,
        {
            "pattern": pattern,
            "patternProperties": pattern_properties,
            "additionalProperties": additional_properties,
        },
    )
