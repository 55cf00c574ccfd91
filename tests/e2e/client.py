"""Requests of the end-to-end tests to a running server, over HTTP and its streams."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2

from tests.kit.server import Server
from tests.kit.waiting import DEADLINE_S, until

ENDED = ("completed", "failed", "cancelled", "timed_out")
REPOSITORY = "https://github.com/crew/log"


def made_soon(schedule: Callable[[str], httpx2.Response], seconds: float) -> dict[str, Any]:
    """The schedule for a time this many seconds away, or for a later one on a slow machine."""
    while True:
        answer = schedule((datetime.now(UTC) + timedelta(seconds=seconds)).isoformat())
        if answer.status_code != 400 or seconds > 60:
            assert answer.status_code == 201, answer.text
            return dict(answer.json()["schedule"])
        seconds *= 2


def connect(server: Server) -> httpx2.Client:
    """A client with the server's token."""
    return httpx2.Client(
        base_url=server.url, headers=server.headers, trust_env=False, timeout=DEADLINE_S
    )


def submit(http: httpx2.Client, *argv: str, **fields: Any) -> str:
    """Start a command. Returns the job's id."""
    answer = http.post("/api/jobs", json={"argv": argv, **fields})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def shell(http: httpx2.Client, script: str, **fields: Any) -> str:
    """Start a script of sh. Returns the job's id."""
    return submit(http, "sh", "-c", script, **fields)


def dispatch(http: httpx2.Client, kind: str, **body: Any) -> str:
    """Start one of gitoma's kinds of job. Returns its id."""
    answer = http.post(f"/api/v1/{kind}", json={"repo_url": REPOSITORY, **body})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


def status(http: httpx2.Client, job_id: str) -> dict[str, Any]:
    """A job, as `/api/v1/status` shows it."""
    answer = http.get(f"/api/v1/status/{job_id}")
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


def running(http: httpx2.Client, job_id: str) -> dict[str, Any]:
    """The job once it runs."""

    def now() -> dict[str, Any] | None:
        shown = status(http, job_id)
        assert shown["status"] not in ENDED, shown
        return shown if shown["status"] == "running" else None

    return until(now, "the job runs")


def ended(http: httpx2.Client, job_id: str, deadline_s: float = DEADLINE_S) -> dict[str, Any]:
    """The job once it has ended."""

    def now() -> dict[str, Any] | None:
        shown = status(http, job_id)
        return shown if shown["status"] in ENDED else None

    return until(now, "the job ends", deadline_s)


def cancel(http: httpx2.Client, job_id: str) -> httpx2.Response:
    return http.post(f"/api/v1/jobs/{job_id}/cancel")


def events(http: httpx2.Client, job_id: str) -> list[dict[str, Any]]:
    """Every event about a job in the log."""
    found: list[dict[str, Any]] = []
    cursor: str | None = "0"
    while cursor is not None:
        asked: dict[str, str | int] = {"subject": f"job-{job_id}", "cursor": cursor, "limit": 1000}
        page = http.get("/crewlog/v1/log", params=asked).json()
        found += page["items"]
        cursor = page["cursor"]
    return found


@dataclass(frozen=True)
class Frame:
    """One Server-Sent Event of the gitoma stream."""

    id: str
    event: str
    line: str


def parse(lines: Iterable[str]) -> Iterator[Frame]:
    """The frames in a stream's lines, without comments and `retry:`."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif "data" in fields:
            data = json.loads(fields["data"])
            yield Frame(fields.get("id", ""), fields.get("event", ""), data["line"])
            fields = {}


@contextmanager
def following(
    http: httpx2.Client, job_id: str, last_event_id: str | None = None
) -> Iterator[Iterator[Frame]]:
    """The open stream of a job, frame by frame as they come."""
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    with http.stream("GET", f"/api/v1/stream/{job_id}", headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        yield parse(answer.iter_lines())


def frames(http: httpx2.Client, job_id: str, last_event_id: str | None = None) -> list[Frame]:
    """The whole stream of a job, until the server closes it."""
    with following(http, job_id, last_event_id) as stream:
        return list(stream)


def output(http: httpx2.Client, job_id: str) -> list[str]:
    """The lines between the first, which shows the command, and the sentinel."""
    lines = [frame.line for frame in frames(http, job_id)]
    assert lines[0].startswith("$ ")
    assert lines[-1].startswith("__END__:")
    return lines[1:-1]


def is_alive(pid: int) -> bool:
    """Whether a process with this number runs. A zombie does not count."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def processes_with(argument: str) -> list[int]:
    """The processes that have this argument."""
    found = []
    for entry in os.scandir("/proc"):
        try:
            argv = (
                Path(entry.path, "cmdline").read_bytes().split(b"\0")
                if entry.name.isdigit()
                else []
            )
        except OSError:
            continue
        if argument.encode() in argv:
            found.append(int(entry.name))
    return found
