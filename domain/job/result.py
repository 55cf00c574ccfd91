"""The result that a worker hands in, and what later jobs get of it."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from domain.errors import BadInput
from domain.job.aggregate import Job
from domain.numbers import wrong_numbers
from domain.patterns import BadPattern, TooSlow, check_schema, time_limit, timed

LARGEST_RESULT = 65_536
"""Most bytes of a result as JSON (`contracts/board.md §11.6`: 64 KB are accepted, one byte
more is not).
"""

_LONGEST_REASON = 500
_LONGEST_SHOWN_KEY = 64


@dataclass(frozen=True, slots=True)
class ParentResult:
    """What a parent left for the jobs that waited for it."""

    job_id: str
    key: str
    title: str
    metadata: dict[str, Any]
    """The parent's result; empty if it gave none."""
    completed_at: str | None
    attempt: int

    def json(self) -> dict[str, Any]:
        """The form that workers read."""
        return {
            "jobId": self.job_id,
            "key": self.key,
            "title": self.title,
            "metadata": self.metadata,
            "completedAt": self.completed_at,
            "attempt": self.attempt,
        }


def parent_results(parents: Sequence[Job]) -> list[ParentResult]:
    """What each parent left, in the order given."""
    return [
        ParentResult(
            job_id=parent.id,
            key=parent.terms.local,
            title=parent.title,
            metadata=parent.given or {},
            completed_at=parent.finished_at,
            attempt=parent.attempt,
        )
        for parent in parents
    ]


def check_result(
    result: Any, schema: dict[str, Any] | None, *, size: int | None = None
) -> dict[str, Any]:
    """The result, if it is valid. Raises BadInput with a path that begins with ``result`` if it is
    not a JSON object, is larger than `LARGEST_RESULT`, or does not fit the JSON Schema.

    `size` is that of the text it was read from; without one, that of its shortest JSON.
    """
    if not isinstance(result, dict):
        raise BadInput("result", "It must be a JSON object.")
    try:
        for place, reason in wrong_numbers(result):
            raise BadInput(path_of(place), reason)
        encoded = orjson.dumps(result)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput("result", "It holds something that JSON cannot carry.") from error
    if (size or len(encoded)) > LARGEST_RESULT:
        raise too_large()
    if schema is not None:
        _fit(result, schema)
    return result


def too_large() -> BadInput:
    return BadInput("result", f"It has more than {LARGEST_RESULT} bytes as JSON.")


def _fit(result: dict[str, Any], schema: dict[str, Any]) -> None:
    # The library takes longer to import than the server takes to start.
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.exceptions import best_match
    from jsonschema.validators import validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    kind = validator_for(schema, default=Draft202012Validator)
    try:
        # An empty registry: no reference in a schema can make the server fetch anything.
        with time_limit():
            check_schema(kind, schema)
            wrong = best_match(timed(kind)(schema, registry=Registry()).iter_errors(result))
    except TooSlow as slow:
        raise BadInput("result", f"It {slow}.") from None
    except (SchemaError, Unresolvable, RecursionError, BadPattern, re.error) as error:
        raise BadInput("result", "It cannot be checked: its schema cannot be used.") from error
    if wrong is not None:
        raise BadInput(path_of(wrong.absolute_path), wrong.message[:_LONGEST_REASON])


def path_of(steps: Iterable[str | int]) -> str:
    return "result" + "".join(f"[{s}]" if isinstance(s, int) else f".{_shown(s)}" for s in steps)


def _shown(key: str) -> str:
    # The path becomes a part of a reason in the log, and a key may be as long as the result.
    return key if len(key) <= _LONGEST_SHOWN_KEY else f"{key[:_LONGEST_SHOWN_KEY]}…"
