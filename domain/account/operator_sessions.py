"""Signs the operator in and out, and keeps the open sessions in memory."""

import asyncio
from collections.abc import Callable
from typing import Literal

from domain.account.operator import OPERATOR_SESSIONS, Sessions, evolve
from domain.clock import Clock, system_clock
from domain.event import Event
from domain.log import Context, EventLog, Recorded, new_events


class OpenSessions:
    """The open sessions. Reads only look into memory."""

    def __init__(self) -> None:
        self.state = Sessions()

    @property
    def changes(self) -> int:
        """Grows with each change."""
        return self.state.version

    def has(self, session: str) -> bool:
        return session in self.state.open

    def apply(self, recorded: Recorded) -> None:
        """Fold one event of the operator's stream in."""
        self.state = evolve(self.state, recorded)


class Operator:
    """The operator's sessions in one log. Commands run one after the other, as those on
    accounts do.
    """

    def __init__(self, log: EventLog, clock: Clock = system_clock) -> None:
        self._log = log
        self._clock = clock
        self._turn = asyncio.Lock()
        self.sessions = OpenSessions()

    def load(self) -> None:
        """Read the sessions from the log. Blocks on the disk."""
        for page in self._log.blocking.pages(subject=OPERATOR_SESSIONS):
            for recorded in page:
                self.sessions.apply(recorded)

    async def sign_in(
        self, session: str, how: Literal["token", "link"], address: str | None, context: Context
    ) -> int:
        """Begin a session. Returns the position of the newest event."""
        return await self._run(lambda s: s.sign_in(session, how, address), context)

    async def sign_out(self, session: str, context: Context) -> int:
        """End the session if it is open. Returns the position of the newest event."""
        return await self._run(lambda s: s.sign_out(session), context)

    async def _run(self, decide: Callable[[Sessions], list[Event]], context: Context) -> int:
        # Shielded: if the client disconnects, the memory must still follow the log.
        return await asyncio.shield(self._in_turn(decide, context))

    async def _in_turn(self, decide: Callable[[Sessions], list[Event]], context: Context) -> int:
        async with self._turn:
            events = decide(self.sessions.state)
            if events:
                new = new_events(OPERATOR_SESSIONS, events, context, self._clock)
                expected = {OPERATOR_SESSIONS: self.sessions.state.version}
                for recorded in await self._log.append(new, expected):
                    self.sessions.apply(recorded)
            return self.sessions.state.position
