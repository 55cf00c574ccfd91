"""Messages use the names of options that people typed, not those of headers or fields."""

import pytest

from api.commands.option_names import in_options, option_of_path, told


@pytest.mark.parametrize(
    ("loc", "name"),
    [
        (["body", "timeoutS"], "--timeout"),
        (["body", "labels", 0], "--label"),
        (["body", "argv"], "ARGV"),
        (["body", "env", "A-B"], "--env A-B"),
        (["header", "idempotency-key"], "--idempotency-key"),
        (["query", "state"], "--state"),
        (["body", "maxFailures"], "max failures"),
    ],
)
def test_a_problem_with_a_field_names_the_option(loc: list[str | int], name: str) -> None:
    problem = {"loc": loc, "msg": "Value error, No.", "type": "value_error"}
    assert told(problem) == f"{name}: No."


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("inputs.repo", "input repo"),
        ("notBefore", "--at"),
        ("rule.cron", "--cron"),
        ("rule.time", "the rule time"),
        ("jobs[1].argv[2]", "jobs[1].argv[2]"),
    ],
)
def test_a_path_is_named_as_it_was_given(path: str, name: str) -> None:
    assert option_of_path(path) == name


def test_no_header_and_no_pattern_is_shown() -> None:
    assert in_options("This Idempotency-Key was used before.") == (
        "This --idempotency-key was used before."
    )
    assert in_options("Last-Event-ID is too far.") == "--after is too far."
    problem = {
        "loc": ["query", "subject"],
        "msg": "String should match pattern '^[^/]*$'",
        "type": "string_pattern_mismatch",
    }
    assert told(problem) == "--subject: It has a character or a form that is not allowed."
