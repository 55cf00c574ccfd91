"""The cost of a process that runs as a job, against the same process spawned directly."""

import asyncio
import os
import tempfile
import time
from pathlib import Path
from statistics import median

import orjson
import uvloop

from tests.bench.http import Connection, with_connections
from tests.bench.measure import Ratio, ratio
from tests.kit.server import Server

JOBS = 400
CAPACITY = 8
CLIENTS = 8
STARTS = 60

_UNWATCHED_S = 0.1
"""The server is asked nothing while it starts a process whose start is measured."""

_TRUE = "/bin/true"
_DATE = ["/bin/date", "+%s%N"]


def drain_processes_vs_spawn() -> tuple[Ratio, dict[str, float]]:
    """No-op processes a second: created over HTTP, run, and fully in the log and in the views;
    against bare spawns, one after the other.
    """
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "data"
        server = Server.start(data, "--capacity", str(CAPACITY), "--log-level", "warning")
        try:

            async def drain(connections: list[Connection]) -> float:
                body = orjson.dumps({"argv": [_TRUE]})
                request = connections[0].encode("POST", "/crewlog/v1/jobs", body)
                head = await _head(connections[0])
                begun = time.perf_counter()

                async def create(connection: Connection) -> None:
                    for _ in range(JOBS // len(connections)):
                        answer = await connection.send(request)
                        assert answer.status == 201, answer.body

                await asyncio.gather(*map(create, connections))
                await _finished(connections[0], head, JOBS)
                return JOBS / (time.perf_counter() - begun)

            def ours() -> float:
                return uvloop.run(with_connections(CLIENTS, server.url, server.token, drain))

            ours()  # the first job of a server waits for the fork server
            return ratio(ours, _spawns), {}
        finally:
            server.stop()


def _spawns() -> float:
    begun = time.perf_counter()
    for _ in range(JOBS):
        os.waitpid(os.posix_spawn(_TRUE, [_TRUE], {}), 0)
    return JOBS / (time.perf_counter() - begun)


async def _head(connection: Connection) -> int:
    answer = await connection.send(connection.encode("GET", "/crewlog/v1/projections"))
    return int(orjson.loads(answer.body)["head"])


async def _finished(connection: Connection, after: int, count: int) -> None:
    """Wait until this many jobs have ended and the views show it."""
    path = "/crewlog/v1/log?type=job.finished&limit=500&after="
    while count:
        answer = await connection.send(connection.encode("GET", f"{path}{after}"))
        events = orjson.loads(answer.body)["items"]
        count -= len(events)
        after = events[-1]["position"] if events else after
        if not events:
            await asyncio.sleep(0.02)
    await connection.send(connection.encode("GET", "/crewlog/v1/jobs?limit=1"))


def submit_to_process() -> tuple[Ratio, dict[str, float]]:
    """The time from the request for a job to the first instruction of its process, one at a time,
    as a multiple of the time from a bare spawn; medians.
    """
    ours: list[float] = []
    baseline: list[float] = []
    with tempfile.TemporaryDirectory() as directory:
        server = Server.start(Path(directory) / "data", "--log-level", "warning")

        async def measure(connections: list[Connection]) -> float:
            (connection,) = connections
            body = orjson.dumps({"argv": _DATE})
            request = connection.encode("POST", "/crewlog/v1/jobs", body)
            for number in range(STARTS + 1):
                head = await _head(connection)
                begun = time.time_ns()
                job_id = orjson.loads((await connection.send(request)).body)["id"]
                await asyncio.sleep(_UNWATCHED_S)
                await _finished(connection, head, 1)
                path = f"/crewlog/v1/log?subject=job-{job_id}&type=job.output"
                answer = await connection.send(connection.encode("GET", path))
                (event,) = orjson.loads(answer.body)["items"]
                if number:  # the first one waits for the fork server
                    ours.append(int(event["data"]["lines"][0]) - begun)
                    baseline.append(_spawned())
            return 0.0

        try:
            uvloop.run(with_connections(1, server.url, server.token, measure))
        finally:
            server.stop()
    mine, bare = median(ours) / 1e6, median(baseline) / 1e6
    return Ratio(round(mine / bare, 3), round(mine, 2), round(bare, 2)), {}


def _spawned() -> float:
    """Nanoseconds from a bare spawn to the first instruction."""
    reader, writer = os.pipe()
    begun = time.time_ns()
    pid = os.posix_spawn(_DATE[0], _DATE, {}, file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)])
    os.close(writer)
    with open(reader) as file:
        at = int(file.read())
    os.waitpid(pid, 0)
    return at - begun
