"""One moment for several readings: what is made of them together shows one state of the views."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from projections.engine import Reading


class _Moment:
    """The first reading of each views database, kept open for those that follow."""

    def __init__(self) -> None:
        self.kept: dict[Any, Reading] = {}
        self.open = contextlib.ExitStack()


_MOMENT: ContextVar[_Moment | None] = ContextVar("moment", default=None)


@contextlib.contextmanager
def one_moment() -> Iterator[None]:
    """Within it, and in what is called from it one after the other, every reading of the same views
    is of the moment of the first one.
    """
    moment = _Moment()
    with moment.open:
        entered = _MOMENT.set(moment)
        try:
            yield
        finally:
            _MOMENT.reset(entered)


@contextlib.contextmanager
def at_the_moment(
    views: Any, reading: "contextlib.AbstractContextManager[Reading]"
) -> Iterator["Reading"]:
    """A reading of these views, or that of the moment which is now."""
    moment = _MOMENT.get()
    if moment is None:
        with reading as own:
            yield own
        return
    if views not in moment.kept:
        moment.kept[views] = moment.open.enter_context(reading)
    yield moment.kept[views]
