"""Patterns of schemas: their matches, and a time limit that protects the server."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from domain.errors import BadInput
from domain.job.result import check_result
from domain.patterns import (
    LIMIT_S,
    VALIDATION_S,
    BadPattern,
    PatternTooSlow,
    compiled,
    found,
    time_limit,
    timed,
)
from scheduler.templates.schemas import BadSchema, Schema

CARELESS = "^(a|aa)+$"
LONG = "a" * 60 + "!"
"""``re`` would take centuries to match it."""

names = st.sampled_from(["a", "b", "aa", "ab", "x1", ""])
values = st.sampled_from([1, "a", "b", None])
# Not the empty pattern: beside additionalProperties the library ignores it.
patterns = st.sampled_from(["^a", "b$", "1", "^x.*", "^"])
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
    with pytest.raises(BadSchema, match="not a regular expression"):
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
    assert time.monotonic() - begin < 40 * LIMIT_S, "Both took forty times the limit."
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


def branching(levels: int) -> dict[str, Any]:
    """A small schema whose check takes 2 ** levels steps."""
    twice = [
        {"anyOf": [{"$ref": f"#/$defs/a{n + 1}"}, {"$ref": f"#/$defs/a{n + 1}"}]}
        for n in range(levels)
    ]
    known = {f"a{n}": one for n, one in enumerate(twice)}
    return {"$defs": {**known, f"a{levels}": {"type": "string"}}, "$ref": "#/$defs/a0"}


def test_a_schema_that_branches_at_each_level_has_its_time_and_no_more() -> None:
    begin = time.monotonic()
    violation = Schema(branching(30)).violation(1)
    with pytest.raises(BadInput, match="could not be checked"):
        check_result({"value": 1}, {**branching(30), "$ref": "#/$defs/a0"})
    assert time.monotonic() - begin < 20 * VALIDATION_S
    assert violation is not None
    assert "could not be checked" in violation.reason


def test_a_part_that_names_its_schema_has_the_same_limit() -> None:
    """The library would use its own validator class for such a part."""
    part = {"$schema": "https://json-schema.org/draft/2020-12/schema", "pattern": CARELESS}
    violation = Schema({"properties": {"value": part}}).violation({"value": LONG})
    assert violation is not None
    assert "could not be matched" in violation.reason


@pytest.mark.parametrize(
    ("items", "unique"),
    [
        ([1, True, "1", None, 0, False, "", [], {}, [0], [False]], True),
        ([1, 1.0], False),
        ([2**53, 2.0**53], False),
        ([2**53 + 1, 2.0**53], True),
        ([{"a": 1, "b": [2]}, {"b": [2.0], "a": 1.0}], False),
        ([{"a": 1}, {"a": True}], True),
        ([[1, 2], [2, 1]], True),
        ([["a", ["b"]], ["a", ["b"]]], False),
        ([{}, []], True),
        ([{"a": None}, {}], True),
    ],
)
def test_unique_items_are_json_values_that_differ(items: list[Any], unique: bool) -> None:
    assert (Schema({"uniqueItems": True}).violation(items) is None) is unique


def test_many_unique_items_cost_no_more_than_their_number() -> None:
    items = [{"a": n, "b": [str(n)]} for n in range(5_000)]
    begin = time.process_time()
    assert Schema({"uniqueItems": True}).violation(items) is None
    assert time.process_time() - begin < 10


def test_time_in_which_the_thread_waits_does_not_count() -> None:
    """On a busy machine a thread waits for longer than a validation may take."""
    with time_limit():
        time.sleep(VALIDATION_S + 0.1)
        assert found("^a+$", "aaa")
