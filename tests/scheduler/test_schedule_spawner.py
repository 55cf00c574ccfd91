"""The promises of the spawner: a crew for each firing, or the reason why there is none."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from api.native.schedule_json import schedule_json
from domain.account.aggregate import Account, Role
from domain.account.commands import People
from domain.clock import format_time
from domain.errors import BadInput
from domain.job.events import JobState
from domain.log import SYSTEM, Context
from domain.schedule.aggregate import Overlap, Schedule, ScheduleNotFound, ScheduleSkipped
from domain.schedule.commands import checked_terms
from scheduler.policies.policy import Following
from scheduler.policies.spawner import CrewMaker
from tests.scheduler.schedule_world import START, World, minutes, simulated
from tests.scheduler.simulated import SimulatedTimers

HOURLY = {"cadence": "hourly"}


def play(directory: Path, story: Callable[[World, SimulatedTimers], Awaitable[None]]) -> None:
    async def playing() -> None:
        world, timers = simulated(directory)
        async with world.running():
            await story(world, timers)

    asyncio.run(playing())


async def hour(world: World, timers: SimulatedTimers, count: int = 1) -> None:
    """Advance an hour, and wait for its effects."""
    for _ in range(count):
        await timers.advance(minutes(60))
        await world.settled()


def outcomes(world: World) -> list[str]:
    return [events[1].type.partition(".")[2] for events in world.firings().values()]


def test_each_firing_makes_one_crew_that_knows_its_schedule(tmp_path: Path) -> None:
    async def story(world: World, timers: SimulatedTimers) -> None:
        schedule_id = await world.schedule(HOURLY, inputs={"repo": "x"})
        await hour(world, timers, 3)
        assert outcomes(world) == ["spawned"] * 3
        crews = world.events("crew.committed")
        assert len({event.subject for event in crews}) == 3
        nominals = [format_time(START + minutes(60 * n)) for n in (1, 2, 3)]
        assert [event.data["nominal"] for event in crews] == nominals
        for event, fired in zip(crews, world.events("schedule.fired"), strict=True):
            assert event.data["schedule"] == schedule_id
            assert event.data["owner"] == "user:ann"
            assert event.actor == f"schedule:{schedule_id}"
            assert event.cause == fired.id
        jobs = [job for e in world.events("schedule.spawned") for job in e.data["jobs"]]
        assert len(set(jobs)) == 3
        assert world.jobs.load(jobs[0]).links.schedule == schedule_id
        row = await world.row(schedule_id)
        assert (row["firings"], row["last_outcome"], row["failures"]) == (3, "spawned", 0)
        last = world.events("schedule.fired")[-1]
        assert world.log.blocking.checkpoint(world.spawner.name) == last.position

    play(tmp_path, story)


def test_each_crew_is_for_its_own_time_in_the_zone_of_the_schedule(tmp_path: Path) -> None:
    """Also for times that are caught up hours later."""

    async def first(world: World, timers: SimulatedTimers) -> None:
        await world.schedule(HOURLY, template="dated", catch_up="all", timezone="Asia/Tokyo")

    async def second(world: World, timers: SimulatedTimers) -> None:
        await hour(world, timers)
        await timers.advance(minutes(30))
        [schedule_id] = {e.subject.partition("-")[2] for e in world.events("schedule.created")}
        await world.spawner.run_now(schedule_id, SYSTEM)
        titles = [e.data["title"] for e in world.events("job.submitted")]
        assert titles == [f"2026-01-01T{at}:00:00+09:00" for at in (10, 11, 12, 13)] + [
            "2026-01-01T13:30:00+09:00"
        ]

    async def away() -> None:
        world, timers = simulated(tmp_path)
        async with world.running(spawn=False):
            await first(world, timers)
        world, timers = simulated(tmp_path, START + minutes(180))
        async with world.running():
            await second(world, timers)

    asyncio.run(away())


def test_reacting_again_makes_no_second_crew(tmp_path: Path) -> None:
    async def story(world: World, timers: SimulatedTimers) -> None:
        await world.schedule(HOURLY)
        await hour(world, timers)
        before = world.log.head
        assert await world.spawner.react(world.events("schedule.fired")[0]) is None
        assert world.log.head == before

    play(tmp_path, story)


def test_overlap_allow_lets_crews_run_beside_each_other(tmp_path: Path) -> None:
    async def story(world: World, timers: SimulatedTimers) -> None:
        await world.schedule(HOURLY, overlap="allow")
        await hour(world, timers, 2)
        assert outcomes(world) == ["spawned", "spawned"]

    play(tmp_path, story)


def test_overlap_skip_waits_until_the_earlier_crew_is_over(tmp_path: Path) -> None:
    async def story(world: World, timers: SimulatedTimers) -> None:
        schedule_id = await world.schedule(HOURLY, overlap="skip")
        await hour(world, timers, 2)
        assert outcomes(world) == ["spawned", "skipped"]
        spawned, skipped = world.events("schedule.spawned", "schedule.skipped")
        assert skipped.data["reason"] == "overlap"
        assert skipped.data["crew"] == spawned.data["crew"]
        await world.finish(spawned.data["jobs"][0])
        await hour(world, timers)
        assert outcomes(world) == ["spawned", "skipped", "spawned"]
        assert (await world.row(schedule_id))["skipped"] == 1

    play(tmp_path, story)


@pytest.mark.parametrize("overlap", ["skip", "cancel"])
def test_overlap_knows_every_crew_that_still_runs(tmp_path: Path, overlap: str) -> None:
    async def story(world: World, timers: SimulatedTimers) -> None:
        schedule_id = await world.schedule(HOURLY, overlap="allow")
        await hour(world, timers, 25)
        crews = [event.data for event in world.events("schedule.spawned")]
        for spawned in crews[1:]:
            await world.finish(spawned["jobs"][0])
        await world.schedules.change(schedule_id, {"overlap": Overlap(overlap)}, SYSTEM)
        await hour(world, timers)
        if overlap == "skip":
            [skipped] = world.events("schedule.skipped")
            assert skipped.data["crew"] == crews[0]["crew"]
        else:
            assert world.events("schedule.spawned")[-1].data["replaced"] == [crews[0]["crew"]]
            assert world.jobs.load(crews[0]["jobs"][0]).state is JobState.CANCELLED

    play(tmp_path, story)


def test_times_of_a_disabled_account_are_skipped_and_go_on_when_it_is_enabled(
    tmp_path: Path,
) -> None:
    async def story(world: World, timers: SimulatedTimers) -> None:
        people = People(world.log, timers.clock)
        ann = (await people.register("ann@example.org", "Ann", Role.USER, SYSTEM)).account.id
        terms = checked_terms({"name": "hers", "template": "one", "rule": HOURLY})
        made = await world.schedules.create(terms, f"user:{ann}", SYSTEM)
        await world.followed()
        await hour(world, timers)
        await people.execute(ann, Account.disable, SYSTEM)
        await hour(world, timers, 2)
        await people.execute(ann, Account.enable, SYSTEM)
        await hour(world, timers)
        assert outcomes(world) == ["spawned", "skipped", "skipped", "spawned"]
        skipped = world.events("schedule.skipped")
        assert [event.data["reason"] for event in skipped] == ["owner_disabled"] * 2
        row = await world.row(made.schedule.id)
        assert (row["state"], row["skipped"], row["failures"]) == ("active", 2, 0)

    play(tmp_path, story)


@pytest.mark.parametrize("most", [1, 2])
def test_times_that_a_disabled_account_skips_leave_the_most_firings_as_they_are(
    tmp_path: Path, most: int
) -> None:
    async def story(world: World, timers: SimulatedTimers) -> None:
        people = People(world.log, timers.clock)
        ann = (await people.register("ann@example.org", "Ann", Role.USER, SYSTEM)).account.id
        given = {"name": "hers", "template": "one", "rule": HOURLY, "max_firings": most}
        made = await world.schedules.create(checked_terms(given), f"user:{ann}", SYSTEM)
        await world.followed()
        await people.execute(ann, Account.disable, SYSTEM)
        await hour(world, timers, 3)
        row = await world.row(made.schedule.id)
        assert (row["state"], row["firings"], row["excused"]) == ("active", 3, 3)
        shown = schedule_json(row, timers.now)
        assert shown["nextRunAt"] == format_time(timers.now + minutes(60))
        await people.execute(ann, Account.enable, SYSTEM)
        await hour(world, timers, 3)
        assert outcomes(world) == ["skipped"] * 3 + ["spawned"] * most
        row = await world.row(made.schedule.id)
        assert (row["state"], row["state_reason"]) == ("ended", "max_firings")
        assert len(world.events("schedule.ended")) == 1

    play(tmp_path, story)


def test_an_account_that_is_disabled_after_the_last_firing_gets_its_schedule_back(
    tmp_path: Path,
) -> None:
    async def playing() -> None:
        world, timers = simulated(tmp_path)
        people = People(world.log, timers.clock)
        ann = (await people.register("ann@example.org", "Ann", Role.USER, SYSTEM)).account.id
        async with world.running(spawn=False):
            given = {"name": "hers", "template": "one", "rule": HOURLY, "max_firings": 1}
            made = await world.schedules.create(checked_terms(given), f"user:{ann}", SYSTEM)
            await world.followed()
            await timers.advance(minutes(60))
            assert (await world.row(made.schedule.id))["state"] == "ended"
            await people.execute(ann, Account.disable, SYSTEM)
            following = asyncio.create_task(Following(world.log, world.spawner).run())
            await world.settled()
            assert outcomes(world) == ["skipped"]
            assert (await world.row(made.schedule.id))["state"] == "active"
            await people.execute(ann, Account.enable, SYSTEM)
            await hour(world, timers)
            assert outcomes(world) == ["skipped", "spawned"]
            assert (await world.row(made.schedule.id))["state"] == "ended"
            following.cancel()

    asyncio.run(playing())


def test_overlap_cancel_ends_the_earlier_crew(tmp_path: Path) -> None:
    async def story(world: World, timers: SimulatedTimers) -> None:
        await world.schedule(HOURLY, overlap="cancel")
        await hour(world, timers, 2)
        first, second = world.events("schedule.spawned")
        assert second.data["replaced"] == [first.data["crew"]]
        assert world.jobs.load(first.data["jobs"][0]).state is JobState.CANCELLED
        assert world.jobs.load(second.data["jobs"][0]).state is JobState.QUEUED

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("template", "path", "reason"),
    [
        ("gone", None, "There is no template called 'gone'."),
        ("broken", "inputs.repo", "It is missing."),
    ],
)
def test_five_failures_in_a_row_pause_the_schedule(
    tmp_path: Path, template: str, path: str | None, reason: str
) -> None:
    async def story(world: World, timers: SimulatedTimers) -> None:
        schedule_id = await world.schedule(HOURLY, template=template)
        await hour(world, timers, 4)
        row = await world.row(schedule_id)
        assert (row["state"], row["failures"], row["last_error"]) == ("active", 4, reason)
        await hour(world, timers, 3)
        assert outcomes(world) == ["failed"] * 5
        assert {event.data["path"] for event in world.events("schedule.failed")} == {path}
        row = await world.row(schedule_id)
        assert (row["state"], row["failures"]) == ("paused", 5)
        assert reason in row["state_reason"]
        await world.schedules.enable(schedule_id, row["firings"], SYSTEM)
        await world.followed()
        await hour(world, timers)
        row = await world.row(schedule_id)
        assert (row["state"], row["failures"]) == ("active", 1)

    play(tmp_path, story)


def test_a_success_in_between_counts_failures_anew(tmp_path: Path) -> None:
    async def story(world: World, timers: SimulatedTimers) -> None:
        schedule_id = await world.schedule(HOURLY)
        world.templates.refused = True
        await hour(world, timers, 4)
        world.templates.refused = False
        await hour(world, timers)
        world.templates.refused = True
        await hour(world, timers, 4)
        assert outcomes(world) == ["failed"] * 4 + ["spawned"] + ["failed"] * 4
        assert (await world.row(schedule_id))["state"] == "active"

    play(tmp_path, story)


def test_an_error_that_nobody_foresaw_is_recorded_without_its_text(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(world: World, timers: SimulatedTimers) -> None:
        await world.schedule(HOURLY, template="bug")
        await hour(world, timers)
        (failed,) = world.events("schedule.failed")
        assert failed.data["reason"].startswith("The server failed; error id ")

    play(tmp_path, story)
    assert "a private text" in caplog.text


def test_firing_by_hand_makes_a_crew_at_once_also_when_disabled(tmp_path: Path) -> None:
    async def story(world: World, timers: SimulatedTimers) -> None:
        schedule_id = await world.schedule(HOURLY, enabled=False, overlap="skip")
        context = Context(actor="user:ann", request_id="r")
        first = await world.spawner.run_now(schedule_id, context)
        timers.now += minutes(0.001)
        second = await world.spawner.run_now(schedule_id, context)
        assert first.crew_id != second.crew_id
        await world.settled()
        assert outcomes(world) == ["spawned", "spawned"]
        fired = world.events("schedule.fired")
        assert [(e.data["manual"], e.data["firing"], e.actor) for e in fired] == [
            (True, 0, "user:ann")
        ] * 2
        row = await world.row(schedule_id)
        assert (row["firings"], row["last_nominal"]) == (0, None)

    play(tmp_path, story)


def test_firing_by_hand_says_and_records_why_it_failed(tmp_path: Path) -> None:
    async def story(world: World, timers: SimulatedTimers) -> None:
        schedule_id = await world.schedule(HOURLY, template="broken")
        for _ in range(6):
            timers.now += minutes(0.001)
            with pytest.raises(BadInput, match=r"inputs\.repo: It is missing"):
                await world.spawner.run_now(schedule_id, SYSTEM)
        await world.settled()
        assert outcomes(world) == ["failed"] * 6
        row = await world.row(schedule_id)
        assert (row["state"], row["failures"]) == ("active", 0)
        with pytest.raises(ScheduleNotFound):
            await world.spawner.run_now("none", SYSTEM)

    play(tmp_path, story)


def test_a_firing_of_a_schedule_deleted_meanwhile_makes_nothing(tmp_path: Path) -> None:
    async def playing() -> None:
        world, timers = simulated(tmp_path)
        async with world.running(spawn=False):
            schedule_id = await world.schedule(HOURLY)
            await timers.advance(minutes(60))
            await world.schedules.execute(schedule_id, Schedule.delete, SYSTEM)
            (fired,) = world.events("schedule.fired")
            reaction = await world.spawner.react(fired)
            assert reaction is not None
            (skipped,) = (new.event for new in reaction.events)
            assert isinstance(skipped, ScheduleSkipped)
            assert skipped.reason == "deleted"

    asyncio.run(playing())


def test_the_real_intake_is_what_the_spawner_needs(tmp_path: Path) -> None:
    world, _ = simulated(tmp_path)
    crews: CrewMaker = world.crews
    plan: Any = crews.plan("one", {})
    assert [job.key for job in plan.jobs] == ["only"]
    world.views.close()
    world.log.close()
