"""A look at the views: every table at one moment, shared by several readers if they ask for
that.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from sqlalchemy import Connection, Table

from domain.errors import Unavailable
from projections.filling import CannotFold


class ViewsUnavailable(Unavailable):
    """The views cannot answer now: they are being filled, or cannot be written."""


class ViewFailed(ViewsUnavailable):
    """One view has met an event that it cannot fold, and stops there until the cause is fixed."""

    def __init__(self, name: str, failure: CannotFold) -> None:
        super().__init__(
            f"The view of {name} has failed {failure.what}; the other views go on. See "
            f"'crewlog projections status' for the reason. Once the cause is fixed, start the "
            f"server again, or rebuild the view: crewlog projections rebuild {name}"
        )


class Reading:
    """A consistent look at the views: every table at one moment."""

    def __init__(
        self,
        connection: Connection,
        tables: dict[str, Table],
        positions: dict[str, int],
        failures: dict[str, CannotFold],
    ) -> None:
        self.connection = connection
        self._tables = tables
        self._failures = failures
        self.positions = positions
        """The log position of each view."""

    def table(self, name: str) -> Table:
        """The live table of a projection. Raises ViewsUnavailable while it is filled for the first
        time, ViewFailed if its fold has failed.
        """
        failure = self._failures.get(name)
        if failure is not None:
            raise ViewFailed(name, failure)
        table = self._tables.get(name)
        if table is None:
            raise ViewsUnavailable(f"The view of {name} is being built; try again in a moment.")
        return table

    def rows(self, statement: Any) -> list[dict[str, Any]]:
        """All rows of a select, by column name."""
        return [dict(row) for row in self.connection.execute(statement).mappings()]


class _Moment:
    """The first reading of each views database, kept open for the later ones."""

    def __init__(self) -> None:
        self.kept: dict[Any, Reading] = {}
        self.open = contextlib.ExitStack()


_MOMENT: ContextVar[_Moment | None] = ContextVar("moment", default=None)


@contextlib.contextmanager
def one_moment() -> Iterator[None]:
    """Within it, and in everything that is called from it in turn, every reading of the same views
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
    views: Any, reading: contextlib.AbstractContextManager[Reading]
) -> Iterator[Reading]:
    """A reading of these views: of the present moment, or of the shared one."""
    moment = _MOMENT.get()
    if moment is None:
        with reading as own:
            yield own
        return
    if views not in moment.kept:
        moment.kept[views] = moment.open.enter_context(reading)
    yield moment.kept[views]
