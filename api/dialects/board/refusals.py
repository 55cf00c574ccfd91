"""The board's form of errors (`contracts/board.md` §1)."""

from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse

from api.edge.errors import Failure


def refusal(failure: Failure) -> Response:
    """``{"error": sentence}``, and the fields of the other APIs: ``detail``, ``path`` if a command
    found the mistake, and the id to find in the server's log.
    """
    body: dict[str, Any] = {"error": failure.detail, "detail": failure.detail}
    if failure.faults:
        body["detail"] = [fault.model_dump() for fault in failure.faults]
    if failure.path is not None:
        body["path"] = failure.path
    if failure.error_id is not None:
        body["error_id"] = failure.error_id
    return JSONResponse(body, failure.status, dict(failure.headers))
