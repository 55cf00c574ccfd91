"""What a projection is: data and a pure fold. The engine owns everything else."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Index, MetaData, Table

from domain.log import Recorded

Row = dict[str, Any]
"""One row by column name. A fold returns a new one and never changes the one that it was given."""

Fold = Callable[[Row | None, Recorded], Row | None]
"""The row after an event; None where there is to be no row. No clock, no randomness, no I/O."""


@dataclass(frozen=True)
class Projection:
    """One read model: a table, the key of the row that an event touches, and a fold for each event
    type.

    `version` is raised with every change of columns or folds; the tables are then filled anew.
    """

    name: str
    version: int
    columns: Callable[[], tuple[Column[Any], ...]]
    """Makes fresh column objects; the first is the key."""
    key: Callable[[Recorded], Any]
    folds: Mapping[str, Fold]
    passes_over: frozenset[str] = frozenset()
    """What of the catalogue it does not fold, as `domain.coverage.types` gives it."""
    births: frozenset[str] = frozenset()
    """Types before which there can be no row of that key, so none is looked for."""
    indexes: tuple[tuple[str, ...], ...] = ()
    numbered: tuple[str, str] | None = None
    """A column that numbers rows from 1 in the order in which they are born, and the column for
    each value of which it does so. Rows stay; a fold gives null for it.
    """

    def table(self, generation: int, metadata: MetaData) -> Table:
        """The table of one filling; generations stand beside each other while
        one replaces another.
        """
        name = f"{self.name}_{generation}"
        table = metadata.tables.get(name)
        if table is None:
            table = Table(name, metadata, *self.columns())
            for columns in self.indexes:
                Index(f"ix_{name}_{'_'.join(columns)}", *(table.c[c] for c in columns))
        return table
