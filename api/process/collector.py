"""When the server looks for garbage in cycles.

Nearly all objects die by their count of references. The collector is there for cycles, and its
work holds the event loop. So it walks the young objects in small bites, and never the old ones by
itself: those are mostly caches of many thousand objects, and a walk over them takes a tenth of a
second and more. They are walked when the server has nothing else to do, and at the latest when
memory has doubled.
"""

import gc
import sys
import time
from collections.abc import Callable

YOUNG = 5_000
"""New objects between two walks over the young ones, about 5 ms each."""

_NEVER = 1_000_000_000

IDLE = 0.02
"""The share of a processor below which a server is idle."""

_LOOKS = 3
"""Looks in a row that must find the server idle."""

_WORTH = 20
"""Walks over the young objects after which an idle server walks the old ones."""

_LEAST_BLOCKS = 1_000_000
"""Blocks of memory (about 60 MB) below which a doubling is no reason to walk."""


def begin() -> None:
    """Leave out the present objects for good, which are modules and an application, and let
    the collector walk young objects alone.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, _NEVER, _NEVER)
    gc.enable()


class OldObjects:
    """Walks the old objects when that disturbs nobody. Call `look` now and then."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.process_time,
    ) -> None:
        """`clock` gives the time, and `used` that of the processor, in seconds."""
        self._clock = clock
        self._used = used
        self._blocks = sys.getallocatedblocks()
        self._looked_at = clock()
        self._used_s = used()
        self._idle = 0

    def look(self) -> bool:
        """Whether it has walked. It judges by the processor's time since the last look."""
        now, used_s = self._clock(), self._used()
        idle = used_s - self._used_s < IDLE * (now - self._looked_at)
        self._idle = self._idle + 1 if idle else 0
        self._looked_at, self._used_s = now, used_s
        doubled = sys.getallocatedblocks() > max(2 * self._blocks, _LEAST_BLOCKS)
        if not doubled and not (self._idle >= _LOOKS and gc.get_count()[1] >= _WORTH):
            return False
        gc.collect()
        self._blocks = sys.getallocatedblocks()
        self._idle = 0
        return True
