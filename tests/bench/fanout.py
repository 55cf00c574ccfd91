"""One log to 500 readers, against a bare ASGI app that sends the same bytes.

Both servers run in their own processes and begin when all readers are connected.
Ours then appends 60 batches of 50 events, each durable before the next, and every reader follows
``/crewlog/v1/log/stream``; the baseline has the bytes of its 60 batches ready and writes each to
every reader.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson
import uvloop

from tests.bench.bare import BATCH, BATCHES
from tests.bench.create import bare
from tests.bench.http import Connection
from tests.bench.measure import Ratio, ratio
from tests.kit.server import environment

READERS = 500
FRAMES = BATCH * BATCHES


class Reader(asyncio.Protocol):
    """Counts the frames of one stream, and reports the last one."""

    def __init__(
        self, request: bytes, done: "asyncio.Queue[float]", begun: "asyncio.Queue[None]"
    ) -> None:
        self.request = request
        self.done = done
        self.begun = begun
        self.frames = 0
        self.tail = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if not self.frames and b"\r\n\r\n" in data:
            self.begun.put_nowait(None)
        data = self.tail + data
        self.frames += data.count(b"\nevent: ")
        self.tail = data[-7:]
        if self.frames >= FRAMES:
            self.done.put_nowait(time.perf_counter())
            self.transport.close()


async def _deliver(host: str, port: int, token: str, path: str) -> float:
    """Frames a second, from the start signal until the last reader has the last frame."""
    loop = asyncio.get_running_loop()
    done: asyncio.Queue[float] = asyncio.Queue()
    begun: asyncio.Queue[None] = asyncio.Queue()
    control = await Connection(host, port, token).open()
    request = control.encode("GET", path)
    for _ in range(READERS):
        await loop.create_connection(lambda: Reader(request, done, begun), host, port)
    for _ in range(READERS):
        await asyncio.wait_for(begun.get(), 30)
    began = time.perf_counter()
    await control.send(control.encode("POST", "/go"))
    ends = [await asyncio.wait_for(done.get(), 60) for _ in range(READERS)]
    await control.close()
    return READERS * FRAMES / (max(ends) - began)


def sse_fanout_vs_bare_asgi() -> tuple[Ratio, dict[str, float]]:
    """Frames a second to 500 readers, and descriptors that 1,000 streams leave open."""
    raw: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as directory:

        def ours() -> float:
            with _log_server(Path(directory)) as (port, token, _):
                head = uvloop.run(_head(port, token))
                return uvloop.run(
                    _deliver("127.0.0.1", port, token, f"/crewlog/v1/log/stream?after={head}")
                )

        def baseline() -> float:
            with bare("asgi") as url:
                return uvloop.run(_deliver("127.0.0.1", int(url.rsplit(":", 1)[1]), "", "/stream"))

        result = ratio(ours, baseline)
        with _log_server(Path(directory)) as (port, token, pid):
            raw |= uvloop.run(_come_and_go(port, token, pid))
    return result, raw


async def _head(port: int, token: str) -> int:
    connection = await Connection("127.0.0.1", port, token).open()
    answer = await connection.send(connection.encode("GET", "/crewlog/v1/log?limit=1"))
    await connection.close()
    return int(orjson.loads(answer.body)["head"])


async def _come_and_go(port: int, token: str, pid: int) -> dict[str, float]:
    """Descriptors before and after 1,000 streams, 100 at a time."""
    before = 0
    for round_number in range(11):
        if round_number == 1:
            # The first hundred open descriptors that the server keeps: its readers of the log.
            before = await _settled(pid)
        opened = [await Connection("127.0.0.1", port, token).open() for _ in range(100)]
        for connection in opened:
            connection.writer.write(connection.encode("GET", "/crewlog/v1/log/stream"))
        for connection in opened:
            await connection.reader.readuntil(b"retry")
            await connection.close()
    return {"fds_before": before, "fds_after_1000_streams": await _settled(pid)}


async def _settled(pid: int) -> int:
    """Open descriptors of a process, once their number is stable for half a second."""
    counts: list[int] = []
    while len(counts) < 10 or len(set(counts[-10:])) > 1:
        counts.append(len(os.listdir(f"/proc/{pid}/fd")))
        await asyncio.sleep(0.05)
    return counts[-1]


class _log_server:
    """The real app over a log in `directory`, with an extra route that appends the batches."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __enter__(self) -> tuple[int, str, int]:
        port_file = self.directory / "port"
        port_file.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.bench.fanout",
                str(self.directory / "data"),
                str(port_file),
            ],
            env=environment(CREWLOG_TOKEN="bench-token"),
        )
        deadline = time.monotonic() + 30
        while not (port_file.exists() and port_file.read_text()):
            if time.monotonic() > deadline:
                raise RuntimeError("The server did not start.")
            time.sleep(0.05)
        return int(port_file.read_text()), "bench-token", self.process.pid

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()


def _main(data: Path, port_file: Path) -> None:
    from api.app import create_app, edge
    from api.parts import build
    from api.settings import Settings
    from domain.job.events import (
        JobMessaged,
    )
    from domain.log import SYSTEM, new_events
    from tests.bench.bare import serve

    settings = Settings(data=data, capacity=0, log_level="warning")
    parts = build(settings)
    app = create_app(parts)

    async def append_all() -> None:
        stream = "job-fanout"
        last = parts.log.blocking.last_of_stream(stream)
        version = last.version if last else 0
        for _ in range(BATCHES):
            events = new_events(stream, [JobMessaged(text="x" * 120)] * BATCH, SYSTEM)
            await parts.log.append(events, {stream: version})
            version += BATCH

    running: set[asyncio.Task[None]] = set()

    @app.others.post("/go")
    async def go() -> dict[str, str]:
        running.add(asyncio.create_task(append_all()))
        return {}

    serve(edge(app, parts), port_file)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]))
