"""Pages of old events, read from the disk once for readers who stand at the same place."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from domain.log.recorded import Recorded

_MOST = 16
"""Pages that are kept. Readers who began together are rarely further apart."""

_Page = tuple[list[Recorded], int]
_Read = Callable[[], Awaitable[tuple[list[Recorded], int, bool]]]


class SharedPages:
    """Pages by what was asked for, and readings that are under way. Not thread-safe across loops:
    each event loop shares among its own readers.
    """

    def __init__(self) -> None:
        self._pages: OrderedDict[tuple[object, ...], _Page] = OrderedDict()
        self._coming: dict[tuple[object, ...], asyncio.Future[_Page]] = {}

    async def get(self, asked: tuple[object, ...], read: _Read) -> _Page:
        """The page: one kept, one that another reader waits for, or what `read` gives now.

        `read` gives the events, the position up to which nothing was left out, and whether the page
        is full. A full page is the same for ever, since events are only added after the last.
        """
        key = (id(asyncio.get_running_loop()), *asked)
        page = self._pages.get(key)
        if page is not None:
            self._pages.move_to_end(key)
            return page
        coming = self._coming.get(key)
        if coming is None:
            coming = self._coming[key] = asyncio.ensure_future(self._read(key, read))
            coming.add_done_callback(_heard)
        # A reader that leaves takes the page from nobody.
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
    """Who waited has the error; where all have left, it is nobody's."""
    if not coming.cancelled():
        coming.exception()
