"""Pages of old events, read from the disk once for all readers at the same place."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from domain.log.recorded import Recorded

_MOST = 16
"""Pages to keep. Readers that began together are rarely further apart."""

_Page = tuple[list[Recorded], int]
_Read = Callable[[], Awaitable[tuple[list[Recorded], int, bool]]]


class SharedPages:
    """Pages by their query, and reads in progress. Not thread-safe across event loops: each loop
    shares among its own readers.
    """

    def __init__(self) -> None:
        self._pages: OrderedDict[tuple[object, ...], _Page] = OrderedDict()
        self._coming: dict[tuple[object, ...], asyncio.Future[_Page]] = {}

    async def get(self, query: tuple[object, ...], read: _Read) -> _Page:
        """The page: a kept one, one that another reader already waits for, or a new read.

        `read` returns the events, the position up to which none is left out, and whether the page
        is full. A full page never changes, because events are only added at the end of the log.
        """
        key = (id(asyncio.get_running_loop()), *query)
        page = self._pages.get(key)
        if page is not None:
            self._pages.move_to_end(key)
            return page
        coming = self._coming.get(key)
        if coming is None:
            coming = self._coming[key] = asyncio.ensure_future(self._read(key, read))
            coming.add_done_callback(_heard)
        # A reader that leaves must not cancel the read for the others.
        return await asyncio.shield(coming)

    async def _read(self, key: tuple[object, ...], read: _Read) -> _Page:
        try:
            events, covered, full = await read()
        finally:
            del self._coming[key]
        if full:
            self._pages[key] = (events, covered)
            if len(self._pages) > _MOST:
                self._pages.popitem(last=False)
        return events, covered


def _heard(coming: "asyncio.Future[_Page]") -> None:
    """Retrieve the error, so that asyncio does not report it if every reader has left."""
    if not coming.cancelled():
        coming.exception()
