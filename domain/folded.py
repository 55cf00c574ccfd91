"""Folded states of streams, kept by version: the next reader folds only the newer events.

A command folds its aggregate's stream. Frequent events (progress, comments, heartbeats) make
streams long, so the state is kept with its version, and folded further from there. States are
immutable and are folded from committed events only. So an old state is never wrong, only behind,
and the log has what is missing.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from domain.log import EventLog, Recorded
from domain.log.short_look import TooLong, budget

S = TypeVar("S")

_MAX_BYTES = 64 * 1024 * 1024
_OVERHEAD = 2_048
_COPIES = 4
"""An upper bound for the size of one event in a state: decoded text takes more than its bytes."""


class Kept(NamedTuple, Generic[S]):
    """A state, the version of its stream, and the position of the event that led to it."""

    state: S
    version: int
    position: int
    weight: int


class FoldedStreams(Generic[S]):
    """The states of many streams. Drops the least recently used ones. Thread-safe."""

    def __init__(
        self,
        log: EventLog,
        fold: Callable[[str, Sequence[Recorded], S | None], S],
        stream_of: Callable[[str], str],
        *,
        max_bytes: int = _MAX_BYTES,
    ) -> None:
        self._log = log
        self._fold = fold
        self._stream_of = stream_of
        self._max_bytes = max_bytes
        self._guard = threading.Lock()
        self._kept: OrderedDict[str, Kept[S]] = OrderedDict()
        self._bytes = 0

    def latest(self, name: str) -> Kept[S]:
        """The present state in the log. Its version is 0 if the stream does not exist. Raises
        TooLong if there is more to fold than the look has a budget for.
        """
        with self._guard:
            kept = self._kept.get(name)
        since = self._since(self._stream_of(name), kept.version if kept is not None else 0)
        if kept is None or since:
            return self.further(name, since, kept)
        with self._guard:
            if name in self._kept:
                self._kept.move_to_end(name)
        return kept

    def _since(self, stream: str, version: int) -> list[Recorded]:
        allowed = budget()
        if allowed is None:
            return self._log.blocking.stream(stream, version)
        events, whole = self._log.blocking.beginning(stream, version, allowed.events, allowed.bytes)
        if not whole:
            raise TooLong
        allowed.spend(len(events), sum(len(event.state) for event in events))
        return events

    def further(self, name: str, events: Sequence[Recorded], before: Kept[S] | None) -> Kept[S]:
        """The state after these events, which are in the log and follow `before`."""
        state = self._fold(name, events, before.state if before is not None else None)
        if not events:
            return before or Kept(state, 0, 0, 0)
        largest = max(len(event.state) for event in events)
        weight = max(_OVERHEAD + _COPIES * largest, before.weight if before is not None else 0)
        kept = Kept(state, events[-1].version, events[-1].position, weight)
        with self._guard:
            self._keep(name, kept)
        return kept

    def _keep(self, name: str, kept: Kept[S]) -> None:
        older = self._kept.get(name)
        if older is not None:
            if older.version >= kept.version:
                return
            self._bytes -= older.weight
        self._kept[name] = kept
        self._kept.move_to_end(name)
        self._bytes += kept.weight
        while self._bytes > self._max_bytes:
            self._bytes -= self._kept.popitem(last=False)[1].weight
