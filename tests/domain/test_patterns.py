"""Patterns of schemas: what they match, and that none of them holds the server."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from domain.errors import BadInput
from domain.patterns import (
    LIMIT_S,
    BadPattern,
    PatternTooSlow,
    compiled,
    found,
    time_limit,
    timed,
)
from domain.result import check_result
from scheduler.templates.schemas import BadSchema, Schema

CARELESS = "^(a|aa)+$"
LONG = "a" * 60 + "!"
"""With ``re`` a matter of centuries."""

names = st.sampled_from(["a", "b", "aa", "ab", "x1", ""])
values = st.sampled_from([1, "a", "b", None])
patterns = st.sampled_from(["^a", "b$", "1", "^x.*", ""])
schemas = st.sampled_from([True, False, {"type": "string"}, {"const": 1}])


@given(
    st.dictionaries(names, values),
    st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(names, schemas, max_size=2),
            "patternProperties": st.dictionaries(patterns, schemas, max_size=2),
            "additionalProperties": schemas,
        },
    ),
)
def test_the_keywords_say_what_those_of_the_library_say(
    value: dict[str, Any], schema: dict[str, Any]
) -> None:
    ours, theirs = timed(Draft202012Validator)(schema), Draft202012Validator(schema)
    assert {tuple(error.absolute_path) for error in ours.iter_errors(value)} == {
        tuple(error.absolute_path) for error in theirs.iter_errors(value)
    }


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("^a$", "a", True),
        ("^a$", "a\n", False),
        (r"^\$$", "$", True),
        ("[$]", "$", True),
        ("b", "abc", True),
        (r"^(?=.*\d)(?!.* ).+$", "x1", True),
        (r"^\p{Lu}", "É", True),
    ],
)
def test_what_a_pattern_matches(pattern: str, text: str, expected: bool) -> None:
    assert found(pattern, text) is expected


def test_what_is_no_pattern_is_said_so() -> None:
    with pytest.raises(BadPattern):
        compiled("(")
    with pytest.raises(BadSchema, match="Not a regular expression"):
        Schema({"patternProperties": {"(": {}}})


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"pattern": CARELESS}, LONG),
        ({"items": {"pattern": CARELESS}}, [LONG] * 200),
        ({"patternProperties": {CARELESS: {}}}, {LONG: 1}),
        ({"patternProperties": {CARELESS: {}}, "additionalProperties": False}, {LONG: 1}),
        ({"propertyNames": {"pattern": CARELESS}}, {LONG: 1}),
    ],
)
def test_a_careless_pattern_has_its_time_and_no_more(schema: dict[str, Any], value: Any) -> None:
    begin = time.monotonic()
    violation = Schema(schema).violation(value)
    with pytest.raises(BadInput, match="could not be matched"):
        check_result({"value": value}, {"properties": {"value": schema}})
    assert time.monotonic() - begin < 40 * LIMIT_S, "Forty times what both may take together."
    assert violation is not None
    assert "could not be matched" in violation.reason
    assert LONG not in violation.reason


def test_the_limit_is_for_all_matching_together() -> None:
    with time_limit():
        with pytest.raises(PatternTooSlow):
            found(CARELESS, LONG)
        with pytest.raises(PatternTooSlow):
            found(CARELESS, "a" * 50 + "!")
    assert found("^a+$", "a" * 30)


def test_patterns_of_names_cannot_hide_behind_what_is_not_evaluated() -> None:
    with pytest.raises(BadSchema, match="unevaluatedProperties"):
        Schema({"patternProperties": {"^a": {}}, "unevaluatedProperties": False})
