"""A receiver of webhooks on loopback. The test chooses its answers."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Behaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Got:
    """A received request."""

    headers: dict[str, str]
    body: bytes


def says(status: int, *headers: str, body: bytes = b"") -> Behaviour:
    """A behaviour that gives this answer."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        head = [f"HTTP/1.1 {status} So", f"Content-Length: {len(body)}", *headers, "", ""]
        writer.write("\r\n".join(head).encode() + body)

    return behave


async def hangs(writer: asyncio.StreamWriter) -> None:
    """Reads the request, and never answers."""
    await asyncio.Event().wait()


async def garbage(writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x00\xffI am no server\r\n\r\n")


async def hangs_up(writer: asyncio.StreamWriter) -> None:
    """Reads the request, and closes without an answer."""


async def trickles(writer: asyncio.StreamWriter) -> None:
    """Sends a head that never ends."""
    writer.write(b"HTTP/1.1 200 So\r\n")
    while True:
        writer.write(b"X-More: a\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


@dataclass
class Receiver:
    """Answers each request with the next of its behaviours, and all later ones with the last."""

    behaviours: list[Behaviour]
    got: list[Got] = field(default_factory=list)
    port: int = 0
    came: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def requests(self, count: int) -> list[Got]:
        """All requests, once there are this many."""
        async with asyncio.timeout(30), self.came:
            await self.came.wait_for(lambda: len(self.got) >= count)
        return self.got

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.split(": ", 1) for line in head[1:] if line)
            headers = {name.lower(): value for name, value in headers.items()}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            behave = self.behaviours[min(len(self.got), len(self.behaviours) - 1)]
            async with self.came:
                self.got.append(Got(headers, body))
                self.came.notify_all()
            await behave(writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiving(
    *behaviours: Behaviour, port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    """A listening receiver, while the block runs."""
    receiver = Receiver(list(behaviours))
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(receiver.take(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", port, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
