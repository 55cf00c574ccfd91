"""Requests in gitoma's dialect, ``/api/v1``, with its words for states, and its streams."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from tests.kit.waiting import DEADLINE_S, until

ENDED = ("completed", "failed", "cancelled", "timed_out")
REPOSITORY = "https://github.com/crew/log"


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
