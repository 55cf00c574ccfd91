"""Agents behind their host, as a server runs them: real processes, through the local executor."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from itertools import count
from pathlib import Path
from secrets import token_hex
from typing import Any

from scheduler.executors.contract import AttemptSpec, Exit, Running
from scheduler.executors.inbox import Frame
from scheduler.executors.local import LocalExecutor

HOST = (sys.executable, "-P", "-m", "scheduler.agents.host")
SCRIPTED = (sys.executable, "-P", "-m", "scheduler.agents.scripted")
ODD = Path(__file__).with_name("odd_agent.py")
ROOM_S = 90.0  # longest wait for a condition on a busy machine

Line = dict[str, Any]


class Talk:
    """A running host: what it has written, and a way to send it frames."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.lines: list[Line] = []
        self.errors = b""  # what a scenario read of the channel `stderr`
        self.numbers = count(1)
        self.news = asyncio.Event()
        self.reading = asyncio.create_task(self.read())

    async def read(self) -> None:
        """Read the journal to its end. An incomplete last line is an error."""
        rest = b""
        async for chunk in self.running.output(channel="journal"):
            *whole, rest = (rest + chunk).split(b"\n")
            self.lines += [json.loads(line) for line in whole]
            self.news.set()
        assert rest == b""

    async def say(self, do: str, **fields: Any) -> int:
        """Send a frame. Returns its number."""
        number = next(self.numbers)
        await self.running.send(Frame(number, json.dumps({"do": do, **fields}).encode()))
        return number

    async def prompt(self, text: str, name: str = "", when: str = "after") -> int:
        return await self.say("prompt", id=name or token_hex(4), text=text, when=when)

    async def line(self, fits: Callable[[Line], bool]) -> Line:
        """The first line that fits, once it is there."""
        seen = 0
        while True:
            self.news.clear()
            for line in self.lines[seen:]:
                seen += 1
                if fits(line):
                    return line
            assert not self.reading.done(), f"It never came. Last: {self.lines[-3:]}"
            waiting = asyncio.ensure_future(self.news.wait())
            await asyncio.wait({waiting, self.reading}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()

    async def note(self, name: str, **fields: Any) -> Line:
        return await self.line(lambda line: is_note(line, name, **fields))

    async def said(self, text: str) -> Line:
        return await self.line(lambda line: text in texts([line]))

    async def turn_ended(self, turn: int) -> Line:
        return await self.note("turn_ended", turn=turn)

    async def finish(self) -> Exit:
        """The end of the attempt, when the journal is complete. Checks its numbers."""
        end = await self.running.wait()
        await self.reading
        assert [line["n"] for line in self.lines] == list(range(1, len(self.lines) + 1))
        return end

    def notes(self, name: str) -> list[Line]:
        return [line for line in self.lines if is_note(line, name)]

    def outgoing(self, method: str) -> list[Line]:
        return [line for line in self.messages("out") if line["message"].get("method") == method]

    def messages(self, direction: str) -> list[Line]:
        return [line for line in self.lines if line.get("dir") == direction]


class World:
    """A worktree, and hosts that work in it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.state = folder / "state"
        self.cwd = folder / "worktree"
        self.cwd.mkdir()
        self.job = f"job-{token_hex(6)}"
        self.attempts = count(1)

    def spec(self, agent: tuple[str, ...], **configuration: Any) -> AttemptSpec:
        told = {
            "argv": agent,
            "env": {"CREWLOG_SCRIPTED_STATE": str(self.state)},
            **configuration,
        }
        attempt = next(self.attempts)
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.cwd.parent),
            "CREWLOG_JOB_ID": self.job,
            "CREWLOG_ATTEMPT": str(attempt),
        }
        return AttemptSpec(
            job_id=self.job,
            attempt=attempt,
            argv=HOST,
            cwd=str(self.cwd),
            env={**env, "CREWLOG_AGENT": json.dumps(told)},
            timeout_ms=0,
            output_limit=64_000_000,
            channels=("journal", "stderr"),
            inbox=True,
        )

    def talks(
        self,
        scenario: Callable[[Talk], Coroutine[Any, Any, None]],
        agent: tuple[str, ...] = SCRIPTED,
        **configuration: Any,
    ) -> Talk:
        """One attempt, as long as the scenario takes. Returns what it wrote."""

        async def life() -> Talk:
            executor = LocalExecutor(self.root)
            try:
                async with asyncio.timeout(ROOM_S):
                    talk = Talk(await executor.start(self.spec(agent, **configuration)))
                    await scenario(talk)
                    return talk
            finally:
                await executor.close()

        return asyncio.run(life())

    def odd(self, begins: str = "well") -> tuple[str, ...]:
        return (sys.executable, "-ISE", str(ODD), begins)

    def living(self) -> list[int]:
        """Processes that work in the worktree, and those of the job wherever they are."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                environment = (entry / "environ").read_bytes()
                if (entry / "cwd").readlink() == self.cwd or self.job.encode() in environment:
                    found.append(int(entry.name))
        return found

    def end_all(self) -> None:
        for pid in self.living():
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def is_note(line: Line, name: str, **fields: Any) -> bool:
    return line.get("note") == name and all(line[key] == value for key, value in fields.items())


def texts(lines: list[Line]) -> list[str]:
    """The texts of the agent's messages."""
    updates = [line["message"]["params"]["update"] for line in lines if is_update(line)]
    return [
        update["content"]["text"]
        for update in updates
        if update["sessionUpdate"] == "agent_message_chunk"
    ]


def is_update(line: Line) -> bool:
    return line.get("dir") == "in" and line["message"].get("method") == "session/update"
