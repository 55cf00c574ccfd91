"""Facts that schemathesis cannot know: an Idempotency-Key is for one request only, and the stream
of a job that does not run has no end.
"""

import re
from typing import Any
from uuid import uuid4

import schemathesis

_valid = re.compile(r"[\x20-\x7e]{1,255}").fullmatch


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Replace a valid key by a fresh one, because a key is refused with another body. Streams get
    the id of a job that does not exist.
    """
    key = (case.headers or {}).get("Idempotency-Key")
    if isinstance(key, str) and _valid(key):
        case.headers["Idempotency-Key"] = str(uuid4())
    if "/stream" in case.operation.path and "job_id" in (case.path_parameters or {}):
        case.path_parameters["job_id"] = f"not-{case.path_parameters['job_id']}"
