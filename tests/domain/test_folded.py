"""Kept folded states: they equal a fold of the whole stream, and no event is read twice."""

import asyncio
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pytest

from domain.account.aggregate import Account, Role
from domain.account.commands import People
from domain.approval.commands import Approvals, Question
from domain.catalogue import CATALOGUE
from domain.crew.commands import Crews
from domain.crew.events import CrewCommitted, CrewMember, crew_stream
from domain.event import Event
from domain.folded import FoldedStreams
from domain.job.aggregate import Job
from domain.job.commands import Jobs, fold
from domain.job.events import JobProgressed, JobState, Links, job_stream
from domain.log import Context, EventLog, MemoryStore, Recorded, new_events, open_log
from domain.log.store import Page, Query
from domain.redaction import Redactor
from domain.schedule.commands import Schedules, checked_terms
from tests.kit.crews import member
from tests.kit.jobs import finished, plan, submitted

WHO = Context(actor="tester")


class Counting(MemoryStore):
    """Counts the events of each read."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: list[int] = []

    def read_blocking(self, query: Query) -> Page:
        page = super().read_blocking(query)
        if query.stream is not None:
            self.counts.append(len(page.rows))
        return page


@pytest.fixture
def store() -> Counting:
    return Counting()


@pytest.fixture
def log(store: Counting) -> Iterator[EventLog]:
    opened = open_log(store, redactor=Redactor(), catalogue=CATALOGUE)
    yield opened
    opened.close()


@pytest.fixture
def read(store: Counting) -> list[int]:
    return store.counts


def crew_committed(members: list[CrewMember]) -> CrewCommitted:
    return CrewCommitted(
        template="t",
        name="t",
        inputs={},
        owner="operator",
        schedule=None,
        nominal=None,
        not_before=None,
        jobs=members,
    )


async def started(jobs: Jobs, job_id: str) -> None:
    await jobs.submit(job_id, submitted(), WHO)
    await jobs.execute(job_id, lambda job: job.start("here"), WHO)


def progress(job: Job) -> list[Event]:
    return job.report(JobProgressed(attempt=1, fraction="0.5", text="half"))


def comment(job: Job) -> list[Event]:
    return job.comment("a word")


@pytest.mark.parametrize("often", [progress, comment, lambda job: []])
def test_what_comes_often_costs_the_same_at_the_ten_thousandth_time(
    often: Callable[[Job], list[Event]], log: EventLog, read: list[int]
) -> None:
    async def scenario() -> None:
        jobs = Jobs(log)
        await started(jobs, "a")
        # Ten thousand in one append, because the test is not about appends.
        await jobs.execute("a", lambda job: progress(job) * 10_000, WHO)
        read.clear()
        for _ in range(20):
            await jobs.execute("a", often, WHO)
            jobs.load("a")

    asyncio.run(scenario())
    assert sum(read) <= 20


def test_a_question_does_not_read_what_the_job_said_before(log: EventLog, read: list[int]) -> None:
    async def scenario() -> None:
        jobs = Jobs(log)
        approvals = Approvals(log, jobs)
        await started(jobs, "a")
        await jobs.execute("a", lambda job: progress(job) * 2_000, WHO)
        read.clear()
        asked = await approvals.request("a", 1, Question("May I?"), WHO)
        assert [one.id for one in approvals.pending(jobs.load("a"))] == [asked.approval.id]
        await approvals.resolve(asked.approval.id, "approved", None, WHO)
        assert approvals.pending(jobs.load("a")) == []

    asyncio.run(scenario())
    assert sum(read) < 50


def test_schedules_read_only_what_came_since(log: EventLog, read: list[int]) -> None:
    async def scenario() -> None:
        schedules = Schedules(log)
        terms = checked_terms({"name": "s", "template": "t", "rule": {"cron": "0 7 * * *"}})
        made = await schedules.create(terms, "operator", WHO)
        for n in range(50):
            other = checked_terms({"name": f"s{n}"}, schedules.load(made.schedule.id))
            await schedules.change(made.schedule.id, other, WHO)
        read.clear()
        assert schedules.load(made.schedule.id).name == "s49"

    asyncio.run(scenario())
    assert sum(read) <= 1


def test_a_crew_reads_only_what_came_since_however_long_its_jobs_are(
    log: EventLog, read: list[int]
) -> None:
    async def scenario() -> None:
        jobs = Jobs(log)
        crews = Crews(log, jobs, Approvals(log, jobs))
        first, after = member("a"), member("b", "a")
        made = crew_committed([first, after])
        await log.append(new_events(crew_stream("c"), [made], WHO), {crew_stream("c"): 0})
        for one in (first, after):
            planned = plan(local=one.local, parents=one.parents)
            await jobs.submit(one.id, submitted(links=Links(crew="c"), plan=planned), WHO)
            await jobs.execute(one.id, lambda job: job.start("here"), WHO)
            await jobs.execute(one.id, lambda job: progress(job) * 1_000, WHO)
            await jobs.execute(one.id, lambda job: job.end_attempt(finished(1)), WHO)
        crews.load("c")
        read.clear()
        await crews.redo("a", "", WHO)
        assert jobs.load("b").state is JobState.HELD

    asyncio.run(scenario())
    assert sum(read) <= 10


def test_an_account_reads_none_of_its_thousand_sessions(log: EventLog, read: list[int]) -> None:
    async def scenario() -> None:
        people = People(log)
        who = (await people.register("ada@example.com", "Ada", Role.USER, WHO)).account.id

        def often(account: Account) -> list[Event]:
            return account.sign_in("s", "password", None) * 1_000

        await people.execute(who, often, WHO)
        read.clear()
        await people.execute(who, lambda account: account.sign_out_everywhere(), WHO)
        await people.execute(who, lambda account: account.rename("Ada L."), WHO)

    asyncio.run(scenario())
    assert sum(read) == 0


@pytest.mark.parametrize("seed", range(8))
def test_kept_states_are_those_of_the_whole_streams(seed: int, log: EventLog) -> None:
    """Two writers, each with its own kept states and room for only a few."""
    dice = random.Random(seed)
    kept = [
        FoldedStreams(log, fold, job_stream, max_bytes=dice.choice([0, 9_000, 1 << 20]))
        for _ in "ab"
    ]

    async def scenario() -> None:
        both = [Jobs(log), Jobs(log)]
        names = [f"j{n}" for n in range(6)]
        for name in names:
            await started(both[0], name)
        for _ in range(120):
            name = dice.choice(names)
            await dice.choice(both).execute(name, dice.choice([progress, comment]), WHO)
            looked = dice.choice(names)
            whole = fold(looked, log.blocking.stream(job_stream(looked)))
            for one in kept:
                found = one.latest(looked)
                assert (found.state, found.version) == (whole, whole.version)
            assert both[0].load(looked) == both[1].load(looked) == whole

    asyncio.run(scenario())


def test_what_there_is_not_is_not_kept(log: EventLog) -> None:
    folded = FoldedStreams(log, fold, job_stream)
    assert folded.latest("none").version == 0
    asyncio.run(started(Jobs(log), "none"))
    assert folded.latest("none").version == 3


def test_large_states_give_way(log: EventLog, read: list[int]) -> None:
    folded = FoldedStreams(log, fold, job_stream, max_bytes=1_000_000)

    async def scenario() -> None:
        jobs = Jobs(log)
        for name in ("a", "b", "c"):
            await jobs.submit(name, submitted(argv=["x" * 100_000]), WHO)
            folded.latest(name)

    asyncio.run(scenario())
    read.clear()
    for name in ("c", "b", "a"):
        folded.latest(name)
    assert read == [0, 0, 2]


def test_what_is_long_to_fold_is_not_folded_on_the_event_loop(log: EventLog) -> None:
    long = [submitted(), *(JobProgressed(attempt=0, fraction=None, text="") for _ in range(2_000))]
    for job_id, events in (("long", long), ("short", long[:10])):
        stream = job_stream(job_id)
        log.append_blocking(new_events(stream, events, WHO), {stream: 0})
    on_the_loop: dict[str, list[int]] = {"long": [], "short": []}

    def noted(job_id: str, events: Sequence[Recorded], before: Job | None) -> Job:
        if threading.current_thread() is threading.main_thread():
            on_the_loop[job_id].append(len(events))
        return fold(job_id, events, before)

    async def scenario() -> None:
        folded = FoldedStreams(log, noted, job_stream)
        for job_id, version in (("long", 2_001), ("short", 10)):
            assert (await log.apart(partial(folded.latest, job_id))).version == version
        # Together they are too much for one look, though each is short.
        several = FoldedStreams(log, noted, lambda name: job_stream("short"))

        def look() -> list[int]:
            return [several.latest(f"{number}").version for number in range(60)]

        on_the_loop.update({str(number): [] for number in range(60)})
        assert await log.apart(look) == [10] * 60
        assert sum(map(sum, on_the_loop.values())) <= 310
        job = await Jobs(log).execute("long", lambda job: job.request_cancel("Enough."), WHO)
        assert job.job.cancel_requested

    asyncio.run(scenario())
    assert (on_the_loop["long"], on_the_loop["short"]) == ([], [10])
