"""Folded states of streams, kept by version: who asks again reads only what came since.

A command folds its aggregate's stream. What comes often (progress, comments, heartbeats) makes
streams long, so the state that a stream had is kept beside its version, and folded on from there.
States are values that nobody changes, and each was folded from committed events, so an older one is
never wrong, only behind, and the log says by what.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from domain.log import EventLog, Recorded

S = TypeVar("S")

_MAX_BYTES = 64 * 1024 * 1024
_OVERHEAD = 2_048
_COPIES = 4
"""What a large event may come to in a state: decoded texts take more than their bytes."""


class Kept(NamedTuple, Generic[S]):
    """A state, the version of its stream, and the position of the event that brought it there."""

    state: S
    version: int
    position: int
    weight: int


class FoldedStreams(Generic[S]):
    """The states of many streams, the least asked for given up first. Thread-safe."""

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
        """The state as the log has it now; of version 0 where there is no such stream."""
        with self._guard:
            kept = self._kept.get(name)
        since = self._log.blocking.stream(
            self._stream_of(name), kept.version if kept is not None else 0
        )
        if kept is None or since:
            return self.further(name, since, kept)
        with self._guard:
            if name in self._kept:
                self._kept.move_to_end(name)
        return kept

    def further(self, name: str, events: Sequence[Recorded], before: Kept[S] | None) -> Kept[S]:
        """The state after these, which stand in the log and follow upon `before`."""
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
