"""The server's reports on itself: a dispatcher that starts nothing does not count as running, and a
server with a failed part does not count as ready.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import httpx2
import pytest

from api.app import create_app, edge
from api.parts import Parts, build
from api.settings import Settings
from domain.clock import system_clock
from scheduler.executors import local
from scheduler.policies.clock import ScheduleClock
from tests.kit.waiting import soon

TOKEN = "a-token-of-some-length"
DEADLINE_S = 90.0


@dataclass
class Clock:
    """The real time, plus a lead that the test sets."""

    ahead: timedelta = field(default=timedelta())

    def __call__(self) -> datetime:
        return system_clock() + self.ahead


@asynccontextmanager
async def serving(data: Path, clock: Clock) -> AsyncIterator[tuple[Parts, httpx2.AsyncClient]]:
    """The whole application in this process."""
    parts = build(Settings(data=data, token=TOKEN, stop_jobs=True), clock=clock)
    app = create_app(parts)
    transport = httpx2.ASGITransport(edge(app, parts), client=("127.0.0.1", 1))
    async with (
        app.lifespan(),
        httpx2.AsyncClient(
            transport=transport,
            base_url="http://localhost",
            headers={"Authorization": f"Bearer {TOKEN}"},
        ) as http,
    ):
        yield parts, http


async def works(http: httpx2.AsyncClient) -> bool:
    return bool((await http.get("/api/dispatcher/status")).json()["running"])


def test_a_dispatcher_that_has_ended_does_not_run(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = Clock()
        async with serving(tmp_path / "data", clock) as (_, http):
            await soon(lambda: works(http))
            clock.ahead += timedelta(seconds=6)
            await soon(lambda: works(http))
            [task] = [task for task in asyncio.all_tasks() if task.get_name() == "dispatcher"]
            task.cancel()
            await asyncio.wait([task])
            assert await works(http), "it is not noticed for a few seconds"
            clock.ahead += timedelta(seconds=6)
            assert not await works(http)

    asyncio.run(scenario())


def test_a_dispatcher_that_hangs_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging, on = asyncio.Event(), asyncio.Event()
    begin_cancel = local._LocalRun.cancel

    async def cancel(running: local._LocalRun) -> None:
        hanging.set()
        await on.wait()
        await begin_cancel(running)

    monkeypatch.setattr(local._LocalRun, "cancel", cancel)

    async def scenario() -> None:
        clock = Clock()
        async with serving(tmp_path / "data", clock) as (_, http):
            job: Any = (await http.post("/api/jobs", json={"argv": ["sleep", "600"]})).json()

            async def runs() -> bool:
                return bool((await http.get(f"/api/jobs/{job['id']}")).json()["state"] == "running")

            await soon(runs)
            await http.post(f"/api/jobs/{job['id']}/cancel")
            await hanging.wait()
            # It may give one more sign of life, if it gave none for this event yet.
            await asyncio.sleep(1.5)
            clock.ahead += timedelta(seconds=6)
            assert not await works(http)
            on.set()
            await soon(lambda: works(http))

    asyncio.run(scenario())


def test_a_server_of_which_a_part_has_failed_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: ScheduleClock) -> NoReturn:
        raise ZeroDivisionError

    async def scenario(expected: int) -> Any:
        async with serving(tmp_path / "data", Clock()) as (_, http):

            async def answers() -> bool:
                return (await http.get("/readyz")).status_code == expected

            await soon(answers)
            return (await http.get("/readyz")).json()

    assert asyncio.run(scenario(200))["stopped"] == []
    monkeypatch.setattr(ScheduleClock, "run", fail)
    told = asyncio.run(scenario(503))
    assert (told["status"], told["stopped"]) == ("not ready", ["schedules"])
