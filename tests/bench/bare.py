"""The HTTP baselines, one process each: ``python -m tests.bench.bare fastapi|asgi PORT-FILE``."""

import asyncio
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

BATCHES = 60
BATCH = 50


def sample_frame(position: int) -> bytes:
    """Bytes like those of one event on ``/crewlog/v1/log/stream``."""
    data = (
        b'{"position":%d,"stream":"job-bench","version":%d,"type":"job.messaged","schema":1,'
        b'"id":"01a2005c-7055-74bf-bbbc-7b63e8c56e75","at":"2026-11-21T23:06:27.797340Z",'
        b'"actor":"system","request_id":null,"cause":null,"data":{"text":"%s"}}'
    ) % (position, position, b"x" * 120)
    return b"id: %d\nevent: job.messaged\ndata: %s\n\n" % (position, data)


class Command(BaseModel):
    argv: list[str]
    cwd: str | None = None
    title: str | None = None


def fastapi_app() -> FastAPI:
    app = FastAPI()

    @app.post("/crewlog/v1/jobs", status_code=201)
    async def create(body: Command) -> dict[str, Any]:
        return {"id": "1", "state": "queued", "argv": body.argv}

    return app


class Fanout:
    """Sends the same prepared bytes to every reader, without a log, cursors or a framework."""

    def __init__(self) -> None:
        self.chunks = [
            b"".join(sample_frame(n * BATCH + m + 1) for m in range(BATCH)) for n in range(BATCHES)
        ]
        self.sent = 0
        self.grown = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == "/go":
            await self.respond(send, b"{}")
            for _ in self.chunks:
                self.sent += 1
                grown, self.grown = self.grown, asyncio.Event()
                grown.set()
                await asyncio.sleep(0)
            self.sent = len(self.chunks)
            return
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        done = 0
        while done < len(self.chunks):
            if done == self.sent:
                await self.grown.wait()
                continue
            chunk = self.chunks[done]
            done += 1
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def respond(self, send: Send, body: bytes) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def serve(app: Any, port_file: Path) -> None:
    """Serve with the options of the real server, and write the port to the file."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(2048)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    port_file.write_text(str(listener.getsockname()[1]))
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    serve({"fastapi": fastapi_app, "asgi": Fanout}[sys.argv[1]](), Path(sys.argv[2]))
