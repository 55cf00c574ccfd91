"""The YAML of templates: text into JSON-like values, with the line of each value.

It is stricter than the library's safe loader. Scalars follow the core schema of YAML 1.2, so
``yes``, ``on`` and dates stay text. Duplicate keys, merge keys, custom tags and keys that are not
text are refused. Size, depth and number of values are limited, and are counted after aliases were
followed, so that a small file cannot become a large one.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 40
MAX_VALUES = 20_000

Place: TypeAlias = tuple[str | int, ...]
"""The place of a value in a document, from its top: keys and indices."""

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_LONGEST_SHOWN_KEY = 64
_LONGEST_NUMBER = 400
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_CORE = "tag:yaml.org,2002:"


class Unreadable(Exception):
    """The text is not valid here: `reason`, and the `line` from 1."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Mark:
    """Where and how a value was written."""

    line: int
    """The line of its key, or its own, from 1."""
    text_line: int
    """The first line of its text: for a block scalar, the line below."""
    text: str | None
    """A scalar as written; None for a mapping or a list."""


@dataclass(frozen=True, slots=True)
class Source:
    """A document: its JSON-like value, and the marks of all values in it."""

    value: Any
    marks: Mapping[Place, Mark]

    def line(self, place: Place) -> int:
        """The line of the value at `place`, or of the nearest value around it."""
        return self._mark(place).line

    def text_line(self, place: Place) -> int:
        return self._mark(place).text_line

    def _mark(self, place: Place) -> Mark:
        while place and place not in self.marks:
            place = place[:-1]
        return self.marks.get(place, Mark(1, 1, None))


def place_text(place: Place) -> str:
    """``jobs[1].argv[2]``; the whole document is ``(file)``."""
    shown = ""
    for step in place:
        if isinstance(step, int):
            shown += f"[{step}]"
        elif _PLAIN.fullmatch(step):
            shown += f".{step}" if shown else step
        else:
            shown += f"[{step[:_LONGEST_SHOWN_KEY]!r}]"
    return shown or "(file)"


def read_file(file: Path) -> str:
    """The text of a regular file of at most `MAX_BYTES` in UTF-8. Raises Unreadable."""
    try:
        if not file.is_file():
            raise Unreadable(1, "This is not a regular file.")
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise Unreadable(1, f"The file cannot be read: {error.strerror}.") from error
    if len(content) > MAX_BYTES:
        raise Unreadable(1, f"The file is larger than {MAX_BYTES // 1024} KiB.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Unreadable(line, "The text is not UTF-8.") from error


def parse(text: str) -> Source:
    """Read one document. Raises Unreadable with the line of the first mistake."""
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context or "this is not YAML"
        raise Unreadable(mark.line + 1 if mark else 1, f"Not valid YAML: {problem}.") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Unreadable(line, "A control character is not allowed in YAML.") from error
    except (ValueError, OverflowError) as error:
        # An escape sequence beyond the last character of Unicode.
        raise Unreadable(loader.line + 1, "Not valid YAML: there is no such character.") from error
    if node is None:
        raise Unreadable(1, "The file is empty.")
    return _Values().read(node)


class _Loader(yaml.SafeLoader):
    """Builds nodes by the core schema of YAML 1.2, within the limits of depth and number."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - overrides the library's

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._count = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth += 1
        self._count += 1
        if self._depth > MAX_DEPTH or self._count > MAX_VALUES:
            raise _too_much(self.get_mark().line + 1, self._depth)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


_Loader.add_implicit_resolver(
    f"{_CORE}bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    f"{_CORE}int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    f"{_CORE}float",
    re.compile(r"^[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)
_Loader.add_implicit_resolver(
    f"{_CORE}null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]
)


class _Values:
    """Turns nodes into values, and keeps the place of each."""

    def __init__(self) -> None:
        self._marks: dict[Place, Mark] = {}

    def read(self, node: yaml.Node) -> Source:
        return Source(self._value(node, (), _line(node)), self._marks)

    def _value(self, node: yaml.Node, place: Place, line: int) -> Any:
        text = _text(node) if isinstance(node, yaml.ScalarNode) else None
        below = isinstance(node, yaml.ScalarNode) and node.style in ("|", ">")
        self._marks[place] = Mark(line, _line(node) + below, text)
        if len(place) > MAX_DEPTH or len(self._marks) > MAX_VALUES:
            raise _too_much(line, len(place))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            _require_tag(node, "seq")
            return [
                self._value(item, (*place, i), _line(item)) for i, item in enumerate(node.value)
            ]
        assert isinstance(node, yaml.ScalarNode)
        return _scalar(node)

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        _require_tag(node, "map")
        value: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = _line(key_node)
            key = _scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                raise Unreadable(line, "A key must be text; put it in quotes.")
            if key == "<<" and key_node.style is None:
                raise Unreadable(line, "Merge keys (<<) cannot be used; write the keys out.")
            if key in value:
                first = self._marks[(*place, key)].line
                raise Unreadable(line, f"The key {key!r} is used twice, first on line {first}.")
            value[key] = self._value(value_node, (*place, key), line)
        return value


def _text(node: yaml.ScalarNode) -> str:
    """The text of a scalar. JSON, which is YAML, writes a character beyond U+FFFF as two
    escapes.
    """
    text: str = node.value
    if "\0" in text:
        raise Unreadable(_line(node), "A NUL character is not allowed here.")
    if _SURROGATE.search(text) is None:
        return text
    try:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError:
        raise Unreadable(_line(node), "A lone surrogate is not a character.") from None


def _scalar(node: yaml.ScalarNode) -> Any:
    text = _text(node)
    match node.tag.removeprefix(_CORE):
        case "str":
            return text
        case "null":
            return None
        case "bool" if text.lower() in ("true", "false"):
            return text.lower() == "true"
        case "int" if len(text) <= _LONGEST_NUMBER and re.fullmatch(r"[-+]?[0-9]+", text):
            return int(text)
        case "int" | "float":
            return _number(text, _line(node))
    raise Unreadable(_line(node), "Custom tags (!...) cannot be used.")


def _number(text: str, line: int) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise Unreadable(line, "This is not a number that can be kept exactly; put it in quotes.")
    return number


def _require_tag(node: yaml.Node, kind: str) -> None:
    if node.tag != f"{_CORE}{kind}":
        raise Unreadable(_line(node), "Custom tags (!...) cannot be used.")


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _too_much(line: int, depth: int) -> Unreadable:
    if depth > MAX_DEPTH:
        return Unreadable(line, f"Nested more than {MAX_DEPTH} levels deep.")
    return Unreadable(line, f"More than {MAX_VALUES} values, aliases included.")
