"""The promises of the clock: each time fires once, late rather than never, and each missed time is
recorded.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import get_ident
from typing import Any

import pytest

from api.native.schedule_json import schedule_json
from domain.clock import format_time, parse_time
from domain.errors import BadInput, WrongState
from domain.log import SYSTEM, new_events
from domain.schedule import aggregate
from domain.schedule.aggregate import (
    CatchUp,
    MissReason,
    Overlap,
    Schedule,
    ScheduleCreated,
    firing_stream,
    schedule_stream,
)
from domain.schedule.catch_up import EACH, GRACE, MOST_AT_ONCE, Due, settle
from domain.schedule.commands import ChangedSchedule, checked_terms
from domain.schedule.recurrence import Rule, parse_rule
from scheduler.policies.clock import ScheduleClock
from tests.kit.schedules import fired
from tests.kit.waiting import soon
from tests.scheduler.schedule_world import START, World, minutes, simulated
from tests.scheduler.simulated import SimulatedTimers

Story = Callable[[World, SimulatedTimers], Coroutine[Any, Any, None]]

HOURLY = {"cadence": "hourly"}
MINUTELY = {"cadence": "minutely"}
DAILY = {"cadence": "daily"}


def play(directory: Path, story: Story, start: datetime = START) -> None:
    """Run a story without the spawner, so firings make no crews."""

    async def playing() -> None:
        world, timers = simulated(directory, start)
        async with world.running(spawn=False):
            await story(world, timers)

    asyncio.run(playing())


def test_a_year_of_schedules_in_several_zones_fires_each_time_once(tmp_path: Path) -> None:
    """2026 has 365 days, 52 Mondays, 261 weekdays; in Berlin and New York two days have 23 and 25
    hours.
    """
    expected = {
        ("UTC", "daily"): 365,
        ("America/New_York", "daily"): 365,
        ("Europe/Berlin", "weekly"): 52,
        ("Asia/Tokyo", "monthly"): 12,
        ("Europe/Berlin", "cron"): 261,
        ("Australia/Lord_Howe", "rrule"): 12,
        ("UTC", "once"): 1,
    }
    rules: dict[str, dict[str, Any]] = {
        "daily": {"cadence": "daily", "at": "02:30"},
        "weekly": {"cadence": "weekly", "days": "mon", "at": "07:15"},
        "monthly": {"cadence": "monthly", "dayOfMonth": 31},
        "cron": {"cron": "30 2 * * 1-5"},
        "rrule": {"rrule": "FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=2;BYMINUTE=15"},
        "once": {"once": "2026-07-01T12:00"},
    }

    async def story(world: World, timers: SimulatedTimers) -> None:
        made = {
            (zone, kind): await world.schedule(rules[kind], timezone=zone)
            for zone, kind in expected
        }
        for _ in range(365):
            await timers.advance(timedelta(days=1))
        fired = {key: world.fired(schedule_id) for key, schedule_id in made.items()}
        assert {key: len(times) for key, times in fired.items()} == expected
        for key, times in fired.items():
            assert times == sorted(set(times)), key
        assert all(event.data["late_ms"] == 0 for event in world.events("schedule.fired"))
        assert world.events("schedule.missed") == []
        numbers = [
            event.data["firing"]
            for event in world.events("schedule.fired")
            if event.subject == f"schedule-{made['UTC', 'daily']}"
        ]
        assert numbers == list(range(1, 366))

    play(tmp_path, story)


def test_six_hours_by_the_minute_fire_every_minute(tmp_path: Path) -> None:
    async def story(world: World, timers: SimulatedTimers) -> None:
        schedule_id = await world.schedule(MINUTELY)
        await timers.advance(minutes(360))
        expected = [format_time(START + minutes(n)) for n in range(1, 361)]
        assert world.fired(schedule_id) == expected

    play(tmp_path, story)


def test_a_rule_is_read_beside_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that counts its times is walked to its last one, which takes a while."""
    readers: list[int] = []

    def parse(*given: Any) -> Rule:
        readers.append(get_ident())
        return parse_rule(*given)

    monkeypatch.setattr("domain.schedule.aggregate.parse_rule", parse)
    rule = {"rrule": "FREQ=HOURLY;COUNT=3"}

    async def story(world: World, timers: SimulatedTimers) -> None:
        schedule_id = await world.schedule(rule)
        await timers.advance(minutes(90))
        assert len(world.fired(schedule_id)) == 2

    async def again(world: World, timers: SimulatedTimers) -> None:
        await timers.advance(minutes(90))
        assert len(world.events("schedule.fired")) == 3

    play(tmp_path, story)
    aggregate._parsed.cache_clear()
    play(tmp_path, again, START + minutes(90))
    assert readers
    assert get_ident() not in readers


def down(
    directory: Path, rule: dict[str, Any], away: timedelta, **terms: Any
) -> tuple[list[tuple[str, bool]], list[dict[str, Any]]]:
    """The fired times (and whether as catch-up) and the missed ones, if the server is down for this
    long right after the first time.
    """
    result: list[Any] = []

    async def first(world: World, timers: SimulatedTimers) -> None:
        result.append(await world.schedule(rule, **terms))
        await timers.advance(minutes(60))

    async def second(world: World, timers: SimulatedTimers) -> None:
        await timers.advance(timedelta(0))
        await world.followed()
        fired = world.events("schedule.fired")
        result.append([(e.data["nominal"][11:16], e.data["catch_up"]) for e in fired])
        result.append([e.data for e in world.events("schedule.missed")])

    play(directory, first)
    play(directory, second, START + minutes(60) + away)
    return result[1], result[2]


def test_catch_up_latest_fires_the_newest_missed_time_alone(tmp_path: Path) -> None:
    fired, missed = down(tmp_path, HOURLY, minutes(200))
    assert fired == [("01:00", False), ("04:00", True)]
    assert [(m["nominal"][11:16], m["count"], m["reason"]) for m in missed] == [
        ("02:00", 1, "superseded"),
        ("03:00", 1, "superseded"),
    ]


def test_catch_up_all_fires_every_time_within_the_window_in_order(tmp_path: Path) -> None:
    fired, missed = down(
        tmp_path, HOURLY, minutes(270), catch_up="all", catch_up_window_ms=2 * 3_600_000
    )
    assert fired == [("01:00", False), ("04:00", True), ("05:00", True)]
    assert [(m["nominal"][11:16], m["reason"]) for m in missed] == [
        ("02:00", "outside_window"),
        ("03:00", "outside_window"),
    ]


def test_catch_up_none_drops_what_was_missed_and_says_so(tmp_path: Path) -> None:
    fired, missed = down(tmp_path, HOURLY, minutes(150), catch_up="none")
    assert fired == [("01:00", False)]
    assert [(m["nominal"][11:16], m["reason"]) for m in missed] == [
        ("02:00", "not_caught_up"),
        ("03:00", "not_caught_up"),
    ]


def test_a_short_restart_drops_nothing_even_without_catch_up(tmp_path: Path) -> None:
    fired, missed = down(tmp_path, HOURLY, minutes(60) + GRACE / 2, catch_up="none")
    assert fired == [("01:00", False), ("02:00", False)]
    assert missed == []


def test_a_week_by_the_minute_is_one_event_of_missed_times(tmp_path: Path) -> None:
    fired, missed = down(tmp_path, MINUTELY, timedelta(days=7))
    assert len(fired) == 61
    assert [m["count"] for m in missed] == [7 * 1_440 - 1]
    assert missed[0]["nominal"] == format_time(START + minutes(61))
    assert missed[0]["through"] == format_time(START + minutes(60 + 7 * 1_440 - 1))


def test_a_time_is_fired_or_missed_but_never_both() -> None:
    passed = [Due(START + minutes(n), START + minutes(n)) for n in range(2_000)]
    now = passed[-1].due
    for rule in CatchUp:
        settled = settle(passed, now, rule, timedelta(days=7))
        accounted = len(settled.fire) + sum(missed.count for missed in settled.missed)
        assert accounted == len(passed)
    everything = settle(passed, now, CatchUp.ALL, timedelta(days=7))
    assert everything.fire == passed[-MOST_AT_ONCE:]
    assert {missed.reason for missed in everything.missed} == {MissReason.TOO_MANY}
    few = settle(passed[:EACH], passed[EACH].due + timedelta(days=9), CatchUp.NONE, timedelta(0))
    assert [missed.count for missed in few.missed] == [1] * EACH


def test_jitter_keeps_within_its_bounds_and_is_the_same_for_the_same_time(tmp_path: Path) -> None:
    async def story(world: World, timers: SimulatedTimers) -> None:
        schedule_id = await world.schedule(HOURLY, jitter_ms=600_000)
        await timers.advance(timedelta(days=2))
        events = world.events("schedule.fired")
        late = [parse_time(e.data["due_at"]) - parse_time(e.data["nominal"]) for e in events]
        assert len(late) >= 47
        assert all(timedelta(0) <= span <= minutes(10) for span in late)
        assert len(set(late)) > 40
        assert [e.at for e in events] == [e.data["due_at"] for e in events]
        schedule = world.schedules.load(schedule_id)
        for event in events:
            nominal = parse_time(event.data["nominal"])
            assert format_time(schedule.due_at(nominal)) == event.data["due_at"]

    play(tmp_path, story)


@pytest.mark.parametrize("catch_up", [*CatchUp])
def test_what_is_late_by_its_jitter_alone_is_neither_missed_nor_caught_up(
    tmp_path: Path, catch_up: CatchUp
) -> None:
    terms: dict[str, Any] = {"catch_up_window_ms": 1_000, "jitter_ms": 3_000_000}

    async def story(world: World, timers: SimulatedTimers) -> None:
        schedule_id = await world.schedule(HOURLY, catch_up=catch_up, **terms)
        await timers.advance(timedelta(days=2))
        assert len(world.fired(schedule_id)) >= 47
        assert world.events("schedule.missed") == []
        fired = world.events("schedule.fired")
        assert {(e.data["catch_up"], e.data["late_ms"]) for e in fired} == {(False, 0)}

    play(tmp_path, story)


OTHER_SPELLING = {"rule": {"cron": "0 0-23/1 * * *"}}


async def until_in_jitter(world: World, timers: SimulatedTimers, schedule_id: str) -> datetime:
    """Advance to between a time and its due time, over a minute from both. Returns the time."""
    schedule = world.schedules.load(schedule_id)
    nominal = START + minutes(60)
    while not minutes(5) < schedule.due_at(nominal) - nominal < minutes(50):
        nominal += minutes(60)
    await timers.advance(nominal + minutes(2) - timers.now)
    assert world.fired(schedule_id)[-1:] != [format_time(nominal)]
    return nominal


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(
    "terms", [OTHER_SPELLING, {"timezone": "Europe/Berlin"}, {"catch_up": CatchUp.ALL}]
)
def test_a_change_within_the_jitter_loses_no_time_that_the_new_rule_has_too(
    tmp_path: Path, terms: dict[str, Any], restart: bool
) -> None:
    made: list[Any] = []

    async def story(world: World, timers: SimulatedTimers) -> None:
        schedule_id = await world.schedule(HOURLY, jitter_ms=3_540_000)
        nominal = await until_in_jitter(world, timers, schedule_id)
        await world.schedules.change(schedule_id, terms, SYSTEM)
        await world.followed()
        made.extend([schedule_id, nominal, timers.now])
        if not restart:
            await after(world, timers)

    async def after(world: World, timers: SimulatedTimers) -> None:
        schedule_id, nominal, _ = made
        await timers.advance(minutes(60))
        assert format_time(nominal) in world.fired(schedule_id)
        assert len(set(world.fired(schedule_id))) == len(world.fired(schedule_id))
        assert world.events("schedule.missed") == []

    play(tmp_path, story)
    if restart:
        play(tmp_path, after, made[2])


def test_a_change_within_the_jitter_to_another_rule_says_what_is_not_fired(tmp_path: Path) -> None:
    async def story(world: World, timers: SimulatedTimers) -> None:
        schedule_id = await world.schedule(HOURLY, jitter_ms=3_540_000)
        nominal = await until_in_jitter(world, timers, schedule_id)
        await world.schedules.change(schedule_id, {"rule": {"cron": "30 * * * *"}}, SYSTEM)
        await world.followed()
        await timers.advance(minutes(120))
        [missed] = world.events("schedule.missed")
        assert (missed.data["nominal"], missed.data["reason"]) == (format_time(nominal), "changed")
        fired = world.fired(schedule_id)
        assert format_time(nominal) not in fired
        assert format_time(nominal + minutes(30)) in fired
        row = await world.row(schedule_id)
        assert row["missed"] == 1

    play(tmp_path, story)


@pytest.mark.parametrize("jitter_s", [0, 30, 120, 3_590])
@pytest.mark.parametrize("catch_up", [*CatchUp])
def test_a_time_is_on_time_if_its_jitter_changes_before_it_is_due(
    tmp_path: Path, catch_up: CatchUp, jitter_s: int
) -> None:
    async def story(world: World, timers: SimulatedTimers) -> None:
        schedule_id = await world.schedule(HOURLY, jitter_ms=3_540_000, catch_up=catch_up)
        nominal = await until_in_jitter(world, timers, schedule_id)
        for jitter_ms in (jitter_s * 1000, jitter_s * 1000 + 1_000):
            await world.schedules.change(schedule_id, {"jitter_ms": jitter_ms}, SYSTEM)
        await world.followed()
        await timers.advance(minutes(70))
        found = [
            event.data
            for event in world.events("schedule.fired")
            if event.data["nominal"] == format_time(nominal)
        ]
        assert [(data["catch_up"], data["late_ms"]) for data in found] == [(False, 0)]
        assert world.events("schedule.missed") == []

    play(tmp_path, story)


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("catch_up", [*CatchUp])
def test_a_change_within_the_jitter_to_a_rule_with_more_times_fires_the_time_that_both_have(
    tmp_path: Path, catch_up: CatchUp, restart: bool
) -> None:
    made: list[Any] = []

    async def story(world: World, timers: SimulatedTimers) -> None:
        schedule_id = await world.schedule(HOURLY, jitter_ms=3_540_000, catch_up=catch_up)
        nominal = await until_in_jitter(world, timers, schedule_id)
        await world.schedules.change(schedule_id, {"rule": {"cron": "* * * * *"}}, SYSTEM)
        await world.schedules.change(schedule_id, {"name": "another"}, SYSTEM)
        await world.followed()
        made.extend([schedule_id, nominal, timers.now])
        if not restart:
            await after(world, timers)

    async def after(world: World, timers: SimulatedTimers) -> None:
        schedule_id, nominal, changed = made
        await timers.advance(minutes(5))
        fired = [at for at in world.fired(schedule_id) if at >= format_time(nominal)]
        expected = [nominal, *(changed + minutes(n) for n in range(1, 5))]
        assert fired[:5] == [format_time(moment) for moment in expected]
        assert world.events("schedule.missed") == []
        assert {event.data["late_ms"] for event in world.events("schedule.fired")} == {0}

    play(tmp_path, story)
    if restart:
        play(tmp_path, after, made[2])


@pytest.mark.parametrize(
    "terms",
    [
        {"name": "another"},
        {"overlap": Overlap.SKIP},
        {"catch_up": CatchUp.NONE},
        {"max_firings": 5},
        {"inputs": {"repo": "x"}},
        {"jitter_ms": 3_000_000},
        {"rule": {"once": "2026-01-01T01:00:00Z"}},
        {"timezone": "Europe/Berlin"},
    ],
)
def test_a_schedule_whose_last_time_is_in_its_jitter_can_be_changed(
    tmp_path: Path, terms: dict[str, Any]
) -> None:
    async def story(world: World, timers: SimulatedTimers) -> None:
        nominal = START + minutes(60)
        rule = {"once": "2026-01-01T01:00Z"}
        while True:
            schedule_id = await world.schedule(rule, jitter_ms=3_540_000)
            if world.schedules.load(schedule_id).due_at(nominal) > nominal + minutes(5):
                break
        await timers.advance(minutes(62))
        await world.schedules.change(schedule_id, terms, SYSTEM)
        await world.followed()
        ends = {"ends_at": format_time(nominal - minutes(1))}
        with pytest.raises(BadInput, match="no next time"):
            await world.schedules.change(schedule_id, ends, SYSTEM)
        await timers.advance(minutes(60))
        assert world.fired(schedule_id) == [format_time(nominal)]
        assert (await world.row(schedule_id))["state"] == "ended"

    play(tmp_path, story)


async def in_jitter(world: World, timers: SimulatedTimers, rule: dict[str, Any]) -> str:
    """A schedule whose first time has come and is not due for some minutes."""
    nominal = START + minutes(60)
    while True:
        schedule_id = await world.schedule(rule, jitter_ms=3_540_000, catch_up="none")
        if minutes(10) < world.schedules.load(schedule_id).due_at(nominal) - nominal < minutes(50):
            await timers.advance(minutes(62))
            return schedule_id
        await world.schedules.execute(schedule_id, Schedule.delete, SYSTEM)


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("rule", [HOURLY, {"once": "2026-01-01T01:00"}])
def test_a_time_that_waits_for_its_jitter_is_fired_after_disable_and_enable(
    tmp_path: Path, rule: dict[str, Any], restart: bool
) -> None:
    made: list[str] = []

    async def story(world: World, timers: SimulatedTimers) -> None:
        made.append(await in_jitter(world, timers, rule))
        await world.schedules.disable(made[0], SYSTEM)
        await world.followed()
        await timers.advance(minutes(2))
        await world.schedules.enable(made[0], 0, SYSTEM)
        await world.followed()
        if not restart:
            await after(world, timers)

    async def after(world: World, timers: SimulatedTimers) -> None:
        nominal = START + minutes(60)
        await timers.advance(minutes(50))
        assert world.fired(made[0]) == [format_time(nominal)]
        [event] = world.events("schedule.fired")
        assert event.at == format_time(world.schedules.load(made[0]).due_at(nominal))
        assert world.events("schedule.missed") == []

    play(tmp_path, story)
    if restart:
        play(tmp_path, after, START + minutes(64))


@pytest.mark.parametrize("rule", [HOURLY, {"once": "2026-01-01T01:00"}])
def test_a_time_that_waited_for_its_jitter_and_was_due_while_disabled_is_missed(
    tmp_path: Path, rule: dict[str, Any]
) -> None:
    async def story(world: World, timers: SimulatedTimers) -> None:
        schedule_id = await in_jitter(world, timers, rule)
        await world.schedules.disable(schedule_id, SYSTEM)
        await timers.advance(minutes(180))
        await world.schedules.enable(schedule_id, 0, SYSTEM)
        await world.followed()
        await now_due(world, timers)
        [missed] = world.events("schedule.missed")
        assert missed.data["nominal"] == format_time(START + minutes(60))
        assert missed.data["reason"] == "disabled"
        state = (await world.row(schedule_id))["state"]
        assert state == ("active" if rule == HOURLY else "ended")
        await timers.advance(minutes(180))
        assert format_time(START + minutes(60)) not in world.fired(schedule_id)
        assert len(world.events("schedule.missed")) == 1

    play(tmp_path, story)


@pytest.mark.parametrize("rule", [MINUTELY, HOURLY, DAILY])
@pytest.mark.parametrize("catch_up", [*CatchUp])
def test_a_clock_that_was_ahead_for_a_moment_costs_no_real_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rule: dict[str, Any], catch_up: CatchUp
) -> None:
    """The server starts two days ahead, then again with the right clock. From then on each real
    time fires, unless it was fired already.
    """
    made: list[str] = []
    week_ms = 7 * 86_400_000

    async def first(world: World, timers: SimulatedTimers) -> None:
        made.append(await world.schedule(rule, catch_up=catch_up, catch_up_window_ms=week_ms))

    async def ahead(world: World, timers: SimulatedTimers) -> None:
        await timers.advance(timedelta(0))
        await world.followed()

    async def right(world: World, timers: SimulatedTimers) -> None:
        begun = timers.now
        await timers.advance(timedelta(days=3))
        fired = world.fired(made[0])
        schedule = world.schedules.load(made[0])
        expected = schedule.parsed.between(begun, timers.now, 10_000)
        assert set(map(format_time, expected)) <= set(fired)
        assert len(set(fired)) == len(fired)
        assert timers.keys == {schedule.stream}

    play(tmp_path, first)
    play(tmp_path, ahead, START + timedelta(days=2, seconds=30))
    play(tmp_path, right, START + timedelta(seconds=30))
    if rule != DAILY or catch_up is not CatchUp.NONE:
        assert "The clock was ahead" in caplog.text


AHEAD = timedelta(days=2)


async def now_due(world: World, timers: SimulatedTimers) -> None:
    """Run what is due at the start, and no time passes."""
    await timers.advance(timedelta(0))
    await world.followed()


def test_after_a_clock_was_ahead_every_start_catches_up_what_came_meanwhile(tmp_path: Path) -> None:
    made: list[str] = []

    async def first(world: World, timers: SimulatedTimers) -> None:
        made.append(await world.schedule(MINUTELY))
        await timers.advance(minutes(1))

    async def right(world: World, timers: SimulatedTimers) -> None:
        made.append(await world.schedule(MINUTELY))
        await timers.advance(minutes(3))

    async def again(world: World, timers: SimulatedTimers) -> None:
        await now_due(world, timers)
        for schedule_id in made:
            fired = [at for at in world.fired(schedule_id) if at < format_time(START + AHEAD)]
            missed = [
                event.data["nominal"]
                for event in world.events("schedule.missed")
                if event.subject == f"schedule-{schedule_id}"
                and event.at == format_time(timers.now)
            ]
            assert fired[-4:] == [format_time(START + minutes(n)) for n in (6, 7, 8, 18)]
            assert missed == [format_time(START + minutes(n)) for n in range(9, 18)]

    play(tmp_path, first)
    play(tmp_path, now_due, START + AHEAD)
    play(tmp_path, right, START + minutes(5))
    play(tmp_path, again, START + minutes(18))


@pytest.mark.parametrize(
    "rule", [{"once": "2026-01-01T12:16"}, {"cron": "16 * * * *"}, {"cron": "16 12 * * *"}]
)
def test_a_time_that_was_missed_too_early_is_fired_after_a_start_in_its_last_minute(
    tmp_path: Path, rule: dict[str, Any]
) -> None:
    nominal = START + minutes(736)
    made: list[str] = []

    async def first(world: World, timers: SimulatedTimers) -> None:
        made.append(await world.schedule(rule, catch_up="none"))

    async def ahead(world: World, timers: SimulatedTimers) -> None:
        await now_due(world, timers)
        missed = [event.data["nominal"] for event in world.events("schedule.missed")]
        assert missed == [format_time(nominal)]

    async def right(world: World, timers: SimulatedTimers) -> None:
        await now_due(world, timers)
        shown = schedule_json(await world.row(made[0]), timers.now)
        assert (shown["state"], shown["nextRunAt"]) == ("active", format_time(nominal))

    async def at_its_time(world: World, timers: SimulatedTimers) -> None:
        await right(world, timers)
        await timers.advance(minutes(2))
        assert world.fired(made[0]) == [format_time(nominal)]
        [event] = world.events("schedule.fired")
        assert (event.at, event.data["late_ms"]) == (format_time(nominal), 0)

    play(tmp_path, first, nominal - minutes(10))
    play(tmp_path, ahead, nominal + minutes(10))
    play(tmp_path, right, nominal - minutes(8))
    for seconds in (59, 30, 0.005):
        play(tmp_path, right, nominal - timedelta(seconds=seconds))
    play(tmp_path, at_its_time, nominal - timedelta(seconds=30))


@pytest.mark.parametrize("behind", [timedelta(milliseconds=5), timedelta(seconds=40), GRACE])
def test_a_small_difference_of_clocks_fires_no_time_twice(
    tmp_path: Path, behind: timedelta
) -> None:
    made: list[str] = []

    async def first(world: World, timers: SimulatedTimers) -> None:
        made.append(await world.schedule(HOURLY))
        made.append(await world.schedule({"once": "2026-01-01T02:00"}))
        await timers.advance(minutes(120))
        assert [len(world.fired(schedule_id)) for schedule_id in made] == [2, 1]

    async def again(world: World, timers: SimulatedTimers) -> None:
        shown = schedule_json(await world.row(made[0]), timers.now)
        assert shown["nextRunAt"] == format_time(START + minutes(180))
        await timers.advance(minutes(62))
        assert [len(world.fired(schedule_id)) for schedule_id in made] == [3, 1]
        assert len(set(world.fired(made[0]))) == 3
        assert world.events("schedule.missed", "schedule.enabled") == []

    play(tmp_path, first)
    play(tmp_path, again, START + minutes(120) - behind)


@pytest.mark.parametrize("catch_up", [*CatchUp])
def test_a_time_that_waits_for_its_jitter_is_fired_after_a_clock_was_ahead(
    tmp_path: Path, catch_up: CatchUp
) -> None:
    made: list[Any] = []

    async def first(world: World, timers: SimulatedTimers) -> None:
        schedule_id = await world.schedule(HOURLY, jitter_ms=3_540_000, catch_up=catch_up)
        nominal = await until_in_jitter(world, timers, schedule_id)
        made.extend([schedule_id, nominal, timers.now])

    async def right(world: World, timers: SimulatedTimers) -> None:
        schedule_id, nominal, _ = made
        await timers.advance(minutes(60))
        [event] = [
            event
            for event in world.events("schedule.fired")
            if event.data["nominal"] == format_time(nominal)
        ]
        assert event.at == format_time(world.schedules.load(schedule_id).due_at(nominal))

    play(tmp_path, first)
    play(tmp_path, now_due, made[2] + AHEAD)
    play(tmp_path, right, made[2])


def test_what_passed_while_it_was_disabled_is_not_caught_up_after_a_clock_was_ahead(
    tmp_path: Path,
) -> None:
    made: list[str] = []

    async def first(world: World, timers: SimulatedTimers) -> None:
        made.append(await world.schedule(HOURLY))

    async def right(world: World, timers: SimulatedTimers) -> None:
        [schedule_id] = made
        await timers.advance(minutes(60))
        await world.schedules.execute(schedule_id, Schedule.disable, SYSTEM)
        await timers.advance(minutes(210))
        await world.schedules.enable(schedule_id, 2, SYSTEM)
        await world.followed()
        await timers.advance(minutes(30))
        fired = [format_time(START + minutes(n)) for n in (60, 300)]
        assert world.fired(schedule_id)[1:] == fired
        assert all(
            event.at >= format_time(START + AHEAD) for event in world.events("schedule.missed")
        )

    play(tmp_path, first)
    play(tmp_path, now_due, START + AHEAD)
    play(tmp_path, right)


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize(
    ("rule", "within"),
    [
        ({"rrule": "FREQ=MINUTELY"}, minutes(1)),
        ({"rrule": "FREQ=HOURLY;INTERVAL=5"}, minutes(300)),
        ({"rrule": "FREQ=DAILY"}, minutes(1_440)),
        ({"rrule": "FREQ=WEEKLY;BYDAY=TH,FR"}, minutes(2_880)),
        ({"cadence": "hourly", "everyHours": 7}, minutes(420)),
        ({"cron": "* * * * *"}, minutes(1)),
    ],
)
def test_a_rule_that_was_made_while_the_clock_was_ahead_fires_at_the_next_real_time(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    rule: dict[str, Any],
    within: timedelta,
    changed: bool,
) -> None:
    made: list[str] = []

    async def first(world: World, timers: SimulatedTimers) -> None:
        if changed:
            made.append(await world.schedule({"cron": "0 0 1 1 *"}))

    async def ahead(world: World, timers: SimulatedTimers) -> None:
        if changed:
            await world.schedules.change(made[0], checked_terms({"rule": rule}), SYSTEM)
        else:
            made.append(await world.schedule(rule))

    async def right(world: World, timers: SimulatedTimers) -> None:
        assert world.fired(made[0]) == []
        shown = schedule_json(await world.row(made[0]), timers.now)
        await timers.advance(within)
        fired = world.fired(made[0])
        assert fired[0] == shown["nextRunAt"]
        assert START < parse_time(fired[0]) <= START + within
        await timers.advance(timedelta(days=3) - within)
        expected = world.schedules.load(made[0]).parsed.between(START, timers.now, 10_000)
        assert world.fired(made[0]) == list(map(format_time, expected))

    play(tmp_path, first)
    play(tmp_path, ahead, START + timedelta(days=2, minutes=7))
    play(tmp_path, right)
    assert "The clock was ahead" in caplog.text


@pytest.mark.parametrize(
    ("rule", "terms"),
    [
        (HOURLY, {"ends_at": "2026-01-02T00:30:00Z"}),
        ({"rrule": "FREQ=HOURLY;BYMINUTE=0;UNTIL=20260102T003000Z"}, {}),
        ({"rrule": "DTSTART:20260101T000000 FREQ=HOURLY;COUNT=25"}, {}),
    ],
)
def test_a_schedule_that_a_clock_ended_too_early_goes_on_until_its_real_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rule: dict[str, Any], terms: dict[str, Any]
) -> None:
    made: list[str] = []

    async def first(world: World, timers: SimulatedTimers) -> None:
        made.append(await world.schedule(rule, **terms))

    async def ahead(world: World, timers: SimulatedTimers) -> None:
        await now_due(world, timers)
        assert (await world.row(made[0]))["state"] == "ended"

    async def right(world: World, timers: SimulatedTimers) -> None:
        assert (await world.row(made[0]))["state"] == "active"
        await timers.advance(timedelta(days=2))
        expected = [format_time(START + minutes(60 * n)) for n in range(1, 25)]
        assert sorted(world.fired(made[0])) == expected
        assert (await world.row(made[0]))["state"] == "ended"

    async def later(world: World, timers: SimulatedTimers) -> None:
        await now_due(world, timers)
        assert len(world.events("schedule.enabled")) == 1

    play(tmp_path, first)
    play(tmp_path, ahead, START + AHEAD)
    play(tmp_path, right)
    play(tmp_path, later, START + AHEAD)
    assert "The clock was ahead when it ended" in caplog.text


@pytest.mark.parametrize(
    ("rule", "terms"), [({"once": "2026-01-02T00:00"}, {}), (HOURLY, {"max_firings": 1})]
)
def test_what_a_clock_that_was_ahead_fired_for_the_last_time_stays_ended(
    tmp_path: Path, rule: dict[str, Any], terms: dict[str, Any]
) -> None:
    made: list[str] = []

    async def first(world: World, timers: SimulatedTimers) -> None:
        made.append(await world.schedule(rule, **terms))

    async def right(world: World, timers: SimulatedTimers) -> None:
        await timers.advance(timedelta(days=3))
        assert (await world.row(made[0]))["state"] == "ended"
        assert len(world.fired(made[0])) == 1
        assert world.events("schedule.enabled") == []

    play(tmp_path, first)
    play(tmp_path, now_due, START + AHEAD)
    play(tmp_path, right)


def test_a_clock_that_is_set_back_while_the_server_runs_is_noticed(tmp_path: Path) -> None:
    async def playing() -> None:
        world, timers = simulated(tmp_path, START + timedelta(days=2))
        world.firing = ScheduleClock(world.log, world.views, timers, timers.clock, look_s=0.001)
        async with world.running(spawn=False):
            schedule_id = await world.schedule(HOURLY)
            await timers.advance(minutes(60))
            assert len(world.fired(schedule_id)) == 1
            timers.now = START
            at = START + minutes(60)
            await soon(lambda: timers.due(f"schedule-{schedule_id}") == at, look_s=0.001)
            await timers.advance(minutes(120))
            fired = [format_time(START + minutes(n)) for n in (60, 120)]
            assert world.fired(schedule_id)[1:] == fired

    asyncio.run(playing())


def test_jitter_never_reaches_the_next_time() -> None:
    schedule = Schedule("s", rule=MINUTELY, jitter_ms=3_600_000, rule_at=format_time(START))
    for n in range(200):
        nominal = START + minutes(n)
        assert nominal <= schedule.due_at(nominal) < nominal + minutes(1)


def test_nothing_is_fired_after_the_end_date(tmp_path: Path) -> None:
    async def story(world: World, timers: SimulatedTimers) -> None:
        ends = format_time(START + minutes(180))
        schedule_id = await world.schedule(HOURLY, ends_at=ends)
        await timers.advance(timedelta(days=1))
        assert len(world.fired(schedule_id)) == 3
        row = await world.row(schedule_id)
        assert (row["state"], row["state_reason"]) == ("ended", "end_date")

    play(tmp_path, story)


def test_it_fires_no_oftener_than_it_may(tmp_path: Path) -> None:
    async def story(world: World, timers: SimulatedTimers) -> None:
        schedule_id = await world.schedule(HOURLY, max_firings=2)
        await timers.advance(timedelta(days=1))
        assert len(world.fired(schedule_id)) == 2
        row = await world.row(schedule_id)
        assert (row["state"], row["state_reason"]) == ("ended", "max_firings")
        with pytest.raises(WrongState, match="as often as it may"):
            await world.schedules.enable(schedule_id, row["firings"], SYSTEM)

    play(tmp_path, story)


def test_catching_up_counts_against_the_most_firings(tmp_path: Path) -> None:
    fired, _ = down(tmp_path, HOURLY, minutes(600), catch_up="all", max_firings=3)
    assert [time for time, _ in fired] == ["01:00", "02:00", "03:00"]


def test_a_disabled_schedule_does_not_fire_and_misses_nothing(tmp_path: Path) -> None:
    async def story(world: World, timers: SimulatedTimers) -> None:
        schedule_id = await world.schedule(HOURLY)
        await world.schedules.execute(schedule_id, Schedule.disable, SYSTEM)
        await world.followed()
        assert timers.keys == set()
        await timers.advance(minutes(150))
        changed: ChangedSchedule = await world.schedules.enable(schedule_id, 0, SYSTEM)
        assert changed.schedule.active
        await world.followed()
        await timers.advance(minutes(60))
        assert world.fired(schedule_id) == [format_time(START + minutes(180))]
        assert world.events("schedule.missed") == []

    play(tmp_path, story)


def test_another_rule_counts_from_when_it_was_given(tmp_path: Path) -> None:
    async def story(world: World, timers: SimulatedTimers) -> None:
        schedule_id = await world.schedule(DAILY)
        await timers.advance(minutes(30))
        await world.schedules.change(schedule_id, {"rule": HOURLY}, SYSTEM)
        await world.followed()
        await timers.advance(minutes(90))
        times = [format_time(START + minutes(60)), format_time(START + minutes(120))]
        assert world.fired(schedule_id) == times

    play(tmp_path, story)


def test_a_deleted_schedule_is_forgotten(tmp_path: Path) -> None:
    async def story(world: World, timers: SimulatedTimers) -> None:
        schedule_id = await world.schedule(HOURLY)
        await world.schedules.execute(schedule_id, Schedule.delete, SYSTEM)
        await world.followed()
        await timers.advance(minutes(150))
        assert world.fired(schedule_id) == []
        assert timers.keys == set()

    play(tmp_path, story)


async def foreign(world: World, schedule_id: str, rule: dict[str, Any] | None = None) -> None:
    """A schedule in a zone that only another machine knows, or with an old rule."""
    made = ScheduleCreated(
        name="from afar",
        template="one",
        inputs={},
        rule=HOURLY if rule is None else rule,
        timezone="Crew/Base" if rule is None else "UTC",
        owner="user:ann",
        enabled=True,
        catch_up=CatchUp.LATEST,
        catch_up_window_ms=0,
        overlap=Overlap.ALLOW,
        jitter_ms=0,
        ends_at=None,
        max_firings=None,
    )
    stream = schedule_stream(schedule_id)
    await world.log.append(new_events(stream, [made], SYSTEM, world.clock), {stream: 0})


@pytest.mark.parametrize("rule", [None, {"rrule": "FREQ=MONTHLY;BYMONTHDAY=0"}])
@pytest.mark.parametrize("known", ["at the start", "later"])
def test_a_rule_that_cannot_be_read_here_pauses_its_schedule_and_no_other(
    tmp_path: Path, known: str, rule: dict[str, Any] | None
) -> None:
    async def playing() -> None:
        world, timers = simulated(tmp_path)
        if known == "at the start":
            await foreign(world, "afar", rule)
        async with world.running(spawn=False):
            if known == "later":
                await foreign(world, "afar", rule)
            good = await world.schedule(HOURLY)
            await timers.advance(minutes(60))
            await world.followed()
            await timers.advance(minutes(60))
            assert len(world.fired(good)) == 2
            assert world.fired("afar") == []
            row = await world.row("afar")
            assert row["state"] == "paused"
            path = "timezone" if rule is None else "rule.rrule"
            assert f"cannot read its rule: {path}" in row["state_reason"]
            assert len(world.events("schedule.paused")) == 1
            with pytest.raises(BadInput, match=path):
                await world.schedules.enable("afar", 0, SYSTEM)

    asyncio.run(playing())


def test_what_another_clock_has_fired_is_not_fired_again(tmp_path: Path) -> None:
    async def story(world: World, timers: SimulatedTimers) -> None:
        schedule_id = await world.schedule(HOURLY)
        nominal = START + minutes(60)
        first = fired(format_time(nominal))
        stream = firing_stream(schedule_id, nominal)
        await world.log.append(new_events(stream, [first], SYSTEM, timers.clock), {stream: 0})
        await timers.advance(minutes(60))
        await world.followed()
        await timers.advance(minutes(60))
        expected = [format_time(START + minutes(60)), format_time(START + minutes(120))]
        assert world.fired(schedule_id) == expected

    play(tmp_path, story)


def test_two_clocks_on_one_log_fire_each_time_once(tmp_path: Path) -> None:
    async def story(world: World, timers: SimulatedTimers) -> None:
        others = SimulatedTimers(START)
        second = ScheduleClock(world.log, world.views, others, timers.clock)
        other = asyncio.create_task(second.run())
        for _ in range(3):
            await world.schedule(MINUTELY)
        async with asyncio.timeout(20):
            for _ in range(60):
                while min(at.follower.position for at in (second, world.firing)) < world.log.head:
                    await asyncio.sleep(0.001)
                await asyncio.gather(timers.advance(minutes(1)), others.advance(minutes(1)))
        other.cancel()
        fired = world.events("schedule.fired")
        times = Counter((event.subject, event.data["nominal"]) for event in fired)
        assert set(times.values()) == {1}
        assert len(times) >= 3 * 59

    play(tmp_path, story)


def test_many_at_the_same_instant_are_all_fired(tmp_path: Path) -> None:
    async def story(world: World, timers: SimulatedTimers) -> None:
        for _ in range(300):
            await world.schedules.create(
                {"name": "n", "template": "one", "rule": HOURLY}, "user:ann", SYSTEM
            )
        await world.followed()
        await timers.advance(minutes(60))
        assert len(world.events("schedule.fired")) == 300

    play(tmp_path, story)


def test_times_are_those_of_the_time_zone(tmp_path: Path) -> None:
    async def story(world: World, timers: SimulatedTimers) -> None:
        schedule_id = await world.schedule(DAILY, timezone="Asia/Kolkata")
        await timers.advance(timedelta(days=1))
        assert world.fired(schedule_id) == [format_time(datetime(2026, 1, 1, 3, 30, tzinfo=UTC))]

    play(tmp_path, story)
