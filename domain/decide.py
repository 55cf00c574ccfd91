"""Load, decide, append: the one way in which a command changes what is in the log.

A decision looks at the state of things and drafts what follows from it; the append holds only if
what it saw is still so. Where somebody else was first it is asked again, about how things are then.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, NamedTuple, TypeVar

from domain.clock import Clock, system_clock
from domain.draft import Draft
from domain.errors import VersionConflict
from domain.log import Context, EventLog, Recorded

T = TypeVar("T")

TRIES = 64
"""How often a command decides before it gives up because others are always first."""


class Decided(NamedTuple, Generic[T]):
    """What a decision gave, and what of it stands in the log: nothing where nothing was to do."""

    outcome: T
    recorded: Sequence[Recorded]

    @property
    def position(self) -> int:
        """Of the newest event of it; 0 where nothing was to do."""
        return self.recorded[-1].position if self.recorded else 0


async def decide(
    log: EventLog,
    decision: Callable[[Draft], T],
    context: Context,
    clock: Clock = system_clock,
    *,
    long: bool = False,
) -> Decided[T]:
    """Ask for a decision, append what it drafted, and ask again where it was too late.

    A decision changes nothing but the draft, and reads by ``log.blocking`` whatever it looks at. It
    is run in a thread where the store is waited for, or the decision itself takes `long`. Raises
    what the decision raises, LogUnavailable, and VersionConflict when others were first TRIES
    times.
    """
    lost: VersionConflict | None = None
    for _ in range(TRIES):
        draft = Draft(context, clock)
        asked = partial(decision, draft)
        outcome = await (asyncio.to_thread(asked) if long else log.apart(asked))
        if not draft:
            return Decided(outcome, ())
        try:
            return Decided(outcome, await log.append(draft.events, draft.expected))
        except VersionConflict as conflict:
            lost = conflict
    assert lost is not None
    raise lost
