"""The answer to a request that the server's stop cuts off."""

import asyncio
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from api.server import _Cuttable


async def sent_when_cut(kind: str, first: Message | None, stopping: bool) -> list[Any]:
    """The messages to the client of an application that never answers, apart from `first`."""
    sent: list[Any] = []
    waits = asyncio.Event()

    async def never(scope: Scope, receive: Receive, send: Send) -> None:
        if first is not None:
            await send(first)
        waits.set()
        await asyncio.Event().wait()

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": f"{kind}.connect"}

    is_stopping = asyncio.Event()
    if stopping:
        is_stopping.set()
    scope = {"type": kind, "path": "/", "headers": [], "state": {"request_id": "the-request"}}
    scope["extensions"] = {"websocket.http.response": {}}
    task = asyncio.create_task(_run(_Cuttable(never, is_stopping), scope, receive, send))
    await waits.wait()
    task.cancel()
    sent.append(await task)
    return sent


async def _run(app: Any, scope: Scope, receive: Receive, send: Send) -> str:
    try:
        await app(scope, receive, send)
    except asyncio.CancelledError:
        return "cancelled"
    return "answered"


@pytest.mark.parametrize(("kind", "prefix"), [("http", ""), ("websocket", "websocket.")])
def test_who_has_no_answer_yet_is_told_to_come_again(kind: str, prefix: str) -> None:
    start, body, end = asyncio.run(sent_when_cut(kind, None, stopping=True))
    assert start["type"] == f"{prefix}http.response.start"
    assert start["status"] == 503
    assert (b"retry-after", b"1") in start["headers"]
    assert b"The server is being stopped." in body["body"]
    assert end == "answered"


def test_a_socket_that_is_open_is_closed_by_the_protocol() -> None:
    accepted = {"type": "websocket.accept"}
    assert asyncio.run(sent_when_cut("websocket", accepted, stopping=True)) == [
        accepted,
        "cancelled",
    ]


def test_what_is_cancelled_for_another_reason_gets_no_such_answer() -> None:
    for kind in ("http", "websocket"):
        assert asyncio.run(sent_when_cut(kind, None, stopping=False)) == ["cancelled"]
