"""What schemathesis cannot know of the server: an Idempotency-Key is used for one request only."""

import re
from typing import Any
from uuid import uuid4

import schemathesis

_valid = re.compile(r"[\x20-\x7e]{1,255}").fullmatch


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """A fresh key for a valid one: used again with another body it is refused, and must be."""
    key = (case.headers or {}).get("Idempotency-Key")
    if isinstance(key, str) and _valid(key):
        case.headers["Idempotency-Key"] = str(uuid4())
