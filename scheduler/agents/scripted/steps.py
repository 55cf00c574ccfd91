"""The steps of a script."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

STEPS = (
    "say TEXT",
    "think TEXT",
    "plan A; B; C",
    "edit PATH <<END (then lines, then END)",
    "run COMMAND",
    "ask TITLE",
    "sleep SECONDS",
    "usage TOKENS [COST]",
    "flood COUNT",
    "fail TEXT",
    "crash [CODE]",
    "hang [deaf]",
    "file: PATH",
)
LARGEST_SCRIPT = 1_048_576
_DEEPEST = 10
_WITH_TEXT = ("say", "think", "plan", "run", "ask", "fail")


class BadScript(Exception):
    """A step cannot be read. The message says which, and lists the steps."""

    def __init__(self, problem: str) -> None:
        known = "\n".join(f"  {step}" for step in STEPS)
        super().__init__(
            f"{problem}\nThis agent has no model: it follows steps, one a line. They are:\n{known}"
        )


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `text` is all that follows its name; `content` is the text of an edit."""

    name: str
    text: str = ""
    content: str = ""
    numbers: tuple[float, ...] = ()


def read_steps(text: str, cwd: Path, depth: int = 0) -> list[Step]:
    """Raises BadScript."""
    if depth > _DEEPEST:
        raise BadScript("The files name one another.")
    found: list[Step] = []
    lines = iter(text.splitlines())
    for line in lines:
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, _, rest = line.partition(" ")
        rest = rest.strip()
        if name == "file:":
            found += read_steps(_script(cwd / rest), cwd, depth + 1)
        elif name == "edit":
            found.append(_edit(rest, lines))
        else:
            found.append(_step(name, rest, line))
    return found


def _step(name: str, rest: str, line: str) -> Step:
    if name in _WITH_TEXT and rest:
        return Step(name, rest)
    words = rest.split()
    numbers = tuple(number for word in words if (number := _number(word)) is not None)
    if len(numbers) == len(words):
        match name, len(words):
            case "sleep", 1:
                return Step(name, rest, numbers=numbers)
            case ("usage", 1 | 2) if numbers[0].is_integer():
                return Step(name, rest, numbers=numbers)
            case ("flood", 1) if numbers[0].is_integer():
                return Step(name, rest, numbers=numbers)
            case ("crash", 0 | 1) if not words or (numbers[0].is_integer() and numbers[0] < 256):
                return Step(name, rest, numbers=numbers or (1.0,))
    if name == "hang" and rest in ("", "deaf"):
        return Step(name, rest)
    raise BadScript(f"This is no step: {line[:200]!r}.")


def _edit(rest: str, lines: Iterator[str]) -> Step:
    path, mark, end = (part.strip() for part in rest.partition("<<"))
    if not path or not mark or not end:
        raise BadScript(f"An edit needs a path and a word that ends its text: {rest[:200]!r}.")
    content: list[str] = []
    for line in lines:
        if line.strip() == end:
            return Step("edit", path, "".join(f"{entry}\n" for entry in content))
        content.append(line)
    raise BadScript(f"The text of the edit of {path!r} has no end: no line says {end!r}.")


def _script(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LARGEST_SCRIPT + 1)
    except (OSError, ValueError):
        raise BadScript(f"The file {str(path)!r} cannot be read.") from None
    if len(text) > LARGEST_SCRIPT:
        raise BadScript(f"The file {str(path)!r} is too long.")
    return text


def _number(word: str) -> float | None:
    try:
        number = float(word)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
