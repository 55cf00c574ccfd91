"""``POST /crewlog/v1/jobs``, accepted and durable, against a bare FastAPI POST with a pydantic
body.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import uvloop

from tests.bench.http import Connection, rate, with_connections
from tests.bench.measure import Ratio, percentile, ratio
from tests.kit.server import Server

JOBS = "/crewlog/v1/jobs"
CLIENTS = 16
SECONDS = 3.0
BODY = orjson.dumps(
    {"argv": ["make", "-C", "src", "test"], "cwd": "/srv/project", "title": "tests"}
)


@contextmanager
def bare(kind: str, *arguments: str) -> Iterator[str]:
    """A baseline server's URL."""
    with tempfile.TemporaryDirectory() as directory:
        port_file = Path(directory) / "port"
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.bare", kind, str(port_file), *arguments]
        )
        try:
            deadline = time.monotonic() + 30
            while not (port_file.exists() and port_file.read_text()):
                if time.monotonic() > deadline:
                    raise RuntimeError("The baseline did not start.")
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port_file.read_text()}"
        finally:
            process.terminate()
            process.wait()


def http_create_vs_bare_fastapi_post() -> tuple[Ratio, dict[str, float]]:
    """Requests a second by 16 keep-alive clients, and our latencies in milliseconds."""
    latencies: list[float] = []
    with tempfile.TemporaryDirectory() as directory, bare("fastapi") as baseline_url:
        held = Server.start(Path(directory) / "data", "--capacity", "0", "--log-level", "warning")
        try:

            def measure(url: str, token: str, keep: bool) -> float:
                async def work(connections: list[Connection]) -> float:
                    request = connections[0].encode("POST", JOBS, BODY)
                    per_second, seen = await rate(connections, request, SECONDS, 201)
                    if keep:
                        latencies.extend(seen)
                    return per_second

                return uvloop.run(with_connections(CLIENTS, url, token, work))

            result = ratio(
                lambda: measure(held.url, held.token, True),
                lambda: measure(baseline_url, "", False),
            )
        finally:
            held.stop()
    return result, {
        "create_p50_ms": round(percentile(latencies, 0.5) * 1000, 2),
        "create_p99_ms": round(percentile(latencies, 0.99) * 1000, 2),
    }


def submit_to_start() -> dict[str, float]:
    """Milliseconds from the request of a job to its ``job.started`` in the log,
    one job at a time.
    """
    waits: list[float] = []

    async def scenario(url: str, token: str) -> float:
        host, port = url.removeprefix("http://").split(":")
        connection = await Connection(host, int(port), token).open()
        request = connection.encode("POST", JOBS, orjson.dumps({"argv": ["true"]}))
        for _ in range(100):
            body = orjson.loads((await connection.send(request)).body)
            while True:
                page = connection.encode(
                    "GET", f"/crewlog/v1/log?subject=job-{body['id']}&limit=10"
                )
                events = orjson.loads((await connection.send(page)).body)["items"]
                started = [e for e in events if e["type"] == "job.started"]
                if started and events[-1]["type"] == "job.finished":
                    break
            waits.append(_milliseconds(events[0]["at"], started[0]["at"]))
        await connection.close()
        return 0.0

    with tempfile.TemporaryDirectory() as directory:
        server = Server.start(Path(directory) / "data", "--log-level", "warning")
        try:
            asyncio.run(scenario(server.url, server.token))
        finally:
            server.stop()
    return {
        "submit_to_start_p50_ms": round(percentile(waits, 0.5), 2),
        "submit_to_start_p99_ms": round(percentile(waits, 0.99), 2),
    }


def _milliseconds(start: str, end: str) -> float:
    from domain.clock import parse_time

    return (parse_time(end) - parse_time(start)).total_seconds() * 1000
