"""kill -9 at and around due seconds: every time is fired once, and makes one crew."""

import asyncio
import random
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

from domain.clock import parse_time
from tests.scheduler.schedule_world import World, simulated

_KILLS = 5


def killed(directory: Path, origin: float, after_s: float) -> None:
    """Kill the process after it has been ready for this long."""
    command = [sys.executable, "-m", "tests.scheduler.schedule_process"]
    process = subprocess.Popen(
        [*command, str(directory), str(origin)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        # Not a wait for an effect: the test varies the moment of the kill.
        time.sleep(after_s)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def settled(world: World) -> None:
    async with world.running():
        await world.settled()
        streams = world.firings()
        nominals = [parse_time(events[0].data["nominal"]) for events in streams.values()]
        assert len(nominals) > _KILLS
        # Without a gap, without a repeat, and in order.
        minute = timedelta(minutes=1)
        assert nominals == [nominals[0] + minute * n for n in range(len(nominals))]
        for events in streams.values():
            assert [event.type for event in events] == ["schedule.fired", "schedule.spawned"]
        assert world.events("schedule.missed") == []
        crews = [event.data["nominal"] for event in world.events("crew.committed")]
        assert [parse_time(nominal) for nominal in crews] == nominals
        assert len(world.events("job.submitted")) == len(nominals)


def test_what_was_fired_and_not_spawned_when_the_server_died_is_spawned_once(
    tmp_path: Path,
) -> None:
    async def fired() -> None:
        world, timers = simulated(tmp_path)
        async with world.running(spawn=False):
            await world.schedule({"cadence": "hourly"})
            await timers.advance(timedelta(hours=3))

    async def after() -> None:
        world, _ = simulated(tmp_path)
        async with world.running():
            await world.settled()
            assert len(world.firings()) == 3
            for events in world.firings().values():
                assert [event.type for event in events] == ["schedule.fired", "schedule.spawned"]
            assert len(world.events("crew.committed")) == 3

    asyncio.run(fired())
    asyncio.run(after())


def test_kill_9_around_due_seconds_fires_exactly_once(tmp_path: Path) -> None:
    origin = time.time()
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    dice = random.Random(seed)
    for _ in range(_KILLS):
        killed(tmp_path, origin, dice.uniform(0.0, 0.5))
    world, _ = simulated(tmp_path)
    asyncio.run(settled(world))
