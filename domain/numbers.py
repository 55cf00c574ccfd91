"""JSON numbers, as this server keeps them: exactly, or not at all.

Whole numbers of 64 bits are exact in the log and in every answer. Clients would round larger ones,
one with a point or an exponent was rounded when it was read, and NaN would become null, so all of
them are refused, with their place. JSON from outside is read by
`parse_json`, or by the HTTP framework in the same way.
"""

import json
import math
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

LEAST, MOST = -(2**63), 2**63 - 1
LARGEST_EXACT = 2**53 - 1
"""Up to here a number with a point or an exponent is exactly the whole number that it shows. Beyond
it, two different texts can mean the same number.
"""

NOT_EXACT = (
    "This whole number has a point or an exponent and is too large to be exact: write its digits, "
    "or write it as text."
)

Place = tuple[str | int, ...]


def parse_json(text: str) -> Any:
    """The value of a JSON text. Whole numbers stay exact. Raises ValueError, also for NaN and
    Infinity, which are not JSON. Raises Inexact for a number that would be rounded.
    """
    try:
        value, some = _parsed(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    for place, number in _inexact_in(value) if some else ():
        raise Inexact(place, number)
    return value


class Inexact(ValueError):
    """A number of a JSON text would become another one."""

    def __init__(self, place: Place, number: str) -> None:
        super().__init__(not_kept(number))
        self.place = place


def not_kept(number: str) -> str:
    """What to say of such a number."""
    shown = number if len(number) <= 40 else f"{number[:40]}…"
    return f"{shown} cannot be kept exactly: write fewer digits, or write it as text."


def inexact(text: str | bytes) -> Iterator[tuple[Place, str]]:
    """Every number of a JSON text that becomes another one when it is read, with its place. None
    for a text that is no JSON: its reader says what is wrong.
    """
    try:
        value, some = _parsed(text)
    except (ValueError, RecursionError):
        return
    if some:
        yield from _inexact_in(value)


def is_inexact(text: str) -> bool:
    """Whether a number with a point or an exponent becomes another one when it is read.

    It is exact if the shortest text of what was read is the same number: 0.1 is, and
    4.9999999999999999999 is read as 5. One that is too large to be exact is left to
    `wrong_number`, and Infinity to every reader.
    """
    read = float(text)
    if abs(read) > LARGEST_EXACT:
        return False
    try:
        return Decimal(repr(read)) != Decimal(text)
    except InvalidOperation:  # an exponent beyond those of Decimal
        return True


class _Inexact(str):
    """The text of a number that would become another one."""


def _parsed(text: str | bytes) -> tuple[Any, bool]:
    """The value, with `_Inexact` in the place of such numbers, and whether there are some."""
    some = False

    def read(number: str) -> float | _Inexact:
        nonlocal some
        if not is_inexact(number):
            return float(number)
        some = True
        return _Inexact(number)

    return json.loads(text, parse_constant=_refuse, parse_float=read), some


def _inexact_in(value: Any) -> Iterator[tuple[Place, str]]:
    return ((place, str(leaf)) for place, leaf in _leaves(value) if isinstance(leaf, _Inexact))


def _leaves(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Everything in a JSON value that holds nothing else, with its place."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*place, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _leaves(item, (*place, i))
    else:
        yield place, value


def wrong_number(value: Any) -> str | None:
    """Why a value cannot be kept exactly; None if it can."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN and Infinity are not JSON numbers."
    if isinstance(value, float) and abs(value) > LARGEST_EXACT:
        return NOT_EXACT
    if isinstance(value, int) and not LEAST <= value <= MOST:
        return "This number is too large for 64 bits: write it as text."
    return None


def wrong_numbers(value: Any, place: Place = ()) -> Iterator[tuple[Place, str]]:
    """Every number in a JSON value that cannot be kept, with its place and the reason."""
    for where, leaf in _leaves(value, place):
        wrong = wrong_number(leaf)
        if wrong is not None:
            yield where, wrong


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
