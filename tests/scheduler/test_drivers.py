"""A second kind of job needs only a driver.

Its process writes its progress to its journal, and reads messages of people from its inbox.
"""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.errors import StaleAttempt
from domain.job.events import JobProgressed, job_stream
from domain.log import Context
from scheduler.drivers.contract import Fenced, Followed
from scheduler.executors import local
from scheduler.executors.contract import AttemptSpec
from scheduler.executors.inbox import Frame
from scheduler.executors.local import LocalExecutor
from tests.kit.waiting import soon
from tests.scheduler.test_runner import House, working

HOST = """
import os, sys
from pathlib import Path
sys.path.append(sys.argv[1])
from scheduler.executors.inbox import Inbox

inbox = Inbox(Path(os.environ["CREWLOG_INBOX"]))
while (frame := inbox.next()).data != b"leave":
    os.write(3, b"heard %s\\n" % frame.data)
print("nobody reads this")
"""


class Listener:
    """The driver of jobs of the kind `listener`."""

    def __init__(self, house: House) -> None:
        self._house = house

    def outfit(self, spec: AttemptSpec) -> AttemptSpec:
        argv = (sys.executable, "-ISE", "-c", HOST, str(Path(local.__file__).parents[2]))
        fields = {name: getattr(spec, name) for name in AttemptSpec.__dataclass_fields__}
        return AttemptSpec(**{**fields, "argv": argv, "channels": ("journal",), "inbox": True})

    async def follow(self, followed: Followed) -> int:
        speaking = asyncio.create_task(self._speak(followed))
        try:
            told = len(self._house.about(followed.job.id, "job.progressed"))
            journal = b""
            async for chunk in followed.running.output(channel="journal"):
                followed.beat()
                *lines, _ = (journal := journal + chunk).split(b"\n")
                for line in lines[told:]:
                    await self._tell(followed, line.decode())
                told = max(told, len(lines))
        finally:
            speaking.cancel()
        return 0

    async def _speak(self, followed: Followed) -> None:
        subject = job_stream(followed.job.id)
        after = await followed.running.sent()
        async for page in self._house.log.tail(after, subject, types=("job.messaged",)):
            for event in page:
                text = event.data["text"].encode()
                await followed.running.send(Frame(event.position, text))

    async def _tell(self, followed: Followed, text: str) -> None:
        progress = JobProgressed(attempt=followed.attempt, fraction=None, text=text)
        try:
            await self._house.jobs.execute(
                followed.job.id, lambda job: job.report(progress), followed.context
            )
        except StaleAttempt:
            raise Fenced from None


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    made.drivers["listener"] = Listener(made)
    yield made
    made.close()


def heard(house: House, job_id: str) -> list[str]:
    return [event.data["text"] for event in house.about(job_id, "job.progressed")]


async def say(house: House, job_id: str, text: str) -> None:
    await house.jobs.execute(job_id, lambda job: job.message(text), Context(actor="ada"))


def test_a_second_kind_needs_a_driver_and_nothing_else(house: House) -> None:
    async def scenario(executor: LocalExecutor) -> None:
        async with working(house.dispatcher(executor)):
            job_id = await house.submit("listen", kind="listener")
            other = await house.submit("echo", "as ever")
            await say(house, job_id, "one")
            await soon(lambda: heard(house, job_id) == ["heard one"])
            await say(house, job_id, "two")
            await say(house, job_id, "leave")
            await house.ended(job_id, other)
        assert heard(house, job_id) == ["heard one", "heard two"]
        assert house.lines(job_id) == []
        assert (house.end(job_id)["outcome"], house.end(job_id)["lines"]) == ("completed", 0)
        assert house.lines(other) == ["as ever"]
        assert house.jobs.load(job_id).kind == "listener"
        assert house.jobs.load(other).kind == "command"

    house.run(scenario)


def test_what_is_said_and_heard_goes_on_under_the_next_server(house: House) -> None:
    found: list[str] = []

    async def first_life(executor: LocalExecutor) -> None:
        async with working(house.dispatcher(executor)):
            found.append(await house.submit("listen", kind="listener"))
            await say(house, found[0], "one")
            await soon(lambda: heard(house, found[0]) == ["heard one"])

    async def second_life(executor: LocalExecutor) -> None:
        await say(house, found[0], "two")
        async with working(house.dispatcher(executor)):
            await soon(lambda: heard(house, found[0]) == ["heard one", "heard two"])
            await say(house, found[0], "leave")
            await house.ended(found[0])
        assert len(house.about(found[0], "job.started")) == 1
        assert len(heard(house, found[0])) == 2

    house.run(first_life)
    house.run(second_life)


def test_a_job_of_a_kind_that_nobody_drives_fails_with_a_sentence(house: House) -> None:
    async def scenario(executor: LocalExecutor) -> None:
        async with working(house.dispatcher(executor)):
            job_id = await house.submit("true", kind="juggler")
            await house.ended(job_id)
        assert house.end(job_id)["outcome"] == "failed"
        assert house.end(job_id)["reason"] == (
            "This server has no driver for jobs of the kind 'juggler'."
        )

    house.run(scenario)


def test_a_process_of_a_kind_that_nobody_drives_any_more_is_ended(house: House) -> None:
    found: list[str] = []

    async def first_life(executor: LocalExecutor) -> None:
        async with working(house.dispatcher(executor)):
            found.append(await house.submit("listen", kind="listener"))
            await say(house, found[0], "one")
            await soon(lambda: heard(house, found[0]))

    async def second_life(executor: LocalExecutor) -> None:
        async with working(house.dispatcher(executor)):
            await house.ended(found[0])
        assert "no driver" in house.end(found[0])["reason"]
        assert await executor.unwanted(()) == []

    house.run(first_life)
    del house.drivers["listener"]
    house.run(second_life)
