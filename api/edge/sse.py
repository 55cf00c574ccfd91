"""Streams: the log as Server-Sent Events that resume anywhere (WHATWG HTML section 9.2).

``id:`` is the log position, or ``position:index`` if one event gives several frames. An unfinished
line of output is not in the log, so its frame has no id. A stream holds a cursor and nothing else,
and sends several ready frames in one write.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any
from weakref import WeakKeyDictionary

import orjson
from fastapi import Request
from fastapi.responses import Response
from sse_starlette import EventSourceResponse
from starlette.types import Receive, Scope, Send

from api.edge.frames import Frames
from api.edge.middleware import SERVER_SEND
from api.edge.security import Principal, Security, Standing
from domain.errors import InvalidCursor, JobNotFound
from domain.job.commands import Jobs
from domain.job.events import job_id_of, job_stream
from domain.log import EventLog, Recorded
from scheduler.drivers.unfinished import Beginning, Unfinished

_CURSOR = re.compile(r"(0|[1-9][0-9]{0,17})(?::(0|[1-9][0-9]{0,8}))?")
RETRY = b"retry: 1000\n\n"
_CHUNK_BYTES = 256 * 1024
_PAGE = 64
PAGE_BYTES = 128 * 1024
"""About the most bytes that a stalled reader holds."""
_SLICE_S = 0.005
"""How long frames are made before other tasks get their turn."""
_KEPT_PAGES = 8
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
_NO_LIMIT = 1 << 62
_PING_S = 15
_HEARTBEAT = b": heartbeat\n\n"

HEADERS = {"Cache-Control": "no-cache, no-store, no-transform"}


IsLast = Callable[[Recorded], Awaitable[bool]]
"""Whether a ``job.finished`` is the job's last one."""

STREAMED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-Sent Events, for as long as there are some to come.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}
"""The documented answers of a route that streams."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """What a reader has seen: everything before `position`, and of that event the frames up to
    `index` (None: all).
    """

    position: int
    index: int | None = None

    @property
    def after(self) -> int:
        """The position after which to read on."""
        return self.position if self.index is None else self.position - 1


def cursor_of(request: Request, log: EventLog, after: int | None = None) -> Cursor | None:
    """The reader's cursor: from Last-Event-ID, otherwise ``?last_event_id=``, otherwise `after`;
    None without any.

    Raises InvalidCursor for text that is not a cursor, and for a position that the log has not
    reached.
    """
    given = request.headers.get("last-event-id") or request.query_params.get("last_event_id")
    if not given:
        given = None if after is None else str(after)
    if given is None:
        return None
    match = _CURSOR.fullmatch(given)
    if match is None:
        raise InvalidCursor("Last-Event-ID is not a position of this log.")
    cursor = Cursor(int(match[1]), None if match[2] is None else int(match[2]))
    if cursor.position > log.head or (cursor.position == 0 and cursor.index is not None):
        raise InvalidCursor("Last-Event-ID is a position that this log has not reached.")
    return cursor


class WireForm:
    """One way to write events as frames. The frames of an event are made once for all readers.

    `interim` writes an end after which the job was done again: for clients of a dialect, the frame
    with the end must be the last one. It must give as many frames. `passes_over` are the event
    types without a frame, as `domain.coverage.types` returns them.
    """

    def __init__(
        self,
        name: str,
        encode: Callable[[Recorded], list[bytes]],
        interim: Callable[[Recorded], list[bytes]] | None = None,
        passes_over: frozenset[str] = frozenset(),
    ) -> None:
        self.name = name
        self.passes_over = passes_over
        if interim is not None:
            self.interim = WireForm(f"{name} interim", interim, passes_over=passes_over)
        else:
            self.interim = self
        self.encode = encode
        self.frames = Frames(encode).of
        self._made: OrderedDict[int, tuple[list[Recorded], list[bytes]]] = OrderedDict()

    async def chunks(self, page: list[Recorded], cursor: Cursor | None) -> list[bytes]:
        """A page as few large writes. Readers at the same place share the same bytes."""
        if cursor is not None and cursor.index is not None and page[0].position == cursor.position:
            first = self.frames(page[0])[cursor.index + 1 :]
            async with _turn():
                return await self._joined(page[1:], first)
        # Compared by identity: the log gives readers at the same place the same list, and never
        # changes it.
        made = self._made.get(id(page))
        if made is None:
            async with _turn():
                made = self._made.get(id(page))
                if made is None:
                    made = (page, await self._joined(page))
                    self._made[id(page)] = made
                    if len(self._made) > _KEPT_PAGES:
                        self._made.popitem(last=False)
        return made[1]

    async def _joined(self, page: list[Recorded], first: Sequence[bytes] = ()) -> list[bytes]:
        """The frames in chunks of about _CHUNK_BYTES. Other tasks get their turn in between."""
        chunks: list[bytes] = []
        held: list[bytes] = list(first)
        size = sum(map(len, held))
        began = perf_counter()
        for event in page:
            for frame in self.frames(event):
                held.append(frame)
                size += len(frame)
                if size >= _CHUNK_BYTES:
                    chunks.append(b"".join(held))
                    held, size = [], 0
            if perf_counter() - began > _SLICE_S:
                await asyncio.sleep(0)
                began = perf_counter()
        if held:
            chunks.append(b"".join(held))
        return chunks


def _turn() -> asyncio.Lock:
    """The lock for making frames: one reader of a loop at a time, because each yields only
    now and then.
    """
    return _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())


def _envelope(event: Recorded) -> list[bytes]:
    return [b"id: %d\nevent: %s\ndata: %s\n\n" % (event.position, event.type.encode(), event.wire)]


ENVELOPES = WireForm("envelope", _envelope)
"""Each event as its whole envelope, under its type name."""


class _LogStream(EventSourceResponse):
    """An EventSourceResponse whose chunks are bytes that are ready to send.

    Disconnect, shutdown and keep-alive are the library's. `api/edge/http_protocol.py` drops a
    client that reads nothing, so no send needs a time limit of its own.
    """

    def __init__(self, chunks: AsyncIterator[bytes], standing: Standing) -> None:
        super().__init__(chunks, headers=HEADERS, sep="\n", ping=_PING_S)
        self._standing = standing
        self._last_sent = 0.0
        self._sending = False
        self._server_send: Send | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._server_send = scope.get(SERVER_SEND)
        await super().__call__(scope, receive, send)
        if self.active and not self._sending:
            # The server stops. The stream is ended and not cut, so that no client takes this for a
            # lost network.
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _stream_response(self, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        # The layers in between act only on the start and the end of a response.
        forward = self._server_send or send
        async for chunk in self.body_iterator:
            if not self._standing.holds():
                break
            await self._deliver(forward, chunk)
        self.active = False
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _deliver(self, forward: Send, chunk: Any) -> None:
        self._last_sent = asyncio.get_running_loop().time()
        self._sending = True
        await forward({"type": "http.response.body", "body": chunk, "more_body": True})
        self._sending = False

    async def _ping(self, send: Send) -> None:
        clock = asyncio.get_running_loop().time
        while self.active:
            await asyncio.sleep(_PING_S)
            if self._sending:
                continue
            if not self._standing.holds_by_now():
                # Ended like any other stream; the client's next request gets the reason.
                return
            if clock() - self._last_sent >= _PING_S / 2:
                await self._deliver(send, _HEARTBEAT)


def event_stream(request: Request, principal: Principal, chunks: AsyncIterator[bytes]) -> Response:
    """The response that sends these chunks as they come, as long as the principal would be let in.
    So a stream ends if its principal signs out, is disabled, or loses the token or role.
    """
    security: Security = request.app.state.security
    return _LogStream(chunks, security.standing(request, principal))


async def read_log(
    log: EventLog,
    form: WireForm,
    cursor: Cursor | None,
    *,
    subject: str | None = None,
    types: tuple[str, ...] = (),
    actor: str | None = None,
    before: int | None = None,
    limit: int | None = None,
) -> AsyncIterator[bytes]:
    """Everything that matches after the cursor, for ever; or up to `before`, or the first
    `limit`.
    """
    yield RETRY
    after = cursor.after if cursor else 0
    left = _NO_LIMIT if limit is None else limit
    tail = log.tail(
        after,
        subject,
        types,
        limit=4 * _PAGE,
        before=before,
        page_bytes=PAGE_BYTES,
        patient=True,
    )
    async for page in tail:
        shown = page if actor is None else [event for event in page if event.actor == actor]
        if len(shown) > left:
            shown = shown[:left]
        left -= len(shown)
        chunks = await form.chunks(shown, cursor) if shown else []
        # A stalled reader should hold its unread bytes, and not the events as well.
        del page, shown
        for chunk in chunks:
            yield chunk
        if not left:
            return


async def read_job(
    log: EventLog,
    form: WireForm,
    job_id: str,
    cursor: Cursor | None,
    *,
    end_at: int | None,
    over: IsLast,
    types: tuple[str, ...] = (),
    actor: str | None = None,
    before: int | None = None,
    limit: int | None = None,
) -> AsyncIterator[bytes]:
    """The matching events of a job, from the cursor to its end; otherwise as `read_log`. `end_at`
    is the position to stop at if the job has ended already. `over` tells whether a ``job.finished``
    is the last one.
    """
    yield RETRY
    after = cursor.after if cursor else 0
    if end_at is not None and after >= end_at:
        return
    left = _NO_LIMIT if limit is None else limit
    tail = log.tail(
        after,
        job_stream(job_id),
        limit=_PAGE,
        before=before,
        page_bytes=PAGE_BYTES,
        patient=True,
    )
    async for page in tail:
        shown = page  # the same list if nothing is filtered out, so that readers share its bytes
        if types or actor is not None:
            shown = [
                event
                for event in page
                if (not types or event.type in types) and (actor is None or event.actor == actor)
            ]
        if len(shown) > left:
            shown = shown[:left]
        left -= len(shown)
        chunks = await _told(form, shown, cursor, over)
        if end_at is not None:
            ended = page[-1].position >= end_at
        else:
            ended = any([await over(event) for event in page if event.type == "job.finished"])
        del page, shown  # as in `read_log`
        for chunk in chunks:
            yield chunk
        if ended or not left:
            return


async def with_beginnings(
    chunks: AsyncIterator[bytes], unfinished: Unfinished, job_id: str
) -> AsyncIterator[bytes]:
    """The chunks of a job's stream, and between them the beginning of the unfinished line. Those
    frames are no events and have no id; each replaces the one before.
    """
    coming = asyncio.ensure_future(anext(chunks, None))
    seen = None
    try:
        while True:
            # Send what is there first: an unfinished line comes after the lines before it.
            await asyncio.sleep(0)
            if not coming.done():
                beginning = unfinished.of(job_id)
                if beginning != seen:
                    seen = beginning
                    yield _beginning_frame(beginning)
                    continue
                changed = unfinished.waiter(job_id)
                try:
                    both: set[asyncio.Future[Any]] = {coming, changed}
                    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    unfinished.forget(job_id, changed)
            if coming.done():
                chunk = coming.result()
                if chunk is None:
                    return
                yield chunk
                del chunk
                coming = asyncio.ensure_future(anext(chunks, None))
    finally:
        coming.cancel()


def _beginning_frame(beginning: Beginning | None) -> bytes:
    attempt, line, text = (
        (None, None, "")
        if beginning is None
        else (beginning.attempt, beginning.line, beginning.text)
    )
    shown = {"type": "partial", "attempt": attempt, "line": line, "text": text}
    return b"event: partial\ndata: %s\n\n" % orjson.dumps(shown)


async def _told(
    form: WireForm, page: list[Recorded], cursor: Cursor | None, over: IsLast
) -> list[bytes]:
    """The chunks of a page of a job. Ends that were not the last become interim ones."""
    chunks: list[bytes] = []
    for part in _to_each_end(page):
        goes_on = part[-1].type == "job.finished" and not await over(part[-1])
        chunks += await (form.interim if goes_on else form).chunks(part, cursor)
    return chunks


def _to_each_end(page: list[Recorded]) -> Iterator[list[Recorded]]:
    """The page in parts that each end with a ``job.finished``; mostly the page itself."""
    if page and all(event.type != "job.finished" for event in page[:-1]):
        yield page
        return
    part: list[Recorded] = []
    for event in page:
        part.append(event)
        if event.type == "job.finished":
            yield part
            part = []
    if part:
        yield part


def last_end(jobs: Jobs) -> IsLast:
    """Tells whether this event is the last of its job's stream: a job may be done again
    after an end.
    """

    async def over(event: Recorded) -> bool:
        try:
            job = await jobs.loaded(job_id_of(event.subject) or "")
        except JobNotFound:
            return True
        return job.ended and job.ended_version == event.version

    return over
