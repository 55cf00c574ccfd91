"""The newest events, in memory. Readers near the head share them and do not read the disk."""

import threading
from bisect import bisect_right
from collections import deque

from domain.log.envelope import PAGE_BYTES
from domain.log.recorded import Recorded

_MAX_EVENTS = 8_192
_MAX_BYTES = 16 * 1024 * 1024
_DECODED = 512
"""The newest events, which keep their decoded form: readers who follow the log are there."""

# What a read event takes in memory: its bytes, and the decoded form, in which each text of a list
# is an object of its own.
_COPIES = 2
_EVENT_BYTES = 1_024
_TEXT_BYTES = 64

_Asked = tuple[int, int, int, str | None, int]


class RecentEvents:
    """A window of consecutive positions that ends at the head. Thread-safe."""

    def __init__(
        self, head: int, max_events: int = _MAX_EVENTS, max_bytes: int = _MAX_BYTES
    ) -> None:
        self._lock = threading.Lock()
        self._floor = head
        self._events: deque[Recorded] = deque()
        self._decoded: deque[Recorded] = deque()
        self._by_subject: dict[str, deque[Recorded]] = {}
        self._bytes = 0
        self._shared: tuple[_Asked, tuple[list[Recorded], int]] | None = None
        self._max_events = max_events
        self._max_bytes = max_bytes
        self.head = head

    def extend(self, events: list[Recorded]) -> set[str]:
        """Add newly committed events, in order, and drop the oldest ones beyond the bounds.

        Returns the subjects of the new events.
        """
        subjects: set[str] = set()
        with self._lock:
            by_subject = self._by_subject
            for event in events:
                subject = event.subject
                subjects.add(subject)
                siblings = by_subject.get(subject)
                if siblings is None:
                    siblings = by_subject[subject] = deque()
                siblings.append(event)
                self._bytes += _weight(event)
            self._events.extend(events)
            self._decoded.extend(events)
            while len(self._decoded) > _DECODED:
                self._decoded.popleft().let_go()
            while len(self._events) > self._max_events or (
                self._bytes > self._max_bytes and len(self._events) > 1
            ):
                self._drop_oldest()
            if events:
                self.head = events[-1].position
        return subjects

    def _drop_oldest(self) -> None:
        oldest = self._events.popleft()
        if self._decoded[0] is oldest:
            self._decoded.popleft()
        self._bytes -= _weight(oldest)
        self._floor = oldest.position
        siblings = self._by_subject[oldest.subject]
        siblings.popleft()
        if not siblings:
            del self._by_subject[oldest.subject]

    def read(
        self, after: int, limit: int, subject: str | None, page_bytes: int = PAGE_BYTES
    ) -> tuple[list[Recorded], int] | None:
        """Up to `limit` events after `after`, fewer if they reach `page_bytes`, and the position up
        to which none is left out.

        None if `after` is before the window: only the disk has those events.
        """
        with self._lock:
            if after < self._floor:
                return None
            if after >= self.head:
                return [], after
            # Readers of the same filter are mostly at the same place: the first one makes the page
            # for all.
            key = (after, self.head, limit, subject, page_bytes)
            if self._shared is None or self._shared[0] != key:
                self._shared = (key, self._page(after, limit, subject, page_bytes))
            return self._shared[1]

    def _page(
        self, after: int, limit: int, subject: str | None, page_bytes: int
    ) -> tuple[list[Recorded], int]:
        source = self._events if subject is None else self._by_subject.get(subject)
        if not source:
            return [], self.head
        found = _past(source, after, limit)
        page = _trimmed(found, page_bytes)
        whole = len(page) == len(found) < limit
        return page, self.head if whole else page[-1].position


def _weight(event: Recorded) -> int:
    """An upper estimate of the bytes that an event keeps in memory."""
    texts = event.state.count(b'","')
    return _EVENT_BYTES + _COPIES * len(event.state) + _TEXT_BYTES * texts


def _trimmed(page: list[Recorded], page_bytes: int) -> list[Recorded]:
    """The page up to the event with which it reaches `page_bytes`."""
    size = 0
    for count, event in enumerate(page, 1):
        size += len(event.state)
        if size >= page_bytes:
            return page[:count]
    return page


def _past(events: deque[Recorded], after: int, limit: int) -> list[Recorded]:
    """The first `limit` events after `after`. Searches from the end, where most readers are."""
    if events[-1].position <= after:
        return []
    newest: list[Recorded] = []
    for event in reversed(events):
        if event.position <= after:
            break
        newest.append(event)
        if len(newest) > 4 * limit:
            start = bisect_right(events, after, key=lambda e: e.position)
            return [events[i] for i in range(start, min(start + limit, len(events)))]
    newest.reverse()
    return newest[:limit]
