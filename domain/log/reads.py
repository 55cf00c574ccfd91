"""The questions that a log answers, for event loops and for threads."""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from domain.errors import LogUnavailable
from domain.event import Catalogue
from domain.log.recent import RecentEvents
from domain.log.recorded import Recorded
from domain.log.store import Page, Query, Store, StoreFailed

PAGE = 500
"""Most events of one read, unless the caller says otherwise."""

_WALK_PAGE = 1_000

_SCAN = 50_000
"""Positions that one page of a rarely matching filter examines before it returns a cursor."""

P = ParamSpec("P")
T = TypeVar("T")

Hashed = tuple[Recorded, bytes | None]
"""An event and its leaf hash."""


class Source(Protocol):
    """The store that answers."""

    async def read(self, query: Query) -> Page: ...

    async def checkpoint(self, name: str) -> int: ...

    async def head(self) -> int: ...


class Reads:
    """Reads one log: near its head from memory, otherwise from its store. Raises LogUnavailable if
    that cannot be read.
    """

    def __init__(self, source: Source, recent: RecentEvents, catalogue: Catalogue) -> None:
        self._source = source
        self._recent = recent
        self.catalogue = catalogue
        """The event classes that this log can read."""

    @property
    def head(self) -> int:
        """The newest durable position that readers can see, as far as this process knows; 0 for an
        empty log.
        """
        return self._recent.head

    async def newest(self) -> int:
        """The newest position that any writer has committed. Asks the store."""
        return await _answer(self._source.head())

    async def read(
        self,
        after: int,
        limit: int = PAGE,
        subject: str | None = None,
        types: Sequence[str] = (),
        *,
        before: int | None = None,
        actor: str | None = None,
    ) -> list[Recorded]:
        """Up to `limit` events after the position `after`, in order. Fewer if they reach
        PAGE_BYTES; at least one if there is one.
        """
        if before is None and actor is None:
            near = self._recent.read(after, limit, subject)
            if near is not None and (not types or near[1] >= self.head):
                return [e for e in near[0] if not types or e.type in types]
        query = Query(
            after=after, before=before, subject=subject, types=types, actor=actor, limit=limit
        )
        return (await self._asked(query))[0]

    async def page(
        self,
        after: int,
        limit: int,
        *,
        before: int | None = None,
        subject: str | None = None,
        types: Sequence[str] = (),
        actor: str | None = None,
    ) -> tuple[list[Recorded], int | None]:
        """A page, and the position after which the next one begins; None at the end.

        The work and the bytes of one page are bounded. If a filter matches rarely, or events are
        large, the page may be short or even empty and still have a next position.
        """
        end = min(self.head, before - 1 if before is not None else self.head)
        unindexed = subject is None and (bool(types) or actor is not None)
        stop = min(end, after + _SCAN) if unindexed else end
        found, whole = await self._asked(
            Query(
                after=after,
                before=stop + 1,
                subject=subject,
                types=types,
                actor=actor,
                limit=limit,
            )
        )
        if not whole:
            last = found[-1].position
            return found, last if last < end else None
        return found, stop if stop < end else None

    async def event_at(self, position: int) -> Recorded | None:
        """The event at a position; None after the head."""
        if position <= 0:
            return None
        return await self._first(Query(after=position - 1, before=position + 1, limit=1))

    async def stream(
        self, name: str, after_version: int = 0, types: Sequence[str] = ()
    ) -> list[Recorded]:
        """Every event of one stream after a version, in order; only of `types` if there are any."""
        query = Query(stream=name, after_version=after_version, types=types, page_bytes=None)
        return (await self._asked(query))[0]

    async def beginning(
        self, name: str, after_version: int, limit: int, page_bytes: int
    ) -> tuple[list[Recorded], bool]:
        """The first events of `stream`, up to a limit and a size, and whether these are all."""
        return await self._asked(
            Query(stream=name, after_version=after_version, limit=limit, page_bytes=page_bytes)
        )

    async def last_of_stream(self, name: str) -> Recorded | None:
        """The newest event of one stream; None if the stream does not exist."""
        return await self._first(Query(stream=name, newest_first=True, limit=1))

    async def first_of_stream(self, name: str) -> Recorded | None:
        """The oldest event of one stream; None if the stream does not exist."""
        return await self._first(Query(stream=name, limit=1))

    async def last_about(self, subject: str) -> int:
        """The newest position about a subject; 0 if there is none."""
        found = await self._first(Query(subject=subject, newest_first=True, limit=1))
        return found.position if found is not None else 0

    async def last_stored(self) -> int:
        """The newest position that the store has; 0 if it is empty. `newest` may still be behind it
        for a moment after a commit.
        """
        found = await self._first(Query(newest_first=True, limit=1))
        return found.position if found is not None else 0

    async def checkpoint(self, name: str) -> int:
        """The position that the reader of that name has handled; 0 at first."""
        return await _answer(self._source.checkpoint(name))

    async def walk(self, after: int, before: int, subject: str | None = None) -> list[Recorded]:
        """The next page of a walk over the stored events; empty at the end."""
        query = Query(after=after, before=before, subject=subject, limit=_WALK_PAGE)
        return (await self._asked(query))[0]

    async def walk_hashed(self, after: int, before: int, subject: str | None) -> list[Hashed]:
        """The same, each event with its leaf hash."""
        query = Query(after=after, before=before, subject=subject, limit=_WALK_PAGE, hashed=True)
        page = await _answer(self._source.read(query))
        return list(zip(self._recorded(page), page.hashes, strict=True))

    async def pages(
        self, after: int = 0, subject: str | None = None
    ) -> AsyncIterator[list[Recorded]]:
        """Everything that is committed now, page by page, even if readers are not told yet: whoever
        knows a stream's state from the store finds the events that led to it.
        """
        end = await self.last_stored() + 1
        while page := await self.walk(after, end, subject):
            yield page
            after = page[-1].position

    async def _first(self, query: Query) -> Recorded | None:
        found, _ = await self._asked(query)
        return found[0] if found else None

    async def _asked(self, query: Query) -> tuple[list[Recorded], bool]:
        """A page, and whether it holds everything that matches."""
        page = await _answer(self._source.read(query))
        return self._recorded(page), page.whole

    def _recorded(self, page: Page) -> list[Recorded]:
        catalogue = self.catalogue
        return [Recorded(*row, catalogue) for row in page.rows]


async def _answer(answer: Awaitable[T]) -> T:
    try:
        return await answer
    except StoreFailed as failed:
        raise LogUnavailable(f"The log cannot be read: {failed}") from failed


class _AtOnce:
    """A store whose answers need no event loop: it blocks instead."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def read(self, query: Query) -> Page:
        return self._store.read_blocking(query)

    async def checkpoint(self, name: str) -> int:
        return self._store.checkpoint_blocking(name)

    async def head(self) -> int:
        return self._store.head_blocking()


def _blocking(
    read: Callable[Concatenate[Reads, P], Coroutine[Any, Any, T]],
) -> "Callable[Concatenate[BlockingReads, P], T]":
    def blocking(self: "BlockingReads", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return _finished(read(self._reads, *args, **kwargs))

    blocking.__doc__ = read.__doc__
    return blocking


def _finished(reading: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    try:
        reading.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    reading.close()
    raise RuntimeError("The blocking form of a store waited for an event loop.")


class BlockingReads:
    """The same questions, for threads without an event loop."""

    def __init__(self, store: Store, recent: RecentEvents, catalogue: Catalogue) -> None:
        self._reads = Reads(_AtOnce(store), recent, catalogue)

    newest = _blocking(Reads.newest)
    read = _blocking(Reads.read)
    page = _blocking(Reads.page)
    event_at = _blocking(Reads.event_at)
    stream = _blocking(Reads.stream)
    beginning = _blocking(Reads.beginning)
    last_of_stream = _blocking(Reads.last_of_stream)
    first_of_stream = _blocking(Reads.first_of_stream)
    last_about = _blocking(Reads.last_about)
    last_stored = _blocking(Reads.last_stored)
    checkpoint = _blocking(Reads.checkpoint)
    walk = _blocking(Reads.walk)
    walk_hashed = _blocking(Reads.walk_hashed)

    def pages(self, after: int = 0, subject: str | None = None) -> Iterator[list[Recorded]]:
        """`Reads.pages`, for threads."""
        end = self.last_stored() + 1
        while page := self.walk(after, end, subject):
            yield page
            after = page[-1].position

    def hashed_pages(
        self, after: int, head: int, subject: str | None = None
    ) -> Iterator[list[Hashed]]:
        """The log after `after` up to `head`, page by page, each event with its leaf hash."""
        while page := self.walk_hashed(after, head + 1, subject):
            yield page
            after = page[-1][0].position
