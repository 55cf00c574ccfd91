"""What a store of the log promises. `sqlite` and `memory` keep it; tests/conformance says so of
each.

A log may have several writers, each with an `EventLog` of its own on one store, where the store
allows it. Whatever they must agree on is therefore the store's: who was first, which position is
next, and what the newest one is.
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
"""What became of one append: the position of its first event (0 where it has none), or why nothing
of it was written.
"""


class StoreFailed(Exception):
    """The store could not do what was asked; the text is a phrase that says why."""


@dataclass(slots=True)
class Append:
    """Events of one caller. All of them are written, or none."""

    events: Sequence[StoredEvent]
    """Each has the version that follows on what its stream is expected to have."""
    actors: Sequence[str]
    """Who did each of them."""
    expected: Mapping[str, int]
    """The version that each stream must have, 0 where it must not exist. Streams that are not
    written to are only checked.
    """
    checkpoint: tuple[str, int] | None
    """A reader's name and the position that it has dealt with, which must move forward."""
    essential: bool
    """It is written also where the store has hardly any room left."""


class Query(NamedTuple):
    """Which events to read: all that is given must hold. They come in the order of positions."""

    after: int = 0
    before: int | None = None
    """``after < position < before``."""
    subject: str | None = None
    stream: str | None = None
    after_version: int = 0
    """Of a stream: only what is past this version."""
    types: Sequence[str] = ()
    actor: str | None = None
    newest_first: bool = False
    limit: int | None = None
    page_bytes: int | None = PAGE_BYTES
    """The page ends with the event with which its states come to so much; None: nowhere."""
    hashed: bool = False
    """Leaf hashes are wanted, too."""


class Page(NamedTuple):
    """What a query gave."""

    rows: Sequence[Row]
    whole: bool
    """Whether this is all that matches: neither the limit nor the bytes ended it."""
    hashes: Sequence[bytes | None] = ()
    """The leaf hash of each row, where they were asked for. None where there is none."""


class Store(Protocol):
    """Keeps the events of one log.

    Methods that are not coroutines block; they are called from threads. What reads is there in both
    forms: an event loop awaits the one, and a store answers it inline only where that is cheaper
    than to wait. Whatever cannot be done raises StoreFailed.
    """

    @property
    def waits(self) -> bool:
        """Whether a short read waits for a network: then nothing blocks an event loop with it."""
        ...

    # Writing: from one thread of each log

    def append(self, batch: Sequence[Append]) -> Sequence[Verdict]:
        """Judge each append as if those of the batch before it were written, and write those that
        hold: in one transaction, durable when this returns.

        The store compares versions and checkpoints itself, with what is committed by whomever.
        Positions are dense: those of a batch follow on the newest one of the log and on each other.
        Beside each event lie its subject, its actor and its leaf hash. After StoreFailed nobody
        knows which of the batch were written, and the next call must be `prove`.
        """
        ...

    def prove(self) -> None:
        """Find out what was written, and write durably without a change: the smallest proof that
        the store takes appends again.
        """
        ...

    def fill(self, pages: Iterable[Sequence[tuple[StoredEvent, str]]]) -> int:
        """Write events and their actors at positions from 1 on, all or nothing, and say how many.
        LogRefused where there are events already.
        """
        ...

    def obstacle(self) -> str | None:
        """A sentence about what keeps an append from being written, as far as that is known without
        writing; None where nothing is known.
        """
        ...

    # Reading

    async def read(self, query: Query) -> Page: ...

    def read_blocking(self, query: Query) -> Page: ...

    async def checkpoint(self, name: str) -> int:
        """The position of that reader's newest checkpoint; 0 where it has none."""
        ...

    def checkpoint_blocking(self, name: str) -> int: ...

    async def head(self) -> int:
        """The newest position that is committed, by whomever; 0 where there is none."""
        ...

    def head_blocking(self) -> int: ...

    async def check(self) -> None:
        """StoreFailed where something of the log is known to be unreadable."""
        ...

    def watch(self, grown: Callable[[], None]) -> Callable[[], None]:
        """Call `grown` soon after each commit of another writer, on any thread; it returns at once.
        One call may stand for several commits, and may come for one's own. Gives what ends it.
        """
        ...

    # About itself

    def meta(self) -> dict[str, str]:
        """What the log says of itself: its id, its format, the event schemas written to it."""
        ...

    def amend_meta(self, change: Callable[[dict[str, str]], dict[str, str]]) -> dict[str, str]:
        """Let `change` make of what the log says of itself what it is to say; nobody else says
        anything in between.
        """
        ...

    def versions(self) -> dict[str, str]:
        """What it is made of, for readyz and doctor; the first is its kind, as ``store``."""
        ...

    def close(self) -> None:
        """Let go of what this process holds."""
        ...
