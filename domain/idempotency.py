"""Idempotency keys: the first request that uses one makes a stream of that name, so there is only
one first.

draft-ietf-httpapi-idempotency-key-header-06: same key and same request, same answer; another
request, 422.
"""

import hashlib
import json
from typing import Any

from domain.errors import Invalid
from domain.event import Event


class RequestAccepted(Event, type="request.accepted"):
    """A request with an Idempotency-Key did its work, in the same append as this."""

    fingerprint: str
    """SHA-256 of what was asked, in hex."""
    result: str
    """Id of what was made."""


def idempotency_stream(principal: str, key: str) -> str:
    """The stream of one principal's key. Hashed: a key may hold anything, a stream name may not."""
    return "request-" + hashlib.sha256(f"{principal}\0{key}".encode()).hexdigest()


def canonical(value: Any) -> bytes:
    """A JSON value as the one text that it has whatever the order of its keys was. Numbers stay as
    they were written: 1 and 1.0 may mean something else to a template.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    except RecursionError:
        raise Invalid("The request is nested too deeply.") from None


def fingerprint(*parts: bytes) -> str:
    """What tells one request from another."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()
