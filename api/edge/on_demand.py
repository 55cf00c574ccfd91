"""An application that is made at its first request."""

import asyncio
import threading
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

_making = threading.Lock()
"""One thread at a time may make the framework's validators."""


class OnDemand:
    """An application that `make` returns. The first request makes it, in a thread: an API has a
    hundred or more validators, and no request may block the event loop for that long. So a server
    with clients of only one API starts sooner and is smaller. `made` is called after it.
    """

    def __init__(
        self, make: Callable[[], ASGIApp], made: Callable[[], object] = lambda: None
    ) -> None:
        self._make = make
        self._made = made
        self._app: ASGIApp | None = None

    @property
    def app(self) -> ASGIApp:
        """The application itself. Makes it now if there was no request yet."""
        with _making:
            if self._app is None:
                self._app = self._make()
                self._made()
            return self._app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if app is None:
            app = await asyncio.to_thread(lambda: self.app)
        await app(scope, receive, send)
