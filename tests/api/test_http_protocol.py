"""Limits of a connection, in bytes and in time: a real server on loopback, and a clock that the
test moves.
"""

import asyncio
import json
import logging
import math
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from api.edge.http_protocol import (
    BODY_S,
    HEAD_LIMIT,
    HEAD_S,
    IDLE_S,
    LINGER_S,
    STALL_S,
    bounded,
    sweep,
)
from tests.kit.waiting import until

_LARGE = 32 * 1024 * 1024


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the length of the body; `/large` answers with more than a socket buffers."""
    assert scope["type"] == "http"
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        more = message["more_body"]
    body = b"x" * _LARGE if scope["path"] == "/large" else b"%d" % size
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class World:
    """A server in a thread, whose clock the test moves."""

    def __init__(self, most: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(
            app,
            http=bounded(most),
            timeout_keep_alive=IDLE_S,
            log_config=None,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        self.server = uvicorn.Server(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            await self.server.serve(sockets=[self._listener])

        asyncio.run(serve())

    def start(self) -> None:
        self._thread.start()
        until(lambda: self.server.started, "the server listens")

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join()
        self._listener.close()

    def later(self, seconds: float) -> None:
        """Sweep the connections as the server would after this time."""
        assert self._loop is not None
        loop, done = self._loop, threading.Event()

        def look() -> None:
            sweep(self.server.server_state.connections, loop.time() + seconds)
            done.set()

        loop.call_soon_threadsafe(look)
        assert done.wait(20)

    @property
    def open(self) -> int:
        return len(self.server.server_state.connections)

    @property
    def clients(self) -> list[Any]:
        return [getattr(one, "client", None) for one in self.server.server_state.connections]

    def connection(self) -> socket.socket:
        return socket.create_connection(self._listener.getsockname(), timeout=20)

    @property
    def only(self) -> Any:
        """The server's side of the one connection."""
        (one,) = self.server.server_state.connections
        return one

    @contextmanager
    def connected(self, data: bytes = b"") -> Iterator[socket.socket]:
        with self.connection() as client:
            us = client.getsockname()
            until(lambda: us in self.clients, "the connection is there")
            client.sendall(data)
            yield client


@pytest.fixture
def world() -> Iterator[World]:
    made = World(most=50)
    made.start()
    yield made
    made.stop()


def answer(client: socket.socket) -> tuple[int, bytes]:
    """Status and body of everything that the server sends until it closes."""
    received = b""
    while data := client.recv(65_536):
        received += data
    if not received:
        return 0, b""
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def ask(client: socket.socket, data: bytes) -> tuple[int, bytes]:
    """One answer on a connection that stays open."""
    client.sendall(data)
    with client.makefile("rb") as stream:
        status = int(stream.readline().split()[1])
        length = 0
        while (line := stream.readline()) != b"\r\n":
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        return status, stream.read(length)


def pushed(client: socket.socket, piece: bytes, most: int) -> int:
    """The number of bytes that the server accepted."""
    sent = 0
    try:
        while sent < most:
            client.sendall(piece)
            sent += len(piece)
    except OSError:
        pass
    return sent


@pytest.mark.parametrize(
    ("begin", "piece", "status"),
    [
        (b"GET /", b"a" * 16_384, 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ", b"a" * 16_384, 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n", b"X-Many: 0123456789\r\n" * 800, 431),
        (b"\r\n", b"\r\n" * 8_192, 431),
    ],
    ids=["request line", "one header", "many headers", "empty lines"],
)
def test_a_head_that_never_ends_is_refused(
    world: World, begin: bytes, piece: bytes, status: int
) -> None:
    with world.connected(begin) as client:
        assert pushed(client, piece, _LARGE) < _LARGE
    with world.connected() as client:
        client.sendall(begin + piece * (8 * HEAD_LIMIT // len(piece)))
        code, body = answer(client)
        assert code in (status, 414)
        assert "larger than" in json.loads(body)["detail"] or "longer" in json.loads(body)["detail"]


def test_a_head_that_is_whole_is_refused_by_its_size(world: World) -> None:
    with world.connected() as client:
        client.sendall(b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * HEAD_LIMIT))
        assert answer(client)[0] == 414
    with world.connected() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n" % (b"a" * HEAD_LIMIT))
        assert answer(client)[0] == 431
    with world.connected() as client:
        near = b"a" * (HEAD_LIMIT - 100)
        assert ask(client, b"GET / HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n" % near)[0] == 200


def test_trailers_and_framing_that_never_end_are_cut(world: World) -> None:
    begin = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    for endless in (b"0\r\nX-Trailer: ", b"1;extension="):
        with world.connected(begin + endless) as client:
            assert pushed(client, b"a" * 16_384, _LARGE) < _LARGE


def test_a_body_in_many_small_pieces_is_no_framing_that_never_ends(world: World) -> None:
    begin = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with world.connected(begin) as client:
        client.sendall(b"1\r\na\r\n" * 100_000)
        assert ask(client, b"0\r\n\r\n") == (200, b"100000")


def test_many_requests_on_one_connection_each_have_a_whole_limit(world: World) -> None:
    padded = b"GET / HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n" % (b"a" * (HEAD_LIMIT // 2))
    with world.connected() as client:
        for _ in range(5):
            assert ask(client, padded) == (200, b"0")


@pytest.mark.parametrize(
    "bad", [b"GET / HTTP/1.1\r\nX: %s\r\n\r\n" % (b"a" * 70_000), b"\x00\r\n\r\n"]
)
def test_what_is_refused_behind_a_good_request_does_not_take_its_answer(
    world: World, bad: bytes
) -> None:
    with world.connected() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + bad)
        assert answer(client)[0] == 200


SLOW: dict[str, tuple[bytes, float, int]] = {
    "silent": (b"", HEAD_S, 0),
    "half a request line": (b"GET / HT", HEAD_S, 408),
    "half a header": (b"GET / HTTP/1.1\r\nHost: x\r\nX-", HEAD_S, 408),
    "half a body": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc", BODY_S, 408),
    "no body": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", BODY_S, 408),
}


@pytest.mark.parametrize(("sent", "seconds", "status"), SLOW.values(), ids=SLOW)
def test_a_connection_that_does_not_go_on_is_closed(
    world: World, sent: bytes, seconds: float, status: int
) -> None:
    with world.connected(sent) as client:
        until(lambda: not sent or _seen(world), "the server has the bytes")
        world.later(seconds - 5)
        assert world.open == 1
        world.later(seconds + 1)
        assert answer(client)[0] == status
    until(lambda: world.open == 0, "the connection is gone")


def _seen(world: World) -> bool:
    return world.only.scope is not None


def test_the_next_request_of_a_connection_may_not_stop_half_way_either(world: World) -> None:
    with world.connected() as client:
        assert ask(client, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 200
        world.later(HEAD_S + 1)
        assert ask(client, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 200, "It may be idle."
        client.sendall(b"GET / HT")
        connection = world.only
        until(lambda: connection._deadline < math.inf, "the bytes came")
        world.later(HEAD_S + 1)
        assert answer(client)[0] == 408


def test_stray_bytes_between_requests_do_not_keep_a_connection(world: World) -> None:
    with world.connected() as client:
        assert ask(client, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 200
        client.sendall(b"\r\n")
        connection = world.only
        until(lambda: connection._deadline < math.inf, "the bytes came")
        world.later(HEAD_S + 1)
        assert answer(client)[0] == 408


def test_a_client_that_takes_nothing_is_let_go_with_all_that_it_is_owed(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="crewlog.http")
    with world.connected(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n"):
        connection = world.only
        until(lambda: connection.flow.write_paused, "the socket is full")
        world.later(0)
        world.later(STALL_S - 1)
        assert world.open == 1
        world.later(STALL_S + 1)
        until(lambda: world.open == 0, "the connection is gone")
    lines = [record for record in caplog.records if record.name == "crewlog.http"]
    assert len(lines) == 1
    assert lines[0].levelno == logging.INFO
    assert lines[0].exc_info is None


def test_a_connection_that_is_closed_with_something_owed_goes_too(world: World) -> None:
    """uvicorn closes an idle connection, but an untaken answer would keep it open for ever."""
    with world.connected(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"):
        connection = world.only
        until(lambda: connection.transport.is_closing(), "it is being closed")
        world.later(0)
        world.later(LINGER_S + 1)
        until(lambda: world.open == 0, "the connection is gone")


def test_a_client_that_takes_slowly_is_served_to_the_end(world: World) -> None:
    with world.connected(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") as client:
        connection = world.only
        until(lambda: connection.transport.is_closing(), "it is being closed")
        received = 0
        for round_ in range(1, 4):
            received += len(client.recv(1024 * 1024))
            owed = connection.transport.get_write_buffer_size
            before = owed()
            # If the system took the rest at once, nothing is left to send.
            while owed() == before and (data := client.recv(1024 * 1024)):
                received += len(data)
            world.later((LINGER_S - 1) * round_)
        while data := client.recv(1024 * 1024):
            received += len(data)
    assert received > _LARGE


def test_more_connections_than_there_are_descriptors_for_are_turned_away() -> None:
    world = World(most=3)
    world.start()
    try:
        with world.connected() as one, world.connected(), world.connected():
            with world.connection() as late:
                code, body = answer(late)
                assert code == 503
                assert "too many connections" in json.loads(body)["detail"]
            assert ask(one, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 200
        until(lambda: world.open == 0, "all are gone")
        with world.connected() as next_one:
            assert ask(next_one, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 200
    finally:
        world.stop()
