"""What a store of the log promises. `sqlite` and `memory` fulfil it; tests/conformance checks each.

A log may have several writers, each with its own `EventLog` over one store, if the store allows it.
The store decides everything that they must agree on: who was first, which position is next, and
what the newest one is.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from eventsourcing.persistence import StoredEvent

from domain.errors import LogUnavailable, VersionConflict
from domain.log.envelope import PAGE_BYTES

Row = tuple[int, str, int, str, bytes]
"""position, stream, version, type, state."""

Verdict = int | VersionConflict | LogUnavailable
"""The result of one append: the position of its first event (0 if it has none), or the reason why
none of it was written.
"""


class StoreFailed(Exception):
    """The store could not do it. The text is a phrase that says why."""


@dataclass(slots=True)
class Append:
    """The events of one caller. All of them are written, or none."""

    events: Sequence[StoredEvent]
    """Each has the version that follows its stream's expected version."""
    actors: Sequence[str]
    """The actor of each event."""
    expected: Mapping[str, int]
    """The version that each stream must have; 0: it must not exist. Streams that are not written to
    are only checked.
    """
    checkpoint: tuple[str, int] | None
    """A reader's name and the position that it has handled. The position must move forward."""
    essential: bool
    """Written even if the store has hardly any room left."""


class Query(NamedTuple):
    """Which events to read: those that match every field. They come in the order of positions."""

    after: int = 0
    before: int | None = None
    """``after < position < before``."""
    subject: str | None = None
    stream: str | None = None
    after_version: int = 0
    """With a stream: only events after this version."""
    types: Sequence[str] = ()
    actor: str | None = None
    newest_first: bool = False
    limit: int | None = None
    page_bytes: int | None = PAGE_BYTES
    """The page ends with the event that makes its states reach this size; None: no limit."""
    hashed: bool = False
    """Whether the leaf hashes are wanted too."""


class Page(NamedTuple):
    """The result of a query."""

    rows: Sequence[Row]
    whole: bool
    """Whether these are all matches: neither the limit nor the bytes ended the page."""
    hashes: Sequence[bytes | None] = ()
    """The leaf hash of each row, if they were asked for. None for a row without one."""


class Store(Protocol):
    """Keeps the events of one log.

    Methods that are not coroutines block; they are called from threads. Reads are coroutines: a
    store answers them inline only if that is cheaper than waiting. Every failure raises
    StoreFailed.
    """

    @property
    def waits(self) -> bool:
        """Whether a short read waits for a network. If so, no event loop may block on one."""
        ...

    # Writing: from one thread of each log

    def append(self, batch: Sequence[Append]) -> Sequence[Verdict]:
        """Judge each append as if the earlier ones of the batch were written, and write those that
        succeed, in one transaction. They are durable when this returns.

        The store itself compares versions and checkpoints with what any writer has committed.
        Positions are dense: those of a batch follow the newest one of the log and each other. Each
        event is stored with its subject, its actor and its leaf hash. After StoreFailed it is
        unknown which of the batch were written, and the next call must be `prove`.
        """
        ...

    def prove(self) -> None:
        """Find out what was written, and make a durable write that changes nothing: the smallest
        proof that the store accepts appends again.
        """
        ...

    def fill(self, pages: Iterable[Sequence[tuple[StoredEvent, str]]]) -> int:
        """Write events and their actors at positions from 1 on, all or nothing. Returns how many.
        Raises LogRefused if there are events already.
        """
        ...

    def obstacle(self) -> str | None:
        """A sentence about what prevents an append, as far as that is known without writing; None
        if nothing is known.
        """
        ...

    # Reading

    async def read(self, query: Query) -> Page: ...

    def read_blocking(self, query: Query) -> Page: ...

    async def checkpoint(self, name: str) -> int:
        """The position of that reader's newest checkpoint; 0 if it has none."""
        ...

    def checkpoint_blocking(self, name: str) -> int: ...

    async def head(self) -> int:
        """The newest position that any writer has committed; 0 if there is none."""
        ...

    def head_blocking(self) -> int: ...

    async def check(self) -> None:
        """Raises StoreFailed if part of the log is known to be unreadable."""
        ...

    def watch(self, grown: Callable[[], None]) -> Callable[[], None]:
        """Call `grown` soon after each commit of another writer, on any thread; it returns at once.
        One call may stand for several commits, and may come for this writer's own. Returns a
        function that ends it.
        """
        ...

    # About itself

    def meta(self) -> dict[str, str]:
        """What the log says about itself: its id, its format, the event schemas in it."""
        ...

    def amend_meta(self, change: Callable[[dict[str, str]], dict[str, str]]) -> dict[str, str]:
        """Replace that by what `change` makes of it. No other change can come in between."""
        ...

    def versions(self) -> dict[str, str]:
        """The versions of its parts, for readyz and doctor. The first names its kind, such
        as ``store``.
        """
        ...

    def close(self) -> None:
        """Release what this process holds."""
        ...
