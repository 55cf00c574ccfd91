"""The link that signs the operator in: printed at the start, good once and for a short time.

What it holds comes behind the ``#`` of an address, which browsers send to nobody: it is in no log
of a server or a proxy. Only its hash is kept, and in memory alone.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable

LINK_LIFETIME_S = 15 * 60


class SignInLink:
    """At most one code is good at a time: a new one replaces the last."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._hash = b""
        self._until = 0.0

    def issue(self) -> str:
        """A code that nobody had before."""
        code = secrets.token_urlsafe(32)
        self._hash = _hash(code)
        self._until = self._now() + LINK_LIFETIME_S
        return code

    def redeem(self, code: str) -> bool:
        """Whether it is the code, and in time. It is good no more then."""
        good = hmac.compare_digest(_hash(code), self._hash) and self._now() < self._until
        if good:
            self._hash = b""
        return good


def _hash(code: str) -> bytes:
    return hashlib.sha256(code.encode("utf-8", "replace")).digest()
