"""Numbers in a request that no JSON reader keeps as they are written.

The framework reads ``4.9999999999999999999`` as 5, and ``1e-400`` as 0, and nobody behind it can
know. So they are looked for in the body itself. Whole numbers without a point or an exponent stay
exact when they are read; `domain/numbers.py` has their rules.
"""

import re

from starlette.types import ASGIApp, Receive, Scope, Send

from api.edge.request_body import given_again, whole_body
from domain.errors import BadInput
from domain.numbers import inexact, not_kept

# Up to 15 digits every number with a point is exact, so most bodies are not read a second time.
_LONG = re.compile(rb"[0-9][0-9.]{16,}|[0-9][eE][-+]?[0-9]{2,}")


class ExactNumbers:
    """Middleware of routes. Raises BadInput with the place of such a number in a body of JSON."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in _CHANGES or not _is_json(scope):
            await self._app(scope, receive, send)
            return
        body = await whole_body(receive)
        if body is None:
            return
        if may_be_inexact(body):
            for place, text in inexact(body):
                raise BadInput(".".join(map(str, place)), not_kept(text))
        await self._app(scope, given_again(body, receive), send)


_CHANGES = frozenset({"POST", "PUT", "PATCH"})


def _is_json(scope: Scope) -> bool:
    """Whether the framework may read the body as JSON: its type says so, in whatever form."""
    kind: bytes = dict(scope["headers"]).get(b"content-type", b"")
    return b"json" in kind.lower()


def may_be_inexact(body: bytes) -> bool:
    """Whether a body must be looked through. False: every number in it is exact."""
    return _LONG.search(body) is not None
