"""JSON Schema (Draft 2020-12) for the inputs and results of jobs: checks schemas, and values
against them.

Reasons are made from the schema alone, and never contain a part of the value. Nothing is ever
fetched: references must stay within their own schema, and must not be circular.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from jsonschema import Draft202012Validator, SchemaError, ValidationError
from jsonschema.exceptions import best_match
from referencing.exceptions import Unresolvable

from domain.patterns import BadPattern, TooSlow, check_schema, compiled, time_limit, timed
from scheduler.templates.source import Place

MAX_DEPTH = 40
_REFERENCES = ("$ref", "$dynamicRef")
_NO_DEFINITION = (
    "A reference must be #/$defs/NAME, for a definition in this schema. "
    "In NAME, ~ is written as ~0, / as ~1 and % as %25."
)
_ELSEWHERE = ("$id", "$anchor", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor")


class BadSchema(Exception):
    """This schema cannot be used. `place` is within it."""

    def __init__(self, place: Place, reason: str) -> None:
        super().__init__(reason)
        self.place = place
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Violation:
    """What a value violates in its schema, and where in the value."""

    place: Place
    reason: str


class Schema:
    """A schema that was checked once, for many values."""

    def __init__(self, declared: Mapping[str, Any]) -> None:
        """Raises BadSchema."""
        own = declared.get("$defs")
        _check_references(declared, (), frozenset(own) if isinstance(own, Mapping) else frozenset())
        _check_patterns(declared, ())
        try:
            with time_limit():
                check_schema(Draft202012Validator, dict(declared))
        except (TooSlow, RecursionError) as error:
            raise BadSchema((), "This schema is too large, or nested too deeply.") from error
        except SchemaError as error:
            place = tuple(error.absolute_path)
            if place[-1:] == ("type",):
                raise BadSchema(place, "JSON Schema does not have this type.") from error
            raise BadSchema(place, f"This is not JSON Schema: it {_reason(error)}.") from error
        self._validator = _Validator(dict(declared))

    def violation(self, value: Any) -> Violation | None:
        """The most informative violation of a JSON value; None if there is none."""
        try:
            with time_limit():
                error = best_match(self._validator.iter_errors(value))
        except RecursionError:
            return Violation((), "is nested too deeply for its schema")
        except TooSlow as slow:
            return Violation((), str(slow))
        except Unresolvable:
            return Violation((), "cannot be checked: a reference in its schema leads nowhere")
        if error is None:
            return None
        return Violation(tuple(error.absolute_path), _reason(error))


def _reason(error: ValidationError | SchemaError) -> str:
    """What is wrong, in words that come from the schema."""
    keyword, wanted = str(error.validator), error.validator_value
    if keyword == "type":
        kinds = wanted if isinstance(wanted, list) else [wanted]
        return f"is not of type {' or '.join(map(str, kinds))}"
    if keyword == "required":
        assert isinstance(wanted, list)
        present = error.instance if isinstance(error.instance, Mapping) else {}
        return f"lacks {', '.join(repr(name) for name in wanted if name not in present)}"
    if keyword in _SENTENCES:
        return _SENTENCES[keyword].format(_clipped(wanted))
    return f"does not agree with {keyword}"


def _clipped(value: Any) -> str:
    if isinstance(value, list):
        value = ", ".join(map(repr, value))
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


_SENTENCES = {
    "enum": "is not one of {}",
    "const": "is not {}",
    "pattern": "does not match {}",
    "minLength": "is shorter than {} characters",
    "maxLength": "is longer than {} characters",
    "minimum": "is less than {}",
    "maximum": "is greater than {}",
    "exclusiveMinimum": "is not greater than {}",
    "exclusiveMaximum": "is not less than {}",
    "multipleOf": "is not a multiple of {}",
    "minItems": "has fewer than {} items",
    "maxItems": "has more than {} items",
    "uniqueItems": "has items that are equal",
    "minProperties": "has fewer than {} members",
    "maxProperties": "has more than {} members",
    "additionalProperties": "has members that are not known",
}


def _check_references(schema: Any, place: Place, own: frozenset[str]) -> None:
    """Refuse references to anything but the definitions `own`, and keywords that would move
    them.
    """
    if len(place) > MAX_DEPTH:
        raise BadSchema(place, f"A schema is at most {MAX_DEPTH} levels deep.")
    if isinstance(schema, Mapping):
        for name, value in schema.items():
            if name in _ELSEWHERE and isinstance(value, (str, bool)):
                raise BadSchema((*place, name), f"{name} cannot be used here.")
            refers = name in _REFERENCES and isinstance(value, str)
            if refers and definition_of(value) not in own:
                raise BadSchema((*place, name), _NO_DEFINITION)
            _check_references(value, (*place, name), own)
    elif isinstance(schema, list):
        for i, value in enumerate(schema):
            _check_references(value, (*place, i), own)


def definition_of(reference: str) -> str | None:
    """The name of the definition that a reference leads to; None if it leads elsewhere.

    The escapes are undone as the validator does it, first those of URIs (RFC 6901 section 6).
    """
    if not reference.startswith("#/"):
        return None
    steps = unquote(reference.removeprefix("#/")).split("/")
    if len(steps) != 2 or steps[0] != "$defs":
        return None
    return steps[1].replace("~1", "/").replace("~0", "~")


def _check_patterns(schema: Any, place: Place) -> None:
    if isinstance(schema, Mapping):
        patterns = [((*place, "pattern"), schema.get("pattern"))]
        own = schema.get("patternProperties")
        if isinstance(own, Mapping):
            patterns += [((*place, "patternProperties"), name) for name in own]
        for where, pattern in patterns:
            if isinstance(pattern, str):
                try:
                    compiled(pattern)
                except BadPattern as error:
                    raise BadSchema(where, f"This is not a regular expression: {error}.") from error
        if own and "unevaluatedProperties" in schema:
            reason = "unevaluatedProperties cannot be used beside patternProperties."
            raise BadSchema((*place, "unevaluatedProperties"), reason)
        for name, value in schema.items():
            _check_patterns(value, (*place, name))
    elif isinstance(schema, list):
        for i, value in enumerate(schema):
            _check_patterns(value, (*place, i))


_Validator = timed(Draft202012Validator)
