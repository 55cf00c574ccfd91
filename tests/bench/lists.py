"""The cost of lists and streams in a long log: the same request against a short and a long log."""

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import uvloop

from tests.bench.histories import job_id, make_log
from tests.bench.http import Connection, rate, with_connections
from tests.bench.measure import Ratio, ratio, say
from tests.kit.server import Server

EVENTS_A_JOB = 4


@contextmanager
def served(directory: Path, events: int, outputs: int) -> Iterator[Server]:
    """A real server over a log with this many events, with views that have caught up."""
    say(f"making a log of {events} events")
    make_log(directory, events, outputs)
    server = Server.start(directory, "--capacity", "0", "--log-level", "warning")
    try:
        asyncio.run(_caught_up(server))
        yield server
    finally:
        server.stop()


async def _caught_up(server: Server) -> None:
    connection = await _connect(server)
    while True:
        answer = await connection.send(connection.encode("GET", "/crewlog/v1/projections"))
        views = orjson.loads(answer.body)["items"]
        if all(p["lag"] == 0 and p["status"] == "live" for p in views):
            break
        await asyncio.sleep(0.2)
    await connection.close()


async def _connect(server: Server) -> Connection:
    host, port = server.url.removeprefix("http://").split(":")
    return await Connection(host, int(port), server.token).open()


def list_page_100k_vs_1k() -> tuple[Ratio, dict[str, float]]:
    """Pages a second of 50 jobs: the slower of the first and a deep page of
    100,000, against 1,000.
    """
    with (
        tempfile.TemporaryDirectory() as directory,
        served(Path(directory) / "small", 1_000 * EVENTS_A_JOB, 0) as small,
        served(Path(directory) / "large", 100_000 * EVENTS_A_JOB, 0) as large,
    ):
        first = "/crewlog/v1/jobs?limit=50"
        deep = f"{first}&cursor={job_id(5_000)}"
        near = ratio(lambda: _pages(large, first), lambda: _pages(small, first))
        far = ratio(lambda: _pages(large, deep), lambda: _pages(small, first))
        return min(near, far, key=lambda r: r.value), {
            "list_first_page_ratio": near.value,
            "list_deep_page_ratio": far.value,
        }


def _pages(server: Server, path: str) -> float:
    async def work(connections: list[Connection]) -> float:
        request = connections[0].encode("GET", path)
        answer = await connections[0].send(request)
        assert len(orjson.loads(answer.body)["items"]) == 50, answer.body[:300]
        return (await rate(connections, request, 1.0, 200))[0]

    return uvloop.run(with_connections(4, server.url, server.token, work))


def job_stream_1m_vs_1k() -> tuple[Ratio, dict[str, float]]:
    """First frames a second of one job's stream from the middle of a log of 1,000,000 events,
    against 1,000.
    """
    with (
        tempfile.TemporaryDirectory() as directory,
        served(Path(directory) / "small", 1_000, 6) as small,
        served(Path(directory) / "large", 1_000_000, 6) as large,
    ):
        jobs = {small.url: (50, 20), large.url: (50_000, 77_777)}

        def first_frames(server: Server) -> float:
            return uvloop.run(_first_frames(server, [job_id(n) for n in jobs[server.url]]))

        result = ratio(lambda: first_frames(large), lambda: first_frames(small), rounds=5)
        return result, {"memory_1m_events_mb": resident_mb(large.pid)}


async def _first_frames(server: Server, ids: list[str]) -> float:
    times: list[float] = []
    for number in range(100):
        connection = await _connect(server)
        request = connection.encode("GET", f"/crewlog/v1/jobs/{ids[number % len(ids)]}/stream")
        began = time.perf_counter()
        connection.writer.write(request)
        await connection.reader.readuntil(b"\ndata: ")
        times.append(time.perf_counter() - began)
        await connection.close()
    return len(times) / sum(times)


def resident_mb(pid: int) -> float:
    """Resident memory of a process in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)
