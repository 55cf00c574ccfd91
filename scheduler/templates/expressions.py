"""The texts of a template: Jinja2 in a sandbox that cannot reach Python and cannot grow without
bound.

There are values, filters, arithmetic, ``a if b else c`` and ``{% if %}``. There are no loops, calls
or attributes of Python objects. Forbidden syntax is refused when a text is compiled. Limits that
depend on values are checked when it is rendered: no intermediate value is longer than `MAX_TEXT`
characters, so time and memory are proportional to the length of the template.
"""

import json
import math
import operator
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from typing import Any, NoReturn
from urllib.parse import quote

from jinja2 import StrictUndefined, TemplateSyntaxError, Undefined, UndefinedError, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from domain.errors import carriable

MAX_TEXT = 1024 * 1024
"""Most characters of a rendered text, and of every intermediate value."""
MAX_SOURCE = 256 * 1024
"""Most characters of a text with expressions in a template."""

_MAX_NODES = 400
_MAX_DEPTH = 40
_LARGEST_NUMBER = 10**15
_NUMBERS = (int, float)
_LONG_NUMBER = re.compile(r"[0-9][0-9A-Za-z_]{2000,}")


class BadExpression(Exception):
    """The text of a template cannot be rendered. `line` is within the text, from 1."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line
        self.reason = reason


class CannotRender(Exception):
    """These values give no text. The reason never contains a value."""


class Text:
    """A compiled text of a template. Equal sources render equally for equal variables."""

    __slots__ = ("_chunks", "inputs", "names", "source")

    def __init__(self, source: str) -> None:
        """Raises BadExpression."""
        self.source = source
        self.names: frozenset[str] = frozenset()
        """The variables that it uses."""
        self.inputs: frozenset[str] = frozenset()
        """The names that it takes from the variable `inputs`."""
        self._chunks: Callable[[Context], Iterator[str]] | None = None
        if "{" in source:
            self._compile()

    @property
    def is_constant(self) -> bool:
        return self._chunks is None

    def render(self, variables: Mapping[str, Any]) -> str:
        """The text for these variables, which are JSON values. Raises CannotRender."""
        if self._chunks is None:
            return self.source
        context = Context(_ENVIRONMENT, {**variables}, None, {})
        try:
            return "".join(_until_too_long(self._chunks(context)))
        except CannotRender:
            raise
        except UndefinedError as error:
            raise CannotRender(f"A value is not defined here: {error}.") from error
        except ZeroDivisionError as error:
            raise CannotRender("This divides by zero.") from error
        except Exception as error:
            reason = "This cannot be computed from values of these types"
            raise CannotRender(f"{reason} ({type(error).__name__}).") from error

    def _compile(self) -> None:
        if len(self.source) > MAX_SOURCE:
            raise BadExpression(1, f"A text with expressions is at most {MAX_SOURCE} characters.")
        try:
            tree = _ENVIRONMENT.parse(self.source)
            _check(tree)
            self.names = frozenset(name.name for name in tree.find_all(nodes.Name))
            self.inputs = frozenset(_taken_from_inputs(tree))
            template = _ENVIRONMENT.from_string(tree)
        except TemplateSyntaxError as error:
            raise BadExpression(error.lineno, error.message or "Not a valid expression.") from error
        except ValueError as error:
            # Python reads no whole number of several thousand digits, and does not say where.
            found = _LONG_NUMBER.search(self.source)
            line = 1 + self.source.count("\n", 0, found.start() if found else 0)
            raise BadExpression(line, "A number here has too many digits.") from error
        except (RecursionError, SyntaxError, MemoryError) as error:
            raise BadExpression(1, "The expression is nested too deeply.") from error
        self._chunks = template.root_render_func


class _Generator(CodeGenerator):
    """Joins ``~`` with the sandbox's own function, which is bounded."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.joined((")
        for operand in node.nodes:
            self.visit(operand, frame)
            self.write(", ")
        self.write("))")


class _Sandbox(ImmutableSandboxedEnvironment):
    code_generator_class = _Generator
    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%"})

    def __init__(self) -> None:
        super().__init__(
            undefined=StrictUndefined,
            finalize=_shown,
            keep_trailing_newline=True,
            optimized=False,
            cache_size=0,
        )
        self.globals.clear()
        builtin = self.filters
        self.filters = {name: _watched(builtin[name]) for name in _BUILTIN_FILTERS}
        self.filters |= {name: _watched(own) for name, own in _OWN_FILTERS.items()}
        self.tests = {name: self.tests[name] for name in _TESTS}

    def joined(self, parts: Iterable[Any]) -> str:
        return _join([_shown(part) for part in parts], "")

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "+" and (isinstance(left, str) or isinstance(right, str)):
            return self.joined((left, right))
        if operator == "+" and isinstance(left, list) and isinstance(right, list):
            return left + right
        for side in (left, right):
            if isinstance(side, Undefined):
                _demand(side)
            if isinstance(side, bool) or not isinstance(side, _NUMBERS):
                raise CannotRender(f"The operator {operator} is for numbers only.")
        result = _BINARY[operator](left, right)
        if abs(result) > _LARGEST_NUMBER:
            raise CannotRender("A number grows too large.")
        return result

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Keys of mappings, and indices of lists and texts. Nothing of Python can be reached."""
        if isinstance(obj, Undefined):
            _demand(obj)
        by_key = isinstance(obj, Mapping) and isinstance(argument, str)
        by_index = isinstance(obj, (list, str)) and type(argument) is int
        if by_key or by_index:
            try:
                return obj[argument]
            except LookupError:
                pass
        return self.undefined(hint="there is no such key or index in this value")


def _check(tree: nodes.Template) -> None:
    """Refuse every node that is not known to be harmless and bounded."""
    waiting: list[tuple[nodes.Node, int]] = [(tree, 0)]
    count = 0
    while waiting:
        node, depth = waiting.pop()
        count += 1
        if type(node) not in _ALLOWED:
            raise BadExpression(node.lineno or 1, f"{_described(node)} cannot be used in a text.")
        if isinstance(node, nodes.Const) and (wrong := _wrong_constant(node.value)):
            raise BadExpression(node.lineno or 1, wrong)
        if isinstance(node, nodes.Getattr) and node.attr.startswith("_"):
            raise BadExpression(node.lineno, "Names that begin with _ cannot be reached.")
        if count > _MAX_NODES or depth > _MAX_DEPTH:
            raise BadExpression(node.lineno or 1, "This text has too many expressions.")
        waiting += [(child, depth + 1) for child in node.iter_child_nodes()]


def _wrong_constant(value: Any) -> str | None:
    """Why no text can have this constant; None if it can."""
    if isinstance(value, str) and carriable(value) != value:
        return "A NUL or a lone surrogate is not allowed here."
    if isinstance(value, float) and not math.isfinite(value):
        return "This number is too large."
    return None


def _described(node: nodes.Node) -> str:
    if isinstance(node, nodes.Call):
        return "A call"
    if isinstance(node, nodes.Pow):
        return "The operator **"
    if isinstance(node, nodes.Stmt):
        return "A block other than {% if %}"
    return type(node).__name__


def _taken_from_inputs(tree: nodes.Template) -> Iterator[str]:
    for node in tree.find_all((nodes.Getattr, nodes.Getitem)):
        assert isinstance(node, (nodes.Getattr, nodes.Getitem))
        if isinstance(node.node, nodes.Name) and node.node.name == "inputs":
            if isinstance(node, nodes.Getattr):
                yield node.attr
            elif isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
                yield node.arg.value


def _shown(value: Any) -> str:
    """A value as part of a text. Raises CannotRender for lists, mappings and null."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, _NUMBERS):
        return str(value)
    if isinstance(value, Undefined):
        _demand(value)
    if value is None:
        raise CannotRender("The value is null; use the filter default('...').")
    raise CannotRender("The value is a list or a mapping; use the filter join(' ') or tojson.")


def _demand(undefined: Undefined) -> NoReturn:
    """Raises the error of an undefined value, with its reason: any operator does that."""
    operator.add(undefined, 0)
    raise UndefinedError("a value is not defined")


def _until_too_long(chunks: Iterator[str]) -> Iterator[str]:
    length = 0
    for chunk in chunks:
        length += len(chunk)
        if length > MAX_TEXT:
            raise CannotRender(f"The text would be longer than {MAX_TEXT} characters.")
        yield chunk


def _bounded(value: Any) -> Any:
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise CannotRender(f"An intermediate text would be longer than {MAX_TEXT} characters.")
    return value


def _watched(function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, with a bounded result that is not a generator."""

    @wraps(function)  # keeps the marks by which the library knows what else to pass
    def watched(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        return _bounded(list(result) if isinstance(result, Iterator) else result)

    return watched


def _default(value: Any, instead: Any = "", falsy: bool = False) -> Any:
    """`instead` for undefined and null; with `falsy` for everything that counts as false."""
    absent = isinstance(value, Undefined) or value is None
    return instead if absent or (falsy and not value) else value


def _replace(text: Any, old: str, new: str) -> str:
    subject, old, new = _shown(text), _shown(old), _shown(new)
    if len(subject) + subject.count(old) * len(new) > 2 * MAX_TEXT:
        raise CannotRender("A replacement grows too large.")
    return subject.replace(old, new)


def _join_filter(items: Any, separator: str = "") -> str:
    if not isinstance(items, (list, tuple)):
        raise CannotRender("The filter join is for lists.")
    return _join([_shown(item) for item in items], _shown(separator))


def _join(parts: list[str], separator: str) -> str:
    length = sum(map(len, parts)) + len(separator) * max(0, len(parts) - 1)
    if length > MAX_TEXT:
        raise CannotRender(f"An intermediate text would be longer than {MAX_TEXT} characters.")
    return separator.join(parts)


def _tojson(value: Any) -> str:
    if isinstance(value, Undefined):
        _demand(value)
    return json.dumps(value, ensure_ascii=False)


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
}

_BUILTIN_FILTERS = (
    *("abs", "capitalize", "first", "float", "int", "last", "length", "lower", "sort", "string"),
    *("title", "trim", "unique", "upper"),
)
_OWN_FILTERS: dict[str, Callable[..., Any]] = {
    "default": _default,
    "d": _default,
    "replace": _replace,
    "join": _join_filter,
    "tojson": _tojson,
    "split": lambda text, separator: _shown(text).split(_shown(separator)),
    "basename": lambda path: posixpath.basename(_shown(path).rstrip("/")),
    "urlencode": lambda text: quote(_shown(text), safe=""),
}
FILTERS = tuple(sorted((*_BUILTIN_FILTERS, *_OWN_FILTERS)))
"""Every filter that a template can use."""

_TESTS = (
    *("boolean", "defined", "eq", "equalto", "even", "false", "ge", "gt", "in", "le", "lt"),
    *("mapping", "ne", "none", "number", "odd", "string", "true", "undefined"),
)

_ALLOWED: frozenset[type[nodes.Node]] = frozenset(
    {
        *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.Name, nodes.Const),
        *(nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.Filter, nodes.Test, nodes.CondExpr),
        *(nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Neg, nodes.Pos),
        *(nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Concat),
        *(nodes.List, nodes.Tuple, nodes.Dict, nodes.Pair, nodes.Keyword),
    }
)

_ENVIRONMENT = _Sandbox()
