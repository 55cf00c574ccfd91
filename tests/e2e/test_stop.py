"""SIGTERM: the server exits at once, despite any connections. Its jobs go on, or are cancelled if
the option says so.
"""

import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.e2e.gitoma import frames, output
from tests.kit.client import Native
from tests.kit.processes import is_alive
from tests.kit.server import Server
from tests.kit.waiting import until

READERS = 15
STOPS_WITHIN_S = 3
COUNTING = "i=0; while [ $i -lt {lines} ]; do i=$((i+1)); echo $i; {pause}; done"


def ask_to_stop(server: Server, number: int = signal.SIGTERM) -> None:
    """Send the signal, and check that the server exits in the promised time."""
    os.kill(server.pid, number)
    until(lambda: not server.running, "the exit", deadline_s=STOPS_WITHIN_S)


@contextmanager
def reading(http: Native, path: str) -> Iterator[Iterator[str]]:
    """The ids and lines of an open stream; its end must be clean."""
    with http.stream("GET", path) as answer:
        assert answer.status_code == 200
        yield answer.iter_lines()


def ids(lines: Iterator[str]) -> list[str]:
    """The ids in the rest of a stream, up to the last whole frame."""
    return [line.removeprefix("id: ") for line in lines if line.startswith("id: ")]


def first_id(lines: Iterator[str]) -> str:
    return next(line.removeprefix("id: ") for line in lines if line.startswith("id: "))


def stalled(server: Server) -> socket.socket:
    """A reader of the whole log that reads nothing."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.connect((host, int(port)))
    head = f"Host: {host}\r\nAuthorization: Bearer {server.token}\r\n\r\n"
    reader.sendall(f"GET /crewlog/v1/log/stream HTTP/1.1\r\n{head}".encode())
    return reader


def half_sent(server: Server) -> socket.socket:
    """A request that the server has begun, and whose body never comes."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    sender = socket.create_connection((host, int(port)))
    headers = f"Host: {host}\r\nAuthorization: Bearer {server.token}\r\nContent-Length: 9\r\n"
    # The server sends 100 Continue once it waits for the body.
    sender.sendall(f"POST /api/jobs HTTP/1.1\r\n{headers}Expect: 100-continue\r\n\r\n".encode())
    assert sender.recv(100).startswith(b"HTTP/1.1 100 ")
    return sender


def pid_of(http: Native, job_id: str) -> int:
    """The pid that a job's script prints first, with `echo $$`."""
    return int(until(lambda: http.printed(job_id), "its first line")[0])


def test_thirty_readers_and_a_running_job_hold_nothing_up(tmp_path: Path) -> None:
    """Every stream ends cleanly, the job goes on, and each resumed reader gets every line once."""
    with Server.start(tmp_path / "data", "--log-level=warning") as server, ExitStack() as open_now:
        http = open_now.enter_context(Native(server, limits=httpx2.Limits(max_connections=None)))
        job_id = http.shell(COUNTING.format(lines=400, pause="sleep 0.01"))
        paths = [f"/api/v1/stream/{job_id}", "/crewlog/v1/log/stream"]
        streams = {
            path: [open_now.enter_context(reading(http, path)) for _ in range(READERS)]
            for path in paths
        }
        seen = {path: [[first_id(s)] for s in streams[path]] for path in paths}
        assert http.state(job_id) == "running"  # on a connection that then stays open

        ask_to_stop(server)
        for path in paths:
            for stream, found in zip(streams[path], seen[path], strict=True):
                found += ids(stream)

        server.restart()
        with Native(server) as http:
            assert http.ended(job_id)["state"] == "completed"
            assert output(http, job_id) == [str(number) for number in range(1, 401)]
            everything = [frame.id for frame in frames(http, job_id)]
            for found in seen[paths[0]]:
                rest = [frame.id for frame in frames(http, job_id, found[-1])]
                assert found + rest == everything
            for found in seen[paths[1]]:
                assert found == [str(number) for number in range(1, len(found) + 1)]
            assert len(http.events(job_id, "job.started")) == 1
            assert len(http.events(job_id, "job.finished")) == 1
            assert http.events(job_id, "job.cancel_requested") == []


def test_readers_that_take_nothing_do_not_hold_it_up(tmp_path: Path) -> None:
    with (
        Server.start(tmp_path / "data", "--log-level=warning") as server,
        Native(server) as http,
        ExitStack() as open_now,
    ):
        http.ended(http.shell(f"yes {'x' * 999} | head -12000"))
        for _ in range(5):
            sleeper = stalled(server)
            open_now.callback(sleeper.close)
            sleeper.recv(100)  # its answer has begun
        ask_to_stop(server)


def test_requests_that_do_not_end_are_cut_and_cost_a_line_of_the_log_each(tmp_path: Path) -> None:
    """One request whose body never comes, and one whose client reads nothing of the answer."""
    with (
        Server.start(tmp_path / "data", "--log-level=warning") as server,
        Native(server) as http,
        ExitStack() as open_now,
    ):
        http.ended(http.shell(f"yes {'x' * 999} | head -12000"))
        sleeper = open_now.enter_context(closing(stalled(server)))
        sleeper.recv(100)  # its answer has begun
        sender = open_now.enter_context(closing(half_sent(server)))
        ask_to_stop(server)
        received = b"".join(iter(lambda: sender.recv(4096), b"")).decode()

    head, _, body = received.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 503 ")
    assert json.loads(body)["detail"] == "The server is being stopped."
    request_id = json.loads(body)["error_id"]
    assert f"x-request-id: {request_id}" in head
    printed = server.output.read_text()
    assert request_id in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_jobs_go_on_without_the_server(tmp_path: Path, number: int) -> None:
    gate = tmp_path / "gate"
    with Server.start(tmp_path / "data", "--capacity=1", "--log-level=warning") as server:
        with Native(server) as http:
            job_id = http.shell(f"echo $$; until [ -e {gate} ]; do sleep 0.02; done; echo over")
            pid = pid_of(http, job_id)
            waiting = http.submit("echo", "later")
        ask_to_stop(server, number)
        assert is_alive(pid)
        gate.touch()
        until(lambda: not is_alive(pid), "the end of the job, without a server")

        server.restart()
        with Native(server) as http:
            assert http.ended(job_id)["state"] == "completed"
            assert output(http, job_id) == [str(pid), "over"]
            assert output(http, waiting) == ["later"]


def test_stop_jobs_cancels_what_runs_and_says_who_did(tmp_path: Path) -> None:
    with Server.start(
        tmp_path / "data", "--stop-jobs", "--capacity=2", "--log-level=warning"
    ) as server:
        with Native(server) as http:
            polite = http.shell(
                "trap 'echo bye; exit 0' TERM; echo $$; while :; do sleep 0.02; done"
            )
            stubborn = http.shell("trap '' TERM; echo $$; while :; do sleep 0.1; done")
            pids = [pid_of(http, job_id) for job_id in (polite, stubborn)]
            waiting = http.submit("echo", "later")
            assert http.state(waiting) == "queued"
        server.stop()
        assert not any(map(is_alive, pids))

        server.restart()
        with Native(server) as http:
            for job_id, code in ((polite, 0), (stubborn, -9)):
                assert http.state(job_id) == "cancelled"
                (asked,) = http.events(job_id, "job.cancel_requested")
                assert asked["actor"] == "system:shutdown"
                (end,) = http.events(job_id, "job.finished")
                assert (end["data"]["outcome"], end["data"]["exit_code"]) == ("cancelled", code)
            assert "bye" in output(http, polite)
            assert output(http, waiting) == ["later"]
