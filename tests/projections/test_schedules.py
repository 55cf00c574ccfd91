"""The views of schedules: the same rows for the same events, equal to the aggregate."""

import asyncio
from pathlib import Path

from domain.log import SYSTEM
from domain.schedule.aggregate import Schedule
from projections.engine import Views
from projections.schedules import schedule_of
from projections.views import PROJECTIONS
from tests.scheduler.schedule_world import minutes, simulated

NAMES = ("schedules", "firings")


def test_a_rebuild_of_a_lively_history_gives_the_same_views(tmp_path: Path) -> None:
    async def story() -> None:
        world, timers = simulated(tmp_path)
        async with world.running():
            rule = {"cadence": "hourly"}
            kept = [await world.schedule(rule, template=t) for t in ("one", "broken", "gone")]
            kept.append(await world.schedule(rule, overlap="skip", max_firings=4))
            for _ in range(7):
                await timers.advance(minutes(60))
                await world.settled()
            await world.spawner.run_now(kept[0], SYSTEM)
            await world.schedules.change(kept[0], {"rule": {"cron": "0 0 * * *"}}, SYSTEM)
            await world.schedules.execute(kept[1], Schedule.delete, SYSTEM)
            await world.schedules.execute(kept[2], Schedule.disable, SYSTEM)
            await world.views.caught_up()
            live = {s.name: s.digest for s in world.views.status()}
            again = Views(tmp_path / "again.db", world.log, PROJECTIONS)
            again.start()
            await again.caught_up(20.0)
            rebuilt = {s.name: s.digest for s in again.status()}
            again.close()
            assert {name: live[name] for name in NAMES} == {name: rebuilt[name] for name in NAMES}
            for schedule_id in (kept[0], kept[2], kept[3]):
                row = await world.row(schedule_id)
                assert schedule_of(row) == world.schedules.load(schedule_id)
            states = [(await world.row(kept[n]))["state"] for n in (0, 2, 3)]
            assert states == ["active", "disabled", "ended"]

    asyncio.run(story())
