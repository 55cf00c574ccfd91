"""Tables of the demo."""

from collections.abc import Iterable

from rich import box
from rich.table import Table
from rich.text import Text


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    table = Table(*columns, box=box.SIMPLE_HEAD, header_style="bold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
