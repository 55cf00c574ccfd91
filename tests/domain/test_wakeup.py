"""How readers are told of commits: who waits for one at once, hundreds of streams in rounds."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from domain.catalogue import CATALOGUE
from domain.job.events import JobMessaged
from domain.log import Context, EventLog, MemoryStore, new_events, open_log
from domain.redaction import Redactor

READERS = 100
COMMITS = 60
ROOM_S = 90.0


@pytest.fixture
def log() -> Iterator[EventLog]:
    opened = open_log(MemoryStore(), redactor=Redactor(), catalogue=CATALOGUE)
    yield opened
    opened.close()


async def commit(log: EventLog, stream: str, count: int) -> None:
    """Commits one after the other, each of one event."""
    context = Context(actor="tester")
    for version in range(count):
        await log.append(new_events(stream, [JobMessaged(text="x")], context), {stream: version})


async def read(
    log: EventLog, subject: str | None, count: int, *, patient: bool, work_s: float = 0.0
) -> int:
    """Read so many events and work for a while at each page. Returns the number of pages."""
    pages = seen = 0
    tail = log.tail(0, subject, patient=patient)
    while seen < count:
        page = await anext(tail)
        assert [event.position for event in page] == sorted(event.position for event in page)
        pages, seen = pages + 1, seen + len(page)
        until = time.perf_counter() + work_s
        while time.perf_counter() < until:
            pass
    assert seen == count
    return pages


@pytest.mark.parametrize("subject", [None, "job-a"])
def test_many_streams_get_several_commits_at_once_and_miss_none(
    log: EventLog, subject: str | None
) -> None:
    async def life() -> tuple[list[int], int]:
        streams = [
            asyncio.create_task(read(log, subject, COMMITS, patient=True, work_s=0.000_2))
            for _ in range(READERS)
        ]
        prompt = asyncio.create_task(read(log, subject, COMMITS, patient=False))
        await asyncio.sleep(0)
        await commit(log, "job-a", COMMITS)
        async with asyncio.timeout(ROOM_S):
            return await asyncio.gather(*streams), await prompt

    pages, prompt = asyncio.run(life())
    assert prompt > COMMITS / 2  # it was told of each; two may come together
    assert sum(pages) < READERS * COMMITS / 2


def test_a_stream_is_told_of_a_commit_that_comes_alone(log: EventLog) -> None:
    """After each commit it has everything, though nothing follows."""

    async def life() -> None:
        tail = log.tail(0, "job-a", patient=True)
        context = Context(actor="tester")
        for version in range(20):
            coming = asyncio.ensure_future(anext(tail))
            await asyncio.sleep(0)
            new = new_events("job-a", [JobMessaged(text="x")], context)
            await log.append(new, {"job-a": version})
            async with asyncio.timeout(ROOM_S):
                assert [event.version for event in await coming] == [version + 1]

    asyncio.run(life())


def test_a_commit_while_the_streams_rest_is_not_forgotten(log: EventLog) -> None:
    async def life() -> None:
        one = asyncio.create_task(read(log, "job-a", 2, patient=True, work_s=0.05))
        other = asyncio.create_task(read(log, "job-b", 1, patient=True))
        await asyncio.sleep(0)
        await commit(log, "job-a", 2)
        await commit(log, "job-b", 1)  # within the rest after the round of job-a
        async with asyncio.timeout(ROOM_S):
            await asyncio.gather(one, other)

    asyncio.run(life())
