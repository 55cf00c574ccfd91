"""The follower: the one loop that reads the log from a position.

The dispatcher, the clock, deadlines, policies and deliveries use it. After any failure of the log
or of something that its handler needs, it goes on where it was. It reports its position, and treats
an unexpected error as it was told to.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from time import perf_counter
from typing import NamedTuple

from domain.errors import LogUnavailable, Unavailable, VersionConflict
from domain.log import EventLog, Recorded, Tail

logger = logging.getLogger("crewlog.follower")

_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 5.0
_REMEMBER_EVERY = 5_000
_REMEMBER_S = 30.0
_BREATH_S = 0.005


class Unforeseen(Enum):
    """What becomes of an event whose handling raises an unexpected error."""

    STOP = "stop"
    """The follower ends with the error."""
    GO_ON = "go on"
    """The error is logged, and the next event is handled. For effects that a later event can
    repair.
    """
    STAY = "stay"
    """The error is logged, and the same event is handled again, because nothing may be
    passed over.
    """


class Lag(NamedTuple):
    """How far a follower is."""

    name: str
    position: int
    """All events up to here are handled."""
    lag: int
    problem: str | None
    """What it waits for now; None if it does not wait."""
    passed_over: int
    """Events since the start that it passed over after errors."""


class Follower:
    """Handles each event of some types once, in the order of the log, until cancelled.

    `begin` returns the position after which it starts, and may do other things first. `handle`
    handles one event. If something is not available, either may raise Unavailable and is called
    again later, so both must allow a repetition.
    """

    def __init__(
        self,
        log: EventLog,
        name: str,
        types: Sequence[str],
        handle: Callable[[Recorded], Awaitable[None]],
        *,
        begin: Callable[[], Awaitable[int]],
        page_end: Callable[[], None] = lambda: None,
        unforeseen: Unforeseen = Unforeseen.STOP,
    ) -> None:
        """`page_end` is called after several events that came together."""
        self.name = name
        self.problem: str | None = None
        self.passed_over = 0
        self.handling: int | None = None
        """The position of the event that is being handled."""
        self._log = log
        self._types = types
        self._handle = handle
        self._begin = begin
        self._page_end = page_end
        self._unforeseen = unforeseen
        self._tail: Tail | None = None
        self._position = 0
        self._waited_s = 0.0
        self._breathed = 0.0

    @property
    def position(self) -> int:
        """The position up to which all events are handled or are of other types."""
        return self._position if self._tail is None else max(self._position, self._tail.position)

    @property
    def status(self) -> Lag:
        lag = max(0, self._log.head - self.position)
        return Lag(self.name, self.position, lag, self.problem, self.passed_over)

    async def run(self) -> None:
        """Follow the log until cancelled."""
        begun = False
        while True:
            try:
                if not begun:
                    self._position = await self._begin()
                    begun = True
                await self._follow()
            except Unavailable as error:
                await self._wait(str(error))

    async def _follow(self) -> None:
        if self.problem is not None and not await self._log.read(
            self._position, 1, types=self._types
        ):
            self._well()
        tail = self._log.tail(self._position, types=self._types)
        try:
            self._tail = tail
            async for page in tail:
                # The tail is already at the end of the page; this is not.
                self._tail = None
                for event in page:
                    await self._deal_with(event)
                    self._position = event.position
                    self._well()
                    await self._breath()
                self._page_end()
                self._tail = tail
        finally:
            # The tail skips events of other types without a word.
            self._position = self.position
            self._tail = None

    async def _breath(self) -> None:
        """Give other tasks their turn now and then: a handler may have nothing to wait for."""
        if perf_counter() - self._breathed > _BREATH_S:
            await asyncio.sleep(0)
            self._breathed = perf_counter()

    async def _deal_with(self, event: Recorded) -> None:
        while True:
            self.handling = event.position
            try:
                await self._handle(event)
                return
            except Unavailable:
                raise
            except Exception as error:
                if self._unforeseen is Unforeseen.STOP:
                    raise
                logger.critical("%s cannot deal with %r", self.name, event, exc_info=error)
                if self._unforeseen is Unforeseen.GO_ON:
                    self.passed_over += 1
                    return
                await self._wait(f"It cannot deal with {event.type} at {event.position}.")
            finally:
                self.handling = None

    def _well(self) -> None:
        self.problem = None
        self._waited_s = 0.0

    async def _wait(self, problem: str) -> None:
        """Wait, longer each time in a row."""
        self.problem = problem
        self._waited_s = min(_LONGEST_WAIT_S, 2 * self._waited_s or _FIRST_WAIT_S)
        logger.error("%s waits %.1f s: %s", self.name, self._waited_s, problem)
        await asyncio.sleep(self._waited_s)


class Checkpoint:
    """The start position of a follower, which the log keeps under the follower's name.

    An append of what follows from an event includes `at(event)`, so that both are stored or
    neither.
    """

    def __init__(self, log: EventLog, name: str) -> None:
        self._log = log
        self._name = name
        self._remembered = 0

    async def begin(self) -> int:
        """The position up to which all is handled."""
        self._remembered = await self._log.checkpoint(self._name)
        return self._remembered

    def at(self, event: Recorded) -> tuple[str, int]:
        """The checkpoint for the append of what follows from this event."""
        return self._name, event.position

    def reached(self, event: Recorded) -> None:
        """Report that this append was done."""
        self._remembered = event.position

    async def keep(self, follower: Follower) -> None:
        """Runs until cancelled. Stores the position now and then, so that a follower without work
        need not read all of it again.
        """
        while True:
            await asyncio.sleep(_REMEMBER_S)
            position = follower.position
            if position - self._remembered >= _REMEMBER_EVERY:
                try:
                    await self._log.append((), {}, checkpoint=(self._name, position))
                    self._remembered = position
                except (LogUnavailable, VersionConflict) as error:
                    logger.warning("%s cannot keep its place: %s", self._name, error)
