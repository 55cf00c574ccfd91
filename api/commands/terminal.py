"""How commands print: tables and colours at a terminal, plain columns in a pipe, JSON.

Control characters in foreign texts are made visible, so that no job's title can control the
terminal. The output of jobs itself is printed unchanged.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

Cell = str | tuple[str, str]
"""A text, or a text and its style."""

_ENDLESS = 10_000
_BETWEEN = 3
_LEAST = 12
_SHORT_ID = 8

STATE_STYLES = {
    "queued": "blue",
    "held": "blue",
    "running": "cyan",
    "completed": "green",
    "failed": "red",
    "timed_out": "magenta",
    "cancelled": "yellow",
    "waiting_for_approval": "magenta",
    "blocked": "red",
    "stranded": "red",
    "cancelling": "yellow",
}


@cache
def console(*, stderr: bool = False) -> "Console":
    """The terminal. Colours only at a terminal, and without NO_COLOR. In a pipe nothing is
    wrapped.
    """
    from rich.console import Console

    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(
        stderr=stderr,
        markup=False,
        highlight=False,
        emoji=False,
        force_terminal=terminal,
        width=None if terminal else _ENDLESS,
    )


def notice(sentence: str) -> None:
    """Print a sentence on stderr, if that can be written."""
    with suppress(OSError):
        print(sentence, file=sys.stderr, flush=True)


def write_line(line: str) -> None:
    """Print a line of a job's output at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def write_bytes(chunks: Iterable[bytes]) -> None:
    """Print a file unchanged."""
    sys.stdout.flush()
    for chunk in chunks:
        sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


def question(description: str, approval: str) -> str:
    """A question, and how to answer it."""
    how = f"Answer with: crewlog approvals approve {approval} (or reject)"
    return f"{plain(description)}  {how}"


class Lines:
    """Prints lines of a job's output at once, and also the beginning of an unfinished line."""

    def __init__(self) -> None:
        self._begun = ""

    def begin(self, text: str) -> None:
        """Print the beginning of the next line, as far as it is known."""
        if text:
            self._go_on(text)
            self._begun = text

    def write(self, line: str) -> None:
        self._go_on(f"{line}\n")
        self._begun = ""

    def close(self) -> None:
        """End an unfinished line: nothing more will come."""
        if self._begun:
            self.write(self._begun)

    def _go_on(self, text: str) -> None:
        goes_on = text.startswith(self._begun)
        sys.stdout.write(text[len(self._begun) :] if goes_on else f"\n{text}")
        sys.stdout.flush()


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """One JSON document; on one line where `indent` is None."""
    write_line(json.dumps(value, ensure_ascii=False, indent=indent))


def plain(text: Any) -> str:
    """`text` on one line, with control characters as their escapes."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in str(text)
    )


def short_id(text: str) -> str:
    """The beginning of an id at a terminal, which is random and so identifies it; in a pipe
    the whole id.
    """
    return text[:_SHORT_ID] if console().is_terminal else text


def counted(count: int, one: str) -> str:
    """A number and its noun."""
    return f"{count} {one}" if count == 1 else f"{count} {one}s"


def unknown(kind: str, given: str, known: Iterable[str]) -> str:
    """A sentence that there is no such thing, with similar names."""
    near = get_close_matches(given, list(known), n=3)
    meant = f" Did you mean {' or '.join(near)}?" if near else ""
    return f"There is no {kind} {plain(given)!r}.{meant}"


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    flexible: Sequence[str] = (),
    optional: Sequence[str] = (),
) -> None:
    """Rows under headings. On a narrow terminal the columns `flexible` are cut down to a limit,
    and where that is not enough the `optional` ones are left out.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    screen = console()
    shown = {
        column: [_styled(cell) for cell in cells]
        for column, *cells in zip(columns, *rows, strict=True)
    }
    widths = _widths(shown, flexible, screen.width)
    for column in optional:
        if _across(widths) > screen.width:
            del shown[column]
            widths = _widths(shown, flexible, screen.width)
    table = Table(box=box.SIMPLE_HEAD if screen.is_terminal else None, pad_edge=False)
    for column, width in widths.items():
        table.add_column(column, no_wrap=True, width=width, overflow="ellipsis")
    for row in zip(*shown.values(), strict=True):
        table.add_row(*(Text(text, style) for text, style in row))
    screen.print(table)


def _widths(
    columns: Mapping[str, Sequence[tuple[str, str]]], flexible: Sequence[str], screen: int
) -> dict[str, int]:
    """A width for each column: its longest cell, less what the flexible ones must give up."""
    from rich.cells import cell_len

    widths = {
        column: max([len(column), *(cell_len(text) for text, _ in cells)])
        for column, cells in columns.items()
    }
    for column in reversed(flexible):
        excess = _across(widths) - screen
        widths[column] -= max(0, min(excess, widths[column] - _LEAST))
    return widths


def _across(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + len(widths) * _BETWEEN


def print_fields(fields: Iterable[tuple[str, Cell]]) -> None:
    """Print names and values, one per line."""
    from rich.text import Text

    shown = [(name, _styled(cell)) for name, cell in fields]
    width = max(len(name) for name, _ in shown)
    for name, (text, style) in shown:
        console().print(
            Text.assemble((name.ljust(width + 2), "dim"), (text, style)), soft_wrap=True
        )


def _styled(cell: Cell) -> tuple[str, str]:
    text, style = (cell, "") if isinstance(cell, str) else cell
    return plain(text), style


def state_cell(state: str) -> Cell:
    return state, STATE_STYLES.get(state, "")


def moment(at: str | None) -> str:
    """A stored time, to the second, in this machine's zone."""
    if at is None:
        return "-"
    return datetime.fromisoformat(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def ago(at: str | None) -> str:
    """The age of a stored time, in its largest unit."""
    if at is None:
        return "-"
    seconds = max(0, int((datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit} ago"
    return f"{seconds}s ago"


def duration(milliseconds: int | None) -> str:
    """A time span for a person."""
    if milliseconds is None:
        return "-"
    seconds = milliseconds / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
