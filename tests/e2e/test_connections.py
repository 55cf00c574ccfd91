"""Silent connections do not harm others: jobs keep their descriptors, new connections are refused
with a message, and the silent ones are closed after a while.
"""

import socket
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.e2e.gitoma import output
from tests.kit.client import Native
from tests.kit.server import Server
from tests.kit.waiting import DEADLINE_S, until

DESCRIPTORS = 256


def test_silent_connections_take_no_descriptor_from_jobs(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", "--stop-jobs", "--log-level=warning", "--capacity=2")
    server.prefix = ("prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}")
    with server, ExitStack() as held, Native(server) as http:
        assert http.get("/healthz").status_code == 200
        address = urlsplit(server.url)

        def refused() -> httpx2.Response | None:
            """The answer to a newcomer beside more silent connections than there are descriptors.
            On a slow machine the first of them are closed before the last ones are open.
            """
            for _ in range(DESCRIPTORS):
                silent = socket.create_connection((str(address.hostname), address.port or 0))
                held.enter_context(silent)
            with Native(server) as late:
                answer = late.get("/healthz")
                return answer if answer.status_code == 503 else None

        answer = until(refused, "a newcomer is refused", 60)
        assert answer.headers["Retry-After"]
        assert "too many connections" in answer.json()["detail"]
        assert http.ended(http.submit("true"))["state"] == "completed"

        def served() -> bool:
            with Native(server) as next_one:
                return next_one.get("/healthz").status_code == 200

        until(served, "silent connections were closed", 60)
        assert "raise the limit of open files" in server.output.read_text()


def test_the_server_raises_its_own_limit_of_descriptors_and_not_that_of_jobs(
    tmp_path: Path,
) -> None:
    server = Server(tmp_path / "data", "--log-level=warning")
    server.prefix = ("prlimit", "--nofile=128:4096")
    with server:
        limits = Path(f"/proc/{server.pid}/limits").read_text()
        with Native(server) as http:
            assert output(http, http.shell("ulimit -Sn; ulimit -Hn")) == ["128", "4096"]
    (line,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
    assert line.split()[3:5] == ["4096", "4096"]


def test_headers_without_end_are_refused(tmp_path: Path) -> None:
    with Server.start(tmp_path / "data", "--log-level=warning") as server, Native(server) as http:
        answer = http.get("/healthz", headers={"X-Long": "a" * 70_000})
        assert answer.status_code == 431
        assert answer.headers["content-type"] == "application/json"
        try:
            answer = http.get("/healthz?" + "a" * 60_000, headers={"X-Long": "a" * 10_000})
        except httpx2.RemoteProtocolError:
            raise AssertionError("The refusal did not reach its client.") from None
        assert answer.status_code == 431


@pytest.mark.parametrize("late", [False, True], ids=["at once", "once it is open"])
def test_what_is_no_frame_closes_a_socket_and_is_no_fault(tmp_path: Path, late: bool) -> None:
    server = Server(tmp_path / "data")
    with server, Native(server) as http:
        address = urlsplit(server.url)
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        lines = ["GET /ws/state HTTP/1.1", f"Host: {address.netloc}", "Upgrade: websocket"]
        lines += ["Connection: Upgrade", "Sec-WebSocket-Version: 13", key]
        lines += [f"{name}: {value}" for name, value in server.headers.items()]
        handshake = ("\r\n".join(lines) + "\r\n\r\n").encode()
        garbage = b"\xff" * 100
        with socket.create_connection(
            (address.hostname or "", address.port or 0), timeout=DEADLINE_S
        ) as client:
            client.sendall(handshake if late else handshake + garbage)
            if late:
                assert client.recv(4096).startswith(b"HTTP/1.1 101")
                client.sendall(garbage)
            while client.recv(4096):
                pass
        assert http.get("/readyz").status_code == 200
    said = server.output.read_text()
    assert "Traceback" not in said
    assert "Fatal error" not in said
