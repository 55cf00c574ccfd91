"""Load, decide, append: how every command changes the log.

A decision reads the present state and drafts events. The append succeeds only if that state has not
changed meanwhile. If another writer was first, the decision is made again from the new state.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from domain.clock import Clock, system_clock
from domain.draft import Draft
from domain.errors import VersionConflict
from domain.log import Context, EventLog, Recorded

T = TypeVar("T")

TRIES = 64
"""How often a command decides before it gives up because other writers were always first."""


class Decided(NamedTuple, Generic[T]):
    """The result of a decision, and its events in the log; none if there was nothing to do."""

    outcome: T
    recorded: Sequence[Recorded]

    @property
    def position(self) -> int:
        """The position of its newest event; 0 if there was nothing to do."""
        return self.recorded[-1].position if self.recorded else 0


async def decide(
    log: EventLog,
    decision: Callable[[Draft], T],
    context: Context,
    clock: Clock = system_clock,
    *,
    long: bool = False,
) -> Decided[T]:
    """Make a decision, append its draft, and decide again if another writer was first.

    A decision changes nothing but the draft, and reads through ``log.blocking``. It runs in a
    thread if the store waits for a network, if there is much to read, or if the decision itself
    takes `long`. Raises what the decision raises, LogUnavailable, and VersionConflict after TRIES
    lost races.
    """

    def drafted() -> tuple[Draft, T]:
        draft = Draft(context, clock)
        return draft, decision(draft)

    lost: VersionConflict | None = None
    for _ in range(TRIES):
        draft, outcome = await (asyncio.to_thread(drafted) if long else log.apart(drafted))
        if not draft:
            return Decided(outcome, ())
        try:
            return Decided(outcome, await log.append(draft.events, draft.expected))
        except VersionConflict as conflict:
            lost = conflict
    assert lost is not None
    raise lost
