"""Policies: "whenever this event, then these".

A policy reads the log from its own checkpoint and appends its events and the checkpoint in one
transaction, so each effect happens exactly once across crashes.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from domain.errors import LogUnavailable, VersionConflict
from domain.log import EventLog, NewEvent, Recorded, Tail

logger = logging.getLogger("crewlog.policy")

_RETRY_S = 0.5
_REMEMBER_EVERY = 5_000
_REMEMBER_S = 30.0


@dataclass(frozen=True, slots=True)
class Reaction:
    """What follows from an event: events to append and the versions that they expect."""

    events: Sequence[NewEvent]
    expected: Mapping[str, int] = field(default_factory=dict)


class Policy(Protocol):
    """One rule. `react` may be asked about an event again, after a crash or a lost race: it looks
    at the state of things and answers None when nothing is left to do.
    """

    @property
    def name(self) -> str:
        """The name of its checkpoint. For ever."""
        ...

    @property
    def types(self) -> tuple[str, ...]: ...

    async def react(self, event: Recorded) -> Reaction | None: ...


class Following:
    """Runs one policy over the log, from its checkpoint, until cancelled."""

    def __init__(self, log: EventLog, policy: Policy) -> None:
        self._log = log
        self._policy = policy
        self._tail: Tail | None = None
        self._remembered = log.blocking.checkpoint(policy.name)
        self._position = self._remembered

    @property
    def name(self) -> str:
        return self._policy.name

    @property
    def position(self) -> int:
        """How far this reader of the log is."""
        return self._position if self._tail is None else max(self._position, self._tail.position)

    async def run(self) -> None:
        """Follow the log. Goes on after any failure of the log; an event that a policy cannot deal
        with is logged and passed over.
        """
        remembering = asyncio.create_task(self._remember_now_and_then())
        try:
            while True:
                try:
                    await self._follow()
                except LogUnavailable as error:
                    logger.error("%s cannot read the log: %s", self.name, error)
                    await asyncio.sleep(_RETRY_S)
        finally:
            remembering.cancel()

    async def _follow(self) -> None:
        tail = self._log.tail(self._position, types=self._policy.types)
        self._tail = tail
        async for page in tail:
            # The tail stands at the end of the page already, and this does not.
            self._tail = None
            for event in page:
                await self._deal_with(event)
                self._position = event.position
            self._tail = tail

    async def _deal_with(self, event: Recorded) -> None:
        while True:
            try:
                reaction = await self._policy.react(event)
                if reaction is not None:
                    await self._log.append(
                        reaction.events,
                        reaction.expected,
                        checkpoint=(self.name, event.position),
                    )
                    self._remembered = event.position
                return
            except VersionConflict as conflict:
                if conflict.stream.startswith("checkpoint "):
                    return
            except LogUnavailable as error:
                logger.error("%s waits for the log: %s", self.name, error)
                await asyncio.sleep(_RETRY_S)
            except Exception:
                logger.exception("%s cannot deal with %r", self.name, event)
                return

    async def _remember_now_and_then(self) -> None:
        """A policy that had nothing to do for long need not read all of it again."""
        while True:
            await asyncio.sleep(_REMEMBER_S)
            position = self.position
            if position - self._remembered >= _REMEMBER_EVERY:
                try:
                    await self._log.append((), {}, checkpoint=(self.name, position))
                    self._remembered = position
                except (LogUnavailable, VersionConflict) as error:
                    logger.warning("%s cannot keep its place: %s", self.name, error)
