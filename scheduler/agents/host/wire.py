"""The line to the agent: every message in both directions passes here, and into the journal.

The SDK's connection numbers our requests, matches answers and calls a handler for the agent's
requests. It gets no other message, and none of the agent's bytes that it could not read:

* Its observer is called for an outgoing message only after that was sent, so an answer could come
  before its question. Here a message is journalled before it is written.
* One line that is JSON but no object (`null`, `7`), an id that is a list, or an error that is a
  text ends its receiving for good.
* What it hands to a handler may be changed by `_meta`. So a request of the agent reaches the
  handler as the number of its line in the journal, and its parameters are those of the line.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NoReturn, cast

from acp.connection import Connection
from pydantic import BaseModel

from scheduler.agents.host.agent_process import AgentProcess
from scheduler.agents.host.journal import Journal

LARGEST_MESSAGE = 64 * 1_048_576
"""Most bytes of a line of the agent. What is longer is skipped, with a note."""

NOISE_SHOWN = 500
"""Most characters of a line that is no message."""

READ_SIZE = 262_144


@dataclass(frozen=True, slots=True)
class Request:
    """A request of the agent."""

    number: int  # of its line in the journal
    method: str
    params: dict[str, Any]


Answer = Callable[[Request], Awaitable[dict[str, Any] | None]]


class Wire:
    """Sends and receives messages. Requests of the agent are first shown to `notice`, in the order
    of the journal, and then answered by `answer`, which may take its time and raise RequestError.
    """

    def __init__(self, journal: Journal, notice: Callable[[Request], None], answer: Answer) -> None:
        self._journal = journal
        self._notice = notice
        self._answer = answer
        self._requests: dict[int, Request] = {}
        self._asked: set[int] = set()
        self._taken = asyncio.Event()
        self._replayed: int | None = None
        self._lines = asyncio.StreamReader()
        self._input = _Input()
        self._connection: Connection | None = None
        self.heard_at = time.monotonic()
        """When the agent last wrote something, whatever it was."""
        self.owed_since: float | None = None
        """Since when the agent owes an answer; None: it owes none."""
        self.noise = ""
        """The last lines that were no messages, bounded."""
        self.closed = asyncio.Event()
        """Everything that the agent wrote has been read."""

    async def open(self, process: AgentProcess) -> "asyncio.Task[None]":
        """Connect with the agent. Returns the task that reads, for its errors."""
        output = asyncio.StreamReader(limit=READ_SIZE)
        reader = asyncio.StreamReaderProtocol(output)
        self._input.transport = await process.pipes(reader, self._input)
        writer = cast(asyncio.StreamWriter, _Writer(self._written, self._input))
        self._connection = Connection(self._handle, writer, self._lines)
        return asyncio.create_task(self._read(output))

    async def ask(self, method: str, params: BaseModel) -> dict[str, Any]:
        """The result of a request. Raises RequestError, and ConnectionError if the agent is gone.

        Until the caller awaits something else, the journal holds nothing that came later.
        """
        assert self._connection is not None
        self.owed_since = time.monotonic()
        try:
            result = await self._connection.send_request(method, _dump(params))
        finally:
            self.owed_since = time.monotonic() if self._asked else None
            self._taken.set()
        return result if isinstance(result, dict) else {}

    async def tell(self, method: str, params: BaseModel) -> None:
        """Send a notification. Does nothing if the agent is gone."""
        assert self._connection is not None
        try:
            await self._connection.send_notification(method, _dump(params))
        except ConnectionError:
            return

    def hang_up(self) -> None:
        """Close the agent's input, once everything that was sent is written."""
        if self._input.transport is not None:
            self._input.transport.close()

    def _written(self, line: bytes) -> None:
        """The connection is about to send this line."""
        message = json.loads(line)
        if "method" in message and "id" in message:
            self._asked.add(message["id"])
            if message["method"] == "session/load":
                self._replayed = message["id"]
        self._journal.message("out", line.rstrip(b"\n"))

    async def _handle(self, method: str, params: Any, is_notification: bool) -> Any:
        return await self._answer(self._requests.pop(params["number"]))

    async def _read(self, output: asyncio.StreamReader) -> None:
        """Reads to the end of the agent's output."""
        pieces: list[bytes] = []
        size = 0
        while data := await output.read(READ_SIZE):
            self.heard_at = time.monotonic()
            *whole, rest = data.split(b"\n")
            for piece in whole:
                await self._take(b"".join([*pieces, piece]), size + len(piece))
                pieces, size = [], 0
            size += len(rest)
            pieces = [b"".join(pieces)[:NOISE_SHOWN]] if size > LARGEST_MESSAGE else [*pieces, rest]
        await self._take(b"".join(pieces), size)
        self._lines.feed_eof()
        self.closed.set()

    async def _take(self, line: bytes, size: int) -> None:
        """One line. `line` may be only the beginning of one that is too long."""
        line = line.strip()
        if not line:
            return
        found = _parse(line) if size <= LARGEST_MESSAGE else None
        if found is None:
            self._skip(line, size)
            return
        raw, message = found
        method, number = message.get("method"), message.get("id")
        is_replay = self._replayed is not None and method is not None and "id" not in message
        at = self._journal.message("in", raw, is_replay)
        if isinstance(number, bool) or not isinstance(number, int | str):
            return  # a notification, which only the journal is for, or nothing that can be answered
        if isinstance(method, str):
            self._forward_request(Request(at, method, _object(message.get("params"))), number)
        elif method is None and number in self._asked:
            await self._forward_answer(int(number), message)

    def _skip(self, line: bytes, size: int) -> None:
        text = line[: 4 * NOISE_SHOWN].decode(errors="replace")[:NOISE_SHOWN]
        self.noise = f"{self.noise}\n{text}"[-4 * NOISE_SHOWN :].strip()
        self._journal.note("noise", text=text, bytes=size)

    def _forward_request(self, request: Request, number: int | str) -> None:
        self._notice(request)
        self._requests[request.number] = request
        self._forward(id=number, method=request.method, params={"number": request.number})

    async def _forward_answer(self, number: int, message: dict[str, Any]) -> None:
        """Returns when whoever asked has gone on, so that later lines are later in the journal."""
        self._asked.discard(number)
        if number == self._replayed:
            self._replayed = None
        self._taken.clear()
        if "result" in message:
            self._forward(id=number, result=message["result"])
        else:
            self._forward(id=number, error=_error(message.get("error")))
        await self._taken.wait()

    def _forward(self, **message: Any) -> None:
        self._lines.feed_data(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")


class _Writer:
    """What the connection takes for its stream writer."""

    def __init__(self, written: Callable[[bytes], None], inner: "_Input") -> None:
        self._written = written
        self._input = inner

    def write(self, line: bytes) -> None:
        self._written(line)
        if self._input.transport is not None and not self._input.transport.is_closing():
            self._input.transport.write(line)

    async def drain(self) -> None:
        await self._input.ready.wait()


class _Input(asyncio.Protocol):
    """The agent's standard input. `ready` is not set while its pipe is full."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.ready.set()
        self.transport: asyncio.WriteTransport | None = None

    def pause_writing(self) -> None:
        self.ready.clear()

    def resume_writing(self) -> None:
        self.ready.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.ready.set()


def _parse(line: bytes) -> tuple[bytes, dict[str, Any]] | None:
    """The message, and its text as strict JSON. None if it is none."""
    try:
        message = json.loads(line.decode(), parse_constant=_refuse)
        if not isinstance(message, dict):
            return None
        if b"\\ud" in line or b"\\uD" in line:
            # Half of a surrogate pair is no character: other readers of JSON refuse it.
            line = json.dumps(message, ensure_ascii=False).encode(errors="replace")
    except (ValueError, RecursionError):
        return None
    return line, message


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON.")


def _dump(params: BaseModel) -> dict[str, Any]:
    return params.model_dump(mode="json", by_alias=True, exclude_none=True)


def _object(params: Any) -> dict[str, Any]:
    return params if isinstance(params, dict) else {}


def _error(found: Any) -> dict[str, Any]:
    """A JSON-RPC error in its right shape."""
    error = _object(found)
    code, message = error.get("code"), error.get("message")
    return {
        "code": code if isinstance(code, int) else -32603,
        "message": message if isinstance(message, str) else "The agent answered with an error.",
        "data": error.get("data"),
    }
