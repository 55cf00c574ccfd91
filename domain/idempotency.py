"""Idempotency keys. The first request with a key creates a stream of that name, so only one request
can be the first.

draft-ietf-httpapi-idempotency-key-header-06: the same key with the same request gives the same
answer; with another request it gives 422.
"""

import hashlib
import json
from typing import Any

from domain.errors import Invalid
from domain.event import Event


class RequestAccepted(Event, type="request.accepted"):
    """A request with an Idempotency-Key did its work. The work is in the same append."""

    fingerprint: str
    """SHA-256 of the request, in hex."""
    result: str
    """Id of the thing that the request made."""


def idempotency_stream(principal: str, key: str) -> str:
    """The stream of one principal's key. It is a hash, because a key may hold any character and a
    stream name may not.
    """
    return "request-" + hashlib.sha256(f"{principal}\0{key}".encode()).hexdigest()


def canonical(value: Any) -> bytes:
    """One text for equal JSON values, whatever the order of their keys. Numbers stay as they were
    written: 1 and 1.0 may mean different things to a template.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    except RecursionError:
        raise Invalid("The request is nested too deeply.") from None


def fingerprint(*parts: bytes) -> str:
    """Tells one request from another."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()
