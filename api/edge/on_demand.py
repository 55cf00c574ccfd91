"""An application that is made when it is first asked for."""

import asyncio
import threading
from collections.abc import Callable
from functools import cached_property

from starlette.types import ASGIApp, Receive, Scope, Send

_making = threading.Lock()
"""The framework makes its validators in one thread at a time."""


class OnDemand:
    """An application that `make` gives. The first request makes it, in a thread: the validators of
    an API are a hundred or more, and no request may hold the event loop for so long. A server that
    is asked by clients of one API starts sooner for it, and is smaller.
    """

    def __init__(self, make: Callable[[], ASGIApp]) -> None:
        self._make = make

    @cached_property
    def app(self) -> ASGIApp:
        """The application itself, made now if it was not asked for yet."""
        with _making:
            found: ASGIApp | None = self.__dict__.get("app")
            return self._make() if found is None else found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app: ASGIApp | None = self.__dict__.get("app")
        if app is None:
            app = await asyncio.to_thread(lambda: self.app)
        await app(scope, receive, send)
