"""Readers at the same position share a page from the disk; a full page never changes."""

import asyncio

import pytest

from domain.catalogue import CATALOGUE
from domain.errors import LogUnavailable
from domain.log import Recorded
from domain.log.shared import SharedPages

EVENT = Recorded(1, "job-a", 1, "job.queued", b"{}", CATALOGUE)


class Disk:
    """Counts its reads, and answers when the test allows it."""

    def __init__(self, full: bool = True) -> None:
        self.readings = 0
        self.open = asyncio.Event()
        self.full = full
        self.error: Exception | None = None

    async def read(self) -> tuple[list[Recorded], int, bool]:
        self.readings += 1
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return [EVENT], 1, self.full


def test_who_asks_while_a_page_is_read_waits_for_the_same_page() -> None:
    async def scenario() -> None:
        pages, disk = SharedPages(), Disk(full=False)
        readers = [asyncio.create_task(pages.get((0, "job-a"), disk.read)) for _ in range(20)]
        await asyncio.sleep(0)
        disk.open.set()
        found = await asyncio.gather(*readers)
        assert disk.readings == 1
        assert all(page is found[0][0] for page, _ in found)

    asyncio.run(scenario())


def test_a_full_page_is_read_once_and_one_that_may_grow_each_time() -> None:
    async def scenario() -> None:
        for full, readings in ((True, 1), (False, 3)):
            pages, disk = SharedPages(), Disk(full)
            disk.open.set()
            for _ in range(3):
                await pages.get((0, "job-a"), disk.read)
            assert disk.readings == readings

    asyncio.run(scenario())


def test_other_places_are_other_pages_and_old_ones_are_let_go() -> None:
    async def scenario() -> None:
        pages, disk = SharedPages(), Disk()
        disk.open.set()
        for place in range(100):
            await pages.get((place, "job-a"), disk.read)
        assert disk.readings == 100
        await pages.get((0, "job-a"), disk.read)
        assert disk.readings == 101

    asyncio.run(scenario())


def test_a_reader_that_leaves_takes_the_page_from_nobody() -> None:
    async def scenario() -> None:
        pages, disk = SharedPages(), Disk()
        first = asyncio.create_task(pages.get((0,), disk.read))
        second = asyncio.create_task(pages.get((0,), disk.read))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        disk.open.set()
        assert (await second)[1] == 1
        assert disk.readings == 1

    asyncio.run(scenario())


def test_an_error_is_everybodys_and_the_next_reader_tries_again() -> None:
    async def scenario() -> None:
        pages, disk = SharedPages(), Disk()
        disk.error = LogUnavailable("The disk is away.")
        disk.open.set()
        found = await asyncio.gather(
            *(pages.get((0,), disk.read) for _ in range(3)), return_exceptions=True
        )
        assert [type(error) for error in found] == [LogUnavailable] * 3
        disk.error = None
        assert (await pages.get((0,), disk.read))[1] == 1

    asyncio.run(scenario())


@pytest.mark.filterwarnings("error")
def test_an_error_that_nobody_waits_for_is_not_reported_as_forgotten() -> None:
    async def scenario() -> None:
        complaints: list[object] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: complaints.append(context)
        )
        pages, disk = SharedPages(), Disk()
        disk.error = LogUnavailable("The disk is away.")
        reader = asyncio.create_task(pages.get((0,), disk.read))
        await asyncio.sleep(0)
        reader.cancel()
        await asyncio.sleep(0)
        disk.open.set()
        for _ in range(5):
            await asyncio.sleep(0)
        assert complaints == []

    asyncio.run(scenario())
