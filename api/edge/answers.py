"""Parts of most answers: JSON as bytes, and the position of a change in the log."""

from typing import Any

import orjson
from fastapi import Response


def json_bytes(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, headers, media_type="application/json")


def position_header(position: int) -> dict[str, str]:
    return {"x-event-position": str(position)}
