"""An application that is made at its first request."""

import asyncio
import threading
from collections.abc import Callable
from functools import cached_property

from starlette.types import ASGIApp, Receive, Scope, Send

_making = threading.Lock()
"""One thread at a time may make the framework's validators."""


class OnDemand:
    """An application that `make` returns. The first request makes it, in a thread: an API has a
    hundred or more validators, and no request may block the event loop for that long. So a server
    with clients of only one API starts sooner and is smaller.
    """

    def __init__(self, make: Callable[[], ASGIApp]) -> None:
        self._make = make

    @cached_property
    def app(self) -> ASGIApp:
        """The application itself. Makes it now if there was no request yet."""
        with _making:
            found: ASGIApp | None = self.__dict__.get("app")
            return self._make() if found is None else found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app: ASGIApp | None = self.__dict__.get("app")
        if app is None:
            app = await asyncio.to_thread(lambda: self.app)
        await app(scope, receive, send)
