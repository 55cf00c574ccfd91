"""How the board shows what has failed (`contracts/board.md` §1)."""

from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse

from api.edge.errors import Failure


def refusal(failure: Failure) -> Response:
    """``{"error": sentence}``, and beside it what the other APIs say: ``detail``, which fields are
    wrong, where a command found it so, and the id to find in the server's log.
    """
    body: dict[str, Any] = {"error": failure.detail, "detail": failure.detail}
    if failure.faults:
        body["detail"] = [fault.model_dump() for fault in failure.faults]
    if failure.path is not None:
        body["path"] = failure.path
    if failure.error_id is not None:
        body["error_id"] = failure.error_id
    return JSONResponse(body, failure.status, dict(failure.headers))
