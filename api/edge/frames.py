"""The frames of events in one wire form, cached so that readers share them."""

import threading
from collections.abc import Callable
from typing import NamedTuple

from domain.log import Recorded

_MAX_BYTES = 4 * 1024 * 1024
_FRAME_BYTES = 64
"""Size of a frame beside its bytes."""


class _Made(NamedTuple):
    state: bytes
    """The event of the frames: there may be several logs, each with its own positions."""
    frames: list[bytes]
    weight: int


class Frames:
    """Encodes an event at its first use. Drops the oldest entries first: most readers are near the
    head of the log, and a reader far behind encodes its own. Thread-safe.
    """

    def __init__(
        self, encode: Callable[[Recorded], list[bytes]], max_bytes: int = _MAX_BYTES
    ) -> None:
        self._encode = encode
        self._max_bytes = max_bytes
        self._guard = threading.Lock()
        self._made: dict[int, _Made] = {}
        self._bytes = 0

    def of(self, event: Recorded) -> list[bytes]:
        """The frames of an event. The list is shared: do not change it."""
        made = self._made.get(event.position)
        if made is not None and made.state == event.state:
            return made.frames
        frames = self._encode(event)
        weight = len(event.state) + sum(map(len, frames)) + _FRAME_BYTES * (len(frames) + 4)
        with self._guard:
            older = self._made.pop(event.position, None)
            if older is not None:
                self._bytes -= older.weight
            self._made[event.position] = _Made(event.state, frames, weight)
            self._bytes += weight
            while self._bytes > self._max_bytes and len(self._made) > 1:
                self._bytes -= self._made.pop(next(iter(self._made))).weight
        return frames
