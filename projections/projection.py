"""What a projection is: data and a pure fold. The engine does everything else."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Index, MetaData, Table

from domain.log import Recorded

Row = dict[str, Any]
"""One row by column name. A fold returns a new row and never changes the given one."""

Fold = Callable[[Row | None, Recorded], Row | None]
"""The row after an event; None if there is to be no row. No clock, no randomness, no I/O."""


@dataclass(frozen=True)
class Projection:
    """One read model: a table, the key of the row that an event touches, and a fold for each event
    type.

    Raise `version` with every change of columns or folds: the tables are then filled anew.
    """

    name: str
    version: int
    columns: Callable[[], tuple[Column[Any], ...]]
    """Makes new column objects; the first one is the key."""
    key: Callable[[Recorded], Any]
    folds: Mapping[str, Fold]
    passes_over: frozenset[str] = frozenset()
    """The event types that it does not fold, as `domain.coverage.types` returns them."""
    births: frozenset[str] = frozenset()
    """Types that begin a row: before them there is none with that key, so none is looked up."""
    indexes: tuple[tuple[str, ...], ...] = ()
    numbered: tuple[str, str] | None = None
    """A column that numbers rows from 1 in the order of their creation, and the column by whose
    values it counts. Rows are never removed. A fold sets the number to null.
    """

    def table(self, generation: int, metadata: MetaData) -> Table:
        """The table of one filling. Generations exist side by side while one replaces another."""
        name = f"{self.name}_{generation}"
        table = metadata.tables.get(name)
        if table is None:
            table = Table(name, metadata, *self.columns())
            for columns in self.indexes:
                Index(f"ix_{name}_{'_'.join(columns)}", *(table.c[c] for c in columns))
        return table
