"""JSON-RPC 2.0 on standard input and output, one message a line."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

READ_SIZE = 262_144
PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = (
    -32700,
    -32600,
    -32601,
    -32602,
    -32603,
)

Handler = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]


class RpcError(Exception):
    """Answers a request with an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Peer:
    """Reads until its input ends. Each request is handled in a task of its own, in order of their
    beginning; notifications at once.
    """

    def __init__(self, handle: Handler, hear: Callable[[str, dict[str, Any]], None]) -> None:
        self._handle = handle
        self._hear = hear
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._last = 0

    async def run(self) -> None:
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        pieces: list[bytes] = []
        while data := await reader.read(READ_SIZE):
            *whole, rest = data.split(b"\n")
            for piece in whole:
                self._take(b"".join([*pieces, piece]))
                pieces = []
            pieces.append(rest)

    def tell(self, method: str, params: dict[str, Any]) -> None:
        """Send a notification."""
        self._send({"method": method, "params": params})

    async def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """The result of a request. Raises RpcError."""
        self._last += 1
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._asked[self._last] = answer
        self._send({"id": self._last, "method": method, "params": params})
        try:
            return await answer
        finally:
            self._asked.pop(self._last, None)

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line) if line.strip() else None
        except ValueError:
            self._send({"id": None, "error": {"code": PARSE_ERROR, "message": "Not JSON."}})
            return
        if not isinstance(message, dict):
            return
        method, params = message.get("method"), message.get("params") or {}
        if method is None:
            self._settle(message)
        elif "id" not in message:
            self._hear(method, params)
        else:
            task = asyncio.create_task(self._answer(message["id"], method, params))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _settle(self, message: dict[str, Any]) -> None:
        answer = self._asked.pop(message.get("id", 0), None)
        if answer is None or answer.done():
            return
        if "error" in message:
            error = message["error"]
            answer.set_exception(RpcError(error["code"], error["message"]))
        else:
            answer.set_result(message.get("result") or {})

    async def _answer(self, number: Any, method: str, params: dict[str, Any]) -> None:
        try:
            result = await self._handle(method, params)
        except RpcError as error:
            self._send({"id": number, "error": {"code": error.code, "message": str(error)}})
        else:
            self._send({"id": number, "result": result})

    def _send(self, message: dict[str, Any]) -> None:
        line = memoryview(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        while line:
            line = line[os.write(1, line) :]
