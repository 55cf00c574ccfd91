"""The permissions that an agent has asked for and that are still open. Several may be."""

import asyncio
from typing import Any, Literal

from scheduler.agents.host.journal import Journal
from scheduler.agents.host.wire import Request

Why = Literal["answer", "turn_ended", "interrupted", "cancelled", "ended"]


class NotOpen(Exception):
    """No such request is open, or it has no such option. The message says so to a person."""


class Permissions:
    """Notes each request and each answer in the journal, the answer before it is sent."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._open: dict[int, list[str]] = {}
        self._answers: dict[int, asyncio.Future[str | None]] = {}

    def __bool__(self) -> bool:
        """Whether one is open: the agent waits for a person."""
        return bool(self._open)

    def notice(self, request: Request, turn: int | None) -> None:
        """The agent asks."""
        options = _option_ids(request.params.get("options"))
        self._open[request.number] = options
        self._answers[request.number] = asyncio.get_running_loop().create_future()
        self._journal.note("permission", request=request.number, turn=turn, options=options)

    async def outcome(self, request: Request) -> dict[str, Any]:
        """The answer for the agent, once there is one."""
        option = await self._answers[request.number]
        del self._answers[request.number]
        if option is None:
            return {"outcome": {"outcome": "cancelled"}}
        return {"outcome": {"outcome": "selected", "optionId": option}}

    def check(self, number: int, option: str | None) -> None:
        """Raises NotOpen unless this could be answered so."""
        if number not in self._open:
            raise NotOpen(f"The permission request {number} is not open.")
        options = self._open[number]
        if option is not None and option not in options:
            known = ", ".join(options)
            raise NotOpen(f"The permission request {number} has no option {option!r}: {known}.")

    def answer(self, number: int, option: str | None, frame: int) -> None:
        """Pass the answer on. Raises NotOpen."""
        self.check(number, option)
        self._close(number, option, "answer", frame)

    def close(self, why: Why) -> None:
        """The agent gets `cancelled` for all that are open."""
        for number in list(self._open):
            self._close(number, None, why, None)

    def _close(self, number: int, option: str | None, why: Why, frame: int | None) -> None:
        del self._open[number]
        self._journal.note("answered", request=number, option=option, why=why, frame=frame)
        answer = self._answers[number]
        if not answer.done():  # the connection cancels it when it closes
            answer.set_result(option)


def _option_ids(options: Any) -> list[str]:
    found = options if isinstance(options, list) else []
    ids = (option.get("optionId") for option in found if isinstance(option, dict))
    return [option for option in ids if isinstance(option, str)]
