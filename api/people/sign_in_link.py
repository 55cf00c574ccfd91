"""The link that signs the operator in: printed at the start, valid once and for a short time.

The code is behind the ``#`` of the address, which browsers send to no server. So it is in no log of
a server or proxy. Only its hash is kept, and only in memory.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable

LINK_LIFETIME_S = 15 * 60


class SignInLink:
    """At most one code is valid at a time: a new one replaces the last."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._hash = b""
        self._until = 0.0

    def issue(self) -> str:
        """A new code."""
        code = secrets.token_urlsafe(32)
        self._hash = _hash(code)
        self._until = self._now() + LINK_LIFETIME_S
        return code

    def redeem(self, code: str) -> bool:
        """Whether it is the valid code. The code is invalid afterwards."""
        good = hmac.compare_digest(_hash(code), self._hash) and self._now() < self._until
        if good:
            self._hash = b""
        return good


def _hash(code: str) -> bytes:
    return hashlib.sha256(code.encode("utf-8", "replace")).digest()
