"""A small HTTP/1.1 client that is cheaper than the servers it measures: it sends bytes, and returns
status and length.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass
class Answer:
    """One response: status, body, and the headers that benchmarks need."""

    status: int
    body: bytes


class Connection:
    """One keep-alive connection."""

    def __init__(self, host: str, port: int, token: str = "") -> None:
        self._address = (host, port)
        self._head = f"Host: {host}\r\n" + (f"Authorization: Bearer {token}\r\n" if token else "")

    async def open(self) -> "Connection":
        self.reader, self.writer = await asyncio.open_connection(*self._address)
        return self

    def encode(self, method: str, path: str, body: bytes = b"") -> bytes:
        """The bytes of a request, which may be sent many times."""
        head = f"{method} {path} HTTP/1.1\r\n{self._head}"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return head.encode() + b"\r\n" + body

    async def send(self, request: bytes) -> Answer:
        self.writer.write(request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0])
        return Answer(int(head[9:12]), await self.reader.readexactly(length))

    async def close(self) -> None:
        self.writer.close()


async def rate(
    connections: list[Connection], request: bytes, seconds: float, status: int
) -> tuple[float, list[float]]:
    """Requests a second over all connections in a closed loop, and each one's
    latency in seconds.
    """
    latencies: list[float] = []
    until = time.perf_counter() + seconds

    async def loop(connection: Connection) -> None:
        while (began := time.perf_counter()) < until:
            answer = await connection.send(request)
            latencies.append(time.perf_counter() - began)
            if answer.status != status:
                raise RuntimeError(f"{answer.status}: {answer.body[:200]!r}")

    began = time.perf_counter()
    await asyncio.gather(*(loop(connection) for connection in connections))
    return len(latencies) / (time.perf_counter() - began), latencies


async def with_connections(
    count: int, url: str, token: str, work: Callable[[list[Connection]], Awaitable[float]]
) -> float:
    host, port = url.removeprefix("http://").split(":")
    connections = [await Connection(host, int(port), token).open() for _ in range(count)]
    try:
        return await work(connections)
    finally:
        for connection in connections:
            await connection.close()
