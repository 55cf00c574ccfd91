"""A store in memory: for tests, and for a log that may end with its process.

Several logs may share one store, each with its own appender and readers. The events exist as long
as somebody holds the store.
"""

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from eventsourcing.persistence import StoredEvent

from domain.errors import LogRefused
from domain.log.envelope import subject_of
from domain.log.judgement import judge
from domain.log.leaf import leaf_hash
from domain.log.store import Append, Page, Query, Row, Verdict


class _Held(NamedTuple):
    """One event, and what is stored beside it."""

    row: Row
    actor: str
    hash: bytes


class MemoryStore:
    """Fulfils `Store` for any number of writers in one process. Thread-safe."""

    waits = False

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._events: list[_Held] = []
        """The event at position N has index N - 1."""
        self._streams: dict[str, list[int]] = {}
        self._subjects: dict[str, list[int]] = {}
        self._checkpoints: dict[str, int] = {}
        self._meta: dict[str, str] = {}
        self._watchers: list[Callable[[], None]] = []

    # Writing

    def append(self, batch: Sequence[Append]) -> Sequence[Verdict]:
        verdicts: list[Verdict] = []
        with self._guard:
            before = len(self._events)
            conflicts = judge(batch, self._version, lambda name: self._checkpoints.get(name, 0))
            for append, conflict in zip(batch, conflicts, strict=True):
                if conflict is not None:
                    verdicts.append(conflict)
                    continue
                verdicts.append(len(self._events) + 1 if append.events else 0)
                for event, actor in zip(append.events, append.actors, strict=True):
                    self._put(event, actor)
                if append.checkpoint is not None:
                    self._checkpoints[append.checkpoint[0]] = append.checkpoint[1]
            watchers = list(self._watchers) if len(self._events) > before else []
        for grown in watchers:
            grown()
        return verdicts

    def prove(self) -> None:
        """Always succeeds: there is no disk."""

    def fill(self, pages: Iterable[Sequence[tuple[StoredEvent, str]]]) -> int:
        # Read all pages before any event becomes visible: they may end in an error.
        given = [one for page in pages for one in page]
        with self._guard:
            if self._events:
                raise LogRefused(
                    f"This log holds {len(self._events)} events already: an import needs an "
                    "empty one."
                )
            for event, actor in given:
                self._put(event, actor)
            watchers = list(self._watchers)
        for grown in watchers:
            grown()
        return len(given)

    def obstacle(self) -> str | None:
        return None

    def _put(self, event: StoredEvent, actor: str) -> None:
        stream = str(event.originator_id)
        version, kind, state = event.originator_version, event.topic, event.state
        position = len(self._events) + 1
        row = (position, stream, version, kind, state)
        self._events.append(_Held(row, actor, leaf_hash(stream, version, kind, state)))
        self._streams.setdefault(stream, []).append(position)
        self._subjects.setdefault(subject_of(stream), []).append(position)

    def _version(self, stream: str) -> int:
        return len(self._streams.get(stream, ()))

    # Reading

    async def read(self, query: Query) -> Page:
        return self.read_blocking(query)

    def read_blocking(self, query: Query) -> Page:
        with self._guard:
            rows: list[Row] = []
            hashes: list[bytes | None] = []
            size = 0
            for event in self._matching(query):
                rows.append(event.row)
                hashes.append(event.hash)
                size += len(event.row[4])
                full = query.page_bytes is not None and size >= query.page_bytes
                if full or len(rows) == query.limit:
                    return Page(rows, False, hashes if query.hashed else ())
            return Page(rows, True, hashes if query.hashed else ())

    def _matching(self, query: Query) -> Iterator[_Held]:
        for position in self._positions(query):
            event = self._events[position - 1]
            _, stream, version, kind, _ = event.row
            if (
                (not query.types or kind in query.types)
                and (query.actor is None or event.actor == query.actor)
                and (query.subject is None or subject_of(stream) == query.subject)
                and (query.stream is None or version > query.after_version)
            ):
                yield event

    def _positions(self, query: Query) -> Sequence[int]:
        """The positions between the bounds, from the narrowest index that the query allows."""
        if query.stream is not None:
            source: Sequence[int] = self._streams.get(query.stream, ())
        elif query.subject is not None:
            source = self._subjects.get(query.subject, ())
        else:
            source = range(1, len(self._events) + 1)
        start = bisect_right(source, query.after)
        end = len(source) if query.before is None else bisect_right(source, query.before - 1)
        found = source[start:end]
        return found[::-1] if query.newest_first else found

    async def checkpoint(self, name: str) -> int:
        return self.checkpoint_blocking(name)

    def checkpoint_blocking(self, name: str) -> int:
        return self._checkpoints.get(name, 0)

    async def head(self) -> int:
        return self.head_blocking()

    def head_blocking(self) -> int:
        return len(self._events)

    async def check(self) -> None:
        """Memory can always be read."""

    def watch(self, grown: Callable[[], None]) -> Callable[[], None]:
        with self._guard:
            self._watchers.append(grown)

        def end() -> None:
            with self._guard:
                self._watchers.remove(grown)

        return end

    # About itself

    def meta(self) -> dict[str, str]:
        with self._guard:
            return dict(self._meta)

    def amend_meta(self, change: Callable[[dict[str, str]], dict[str, str]]) -> dict[str, str]:
        with self._guard:
            self._meta = change(dict(self._meta))
            return dict(self._meta)

    def versions(self) -> dict[str, str]:
        return {"store": "memory", "format": self.meta().get("format", "")}

    def close(self) -> None:
        """Does nothing: other logs may go on with the store."""
