"""The promises of timers on APScheduler."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from domain.clock import system_clock
from scheduler.policies.timers import ApsTimers, Timers

SOON = timedelta(milliseconds=20)


def timed(story: Any) -> None:
    async def playing() -> None:
        timers = ApsTimers()
        timers.start()
        try:
            async with asyncio.timeout(10):
                await story(timers)
        finally:
            timers.stop()
            await asyncio.sleep(0)

    asyncio.run(playing())


def test_each_is_done_once_at_its_time_and_in_order() -> None:
    async def story(timers: Timers) -> None:
        done: list[tuple[int, bool]] = []
        finished = asyncio.Event()
        begin = system_clock()

        def note(number: int) -> Any:
            async def action() -> None:
                done.append((number, system_clock() >= begin + number * SOON))
                if len(done) == 5:
                    finished.set()

            return action

        for number in (5, 3, 1, 4, 2):
            timers.at(str(number), begin + number * SOON, note(number))
        await finished.wait()
        assert done == [(number, True) for number in range(1, 6)]

    timed(story)


def test_a_time_that_has_passed_is_now_and_set_before_the_start_counts() -> None:
    async def playing() -> None:
        timers = ApsTimers()
        finished = asyncio.Event()

        async def action() -> None:
            finished.set()

        timers.at("old", datetime(2000, 1, 1, tzinfo=UTC), action)
        timers.start()
        async with asyncio.timeout(10):
            await finished.wait()
        timers.stop()
        await asyncio.sleep(0)

    asyncio.run(playing())


def test_replaced_and_cancelled_ones_are_not_done() -> None:
    async def story(timers: Timers) -> None:
        done: list[str] = []
        finished = asyncio.Event()

        def note(name: str) -> Any:
            async def action() -> None:
                done.append(name)
                if name == "last":
                    finished.set()

            return action

        now = system_clock()
        timers.at("a", now + SOON, note("replaced"))
        timers.at("a", now + 2 * SOON, note("second"))
        timers.at("b", now + SOON, note("cancelled"))
        timers.cancel("b")
        timers.at("c", now + 3 * SOON, note("last"))
        await finished.wait()
        assert done == ["second", "last"]

    timed(story)


def test_an_action_may_set_its_own_timer_again_and_fail_without_harm(caplog: Any) -> None:
    async def story(timers: Timers) -> None:
        count = 0
        finished = asyncio.Event()

        async def again() -> None:
            nonlocal count
            count += 1
            timers.at("again", system_clock(), again)
            if count == 20:
                finished.set()
            if count % 5 == 0:
                raise ZeroDivisionError("on purpose")

        timers.at("again", system_clock(), again)
        await finished.wait()

    timed(story)
    assert "the timer again failed" in caplog.text


def test_many_that_are_due_at_once_leave_the_loop_to_others() -> None:
    async def story(timers: Timers) -> None:
        done = 0
        seen: set[int] = set()

        async def action() -> None:
            nonlocal done
            done += 1

        when = system_clock() + SOON
        for number in range(2_000):
            timers.at(str(number), when, action)
        while done < 2_000:
            seen.add(done)
            await asyncio.sleep(0)
        # Meanwhile, other tasks ran many times.
        assert len(seen) > 10

    timed(story)


def test_a_wall_clock_that_jumps_ahead_is_seen() -> None:
    async def playing() -> None:
        jump = timedelta(0)
        timers = ApsTimers(lambda: system_clock() + jump, ahead=SOON)
        timers.start()
        finished = asyncio.Event()

        async def action() -> None:
            finished.set()

        timers.at("far", system_clock() + timedelta(hours=5), action)
        jump = timedelta(hours=6)
        async with asyncio.timeout(10):
            await finished.wait()
        timers.stop()
        await asyncio.sleep(0)

    asyncio.run(playing())
