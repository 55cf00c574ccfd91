"""A process that fires schedules until it is killed: ``python -m tests.scheduler.schedule_process
DIRECTORY ORIGIN``. Its minutes last 0.3 s, counted from the real time `ORIGIN` on.
"""

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from domain.clock import system_clock
from scheduler.policies.timers import Action, ApsTimers
from tests.scheduler.schedule_world import START, World

SPEED = 200


class FastTimers:
    """The real timers, on a faster clock."""

    def __init__(self, origin: datetime) -> None:
        self._origin = origin
        self._timers = ApsTimers()

    def clock(self) -> datetime:
        return START + (system_clock() - self._origin) * SPEED

    def at(self, key: str, when: datetime, action: Action) -> None:
        self._timers.at(key, self._origin + (when - START) / SPEED, action)

    def cancel(self, key: str) -> None:
        self._timers.cancel(key)

    def start(self) -> None:
        self._timers.start()

    def stop(self) -> None:
        self._timers.stop()


async def main(directory: Path, origin: datetime) -> None:
    timers = FastTimers(origin)
    world = World(directory, timers, timers.clock)
    async with world.running():
        timers.start()
        if world.log.head == 0:
            day_ms = timedelta(days=1) // timedelta(milliseconds=1)
            await world.schedule({"cron": "* * * * *"}, catch_up="all", catch_up_window_ms=day_ms)
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    origin = datetime.fromtimestamp(float(sys.argv[2]), UTC)
    asyncio.run(main(Path(sys.argv[1]), origin))
