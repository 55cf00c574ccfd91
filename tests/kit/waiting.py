"""Waiting for an effect that comes by itself. Tests wait in no other way."""

import asyncio
import time
from collections.abc import Callable
from inspect import isawaitable
from typing import TypeVar

DEADLINE_S = 90.0
"""Longest wait in seconds for an effect that is immediate on an idle machine."""

_LOOK_S = 0.01

T = TypeVar("T")


def until(
    found: Callable[[], T | None],
    what: str = "what is waited for",
    deadline_s: float = DEADLINE_S,
) -> T:
    """The first true result of `found`. Fails if there is none before the deadline."""
    deadline = time.monotonic() + deadline_s
    while not (thing := found()):
        assert time.monotonic() < deadline, f"Never came: {what}."
        time.sleep(_LOOK_S)
    return thing


async def soon(
    found: Callable[[], object],
    what: str = "the effect",
    deadline_s: float = DEADLINE_S,
    look_s: float = _LOOK_S,
) -> None:
    """The same on an event loop, without blocking it. `found` may be a coroutine function."""
    deadline = time.monotonic() + deadline_s
    while True:
        thing = found()
        if await thing if isawaitable(thing) else thing:
            return
        assert time.monotonic() < deadline, f"Never came: {what}."
        await asyncio.sleep(look_s)
