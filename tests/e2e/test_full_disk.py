"""A disk that a job has filled: everything but cancels waits for room, and says so."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.crews import job, write_template
from tests.e2e.gitoma import output
from tests.kit.client import Native
from tests.kit.processes import is_alive
from tests.kit.server import Server
from tests.kit.waiting import until

SIZE = "48m"


class SmallDisk(Server):
    """A server with its data on a small file system, which only it and its jobs see."""

    def __init__(self, disk: Path) -> None:
        super().__init__(disk / "data", CREWLOG_TOKEN="token-of-the-small-disk")
        rights = () if os.geteuid() == 0 else ("--user", "--map-root-user")
        mount = f'mount -t tmpfs -o size={SIZE} none "$0" && exec "$@"'
        self.prefix = ("unshare", *rights, "--mount", "sh", "-c", mount, str(disk))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]

    def _launch(self, port: int) -> "SmallDisk":
        return super()._launch(self._port)

    def _answers(self) -> bool:
        self.url = f"http://127.0.0.1:{self._port}"
        try:
            return httpx2.get(f"{self.url}/healthz", trust_env=False).text == "ok"
        except httpx2.HTTPError:
            return False


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    disk = tmp_path / "disk"
    disk.mkdir()
    with SmallDisk(disk) as running:
        yield running


def changes(running: str) -> list[tuple[str, str, dict[str, Any]]]:
    """A change of each kind."""
    return [
        ("POST", "/api/jobs", {"argv": ["true"]}),
        ("POST", "/api/jobs", {"argv": ["true"], "env": {"A": "sealed"}}),
        ("POST", "/api/jobs", {"templateId": "one"}),
        ("POST", "/api/v1/run", {"repo_url": "https://github.com/crew/log"}),
        (
            "POST",
            "/crewlog/v1/users",
            {"email": "ada@example.org", "password": "long enough a word"},
        ),
        (
            "POST",
            "/api/schedules",
            {"name": "Daily", "templateId": "one", "rule": {"rrule": "FREQ=DAILY"}},
        ),
        ("POST", f"/api/jobs/{running}/comments", {"body": "Still there?"}),
    ]


def test_a_job_that_fills_the_disk_can_be_cancelled_and_all_else_is_503(
    server: Server, tmp_path: Path
) -> None:
    gate, seen, fill = tmp_path / "gate", tmp_path / "seen", server.data / "fill"
    with Native(server) as http:
        write_template(tmp_path, "one", job("a"))
        folder = server.data / "templates"
        copied = http.shell(f"mkdir -p {folder}; cp {tmp_path}/templates/* {folder}")
        assert http.ended(copied)["exitCode"] == 0
        tidies = http.shell(f"until [ -e {gate} ]; do sleep 0.02; done; rm {fill}")
        waits = f"until [ -e {seen} ]; do sleep 0.02; done"
        fills = f"cat /dev/zero > {fill}; echo full > {tmp_path}/full; exec sleep 600"
        filling = http.shell(f"echo $$; {waits}; {fills}")
        until(lambda: http.printed(filling), "its first line is there")
        pid = int(http.printed(filling)[0])
        seen.touch()
        until((tmp_path / "full").exists, "the disk is full")
        assert http.get("/readyz").status_code == 503  # also before the first write

        for method, path, body in changes(filling):
            refused = http.request(method, path, json=body)
            assert refused.status_code == 503, (path, refused.text)
            assert int(refused.headers["retry-after"]) > 0
            assert refused.json()["error_id"] == refused.headers["x-request-id"]
            assert "errno" not in refused.text.lower()
        assert http.get("/readyz").status_code == 503

        cancelled = http.post(f"/api/jobs/{filling}/cancel")
        assert cancelled.status_code == 200, cancelled.text
        assert http.ended(filling)["state"] == "cancelled"
        assert not is_alive(pid)

        gate.touch()
        http.ended(tidies)
        until(lambda: http.get("/readyz").status_code == 200, "there is room again")
        assert http.ended(http.submit("true"))["state"] == "completed"
        for method, path, body in changes(filling)[:-1]:
            taken = http.request(method, path, json=body)
            assert taken.status_code in (201, 202), (path, taken.text)
        assert output(http, filling)[0] == str(pid)
