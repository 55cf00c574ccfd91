"""A look at the log on an event loop has a budget; if it needs more, it is repeated in a thread."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

_EVENTS = 300
_BYTES = 512 * 1024
"""What is read and folded in a few milliseconds."""


class TooLong(Exception):
    """The look reads more than an event loop may wait for."""


class Budget:
    """What a look may still read."""

    __slots__ = ("bytes", "events")

    def __init__(self) -> None:
        self.events = _EVENTS
        self.bytes = _BYTES

    def spend(self, events: int, size: int) -> None:
        self.events = max(0, self.events - events)
        self.bytes = max(0, self.bytes - size)


_budget: ContextVar[Budget | None] = ContextVar("budget", default=None)


def budget() -> Budget | None:
    """The budget of the look that runs now; None if it may take as long as it likes."""
    return _budget.get()


def short(look: Callable[[], T]) -> T:
    """The result of `look`, which must change nothing outside of itself. Raises TooLong if it needs
    more than its budget.
    """
    entered = _budget.set(Budget())
    try:
        return look()
    finally:
        _budget.reset(entered)
