"""The policy that moves the jobs of a crew, over a real log. Tests run the policy by hand, so that
other events can come between an event and its effects.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.approval.aggregate import AlreadyResolved
from domain.approval.commands import Approvals, Question
from domain.catalogue import CATALOGUE
from domain.clock import Clock, format_time, system_clock
from domain.crew.commands import Crews, failed
from domain.draft import Draft
from domain.errors import CrewlogError, NotFound, VersionConflict
from domain.folded import FoldedStreams, Kept
from domain.job.aggregate import Job
from domain.job.commands import Jobs
from domain.job.events import JobFinished, JobState, Outcome
from domain.log import SYSTEM, Context, Recorded, open_sqlite_log
from domain.redaction import Redactor
from projections.engine import Views
from projections.views import PROJECTIONS
from scheduler.crews import CrewIntake, Occasion
from scheduler.dispatch.sealed import SealedSpecs
from scheduler.intake import Sealing
from scheduler.policies.deadlines import Deadlines
from scheduler.policies.policy import Following
from scheduler.policies.promotion import Promotion
from scheduler.templates.plan import CrewPlan, PlannedJob
from tests.kit.jobs import finished, submitted
from tests.kit.waiting import soon
from tests.scheduler.simulated import SimulatedTimers

WHO = Context(actor="tester")
ROOM_S = 90.0


class NoTemplates:
    """Not used, because the tests plan crews themselves."""

    def render(
        self, template_id: str, inputs: dict[str, Any], *, at: datetime, nominal: datetime
    ) -> CrewPlan:
        raise NotFound("There are no templates here.")


class Table:
    """Crews over a log, without anything that runs them."""

    def __init__(self, folder: Path, clock: Clock = system_clock) -> None:
        self.log = open_sqlite_log(folder, redactor=Redactor(), catalogue=CATALOGUE)
        self.jobs = Jobs(self.log, clock)
        self.approvals = Approvals(self.log, self.jobs, clock)
        self.crews = Crews(self.log, self.jobs, self.approvals, clock)
        sealing = Sealing(SealedSpecs(folder / "sealed"), Redactor())
        self.intake = CrewIntake(
            self.log, self.jobs, self.crews, NoTemplates(), sealing, agent_command=lambda _: ()
        )
        self.policy = Promotion(self.crews, self.approvals)
        self.crew_id = ""
        self.ids: dict[str, str] = {}
        self._position = 0

    def close(self) -> None:
        self.log.close()

    async def commit(self, *jobs: PlannedJob, not_before: str | None = None) -> None:
        """Commit a crew, without any effects yet."""
        plan = CrewPlan("t", "A crew", jobs)
        done = await self.intake.commit(plan, Occasion("operator", WHO, not_before=not_before))
        self.crew_id = done.crew_id
        self.ids = dict(zip((job.key for job in jobs), done.job_ids, strict=True))

    def at(self, key: str) -> Job:
        return self.crews.job(self.ids[key])

    def state(self, *keys: str) -> list[str]:
        return [self.at(key).state.value for key in keys]

    def stranded(self, *keys: str) -> list[str | None]:
        """The keys of the jobs that strand these."""
        names = {job_id: key for key, job_id in self.ids.items()}
        return [names.get(self.at(key).stranded_by or "") for key in keys]

    def events(self, *types: str) -> list[Recorded]:
        found = (event for page in self.log.blocking.pages() for event in page)
        return [event for event in found if not types or event.type in types]

    async def follow(self, events: int | None = None) -> None:
        """Run the policy on the next `events` events of the log, by default all."""
        left = events
        while left is None or left > 0:
            page = self.log.blocking.read(self._position, 1, types=self.policy.types)
            if not page:
                return
            await self._react(page[0])
            self._position = page[0].position
            left = None if left is None else left - 1

    async def _react(self, event: Recorded) -> None:
        while (reaction := await self.policy.react(event)) is not None:
            with suppress(VersionConflict):
                await self.log.append(reaction.events, reaction.expected)
                return

    async def unanswered(self) -> list[Recorded]:
        """Events on which the policy would act if it read them again."""
        told = self.events(*self.policy.types)
        return [event for event in told if await self.policy.react(event) is not None]

    # Ends of jobs

    async def do(self, key: str, command: Callable[[Job], list[Any]]) -> None:
        await self.jobs.execute(self.ids[key], command, WHO)

    async def start(self, key: str) -> None:
        await self.do(key, lambda job: job.start("here"))

    async def end(self, key: str, outcome: Outcome = Outcome.COMPLETED) -> None:
        await self.do(key, lambda job: job.end_attempt(left(job.attempt, outcome)))

    async def run(self, *keys: str, outcome: Outcome = Outcome.COMPLETED) -> None:
        """Run each job to its end, and the policy after it."""
        for key in keys:
            await self.start(key)
            await self.end(key, outcome)
            await self.follow()

    async def redo(self, key: str, feedback: str = "") -> None:
        await self.crews.redo(self.ids[key], feedback, WHO)

    async def unblock(self, key: str) -> None:
        await self.crews.unblock(self.ids[key], WHO)

    async def cancel(self, key: str) -> None:
        await self.do(key, lambda job: job.request_cancel("By test."))

    async def do_by_name(self, name: str, key: str) -> None:
        commands: dict[str, Callable[[str], Coroutine[Any, Any, None]]] = {
            "start": self.start,
            "complete": self.end,
            "redo": self.redo,
            "unblock": self.unblock,
            "cancel": self.cancel,
        }
        await commands[name](key)


def left(attempt: int, outcome: Outcome) -> JobFinished:
    return finished(attempt, outcome, exit_code=0 if outcome is Outcome.COMPLETED else 1)


def is_queued(table: Table, key: str) -> bool:
    return table.state(key) == ["queued"]


def job(key: str, *parents: str, **fields: Any) -> PlannedJob:
    planned = {"argv": ("true",), "max_retries": 0, **fields}
    return PlannedJob(key=key, title=f"Job {key}", parents=parents, **planned)


CHAIN = (job("a"), job("b", "a"), job("c", "b"))
DIAMOND = (job("a"), job("b", "a"), job("c", "a"), job("d", "b", "c"))


Timed = tuple[Table, SimulatedTimers, Deadlines]


@pytest.fixture
def timed(tmp_path: Path) -> Iterator[Timed]:
    """A table whose time a test controls, and its deadlines, which do not run yet."""
    timers = SimulatedTimers(system_clock())
    table = Table(tmp_path / "log", timers.clock)
    views = Views(tmp_path / "views.db", table.log, PROJECTIONS)
    views.start()
    yield (
        table,
        timers,
        Deadlines(table.log, views, table.crews, table.approvals, timers, timers.clock),
    )
    views.close()
    table.close()


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    made = Table(tmp_path / "log")
    yield made
    made.close()


def play(scenario: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(ROOM_S):
            await scenario

    asyncio.run(bounded())


# Promotion


def test_a_child_waits_for_the_last_of_its_parents(table: Table) -> None:
    async def scenario() -> None:
        await table.commit(*DIAMOND)
        await table.follow()
        assert table.state("a", "b", "c", "d") == ["queued", "held", "held", "held"]
        await table.run("a")
        assert table.state("b", "c", "d") == ["queued", "queued", "held"]
        await table.run("c")
        assert table.state("d") == ["held"]
        await table.run("b")
        assert table.state("d") == ["queued"]
        [queued] = [e for e in table.events("job.queued") if e.subject == table.at("d").stream]
        assert queued.data["after"] == {table.ids["b"]: 1, table.ids["c"]: 1}
        assert queued.actor == "system:crews"

    play(scenario())


def test_being_told_everything_again_changes_nothing(table: Table) -> None:
    """As after a crash that lost the policy's position in the log."""

    async def scenario() -> None:
        await table.commit(*DIAMOND, job("e", "d", approval=True))
        await table.run("a", "b", "c", "d")
        assert table.state("e") == ["waiting_for_approval"]
        await table.redo("b", "Better.")
        await table.follow()
        await table.run("b", outcome=Outcome.FAILED)
        assert table.stranded("d", "e") == ["b", "b"]
        assert await table.unanswered() == []

    play(scenario())


def test_a_policy_that_begins_at_the_first_event_again_appends_nothing(table: Table) -> None:
    async def scenario() -> None:
        await table.commit(*DIAMOND)
        await table.run("a", "b", "c", "d")
        head = table.log.head
        assert table.log.blocking.checkpoint(table.policy.name) == 0
        again = Following(table.log, table.policy)
        task = asyncio.create_task(again.run())
        try:
            await soon(lambda: again.follower.position >= head)
        finally:
            task.cancel()
            await asyncio.wait([task])
        assert table.log.head == head

    play(scenario())


def test_nothing_is_promoted_twice_by_two_that_follow_the_same_log(table: Table) -> None:
    async def scenario() -> None:
        await table.commit(*DIAMOND)
        tasks = [asyncio.create_task(Following(table.log, table.policy).run()) for _ in range(2)]
        try:
            for key in ("a", "b", "c", "d"):
                await soon(partial(is_queued, table, key))
                await table.start(key)
                await table.end(key)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        assert len(table.events("job.queued")) == 4

    play(scenario())


def test_a_time_that_has_not_come_holds_the_roots(table: Table) -> None:
    async def scenario() -> None:
        later = format_time(system_clock() + timedelta(hours=1))
        await table.commit(*DIAMOND, not_before=later)
        await table.follow()
        assert table.state("a", "b") == ["held", "held"]
        assert await table.unanswered() == []

    play(scenario())


def test_a_time_that_has_passed_holds_nothing(table: Table) -> None:
    async def scenario() -> None:
        await table.commit(*DIAMOND, not_before=format_time(system_clock()))
        await table.follow()
        assert table.state("a", "b") == ["queued", "held"]

    play(scenario())


@pytest.mark.parametrize("begun", ["before the crew", "after it", "after its time"])
def test_a_time_is_kept_by_servers_that_begin_at_any_moment(timed: Timed, begun: str) -> None:
    table, timers, deadlines = timed
    hour = timedelta(hours=1)

    async def scenario() -> None:
        due = format_time(timers.now + hour)
        running = asyncio.create_task(deadlines.run()) if begun == "before the crew" else None
        await table.commit(*CHAIN, not_before=due)
        await table.follow()
        if begun == "after its time":
            timers.now += 2 * hour
        running = running or asyncio.create_task(deadlines.run())
        try:
            await soon(lambda: timers.keys)
            assert table.state("a") == ["held"]
            await timers.advance(hour)
            assert table.state("a", "b", "c") == ["queued", "held", "held"]
        finally:
            running.cancel()
            await asyncio.wait([running])

    play(scenario())


def test_what_is_done_again_before_its_time_is_let_go_at_it(timed: Timed) -> None:
    table, timers, deadlines = timed
    """Also by a server that started while the job had ended."""
    hour = timedelta(hours=1)

    async def scenario() -> None:
        await table.commit(*CHAIN, not_before=format_time(timers.now + hour))
        await table.cancel("a")
        await table.follow()
        running = asyncio.create_task(deadlines.run())
        try:
            await soon(lambda: timers.keys)
            await table.redo("a")
            await table.follow()
            assert table.state("a") == ["held"]
            await timers.advance(hour)
            assert table.state("a", "b", "c") == ["queued", "held", "held"]
        finally:
            running.cancel()
            await asyncio.wait([running])

    play(scenario())


def test_questions_that_nobody_waits_for_are_withdrawn_at_a_start(timed: Timed) -> None:
    """Earlier versions left those of jobs without a crew."""
    table, timers, deadlines = timed

    async def scenario() -> None:
        asked = {}
        for own in ("ended", "waits"):
            table.ids[own] = own
            await table.jobs.submit(own, submitted(), WHO)
            await table.start(own)
            asked[own] = await table.approvals.request(own, 1, Question("Go on?"), WHO)
        await table.end("ended")
        running = asyncio.create_task(deadlines.run())
        try:
            await soon(lambda: timers.keys)
            await timers.advance(timedelta(0))
            states = [table.approvals.load(one.approval.id).state.value for one in asked.values()]
            assert states == ["withdrawn", "pending"]
        finally:
            running.cancel()
            await asyncio.wait([running])

    play(scenario())


# Stranding


@pytest.mark.parametrize("how", ["gave up", "cancelled", "archived", "deleted"])
def test_all_that_wait_for_what_will_not_be_done_are_told(table: Table, how: str) -> None:
    async def scenario() -> None:
        await table.commit(*CHAIN, job("other"))
        await table.follow()
        if how == "gave up":
            await table.run("a", outcome=Outcome.FAILED)
        elif how == "cancelled":
            await table.cancel("a")
        else:
            await table.do("a", Job.archive if how == "archived" else Job.delete)
        await table.follow()
        assert table.stranded("b", "c", "other") == ["a", "a", None]
        told = {event.subject: event.data["reason"] for event in table.events("job.stranded")}
        word = "gave up" if how == "gave up" else "cancelled"
        assert set(told) == {table.at("b").stream, table.at("c").stream}
        assert all(word in reason and "Job a" in reason for reason in told.values())
        assert await table.unanswered() == []

    play(scenario())


@pytest.mark.parametrize("again", ["unblock", "redo"])
def test_the_stranded_are_let_go_when_it_is_done_after_all(table: Table, again: str) -> None:
    async def scenario() -> None:
        await table.commit(*CHAIN)
        await table.run("a", outcome=Outcome.FAILED)
        await (table.unblock("a") if again == "unblock" else table.redo("a"))
        await table.follow()
        assert table.stranded("b", "c") == [None, None]
        await table.run("a", "b", "c")
        assert table.state("a", "b", "c") == ["completed"] * 3

    play(scenario())


def test_with_two_obstacles_the_second_is_named_when_the_first_is_gone(table: Table) -> None:
    async def scenario() -> None:
        await table.commit(job("a"), job("b"), job("c", "a", "b"), job("d", "c"))
        await table.run("a", "b", outcome=Outcome.FAILED)
        assert table.stranded("c", "d") == ["a", "a"]
        await table.unblock("a")
        await table.follow()
        assert table.stranded("c", "d") == ["b", "b"]
        await table.unblock("b")
        await table.run("b", "a", "c", "d")
        assert table.state("d") == ["completed"]

    play(scenario())


def test_a_job_that_is_redone_before_its_hopeless_parent_is_told_so(table: Table) -> None:
    async def scenario() -> None:
        await table.commit(*CHAIN)
        await table.follow()
        await table.cancel("b")
        await table.run("a", outcome=Outcome.FAILED)
        await table.redo("b")
        await table.follow()
        assert table.stranded("b", "c") == ["a", "a"]

    play(scenario())


# Redo


def test_all_that_used_the_old_result_is_made_anew(table: Table) -> None:
    async def scenario() -> None:
        await table.commit(*CHAIN, job("x"))
        await table.run("a", "b", "x")
        await table.start("c")
        await table.redo("a", "Not like this.")
        await table.follow()
        assert table.state("a", "b", "c", "x") == ["queued", "held", "held", "completed"]
        assert not table.at("c").active
        await table.run("a", "b", "c")
        last = {e.subject: e.data for e in table.events("job.queued")}
        assert last[table.at("b").stream] == {"attempt": 2, "after": {table.ids["a"]: 2}}
        assert last[table.at("c").stream] == {"attempt": 2, "after": {table.ids["b"]: 2}}

    play(scenario())


@pytest.mark.parametrize("away", [Job.archive, Job.delete])
def test_what_is_off_the_board_keeps_its_result_and_holds_nobody_up(
    table: Table, away: Callable[[Job], list[Any]]
) -> None:
    async def scenario() -> None:
        await table.commit(*CHAIN)
        await table.run("a", "b", "c")
        await table.do("b", away)
        await table.redo("a")
        await table.run("a", outcome=Outcome.FAILED)
        assert table.state("b", "c") == ["completed", "completed"]
        await table.redo("c")
        await table.follow()
        assert table.state("c") == ["queued"]
        assert table.stranded("c") == [None]

    play(scenario())


def test_who_waits_for_what_is_off_the_board_is_not_held_up_by_what_that_waited_for(
    table: Table,
) -> None:
    async def scenario() -> None:
        await table.commit(job("a"), job("b", "a"), job("x"), job("c", "b", "x"), job("d", "c"))
        await table.run("a", "b", "x", "c")
        await table.do("b", Job.archive)
        await table.redo("x")
        await table.redo("a")
        await table.run("a", outcome=Outcome.FAILED)
        assert table.stranded("c", "d") == [None, None]
        await table.run("x", "c", "d")
        assert table.state("c", "d") == ["completed", "completed"]

    play(scenario())


def test_whoever_waited_for_one_that_gave_up_is_let_go_when_that_is_made_stale(
    table: Table,
) -> None:
    async def scenario() -> None:
        await table.commit(*CHAIN)
        await table.run("a")
        await table.run("b", outcome=Outcome.FAILED)
        assert table.stranded("c") == ["b"]
        await table.redo("a")
        await table.follow()
        assert table.stranded("b", "c") == [None, None]
        assert table.state("b") == ["held"]

    play(scenario())


@pytest.mark.parametrize("first", ["redo", "policy", "both at once"])
def test_a_child_is_never_released_on_a_parent_that_is_redone(table: Table, first: str) -> None:
    async def scenario() -> None:
        await table.commit(*CHAIN)
        await table.run("a")
        await table.start("b")
        await table.end("b")
        if first == "redo":
            await table.redo("a")
            await table.follow()
        elif first == "policy":
            await table.follow()
            await table.redo("a")
        else:
            both = (table.follow(), table.redo("a"), table.redo("b"))
            await asyncio.gather(*both, return_exceptions=True)
        await table.follow()
        assert table.state("a", "b", "c") == ["queued", "held", "held"]
        await table.run("a", "b", "c")
        for event in table.events("job.queued"):
            for parent, attempt in event.data["after"].items():
                before = [
                    e
                    for e in table.events("job.finished", "job.redone", "job.made_stale")
                    if e.subject == f"job-{parent}" and e.position < event.position
                ]
                assert before[-1].type == "job.finished"
                assert before[-1].data["attempt"] == attempt

    play(scenario())


def test_redo_while_the_log_moves_is_decided_again_or_refused_and_never_half_done(
    table: Table,
) -> None:
    async def scenario() -> None:
        await table.commit(*DIAMOND)
        await table.run("a", "b", "c", "d")

        async def say(key: str) -> None:
            for _ in range(10):
                await table.do(key, lambda job: job.comment("Hm."))

        await asyncio.gather(table.redo("a"), *(say(key) for key in "bcd"), return_exceptions=True)
        stale = {event.subject for event in table.events("job.made_stale")}
        redone = table.events("job.redone")
        assert len(stale) == 3 * len(redone)
        await table.follow()
        if redone:
            await table.run("a", "b", "c", "d")
        assert table.state("a", "b", "c", "d") == ["completed"] * 4

    play(scenario())


def test_nobody_is_stranded_by_one_that_is_unblocked_at_that_moment(table: Table) -> None:
    async def scenario() -> None:
        await table.commit(*CHAIN)
        await table.follow()
        await table.start("a")
        await table.end("a", Outcome.FAILED)
        [blocked] = table.events("job.blocked")
        reaction = await table.policy.react(blocked)
        assert reaction is not None
        await table.unblock("a")
        with pytest.raises(VersionConflict):
            await table.log.append(reaction.events, reaction.expected)
        await table.follow()
        assert table.stranded("b", "c") == [None, None]

    play(scenario())


def test_nobody_is_queued_on_a_result_that_is_taken_back_at_that_moment(table: Table) -> None:
    """The release of `c` comes between the read and the append of the redo of `a`."""

    async def scenario() -> None:
        await table.commit(*CHAIN)
        await table.run("a")
        await table.start("b")
        await table.end("b")
        ended = table.events("job.finished")[-1]
        release = await table.policy.react(ended)
        assert release is not None
        appended = table.log.append(release.events, release.expected)
        await asyncio.gather(appended, table.redo("a"), return_exceptions=True)
        await table.follow()
        assert table.state("a", "b", "c") == ["queued", "held", "held"]

    for _ in range(10):
        play(scenario())


# Questions before the start


def test_an_approval_is_asked_when_the_parents_are_done_and_not_before(table: Table) -> None:
    async def scenario() -> None:
        await table.commit(job("a"), job("b", "a", approval=True))
        await table.follow()
        assert table.events("approval.requested") == []
        await table.run("a")
        [approval] = table.approvals.pending(table.at("b"))
        await table.approvals.resolve(approval.id, "approved", None, WHO)
        assert table.state("b") == ["held"]
        await table.follow()
        assert table.state("b") == ["queued"]

    play(scenario())


def test_a_question_is_withdrawn_when_the_job_is_made_stale_and_asked_anew(table: Table) -> None:
    async def scenario() -> None:
        await table.commit(job("a"), job("b", "a", approval=True))
        await table.run("a")
        [first] = table.approvals.pending(table.at("b"))
        await table.redo("a")
        await table.follow()
        assert table.state("b") == ["held"]
        assert table.approvals.load(first.id).state == "withdrawn"
        await table.run("a")
        [second] = table.approvals.pending(table.at("b"))
        assert second.id != first.id

    play(scenario())


def test_an_answer_that_comes_before_the_withdrawal_says_nothing_to_the_job(table: Table) -> None:
    async def scenario() -> None:
        await table.commit(job("a"), job("b", "a", approval=True, on_reject="fail"))
        await table.run("a")
        [asked] = table.approvals.pending(table.at("b"))
        await table.redo("a")
        with pytest.raises(AlreadyResolved, match="withdrawn"):
            await table.approvals.resolve(asked.id, "rejected", "No.", WHO)
        await table.follow()
        assert table.state("b") == ["held"]
        await table.run("a")
        assert table.state("b") == ["waiting_for_approval"]

    play(scenario())


def test_what_an_earlier_attempt_asked_is_withdrawn_also_while_the_next_one_asks(
    table: Table,
) -> None:
    async def scenario() -> None:
        await table.commit(job("a", max_retries=1))
        asked = []
        for attempt in (1, 2):
            await table.start("a")
            question = Question(f"Attempt {attempt}?")
            asked.append(await table.approvals.request(table.ids["a"], attempt, question, WHO))
            if attempt == 1:
                await table.end("a", Outcome.FAILED)
        await table.follow()
        states = [table.approvals.load(one.approval.id).state.value for one in asked]
        assert states == ["withdrawn", "pending"]

    play(scenario())


@pytest.mark.parametrize("lost", [False, True])
def test_a_question_of_a_job_of_its_own_is_withdrawn_when_the_job_ends(
    table: Table, lost: bool
) -> None:
    async def scenario() -> None:
        await table.jobs.submit("own", submitted(), WHO)
        table.ids["own"] = "own"
        await table.start("own")
        asked = await table.approvals.request("own", 1, Question("Go on?"), WHO)
        if lost:
            await table.do("own", lambda job: job.lose_attempt(1, "Its shim was killed.", "e"))
        else:
            await table.end("own")
        await table.follow()
        assert table.approvals.load(asked.approval.id).state == "withdrawn"
        assert await table.unanswered() == []

    play(scenario())


# Any order of events


def crews_of(draw: st.DrawFn) -> list[PlannedJob]:
    count = draw(st.integers(2, 5))
    jobs: list[PlannedJob] = []
    for index in range(count):
        parents = draw(st.sets(st.integers(0, index - 1), max_size=2)) if index else set()
        approval = draw(st.integers(0, 5)) == 0
        retries = draw(st.integers(0, 1))
        parent_keys = [f"j{parent}" for parent in sorted(parents)]
        jobs.append(job(f"j{index}", *parent_keys, approval=approval, max_retries=retries))
    return jobs


STEPS = (
    "start",
    "complete",
    "complete",
    "crash",
    "redo",
    "unblock",
    "cancel",
    "archive",
    "delete",
    "approve",
    "reject",
    "follow one",
    "follow",
    "follow",
    "all go on",
    "all go on",
)

walks = st.composite(crews_of)()
paths = st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 4)), min_size=5, max_size=30)


async def step(table: Table, name: str, key: str) -> None:
    if name == "follow":
        await table.follow()
    elif name == "follow one":
        await table.follow(1)
    elif name == "all go on":
        for other in table.ids:
            for doing in (table.start, table.end):
                with suppress(CrewlogError):
                    await doing(other)
            await table.follow()
    elif name in ("approve", "reject"):
        for asked in table.approvals.pending(table.at(key))[:1]:
            await table.approvals.resolve(asked.id, f"{name.removesuffix('e')}ed", None, WHO)
    elif name == "crash":
        await table.end(key, Outcome.FAILED)
    elif name in ("archive", "delete"):
        await table.do(key, Job.archive if name == "archive" else Job.delete)
    else:
        await table.do_by_name(name, key)


def check_each(table: Table) -> None:
    """Check what is true at every moment."""
    for key in table.ids:
        one = table.at(key)
        if one.state is JobState.QUEUED or one.active:
            assert all(p.state is JobState.COMPLETED for p in table.crews.parents(one)), key


def check_settled(table: Table) -> None:
    """Check what is true after the policy has run: each waiting job has a visible reason."""
    for key in table.ids:
        one = table.at(key)
        if one.state is not JobState.HELD or one.deleted:
            continue
        obstacle = table.crews.hopeless(one, Draft(SYSTEM))
        assert (one.stranded_by is not None) == (obstacle is not None), key
        if obstacle is not None:
            assert failed(table.crews.job(one.stranded_by or "")), key
        else:
            parents = table.crews.parents(one)
            assert any(parent.state is not JobState.COMPLETED for parent in parents), key


@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(walks, paths)
def test_nobody_is_left_behind_in_silence(
    planned: list[PlannedJob], path: list[tuple[str, int]]
) -> None:
    """For any actions of people and workers, and any delay of the policy."""

    async def scenario(table: Table) -> None:
        await table.commit(*planned)
        keys = list(table.ids)
        for name, index in path:
            with suppress(CrewlogError):
                await step(table, name, keys[index % len(keys)])
            check_each(table)
        await table.follow()
        check_each(table)
        check_settled(table)
        assert await table.unanswered() == []

    with TemporaryDirectory() as folder:
        table = Table(Path(folder) / "log")
        try:
            play(scenario(table))
        finally:
            table.close()


# Active crews


def test_a_crew_goes_on_as_long_as_somebody_or_something_may_move_it(table: Table) -> None:
    async def scenario() -> None:
        await table.commit(*CHAIN)
        assert table.crews.active(table.crew_id), "held, and about to be queued"
        await table.follow()
        assert table.crews.active(table.crew_id), "queued"
        await table.start("a")
        assert table.crews.active(table.crew_id), "running"
        await table.end("a")
        assert table.crews.active(table.crew_id), "b is about to be queued"
        await table.follow()
        await table.run("b", "c")
        assert not table.crews.active(table.crew_id), "all done"

    play(scenario())


@pytest.mark.parametrize("how", ["gave up", "asked for somebody", "cancelled", "rejected"])
def test_a_crew_whose_next_job_is_blocked_or_over_goes_on_no_more(table: Table, how: str) -> None:
    async def scenario() -> None:
        await table.commit(job("a", approval=how == "rejected"), job("b", "a"), job("c", "b"))
        await table.follow()
        if how == "gave up":
            await table.run("a", outcome=Outcome.FAILED)
        elif how == "asked for somebody":
            await table.start("a")
            await table.do("a", lambda job: job.ask_block(job.attempt, "Which one?"))
            await table.end("a", Outcome.FAILED)
        elif how == "cancelled":
            await table.cancel("a")
        else:
            assert table.crews.active(table.crew_id), "it waits for an answer"
            [asked] = table.approvals.pending(table.at("a"))
            await table.approvals.resolve(asked.id, "rejected", None, WHO)
        # Before and after the policy has run.
        assert not table.crews.active(table.crew_id)
        await table.follow()
        assert not table.crews.active(table.crew_id)
        await table.redo("a")
        assert table.crews.active(table.crew_id)

    play(scenario())


def test_a_branch_that_runs_keeps_its_crew_going(table: Table) -> None:
    async def scenario() -> None:
        await table.commit(*CHAIN, job("other"))
        await table.follow()
        await table.run("a", outcome=Outcome.FAILED)
        assert table.crews.active(table.crew_id)
        await table.run("other")
        assert not table.crews.active(table.crew_id)

    play(scenario())


# Crews with many edges


def layers(width: int) -> list[PlannedJob]:
    """Three layers; each job waits for all jobs of the layer before."""
    names = [[f"l{layer}x{n}" for n in range(width)] for layer in range(3)]
    return [
        job(name, *(names[layer - 1] if layer else ()))
        for layer in range(3)
        for name in names[layer]
    ]


def test_each_job_is_looked_up_once_however_many_wait_for_it(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a job costs one look-up for each job around it, not for each edge."""
    width = 20
    looked: list[str] = []
    original = FoldedStreams.latest

    def counted(self: FoldedStreams[Any], name: str) -> Kept[Any]:
        looked.append(name)
        return original(self, name)

    monkeypatch.setattr(FoldedStreams, "latest", counted)

    async def scenario() -> None:
        await table.commit(*layers(width))
        await table.follow()
        for key in table.ids:
            await table.start(key)
            await table.end(key)
            looked.clear()
            await table.follow()
            assert len(looked) <= 2 * width + 2, "itself, its crew, its children, their parents"
        assert set(table.state(*table.ids)) == {"completed"}

    play(scenario())
