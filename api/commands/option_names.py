"""The command line's names for the API's fields, so that no message shows a person a name that they
never typed.
"""

import re
from collections.abc import Sequence
from typing import Any

_NAMES = {
    "action": "--action",
    "approvers": "--approver",
    "argv": "ARGV",
    "catchUp": "--catch-up",
    "comment": "--comment",
    "created_after": "--since",
    "created_before": "--until",
    "cursor": "the page",
    "cwd": "--cwd",
    "days": "the days",
    "description": "the question",
    "displayName": "--name",
    "email": "EMAIL",
    "endsAt": "--ends-at",
    "env": "--env",
    "expiresAt": "--expires",
    "expiresInS": "--expires",
    "feedback": "--feedback",
    "Idempotency-Key": "--idempotency-key",
    "inputs": "input",
    "jitterS": "--jitter",
    "kind": "the rule",
    "label": "--label",
    "labels": "--label",
    "Last-Event-ID": "--after",
    "maxFirings": "--max-firings",
    "name": "--name",
    "password": "the password",
    "progress": "--progress",
    "proposedAction": "--action",
    "reason": "the reason",
    "result": "the result",
    "rule": "the rule",
    "notBefore": "--at",
    "scopes": "--scope",
    "state": "--state",
    "status": "--state",
    "subject": "--subject",
    "summary": "--summary",
    "template": "TEMPLATE",
    "text": "--text",
    "timeoutS": "--timeout",
    "timezone": "--timezone",
    "title": "--title",
    "type": "--type",
}
_WITHIN = {("rule", "cron"): "--cron", ("rule", "rrule"): "--rrule"}
_BY_KEY = {name.lower().replace("-", ""): option for name, option in _NAMES.items()}
_STEP = re.compile(r"[^.\[\]]+")
_HEADERS = re.compile("|".join(name for name in _NAMES if "-" in name))


def option_of(steps: Sequence[str | int]) -> str:
    """The name for a place in a request: ``--timeout``, ``--env HOME``, ``input repo``."""
    first, *rest = map(str, steps)
    if rest and (first, rest[0]) in _WITHIN:
        return _WITHIN[first, rest[0]]
    named = _BY_KEY.get(first.lower().replace("_", "").replace("-", "")) or _words(first)
    # An index is left out: nobody counts the values they typed.
    return " ".join([named, *(step for step in rest if not step.isdecimal())])


def option_of_path(path: str) -> str:
    """The same for a path such as ``inputs.repo``. A path into a template is not changed."""
    steps = _STEP.findall(path)
    return option_of(steps) if steps and steps[0] != "jobs" else path


def in_options(sentence: str) -> str:
    """The sentence, with names of headers replaced by the options that set them."""
    return _HEADERS.sub(lambda found: _NAMES[found[0]], sentence)


def told_problem(problem: dict[str, str]) -> str:
    """One error of a problem (RFC 9457), as a sentence."""
    where = option_of_path(problem["path"]) if problem["path"] else ""
    message = in_options(problem["message"])
    return f"{where}: {message}" if where else message


def told(problem: Any) -> str:
    """One fault of a request's field, as a sentence."""
    where = problem.get("loc", ())[1:]
    message = str(problem.get("msg")).removeprefix("Value error, ")
    if problem.get("type") == "string_pattern_mismatch":
        message = (
            "It has a character or a form that is not allowed."  # no pattern is shown to people
        )
    return f"{option_of(where)}: {message}" if where else message


def _words(field: str) -> str:
    """``maxFailures`` as ``max failures``, for a field that no option sets."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", " ", field).lower()
