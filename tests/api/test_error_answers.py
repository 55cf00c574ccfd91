"""Errors that name what somebody sent: whatever it was, the answer can be sent."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError

from api.dialects.board.refusals import refusal
from api.edge.errors import Failure, Present, _invalid, detailed
from api.native.problems import problem
from domain.errors import BadInput, NotFound

PRESENTATIONS = [problem, detailed, refusal]
ODD = ["\ud800", "\udfff x", "\ud83d\ude00", "a\0b"]


def sound(body: Any) -> bool:
    text = json.dumps(json.loads(body), ensure_ascii=False)
    text.encode()
    return "\\u0000" not in text.replace("\\\\", "")


@pytest.mark.parametrize("present", PRESENTATIONS)
@pytest.mark.parametrize("odd", ODD)
def test_an_answer_carries_any_path_and_detail(present: Present, odd: str) -> None:
    error = BadInput(f"rule.{odd}", f"There is no {odd}.")

    answer = present(Failure(400, f"{error.path}: No {odd}.", path=f"rule.{odd}"))

    assert answer.status_code == 400
    assert sound(answer.body)


@pytest.mark.parametrize("present", PRESENTATIONS)
@pytest.mark.parametrize("odd", ODD)
def test_an_answer_carries_any_place_of_a_fault(present: Present, odd: str) -> None:
    fault = {"loc": ("body", "env", odd, 0), "msg": f"no {odd}", "type": "wrong"}
    request: Any = SimpleNamespace(state=SimpleNamespace(request_id="r"))

    answer = present(_invalid(request, RequestValidationError([fault])))

    assert answer.status_code == 422
    assert sound(answer.body)


@pytest.mark.parametrize("odd", ODD)
def test_the_text_of_an_error_is_one_that_the_log_can_carry(odd: str) -> None:
    error = BadInput(f"a.{odd}", odd)

    for text in (str(error), error.path, error.reason, str(NotFound(odd))):
        text.encode()
        assert "\0" not in text


def test_a_problem_repeats_no_path_in_its_message() -> None:
    error = BadInput("rule.\ud800", "A rule has no such part.")

    body = json.loads(bytes(problem(Failure(400, str(error), path=error.path)).body))

    assert body["errors"] == [{"path": "rule.\\ud800", "message": "A rule has no such part."}]
