"""Streams over a real log: frames, cursors, filters, keep-alive; and a reader may stop and resume
anywhere.
"""

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from fastapi import FastAPI, Request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Message, Scope

from api.dialects.board.frames import BOARD
from api.dialects.gitoma.lines import LINES
from api.edge import sse
from api.edge.frames import Frames
from api.edge.security import Security
from api.edge.sse import (
    ENVELOPES,
    Cursor,
    WireForm,
    cursor_of,
    event_stream,
    last_end,
    read_job,
    read_log,
)
from api.people.sessions import Accounts, Cookies
from domain.account.commands import Directory
from domain.account.operator_sessions import OpenSessions
from domain.catalogue import CATALOGUE
from domain.clock import system_clock
from domain.errors import InvalidCursor
from domain.event import Event
from domain.job.commands import Jobs
from domain.job.events import (
    JobMessaged,
    JobOutput,
    JobQueued,
)
from domain.log import (
    Context,
    EventLog,
    MemoryStore,
    Recorded,
    new_events,
    open_log,
    open_sqlite_log,
)
from domain.log.mapper import EventMapper
from domain.log.recent import RecentEvents
from domain.redaction import Redactor
from tests.kit.jobs import finished, started, submitted
from tests.kit.waiting import soon

ROOM_S = 90.0
RETRY = b"retry: 1000\n\n"
SERVER_TOKEN = "of-the-server"
OPERATOR = Context(actor="operator")
SYSTEM = Context(actor="system:dispatcher")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    opened = open_sqlite_log(tmp_path / "log", redactor=Redactor(), catalogue=CATALOGUE)
    yield opened
    opened.close()


def put(log: EventLog, stream: str, *events: Event, context: Context = SYSTEM) -> list[Recorded]:
    version = len(log.blocking.stream(stream))
    return list(log.append_blocking(new_events(stream, list(events), context), {stream: version}))


def output(first_line: int, *lines: str) -> JobOutput:
    return JobOutput(attempt=1, first_line=first_line, lines=list(lines), end_offset=first_line)


def whole_job(log: EventLog, job: str, *outputs: tuple[str, ...]) -> list[Recorded]:
    """A whole job, with an output event for each of `outputs`."""
    stream = f"job-{job}"
    put(log, stream, submitted(), JobQueued(attempt=1), context=OPERATOR)
    put(log, stream, started())
    line = 1
    for lines in outputs:
        put(log, f"{stream}/output", output(line, *lines))
        line += len(lines)
    put(log, stream, finished())
    return [event for page in log.blocking.pages(subject=stream) for event in page]


def run(scenario: Coroutine[Any, Any, Any]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(ROOM_S):
            return await scenario

    return asyncio.run(bounded())


async def everything(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


def frames(content: bytes) -> list[bytes]:
    """The frames after the retry, which must come first."""
    assert content.startswith(RETRY)
    return [block + b"\n\n" for block in content[len(RETRY) :].split(b"\n\n")[:-1]]


def ids(content: bytes) -> list[str]:
    return [frame.split(b"\n")[0].removeprefix(b"id: ").decode() for frame in frames(content)]


# Cursors


def request(headers: dict[str, str] | None = None, query: str = "") -> Request:
    return Request(
        {
            "type": "http",
            "headers": [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()],
            "query_string": query.encode(),
        }
    )


def test_the_header_is_stronger_than_the_query_and_that_than_a_parameter(log: EventLog) -> None:
    whole_job(log, "a")
    header, query = {"Last-Event-ID": "3:1"}, "last_event_id=2"

    assert cursor_of(request(header, query), log, 1) == Cursor(3, 1)
    assert cursor_of(request({}, query), log, 1) == Cursor(2)
    assert cursor_of(request({"Last-Event-ID": ""}, query), log) == Cursor(2)
    assert cursor_of(request(), log, 1) == Cursor(1)
    assert cursor_of(request(), log, 0) == Cursor(0)
    assert cursor_of(request(), log) is None


@pytest.mark.parametrize(
    "text", ["x", "-1", "+1", " 1", "1 ", "01", "1:", ":1", "1:01", "1.0", "٣", "0:0", "5", "5:0"]
)
def test_a_cursor_that_cannot_be_is_refused(log: EventLog, text: str) -> None:
    whole_job(log, "a")
    assert log.head == 4

    with pytest.raises(InvalidCursor):
        cursor_of(request({"Last-Event-ID": text}), log)


def test_a_cursor_says_where_to_read_on() -> None:
    assert Cursor(7).after == 7
    assert Cursor(7, 0).after == 6


# Wire forms


def test_an_envelope_is_one_frame_with_its_id_and_type(log: EventLog) -> None:
    (event,) = put(log, "job-a", JobMessaged(text='two\nlines, "quotes", é 🦀'))

    (frame,) = ENVELOPES.frames(event)
    first, second, data, *end = frame.decode().split("\n")
    assert (first, second, end) == ("id: 1", "event: job.messaged", ["", ""])
    assert json.loads(data.removeprefix("data: ")) == event.as_json()


def test_frames_are_made_once_for_all_readers(log: EventLog) -> None:
    made: list[int] = []

    def encode(event: Recorded) -> list[bytes]:
        made.append(event.position)
        return [b"%d " % event.position]

    page = put(log, "job-a", *(JobMessaged(text=str(n)) for n in range(3)))
    form = WireForm("counted", encode)

    async def read() -> None:
        first, second = await asyncio.gather(form.chunks(page, None), form.chunks(page, Cursor(0)))
        assert first == second == [b"1 2 3 "]
        assert first[0] is second[0]
        assert await form.chunks(page[1:], None) == [b"2 3 "]

    run(read())
    assert made == [1, 2, 3]


def test_readers_with_different_filters_never_get_each_others_bytes(log: EventLog) -> None:
    """Even if their pages have the same first and last events and the same length."""
    one, two, three, four = put(log, "job-a", *(JobMessaged(text=str(n)) for n in range(4)))
    form = WireForm("numbers", lambda event: [b"%d " % event.position])

    async def read() -> None:
        assert await form.chunks([one, two, four], None) == [b"1 2 4 "]
        assert await form.chunks([one, three, four], None) == [b"1 3 4 "]

    run(read())


def test_a_page_is_few_writes_of_bounded_size(log: EventLog) -> None:
    events = put(log, "job-a", *(JobMessaged(text="x" * 100_000) for _ in range(10)))
    chunks = run(ENVELOPES.chunks(events, None))

    assert b"".join(chunks) == b"".join(ENVELOPES.frames(event)[0] for event in events)
    assert len(chunks) == 4
    assert all(len(chunk) < 400_000 for chunk in chunks)


def test_others_have_their_turn_while_a_large_page_is_framed(log: EventLog) -> None:
    """Once, a reader of old output blocked the event loop for its whole page."""
    page = put(log, "job-a", *(JobMessaged(text="x") for _ in range(200)))

    def slow(event: Recorded) -> list[bytes]:
        end = perf_counter() + 0.002
        while perf_counter() < end:
            pass
        return [b"."]

    async def scenario() -> int:
        form, turns = WireForm("slow", slow), 0
        readers = [
            asyncio.create_task(form.chunks(page[start:], None)) for start in range(0, 100, 20)
        ]
        while not all(reader.done() for reader in readers):
            await asyncio.sleep(0)
            turns += 1
        return turns

    # 200 events of 2 ms in slices of about 5 ms. Without slices there would be about one turn.
    assert run(scenario()) > 40


@pytest.mark.parametrize("lines", [["ab"] * 256, ["x" * 1000] * 5, ["y" * 10_000]])
def test_what_was_decoded_of_the_newest_events_counts_as_memory(lines: list[str]) -> None:
    """Decoded events are much larger than their bytes in the log, and all of them are kept."""
    bound = 256 * 1024
    mapper = EventMapper(Redactor())
    (new,) = new_events("job-a/output", [output(1, *lines)], SYSTEM)
    recent = RecentEvents(0, max_bytes=bound)

    def fill() -> None:
        for position in range(1, bound // len(mapper.stored([new], [1])[0].state) + 2):
            # Stored anew each time: shared bytes would count only once.
            state = mapper.stored([new], [position])[0].state
            event = Recorded(position, new.stream, position, "job.output", state, CATALOGUE)
            recent.extend([event])
            assert event.data

    tracemalloc.start()
    try:
        fill()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert bound / 4 < kept < 1.5 * bound


@pytest.mark.parametrize("lines", [["ab"] * 256, ["x" * 1000] * 5, ["y" * 10_000]])
@pytest.mark.parametrize("form", [ENVELOPES, LINES, BOARD], ids=lambda form: form.name)
def test_frames_are_kept_within_bounds(form: WireForm, lines: list[str]) -> None:
    bound = 256 * 1024
    mapper = EventMapper(Redactor())
    (new,) = new_events("job-a/output", [output(1, *lines)], SYSTEM)
    frames = Frames(form.encode, max_bytes=bound)
    count = 2 * bound // len(mapper.stored([new], [1])[0].state)

    def fill() -> None:
        for position in range(1, count):
            state = mapper.stored([new], [position])[0].state
            frames.of(Recorded(position, new.stream, position, "job.output", state, CATALOGUE))

    tracemalloc.start()
    try:
        fill()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert bound / 4 < kept < 1.5 * bound


def test_logs_that_share_a_form_get_their_own_frames() -> None:
    """Both have an event at position 1."""
    form = WireForm("texts", lambda event: [event.data["text"].encode()])
    for text in ("one", "two", "one"):
        log = open_log(MemoryStore(), redactor=Redactor(), catalogue=CATALOGUE)
        (event,) = put(log, "job-a", JobMessaged(text=text))
        assert form.frames(event) == [text.encode()]
        log.close()


# Readers

LINE = st.text(st.characters(codec="utf-8"), max_size=6)
OUTPUTS = st.lists(st.lists(LINE, min_size=1, max_size=5).map(tuple), max_size=6)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(outputs=OUTPUTS)
@pytest.mark.parametrize("form", [ENVELOPES, LINES], ids=lambda form: form.name)
def test_resuming_after_any_frame_gives_exactly_the_rest(
    log: EventLog, form: WireForm, outputs: list[tuple[str, ...]]
) -> None:
    """Over a log with events of other jobs before, between and after."""
    job = f"j{log.head}"
    whole_job(log, f"{job}-before", ("x", "y"))
    events = whole_job(log, job, *outputs)
    whole_job(log, f"{job}-after", ("x",))
    end = events[-1].position

    async def read(cursor: Cursor | None) -> bytes:
        over = last_end(Jobs(log))
        return await everything(read_job(log, form, job, cursor, end_at=end, over=over))

    async def check() -> None:
        whole = await read(None)
        expected = [frame for event in events for frame in form.frames(event)]
        assert frames(whole) == expected
        for seen, name in enumerate(ids(whole), 1):
            headers = {"Last-Event-ID": name}
            assert frames(await read(cursor_of(request(headers), log))) == expected[seen:]

    run(check())


async def first_frames(chunks: AsyncIterator[bytes], count: int) -> list[bytes]:
    """The first `count` frames of a stream that need not end."""
    content = b""
    async for chunk in chunks:
        content += chunk
        if len(frames(content)) >= count:
            break
    return frames(content)


def test_the_log_is_read_from_any_position_and_goes_on_live(log: EventLog) -> None:
    whole_job(log, "a", ("1",), ("2",))
    put(log, "job-b", JobMessaged(text="before"))
    head = log.head

    async def scenario() -> None:
        for start in range(head + 1):
            reader = asyncio.create_task(
                first_frames(read_log(log, ENVELOPES, Cursor(start)), log.head + 1 - start)
            )
            await asyncio.to_thread(put, log, "job-b", JobMessaged(text="live"))
            assert [int(frame.split()[1]) for frame in await reader] == list(
                range(start + 1, log.head + 1)
            )

    run(scenario())


def test_a_filtered_reading_has_what_matches_and_keeps_its_order(log: EventLog) -> None:
    for name in "abc":
        whole_job(log, name, ("1",))
    page = [event for page in log.blocking.pages() for event in page]

    async def shown(count: int, **only: Any) -> list[int]:
        found = await first_frames(read_log(log, ENVELOPES, None, **only), count)
        return [int(frame.split()[1]) for frame in found]

    async def scenario() -> None:
        kinds = ("job.queued", "job.finished")
        for only, chosen in (
            ({"types": kinds}, [e for e in page if e.type in kinds]),
            ({"actor": "operator"}, [e for e in page if e.actor == "operator"]),
            ({"subject": "job-b"}, [e for e in page if e.subject == "job-b"]),
            (
                {"types": kinds, "actor": "operator", "subject": "job-c"},
                [e for e in page if e.subject == "job-c" and e.type == "job.queued"],
            ),
        ):
            expected = [event.position for event in chosen]
            assert await shown(len(expected), **only) == expected

    run(scenario())


def test_a_reading_of_a_job_ends_with_the_job_whatever_its_filter(log: EventLog) -> None:
    put(log, "job-a", submitted(), JobQueued(attempt=1), context=OPERATOR)

    async def scenario() -> None:
        filters: list[dict[str, Any]] = [
            {},
            {"types": ("job.output",)},
            {"actor": "operator"},
            {"types": ("job.finished",), "actor": "operator"},
        ]
        over = last_end(Jobs(log))
        readers = [
            asyncio.create_task(
                everything(read_job(log, ENVELOPES, "a", None, end_at=None, over=over, **only))
            )
            for only in filters
        ]
        await asyncio.to_thread(put, log, "job-a/output", output(1, "x"))
        await asyncio.to_thread(put, log, "job-b", finished())
        await asyncio.to_thread(put, log, "job-a", finished())
        contents = await asyncio.gather(*readers)
        assert [ids(content) for content in contents] == [
            ["1", "2", "3", "5"],
            ["3"],
            ["1", "2"],
            [],
        ]

    run(scenario())


def test_a_reading_of_an_ended_job_stops_at_its_newest_event(log: EventLog) -> None:
    events = whole_job(log, "a", ("x",))
    put(log, "job-a", JobMessaged(text="afterwards"))

    async def scenario() -> None:
        assert log.blocking.last_about("job-a") == 6
        over = last_end(Jobs(log))
        content = await everything(read_job(log, ENVELOPES, "a", None, end_at=6, over=over))
        assert ids(content) == [str(event.position) for event in events] + ["6"]
        seen = await everything(read_job(log, ENVELOPES, "a", Cursor(6), end_at=6, over=over))
        assert seen == RETRY

    run(scenario())


# The response


class Client:
    """The client of a response: the messages it got, and when it disconnects."""

    def __init__(self, takes: Callable[[Message], Coroutine[Any, Any, None]] | None = None) -> None:
        self.sent: list[Message] = []
        self.leaves = asyncio.Event()
        self._takes = takes
        self.people = Directory()
        self.people.loaded = True
        cookies = Cookies(b"key", system_clock)
        known = Accounts(self.people, OpenSessions(), cookies, system_clock, SERVER_TOKEN)
        self.security = Security(lambda: SERVER_TOKEN, known)

    async def receive(self) -> Message:
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self._takes is not None:
            await self._takes(message)
        self.sent.append(message)

    @property
    def bodies(self) -> list[bytes]:
        return [m["body"] for m in self.sent if m["type"] == "http.response.body"]

    async def opens(self, chunks: AsyncIterator[bytes], token: str = SERVER_TOKEN) -> None:
        app = FastAPI()
        app.state.security = self.security
        scope: Scope = {
            "type": "http",
            "method": "GET",
            "path": "/",
            "query_string": b"",
            "headers": [(b"authorization", f"Bearer {token}".encode())],
            "app": app,
        }
        request = Request(scope)
        principal = self.security.authenticate(request, "GET")
        await event_stream(request, principal, chunks)(scope, self.receive, self.send)


class Chunks:
    """Yields its chunks one by one, then waits for ever; records whether it was closed."""

    def __init__(self, *chunks: bytes, ends: bool = False) -> None:
        self._chunks = chunks
        self._ends = ends
        self.closed = False

    async def read(self) -> AsyncIterator[bytes]:
        try:
            for chunk in self._chunks:
                yield chunk
            if not self._ends:
                await asyncio.Event().wait()
        finally:
            self.closed = True


def test_a_response_is_its_chunks_and_an_end() -> None:
    async def scenario() -> None:
        client = Client()
        await client.opens(Chunks(RETRY, b"one", b"two", ends=True).read())

        start, *_, end = client.sent
        headers = dict(start["headers"])
        assert start["status"] == 200
        assert headers[b"content-type"] == b"text/event-stream; charset=utf-8"
        assert b"no-store" in headers[b"cache-control"]
        assert headers[b"x-accel-buffering"] == b"no"
        assert client.bodies == [RETRY, b"one", b"two", b""]
        assert end["more_body"] is False

    run(scenario())


def test_a_silent_stream_is_kept_alive_by_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "_PING_S", 0.01)

    async def scenario() -> None:
        client, chunks = Client(), Chunks(RETRY)
        open_stream = asyncio.create_task(client.opens(chunks.read()))
        await soon(lambda: client.bodies.count(b": heartbeat\n\n") >= 3)
        client.leaves.set()
        await open_stream
        assert client.bodies[0] == RETRY
        assert set(client.bodies[1:]) <= {b": heartbeat\n\n", b""}
        assert chunks.closed

    run(scenario())


def test_a_silent_stream_ends_when_its_reader_would_not_be_let_in_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A token may expire by time alone, without a change of its account."""
    monkeypatch.setattr(sse, "_PING_S", 0.01)

    async def scenario() -> None:
        client, chunks = Client(), Chunks(RETRY)
        open_stream = asyncio.create_task(client.opens(chunks.read()))
        await soon(lambda: client.bodies.count(b": heartbeat\n\n") >= 2)
        client.security.token = lambda: "another"
        await open_stream
        assert client.sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
        assert chunks.closed

    run(scenario())


def test_a_reader_that_leaves_lets_go_of_the_log() -> None:
    async def scenario() -> None:
        client, chunks = Client(), Chunks(RETRY, b"one")
        open_stream = asyncio.create_task(client.opens(chunks.read()))
        await soon(lambda: b"one" in client.bodies)
        client.leaves.set()
        await open_stream
        assert chunks.closed

    run(scenario())
