"""JSON numbers, as this server keeps them: exactly, or not at all.

Whole numbers of 64 bits are exact in the log and in every answer. Clients would round larger ones,
one with a point or an exponent was rounded when it was read, and NaN would become null, so all of
them are refused, with their place. JSON from outside is read by
`parse_json`, or by the HTTP framework in the same way.
"""

import json
import math
from collections.abc import Iterator
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
    Infinity, which are not JSON.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


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
    if isinstance(value, dict):
        for key, item in value.items():
            yield from wrong_numbers(item, (*place, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from wrong_numbers(item, (*place, i))
    elif (wrong := wrong_number(value)) is not None:
        yield place, wrong


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
