"""Two logs on one store that allows it: the store decides who was first, and each log sees the
other's events without gap or repeat. A store with one owner refuses the second.
"""

import asyncio
import gc
import random
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from domain.catalogue import CATALOGUE
from domain.errors import LogRefused, LogUnavailable, VersionConflict
from domain.job.aggregate import Job
from domain.job.commands import Jobs
from domain.job.events import JobMessaged
from domain.log import (
    Context,
    EventLog,
    MemoryStore,
    NewEvent,
    Recorded,
    new_events,
    open_log,
    open_sqlite_log,
)
from domain.log.store import Page, Query, StoreFailed
from domain.redaction import Redactor
from projections.engine import Views
from projections.reading import ViewsUnavailable
from projections.views import PROJECTIONS
from tests.kit.jobs import submitted

Two = tuple[EventLog, EventLog]
OpenTwo = Callable[[], Two]


def two_in_memory() -> Two:
    store = MemoryStore()
    return (
        open_log(store, redactor=Redactor(), catalogue=CATALOGUE),
        open_log(store, redactor=Redactor(), catalogue=CATALOGUE),
    )


STORES: dict[str, OpenTwo] = {"memory": two_in_memory}

WHO = Context(actor="tester")
DEADLINE_S = 60.0


@pytest.fixture(params=sorted(STORES))
def two(request: pytest.FixtureRequest) -> Iterator[Two]:
    logs = STORES[request.param]()
    yield logs
    for log in logs:
        log.close()


def messages(stream: str, *texts: str) -> list[NewEvent]:
    return new_events(stream, [JobMessaged(text=text) for text in texts], WHO)


def put(log: EventLog, stream: str, after: int, *words: str) -> list[Recorded]:
    return list(log.append_blocking(messages(stream, *words), {stream: after}))


async def take(log: EventLog, count: int, subject: str | None = None) -> list[Recorded]:
    """The first `count` events of a tail."""
    found: list[Recorded] = []
    async with asyncio.timeout(DEADLINE_S):
        async for page in log.tail(0, subject):
            found += page
            if len(found) >= count:
                break
    return found


def heard(log: EventLog, position: int) -> None:
    """Wait until a log knows of a position."""
    log.wait_beyond(position - 1, DEADLINE_S)
    assert log.head >= position


def test_they_are_one_log(two: Two) -> None:
    assert two[0].id == two[1].id


def test_a_stale_expectation_is_judged_by_what_the_other_wrote(two: Two) -> None:
    first, second = two
    put(first, "job-a", 0, "one")
    put(second, "job-a", 1, "two")
    with pytest.raises(VersionConflict) as lost:
        put(first, "job-a", 1, "late")
    assert (lost.value.stream, lost.value.actual) == ("job-a", 2)
    # The conflict updates the known version, so the next append need not wait.
    assert put(first, "job-a", 2, "three")[0].position == 3
    with pytest.raises(VersionConflict):
        put(second, "job-a", 0, "new")


def test_a_checkpoint_that_the_other_has_passed_is_a_conflict(two: Two) -> None:
    first, second = two
    first.append_blocking((), {}, checkpoint=("mailer", 4))
    second.append_blocking((), {}, checkpoint=("mailer", 7))
    with pytest.raises(VersionConflict) as lost:
        first.append_blocking(messages("job-a", "x"), {"job-a": 0}, checkpoint=("mailer", 6))
    assert lost.value.actual == 7
    assert first.blocking.checkpoint("mailer") == 7
    assert first.head == 0


def test_what_the_other_committed_is_read_at_once_and_heard_of_soon(two: Two) -> None:
    first, second = two
    put(first, "job-a", 0, "one", "two")
    assert [e.position for e in second.blocking.stream("job-a")] == [1, 2]
    assert second.blocking.last_about("job-a") == 2
    assert asyncio.run(second.newest()) == 2
    heard(second, 2)
    assert [e.position for e in second.blocking.read(0)] == [1, 2]
    put(second, "job-b", 0, "three")
    heard(first, 3)
    assert [e.position for e in first.blocking.read(2)] == [3]


def test_a_log_that_comes_late_begins_where_the_store_is() -> None:
    store = MemoryStore()
    first = open_log(store, redactor=Redactor(), catalogue=CATALOGUE)
    put(first, "job-a", 0, "one", "two")
    second = open_log(store, redactor=Redactor(), catalogue=CATALOGUE)
    assert second.head == 2
    put(first, "job-a", 2, "three")
    heard(second, 3)
    first.close()
    put(second, "job-a", 3, "four")
    assert [e.position for e in second.blocking.read(0)] == [1, 2, 3, 4]
    second.close()


@pytest.mark.parametrize("subject", [None, "job-0"])
def test_tails_of_both_give_all_of_both_in_order(two: Two, subject: str | None) -> None:
    each, streams = 150, 4

    async def writer(log: EventLog, stream: str) -> None:
        for version in range(each):
            await log.append(messages(stream, f"{version}"), {stream: version})

    async def scenario() -> list[list[Recorded]]:
        count = streams * each if subject is None else each
        readers = [asyncio.create_task(take(log, count, subject)) for log in two for _ in range(3)]
        await asyncio.gather(*(writer(two[n % 2], f"job-{n}") for n in range(streams)))
        return await asyncio.gather(*readers)

    everything = [e for page in two[0].blocking.pages() for e in page]
    assert everything == []
    for seen in asyncio.run(scenario()):
        positions = [e.position for e in seen]
        if subject is None:
            assert positions == list(range(1, streams * each + 1))
        else:
            assert [e.version for e in seen] == list(range(1, each + 1))
            assert positions == sorted(positions)


def test_writers_that_race_for_one_stream_lose_nothing_and_repeat_nothing(two: Two) -> None:
    """Two threads for each log; each reads and tries again if another was first."""
    each = 60
    conflicts = [0, 0]

    def race(which: int) -> None:
        log, dice = two[which], random.Random(which)
        for number in range(each):
            while True:
                last = log.blocking.last_of_stream("job-a")
                version = last.version if last is not None else 0
                try:
                    extra = [f"{which} {number}"] * dice.randint(1, 3)
                    put(log, "job-a", version, *extra)
                    break
                except VersionConflict:
                    conflicts[which] += 1

    threads = [threading.Thread(target=race, args=(which,)) for which in (0, 0, 1, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    head = asyncio.run(two[0].newest())
    for log in two:
        heard(log, head)
        events = [e for page in log.blocking.pages() for e in page]
        assert [e.position for e in events] == list(range(1, head + 1))
        assert [e.version for e in events] == list(range(1, head + 1))
        assert [e.position for e in log.blocking.read(0, 10_000)] == list(range(1, head + 1))
        told = [e.data["text"] for e in events]
        for which in (0, 1):
            for number in range(each):
                assert 2 <= told.count(f"{which} {number}") <= 6
    assert sum(conflicts) > 0


def test_commands_on_one_job_from_both_sides_all_succeed(two: Two) -> None:
    """Each side keeps its own folded states, and decides again if the other was first."""

    async def scenario() -> list[Job]:
        both = [Jobs(log) for log in two]
        await both[0].submit("a", submitted(), WHO)
        await asyncio.gather(
            *(both[n % 2].execute("a", lambda job: job.comment("a word"), WHO) for n in range(40))
        )
        return [jobs.load("a") for jobs in both]

    first, second = asyncio.run(scenario())
    assert first == second
    assert first.version == 2 + 40


def test_views_of_one_show_what_was_written_by_the_other(two: Two, tmp_path: Path) -> None:
    first, second = two
    views = Views(tmp_path / "views.db", second, PROJECTIONS)
    views.start()

    async def scenario() -> list[str]:
        jobs = Jobs(first)
        await jobs.submit("a", submitted(), WHO)
        # The store is asked for the head, because the other log may not know of the event yet.
        await views.caught_up(DEADLINE_S)
        with views.reading() as reading:
            return [row["id"] for row in reading.rows(select(reading.table("jobs")))]

    try:
        assert asyncio.run(scenario()) == ["a"]
    finally:
        views.close()


class Slow(MemoryStore):
    """Holds back the news of other writers until the test allows it, like a slow network."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Callable[[], None]] = []

    def watch(self, grown: Callable[[], None]) -> Callable[[], None]:
        return super().watch(lambda: self.held.append(grown))

    def let(self) -> None:
        for grown in self.held:
            grown()


def test_views_wait_for_what_their_log_has_not_heard_of(tmp_path: Path) -> None:
    store = Slow()
    first, second = (open_log(store, redactor=Redactor(), catalogue=CATALOGUE) for _ in "ab")
    views = Views(tmp_path / "views.db", second, PROJECTIONS)
    views.start()

    async def scenario() -> None:
        await views.caught_up(DEADLINE_S)
        await first.append(messages("job-a", "one"), {"job-a": 0})
        assert (second.head, await second.newest()) == (0, 1)
        waiting = asyncio.create_task(views.caught_up(DEADLINE_S))
        await asyncio.sleep(0)
        assert not waiting.done()
        store.let()
        await waiting
        assert views.position == 1

    try:
        asyncio.run(scenario())
    finally:
        views.close()
        first.close()
        second.close()


class Unsteady(Slow):
    """Also cannot be read for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False

    def read_blocking(self, query: Query) -> Page:
        if self.away:
            raise StoreFailed("the network is away")
        return super().read_blocking(query)

    async def head(self) -> int:
        if self.away:
            raise StoreFailed("the network is away")
        return await super().head()


def test_what_could_not_be_read_is_published_later_in_its_place(tmp_path: Path) -> None:
    store = Unsteady()
    first, second = (open_log(store, redactor=Redactor(), catalogue=CATALOGUE) for _ in "ab")
    views = Views(tmp_path / "views.db", second, PROJECTIONS)
    try:
        store.away = True
        put(first, "job-a", 0, "one")
        # Durable and answered, although the events before it cannot be read.
        assert put(second, "job-b", 0, "two")[0].position == 2
        assert second.head == 0
        with pytest.raises(ViewsUnavailable, match="network is away"):
            asyncio.run(views.caught_up(DEADLINE_S))
        with pytest.raises(LogUnavailable):
            put(second, "job-b", 1, "three")
        store.away = False
        put(second, "job-b", 1, "three")
        assert [e.position for e in second.blocking.read(0)] == [1, 2, 3]
    finally:
        views.close()
        first.close()
        second.close()


@pytest.mark.parametrize("size", [1, 3_000])
def test_however_much_the_other_wrote_comes_before_ones_own(two: Two, size: int) -> None:
    first, second = two

    async def scenario() -> list[Recorded]:
        reading = asyncio.create_task(take(second, size + 1))
        await asyncio.sleep(0)
        put(first, "job-a", 0, *(f"{n}" for n in range(size)))
        await second.append(messages("job-b", "mine"), {"job-b": 0})
        return await reading

    found = asyncio.run(scenario())
    assert [e.position for e in found] == list(range(1, size + 2))
    assert found[-1].stream == "job-b"
    assert second.head == size + 1


def test_a_log_that_is_closed_is_told_of_nothing_more(two: Two) -> None:
    first, second = two
    second.close()
    put(first, "job-a", 0, "one")
    assert (first.head, second.head) == (1, 0)


def test_a_store_keeps_no_log_that_is_closed() -> None:
    store = MemoryStore()
    log = open_log(store, redactor=Redactor(), catalogue=CATALOGUE)
    seen = weakref.ref(log)
    log.close()
    del log
    gc.collect()
    assert seen() is None


def sqlite(path: Path) -> EventLog:
    return open_sqlite_log(path, redactor=Redactor(), catalogue=CATALOGUE)


def test_the_second_owner_of_a_file_is_refused_by_name(tmp_path: Path) -> None:
    log = sqlite(tmp_path)
    try:
        with pytest.raises(LogRefused, match=r"belongs to another process \(crewlog, pid \d+ on"):
            sqlite(tmp_path)
        put(log, "job-a", 0, "the first goes on")
    finally:
        log.close()
    again = sqlite(tmp_path)
    assert again.head == 1
    again.close()
