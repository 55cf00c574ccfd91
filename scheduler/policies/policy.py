"""Policies: "whenever this event, then these".

A policy reads the log from its own checkpoint, and appends its events and the checkpoint in one
transaction. So each effect happens exactly once, also across crashes.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from domain.errors import VersionConflict
from domain.log import EventLog, NewEvent, Recorded
from scheduler.follower import Checkpoint, Follower, Unforeseen


@dataclass(frozen=True, slots=True)
class Reaction:
    """What follows from an event: events to append, and the versions that they expect."""

    events: Sequence[NewEvent]
    expected: Mapping[str, int] = field(default_factory=dict)


class Policy(Protocol):
    """One rule. `react` may be called for an event again, after a crash or a lost race. So it looks
    at the present state, and returns None if nothing is left to do.
    """

    @property
    def name(self) -> str:
        """The name of its checkpoint. It must never change."""
        ...

    @property
    def types(self) -> tuple[str, ...]: ...

    async def react(self, event: Recorded) -> Reaction | None: ...


class Following:
    """Runs one policy over the log, from its checkpoint, until cancelled.

    Unless `unforeseen` says otherwise, an event whose handling fails is logged and passed over. A
    policy looks at the present state, so a later event about the same thing finds the work that was
    left.
    """

    def __init__(
        self, log: EventLog, policy: Policy, unforeseen: Unforeseen = Unforeseen.GO_ON
    ) -> None:
        self._log = log
        self.policy = policy
        self._checkpoint = Checkpoint(log, policy.name)
        self.follower = Follower(
            log,
            policy.name,
            policy.types,
            self._deal_with,
            begin=self._checkpoint.begin,
            unforeseen=unforeseen,
        )

    async def run(self) -> None:
        """Follow the log. Survives every failure of the log."""
        remembering = asyncio.create_task(self._checkpoint.keep(self.follower))
        try:
            await self.follower.run()
        finally:
            remembering.cancel()

    async def _deal_with(self, event: Recorded) -> None:
        while True:
            try:
                reaction = await self.policy.react(event)
                if reaction is not None:
                    at = self._checkpoint.at(event)
                    await self._log.append(reaction.events, reaction.expected, checkpoint=at)
                    self._checkpoint.reached(event)
                return
            except VersionConflict as conflict:
                if conflict.stream.startswith("checkpoint "):
                    return
