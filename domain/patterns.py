"""JSON Schema within a time limit: for its regular expressions, and for everything else that may
take long.

With Python's own ``re``, an expression like ``^(a+)+$`` takes time that doubles with each
character; `regex` can stop after a time. A schema that branches at each level takes time that
doubles with each level, so every step of a validation checks the clock.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

LIMIT_S = 0.25
"""Seconds of a processor for all pattern matching of one value."""
VALIDATION_S = 2.0
"""Seconds of a processor for a whole validation, in a thread. Time in which the thread has to wait
does not count: on a busy machine nothing would be refused that is right elsewhere.
"""

_deadline: ContextVar[float] = ContextVar("deadline")
_end: ContextVar[float] = ContextVar("end")

_DOLLAR = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|\$", re.DOTALL)


class TooSlow(Exception):
    """The time limit passed before a value could be checked."""

    def __init__(self) -> None:
        super().__init__(f"could not be checked in {VALIDATION_S:g} s: the schema asks too much")


class PatternTooSlow(TooSlow):
    """The time limit passed before a value could be matched."""

    def __init__(self, pattern: str) -> None:
        Exception.__init__(self, f"could not be matched with {pattern[:200]} in {LIMIT_S} s")


class BadPattern(Exception):
    """This is not a regular expression."""


@contextmanager
def time_limit() -> Iterator[None]:
    """Within it, all matching has `LIMIT_S` seconds together, and everything else
    `VALIDATION_S`.
    """
    now = time.thread_time()
    token, end = _deadline.set(now + LIMIT_S), _end.set(now + VALIDATION_S)
    try:
        yield
    finally:
        _deadline.reset(token)
        _end.reset(end)


def _look_at_the_clock() -> None:
    now = time.thread_time()
    if now > _end.get(now):
        raise TooSlow


@lru_cache(maxsize=1_000)
def compiled(pattern: str) -> Any:
    """The compiled expression. ``$`` means the very end, as in JSON Schema's ECMA 262, and not also
    before a last newline. Raises BadPattern.
    """
    import regex  # type: ignore[import-untyped]  # with the first pattern: a start needs none

    ends = _DOLLAR.sub(lambda found: r"\Z" if found[0] == "$" else found[0], pattern)
    try:
        return regex.compile(ends)
    except (regex.error, RecursionError, OverflowError) as error:
        raise BadPattern(str(error)) from error


def found(pattern: str, text: str) -> bool:
    """Whether the text holds a match. Raises PatternTooSlow, within `time_limit`, and
    BadPattern.
    """
    _look_at_the_clock()
    deadline = _deadline.get(time.thread_time() + LIMIT_S)
    while True:
        left = deadline - time.thread_time()
        try:
            # The library's time is not this thread's. It takes a time of 0 as no limit.
            hit = compiled(pattern).search(text, timeout=max(left, 1e-3), concurrent=True)
        except TimeoutError:
            if time.thread_time() < deadline:
                continue
            raise PatternTooSlow(pattern) from None
        return hit is not None


@lru_cache
def timed(kind: Any) -> Any:
    """The validator class of `jsonschema` with a clock check in each step, and with its own
    versions of the keywords that match patterns or compare each item with each other.
    """
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

    def unique_items(_: Any, wanted: Any, value: Any, __: Any) -> Iterator[ValidationError]:
        if wanted and isinstance(value, list) and _has_equals(value):
            yield ValidationError("It has items that are equal")

    own = {
        "pattern": pattern,
        "patternProperties": pattern_properties,
        "additionalProperties": additional_properties,
        "uniqueItems": unique_items,
    }
    extended: Callable[..., Any] = extend
    keywords = {**kind.VALIDATORS, **own}
    made = extended(kind, {name: _by_the_clock(keyword) for name, keyword in keywords.items()})
    made.evolve = _evolve
    return made


def check_schema(kind: Any, schema: Any) -> None:
    """Check that it is a schema of this kind. Raises SchemaError of `jsonschema`, TooSlow."""
    from jsonschema import SchemaError

    checker = timed(kind)(kind.META_SCHEMA, format_checker=kind.FORMAT_CHECKER)
    for wrong in checker.iter_errors(schema):
        error: SchemaError = SchemaError.create_from(wrong)
        raise error


def _evolve(self: Any, **changes: Any) -> Any:
    """The same validator for a part of the schema. The library's own method would lose our class,
    and its time limit, at each part that names its ``$schema``.
    """
    for attribute in type(self).__attrs_attrs__:
        if attribute.init and attribute.alias not in changes:
            changes[attribute.alias] = getattr(self, attribute.name)
    return type(self)(**changes)


def _by_the_clock(keyword: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
    def step(*arguments: Any) -> Iterator[Any]:
        _look_at_the_clock()
        yield from keyword(*arguments) or ()

    return step


def _has_equals(items: list[Any]) -> bool:
    """Whether two items are the same JSON value: 1 equals 1.0, and true does not equal 1."""
    seen: set[Any] = set()
    for item in items:
        _look_at_the_clock()
        key = _key(item)
        if key in seen:
            return True
        seen.add(key)
    return False


def _key(value: Any) -> Any:
    """A hashable key that is equal for equal JSON values."""
    if isinstance(value, bool):
        return (bool, value)
    if isinstance(value, list):
        return (list, tuple(map(_key, value)))
    if isinstance(value, dict):
        return (dict, frozenset((name, _key(item)) for name, item in value.items()))
    return value
