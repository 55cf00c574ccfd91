"""A line without an end is shown while it is open, and is a sign of life."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.e2e.crews import commit, job, stands
from tests.e2e.gitoma import frames, output
from tests.e2e.visits import Visitors
from tests.kit.client import Native
from tests.kit.server import CREWLOG, Server, environment
from tests.kit.waiting import until

SECRET = "s3cr3t-Value-0123456789"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "data", "--stop-jobs", MY_TOKEN=SECRET) as running:
        yield running


def gated(server: Server, before: str, after: str) -> str:
    return f"printf '{before}'; until [ -e {server.data}/gate ]; do sleep 0.01; done; echo {after}"


def open_gate(server: Server) -> None:
    (server.data / "gate").touch()


@contextmanager
def stream(http: Native, path: str) -> Iterator[Iterator[dict[str, Any]]]:
    """The frames, each as its fields."""

    def parsed(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
        fields: dict[str, Any] = {}
        for line in lines:
            name, _, value = line.partition(":")
            if line and name:
                fields[name] = value.removeprefix(" ")
            elif not line and "data" in fields:
                yield {**fields, "data": json.loads(fields["data"])}
                fields = {}
            elif not line:
                fields = {}

    with http.stream("GET", path) as answer:
        assert answer.status_code == 200, answer.read()
        yield parsed(answer.iter_lines())


@pytest.mark.parametrize(
    "path", ["/api/jobs/{id}/stream", "/crewlog/v1/log/stream?subject=job-{id}&partial=true"]
)
def test_a_prompt_is_seen_while_it_stands(server: Server, path: str) -> None:
    with Native(server) as http:
        job_id = http.shell(gated(server, "begun\\nconnecting to db... ", "ok"))
        with stream(http, path.format(id=job_id)) as shown:
            for frame in shown:
                assert ("id" in frame) == (frame.get("event") != "partial"), frame
                if frame.get("event") == "partial" and frame["data"]["text"]:
                    break
            assert frame["data"] == {
                "type": "partial",
                "attempt": 1,
                "line": 2,
                "text": "connecting to db... ",
            }
            open_gate(server)
            rest = list(shown)
        assert rest[-1]["id"]
        assert "connecting to db... ok" in json.dumps([frame["data"] for frame in rest])
        assert [f["data"]["text"] for f in rest if f.get("event") == "partial"] in ([], [""])
        assert output(http, job_id) == ["begun", "connecting to db... ok"]
        assert all(frame.event == "line" for frame in frames(http, job_id))


def test_nothing_is_shown_of_what_may_become_a_secret(server: Server) -> None:
    with Native(server) as http:
        # In files, because redaction of the command itself is not tested here.
        for name, part in (("a", SECRET[:12]), ("b", f"{SECRET[12:]} to sign in\n")):
            (server.data / name).write_text(part)
        wait = f"until [ -e {server.data}/gate ]; do sleep 0.01; done"
        job_id = http.shell(f"cd {server.data}; printf 'using '; cat a; {wait}; cat b")
        with stream(http, f"/api/jobs/{job_id}/stream") as shown:
            seen = []
            for frame in shown:
                seen.append(json.dumps(frame))
                if frame.get("event") == "partial" and frame["data"]["text"]:
                    assert frame["data"]["text"] == "using "
                    open_gate(server)
        assert any("using [REDACTED] to sign in" in text for text in seen)
        assert not any(SECRET[:4] in text for text in seen)


def test_bytes_without_a_newline_are_a_sign_of_life(server: Server) -> None:
    dots = "for i in 1 2 3 4 5 6 7 8 9; do printf .; sleep 0.5; done; echo"
    with Native(server) as http:
        crew = commit(server, http, job("a", dots, lease_s=2, max_retries=0))
        assert stands(http, crew["a"], "done")["attempt"] == 1
        assert output(http, crew["a"]) == ["." * 9]


def test_a_prompt_is_followed_on_the_command_line(server: Server) -> None:
    with Native(server) as http:
        job_id = http.shell(gated(server, "one\\nGo on? ", "yes"))
        following = subprocess.Popen(
            [CREWLOG, "jobs", "logs", "--follow", job_id, "--data", str(server.data)],
            stdout=subprocess.PIPE,
            env=environment(),
        )
        with following:
            assert following.stdout is not None
            printed = b""
            while not printed.endswith(b"Go on? "):
                printed += following.stdout.read(1)
            assert printed == b"one\nGo on? "
            open_gate(server)
            assert following.stdout.read() == b"yes\n"
            assert following.wait() == 0


def test_a_prompt_is_on_the_page_while_it_stands(server: Server, visitors: Visitors) -> None:
    with Native(server) as http:
        job_id = http.shell(gated(server, "one\\nGo on? ", "yes"))
        visit = visitors.open(server, f"/#/jobs/{job_id}")
        begun = visit.page.locator("#output-begun")
        expect(begun).to_have_text("Go on? ")
        open_gate(server)
        expect(visit.output).to_have_text(["one", "Go on? yes"])
        expect(begun).to_have_count(0)
        http.ended(job_id)


def test_a_line_that_has_begun_is_seen_again_after_a_restart(server: Server) -> None:
    with Native(server) as http:
        job_id = http.shell(gated(server, "one\\nGo on? ", "yes"))
        until(
            lambda: "one" in json.dumps(http.get(f"/crewlog/v1/log?subject=job-{job_id}").json()),
            "one",
        )
    server.kill()
    server.restart()
    with Native(server) as http:
        with stream(http, f"/api/jobs/{job_id}/stream") as shown:
            begun = (f["data"]["text"] for f in shown if f.get("event") == "partial")
            assert next(text for text in begun if text) == "Go on? "
            open_gate(server)
        http.ended(job_id)
        assert output(http, job_id) == ["one", "Go on? yes"]
