"""The one loop that follows the log: each event once, in order, despite any failures."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from domain.catalogue import CATALOGUE
from domain.errors import LogUnavailable, Unavailable
from domain.job.events import JobCommented, JobMessaged
from domain.log import Context, EventLog, MemoryStore, NewEvent, Recorded, new_events, open_log
from domain.log.store import Page, Query, StoreFailed
from domain.redaction import Redactor
from scheduler.follower import Follower, Unforeseen
from scheduler.policies.policy import Following, Reaction
from tests.kit.waiting import soon

WHO = Context(actor="tester")
COMMENTED = ("job.commented",)
_DEADLINE_S = 20.0


class Failing(MemoryStore):
    """Fails this many reads."""

    failures = 0

    def read_blocking(self, query: Query) -> Page:
        if self.failures:
            self.failures -= 1
            raise StoreFailed("the disk is away")
        return super().read_blocking(query)


@pytest.fixture
def store() -> Failing:
    return Failing()


@pytest.fixture
def log(store: Failing) -> Iterator[EventLog]:
    """A log with ten comments and ten messages, none of them in memory."""
    before = open_log(store, redactor=Redactor(), catalogue=CATALOGUE)
    for number in range(10):
        say(before, number)
    opened = open_log(store, redactor=Redactor(), catalogue=CATALOGUE)
    yield opened
    opened.close()


def say(log: EventLog, number: int) -> None:
    stream = f"job-{number}"
    events = [JobCommented(text=str(number)), JobMessaged(text=str(number))]
    log.append_blocking(new_events(stream, events, WHO), {stream: 0})


async def from_the_start() -> int:
    return 0


class Told:
    """Records the handled events, until there are enough."""

    def __init__(self, enough: int) -> None:
        self.texts: list[str] = []
        self._enough = enough
        self.done = asyncio.Event()

    async def take(self, event: Recorded) -> None:
        self.texts.append(event.data["text"])
        if len(self.texts) == self._enough:
            self.done.set()


@asynccontextmanager
async def running(
    follower: Follower | Following, done: asyncio.Event
) -> AsyncIterator["asyncio.Task[None]"]:
    """Run the follower until `done`, and then during the body."""
    task = asyncio.create_task(follower.run())
    waiting = asyncio.create_task(done.wait())
    try:
        async with asyncio.timeout(_DEADLINE_S):
            await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        yield task
    finally:
        task.cancel()
        waiting.cancel()
        await asyncio.wait({task, waiting})


def numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def test_each_event_of_its_types_once_and_in_order_and_then_live(log: EventLog) -> None:
    async def scenario() -> None:
        told, pages = Told(10), [0]
        more = Told(12)

        async def handle(event: Recorded) -> None:
            await told.take(event)
            await more.take(event)

        def page_end() -> None:
            pages[0] += 1

        follower = Follower(log, "f", COMMENTED, handle, begin=from_the_start, page_end=page_end)
        async with running(follower, told.done):
            say(log, 10)
            say(log, 11)
            async with asyncio.timeout(_DEADLINE_S):
                await more.done.wait()
        assert more.texts == numbers(12)
        assert pages[0] >= 1
        # The last event is not of its types: it is passed over when it is read.
        assert log.head - follower.status.position <= 1

    asyncio.run(scenario())


def test_a_handler_without_a_pause_lets_other_tasks_have_their_turn(log: EventLog) -> None:
    async def scenario() -> None:
        told, turns = Told(10), [0]

        async def handle(event: Recorded) -> None:
            await told.take(event)
            busy = time.perf_counter() + 0.02
            while time.perf_counter() < busy:
                pass

        async def others() -> None:
            while not told.done.is_set():
                turns[0] += 1
                await asyncio.sleep(0)

        follower = Follower(log, "f", COMMENTED, handle, begin=from_the_start)
        other = asyncio.create_task(others())
        async with running(follower, told.done):
            await other
        assert turns[0] >= 9  # between any two of the ten events

    asyncio.run(scenario())


@pytest.mark.parametrize("failures", [1, 4])
def test_a_log_that_cannot_be_read_costs_no_event(
    log: EventLog, store: Failing, failures: int
) -> None:
    async def scenario() -> None:
        told = Told(10)
        seen: list[str | None] = []

        async def handle(event: Recorded) -> None:
            await told.take(event)

        async def begin() -> int:
            store.failures = failures
            return 0

        follower = Follower(log, "f", COMMENTED, handle, begin=begin)
        watching = asyncio.create_task(watch(follower, seen))
        async with running(follower, told.done):
            pass
        watching.cancel()
        assert told.texts == numbers(10)
        assert "The log cannot be read: the disk is away" in seen
        assert follower.status.problem is None

    asyncio.run(scenario())


async def watch(follower: Follower, seen: list[str | None]) -> None:
    while True:
        if not seen or seen[-1] != follower.status.problem:
            seen.append(follower.status.problem)
        await asyncio.sleep(0.001)


def test_a_log_that_is_well_again_is_no_problem_though_nothing_comes(
    log: EventLog, store: Failing
) -> None:
    async def scenario() -> None:
        async def begin() -> int:
            store.failures = 2
            return log.head - 1  # a message, which is not of its types

        follower = Follower(log, "f", COMMENTED, Told(1).take, begin=begin)
        well = asyncio.Event()
        seen: list[str | None] = []

        async def look() -> None:
            await watch_until(follower, seen, 3)
            well.set()

        looking = asyncio.create_task(look())
        async with running(follower, well):
            pass
        await looking
        assert seen[0] is None
        assert seen[1] == "The log cannot be read: the disk is away"
        assert seen[-1] is None

    asyncio.run(scenario())


async def watch_until(follower: Follower, seen: list[str | None], enough: int) -> None:
    watching = asyncio.create_task(watch(follower, seen))
    await soon(lambda: len(seen) >= enough, look_s=0.001)
    watching.cancel()


def test_a_beginning_that_fails_is_tried_again(log: EventLog) -> None:
    async def scenario() -> None:
        told, tries = Told(10), [0]

        async def begin() -> int:
            tries[0] += 1
            if tries[0] < 3:
                raise Unavailable("The views are being filled.")
            return 0

        follower = Follower(log, "f", COMMENTED, told.take, begin=begin)
        async with running(follower, told.done):
            pass
        assert (tries[0], told.texts) == (3, numbers(10))

    asyncio.run(scenario())


def test_what_is_not_there_is_waited_for_before_the_same_event(log: EventLog) -> None:
    async def scenario() -> None:
        told, asked = Told(10), list[str]()

        async def handle(event: Recorded) -> None:
            asked.append(event.data["text"])
            if asked.count("4") in (1, 2) and event.data["text"] == "4":
                raise LogUnavailable("The log cannot be written: it is full.")
            await told.take(event)

        follower = Follower(log, "f", COMMENTED, handle, begin=from_the_start)
        async with running(follower, told.done):
            pass
        assert told.texts == numbers(10)
        assert asked == [*numbers(4), "4", "4", *numbers(10)[4:]]

    asyncio.run(scenario())


def failing_at(text: str, told: Told, times: int) -> Callable[[Recorded], Awaitable[None]]:
    failed = 0

    async def handle(event: Recorded) -> None:
        nonlocal failed
        if event.data["text"] == text and failed < times:
            failed += 1
            raise KeyError("nobody foresaw this")
        await told.take(event)

    return handle


def test_an_error_that_nobody_foresaw_ends_it(log: EventLog) -> None:
    async def scenario() -> None:
        told = Told(10)
        follower = Follower(log, "f", COMMENTED, failing_at("3", told, 1), begin=from_the_start)
        with pytest.raises(KeyError):
            await follower.run()
        assert told.texts == numbers(3)

    asyncio.run(scenario())


def test_one_that_may_go_on_reports_it(log: EventLog, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        told = Told(9)
        handle = failing_at("3", told, 1)
        follower = Follower(
            log, "f", COMMENTED, handle, begin=from_the_start, unforeseen=Unforeseen.GO_ON
        )
        async with running(follower, told.done):
            assert follower.status.passed_over == 1
        assert told.texts == [text for text in numbers(10) if text != "3"]

    asyncio.run(scenario())
    [report] = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert "f cannot deal with <7 job.commented job-3@1>" in report.getMessage()


def test_one_that_must_not_passes_nothing_over(
    log: EventLog, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        told = Told(10)
        handle = failing_at("3", told, 2)
        follower = Follower(
            log, "f", COMMENTED, handle, begin=from_the_start, unforeseen=Unforeseen.STAY
        )
        async with running(follower, told.done):
            assert follower.status.passed_over == 0
        assert told.texts == numbers(10)

    asyncio.run(scenario())
    reports = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert len(reports) == 2


class Echo:
    """Answers each comment with a message; fails for one of them."""

    name = "echo"
    types = COMMENTED

    def __init__(self, told: Told, broken: str = "") -> None:
        self._told = told
        self._broken = broken

    async def react(self, event: Recorded) -> Reaction | None:
        text = event.data["text"]
        if text == self._broken:
            raise KeyError(text)
        await self._told.take(event)
        stream = f"job-echo-{text}"
        answer: list[NewEvent] = new_events(stream, [JobMessaged(text=text)], WHO)
        return Reaction(answer, {stream: 0})


def test_a_policy_reports_what_it_passes_over_and_goes_on_behind_it(
    log: EventLog, caplog: pytest.LogCaptureFixture
) -> None:
    async def answered(until: int) -> None:
        async with asyncio.timeout(_DEADLINE_S):
            async for page in log.tail(0, types=("job.messaged",)):
                until -= sum(event.stream.startswith("job-echo") for event in page)
                if until <= 0:
                    return

    async def scenario() -> None:
        told = Told(9)
        following = Following(log, Echo(told, broken="5"))
        async with running(following, told.done):
            await answered(9)
            assert following.follower.status.passed_over == 1
        # The next one begins where this one stopped, and repeats nothing.
        say(log, 10)
        again = Told(1)
        async with running(Following(log, Echo(again)), again.done):
            await answered(10)
        assert again.texts == ["10"]

    asyncio.run(scenario())
    assert [r for r in caplog.records if r.levelno == logging.CRITICAL]
