"""A process that sends deliveries until it is killed: ``python -m tests.scheduler.delivery_process
DIRECTORY URL``.
"""

import asyncio
import sys
from pathlib import Path

from scheduler.deliveries.webhook import Hook
from tests.scheduler.delivery_world import World


async def main(directory: Path, url: str) -> None:
    async with World(directory, {"ops": Hook(url)}).running() as world:
        if world.log.head == 0:
            await world.comment()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
