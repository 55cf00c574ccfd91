"""Errors of the native API: problem details (RFC 9457), its only form."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from api.edge.errors import SAID, Failure, Fault, described

MEDIA_TYPE = "application/problem+json"


class FieldProblem(BaseModel):
    """A fault of one field."""

    path: str = Field(description="The place, such as `inputs.repo` or `jobs[2].parents[0]`.")
    message: str


class Problem(BaseModel):
    """The body of every 4xx and 5xx (RFC 9457). `type` is always `about:blank`."""

    type: str = "about:blank"
    title: str = Field(description="The name of the status.")
    status: int
    detail: str = Field(description="What went wrong, in a sentence.")
    error_id: str | None = Field(
        None, description="The id of the request, also in the server's log. On 422 and 5xx."
    )
    errors: list[FieldProblem] | None = None


def problem(failure: Failure) -> JSONResponse:
    """The error as a problem."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(failure.status).phrase,
        "status": failure.status,
        "detail": failure.detail,
    }
    if failure.error_id is not None:
        body["error_id"] = failure.error_id
    if failure.path is not None:
        reason = failure.detail.removeprefix(f"{failure.path}: ")
        body["errors"] = [{"path": failure.path, "message": reason}]
    elif failure.faults:
        body["errors"] = [_field_problem(fault) for fault in failure.faults]
    return JSONResponse(body, failure.status, dict(failure.headers), media_type=MEDIA_TYPE)


def _field_problem(fault: Fault) -> dict[str, str]:
    message = fault.msg.removeprefix("Value error, ")
    if fault.type == "string_pattern_mismatch":
        # A pattern is nothing to show to people.
        message = "It has a character or a form that is not allowed."
    return {"path": path_of(fault.loc[1:]), "message": message}


def path_of(steps: Sequence[str | int]) -> str:
    """``["jobs", 2, "title"]`` as ``jobs[2].title``."""
    path = ""
    for step in steps:
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            path += f".{step}" if path else step
    return path


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route for these statuses, for the OpenAPI document."""
    return {
        status: {"description": SAID[status]}
        if status == 204
        else {"description": SAID[status], "content": described(Problem, MEDIA_TYPE)}
        for status in statuses
    }


SECURED = documented(400, 401, 403, 422, 503)
"""The answers that every route behind a token may give beside its own."""
