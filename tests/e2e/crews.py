"""Crews for the end-to-end tests: templates from a test's jobs, committed and watched."""

import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2

from api.edge.worker_tokens import WorkerTokens, load_key
from tests.kit.client import Native
from tests.kit.server import Server
from tests.kit.waiting import until

Json = dict[str, Any]

DEADLINE_S = 90.0
"""Longest wait in seconds, on a busy machine."""


def job(key: str, script: str = "true", *parents: str, **fields: Any) -> Json:
    """A job of a template that runs a script of sh. The script must not contain ``{{`` or
    ``{%``.
    """
    planned: Json = {"id": key, "title": f"Job {key}", "argv": ["sh", "-c", script]}
    return {**planned, "parents": list(parents), **fields}


def write_template(data: Path, name: str, *jobs: Json, **top: Any) -> Path:
    """A template file in a server's data directory, as JSON, which is YAML too."""
    folder = data / "templates"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.job_workflow.yaml"
    path.write_text(json.dumps({"name": name, **top, "jobs": jobs}))
    return path


@dataclass(frozen=True)
class Crew:
    """A committed crew: the id of each job by its key in the template."""

    id: str
    ids: dict[str, str]
    answer: httpx2.Response

    def __getitem__(self, key: str) -> str:
        return self.ids[key]


def commit(
    server: Server,
    http: Native,
    *jobs: Json,
    params: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    **body: Any,
) -> Crew:
    """Make a crew of these jobs, given in dependency order."""
    path = write_template(server.data, f"t{uuid4().hex}", *jobs)
    try:
        name = path.name.partition(".")[0]
        answer = http.post(
            "/api/jobs", json={"templateId": name, **body}, params=params, headers=headers
        )
    finally:
        path.unlink()
    assert answer.status_code == 201, answer.text
    made = answer.json()
    members = http.crew(made["crewId"])["jobs"]
    assert [member["id"] for member in members] == made["jobIds"]
    return Crew(made["crewId"], {one["key"]: one["id"] for one in members}, answer)


def shown(http: httpx2.Client, job_id: str) -> Json:
    """A job with everything that belongs to it."""
    answer = http.get(f"/api/jobs/{job_id}")
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


def stands(http: httpx2.Client, job_id: str, *statuses: str) -> Json:
    """The job, once it is in one of these columns."""
    last: Json = {}

    def now() -> Json | None:
        last.update(shown(http, job_id))
        return last if last["status"] in statuses else None

    try:
        return until(now, f"the job is {' or '.join(statuses)}", DEADLINE_S)
    except AssertionError as never:
        told = [last["status"], last["failureReason"], last["blockReason"], last["events"][-5:]]
        raise AssertionError(f"{never} {told}") from never


def all_done(http: Native, crew: Crew) -> list[Json]:
    """The jobs of a crew, in its order, once all of them are done."""

    def now() -> list[Json] | None:
        nodes: list[Json] = http.crew(crew.id)["jobs"]
        return nodes if all(node["column"] == "done" for node in nodes) else None

    return until(now, "all of the crew is done", DEADLINE_S)


def attempt_runs(http: httpx2.Client, job_id: str, attempt: int = 1) -> None:
    """Wait until that attempt holds the job."""

    def now() -> bool:
        found = shown(http, job_id)
        return (found["attempt"], found["status"]) == (attempt, "running")

    until(now, f"attempt {attempt} runs", DEADLINE_S)


def kinds(http: Native, job_id: str) -> list[str]:
    """The types of all events of a job, without its output."""
    return [e["type"] for e in http.events(job_id) if e["type"] != "job.output"]


def scheduled_soon(http: httpx2.Client, seconds: float, **fields: Any) -> Json:
    """A schedule for a time this many seconds away, or for a later one on a slow machine."""
    while True:
        rule = {"once": (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()}
        answer = http.post("/api/schedules", json={**fields, "rule": rule})
        if answer.status_code != 400 or seconds > 60:
            assert answer.status_code == 201, answer.text
            return dict(answer.json()["schedule"])
        seconds *= 2


def post(http: httpx2.Client, path: str, body: Json | None = None) -> httpx2.Response:
    """Make a change that must be accepted. Returns its position in the log."""
    answer = http.post(path, json=body)
    assert answer.status_code in (200, 201, 204), answer.text
    assert int(answer.headers["x-event-position"]) > 0
    return answer


def pending(http: httpx2.Client, job_id: str) -> Json:
    """The pending approval of a job."""

    def now() -> list[Json]:
        asked: list[Json] = http.get(f"/api/jobs/{job_id}/approvals").json()
        return [approval for approval in asked if approval["state"] == "pending"]

    return until(now, "something is asked", DEADLINE_S)[0]


def resolve(http: httpx2.Client, approval_id: str, resolution: str, **more: Any) -> httpx2.Response:
    body = {"resolution": resolution, **more}
    return http.post(f"/api/approvals/{approval_id}/resolve", json=body)


@contextmanager
def worker(server: Server, job_id: str, attempt: int = 1) -> Iterator[httpx2.Client]:
    """A client with the token of an attempt."""
    token = WorkerTokens(load_key(server.data / "worker.key")).issue(job_id, attempt)
    headers = {"Authorization": f"Bearer {token}"}
    with httpx2.Client(
        base_url=f"{server.url}/crewlog/v1/worker",
        headers=headers,
        trust_env=False,
        timeout=DEADLINE_S,
    ) as client:
        yield client


# Scripts of workers


def until_there(path: Path) -> str:
    """Wait for a file that the test makes."""
    return f"until [ -e {shlex.quote(str(path))} ]; do sleep 0.05; done"


def only_after(path: Path) -> str:
    """Fail until a file is there."""
    return f"[ -e {shlex.quote(str(path))} ]"


def gives(result: Json) -> str:
    """Hand in a result."""
    return f'printf %s {shlex.quote(json.dumps(result))} > "$CREWLOG_RESULT"'


KEEP_PARENTS = 'cp "$CREWLOG_PARENTS" "$CREWLOG_ARTIFACTS/parents.json"'
"""Store the results of the parents, for `parents_of`."""


def parents_of(http: httpx2.Client, job_id: str) -> list[Json]:
    """The parents' results that the last attempt of a job got, if its script is KEEP_PARENTS."""
    answer = http.get(f"/api/jobs/{job_id}/artifact", params={"name": "parents.json"})
    assert answer.status_code == 200, answer.text
    found: list[Json] = answer.json()
    return found


def pid_in(path: Path) -> int:
    """The number that a script left by ``echo $$ > PATH``."""
    return int(until(lambda: path.read_text().strip() if path.exists() else "", "its number"))


# Streams


@dataclass(frozen=True)
class Frame:
    """A frame of the board's stream of a job."""

    id: str
    data: Json

    @property
    def kind(self) -> str:
        """Its type; for a step, the type of the step."""
        step: Json = self.data.get("stepResult", {})
        return str(step.get("type", self.data["type"]))

    @property
    def text(self) -> str:
        step: Json = self.data.get("stepResult", {})
        return str(step.get("text", ""))


def parse(lines: Iterable[str]) -> Iterator[Frame]:
    """The events of a stream, without partial lines, which have no id."""
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if line:
            fields[name] = value.removeprefix(" ")
        elif "data" in fields:
            if fields.get("event") != "partial":
                yield Frame(fields["id"], json.loads(fields["data"]))
            fields = {}


@contextmanager
def following(
    http: httpx2.Client, job_id: str, last_event_id: str | None = None
) -> Iterator[Iterator[Frame]]:
    """The open stream of a job, frame by frame as they come."""
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    with http.stream("GET", f"/api/jobs/{job_id}/stream", headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        yield parse(answer.iter_lines())


def frames(http: httpx2.Client, job_id: str, last_event_id: str | None = None) -> list[Frame]:
    """The whole stream of a job, until the server closes it."""
    with following(http, job_id, last_event_id) as stream:
        return list(stream)


def read_until(stream: Iterator[Frame], found: Callable[[Frame], bool]) -> list[Frame]:
    """The next frames, up to the first one for which `found` is true."""
    seen: list[Frame] = []
    for frame in stream:
        seen.append(frame)
        if found(frame):
            return seen
    raise AssertionError(f"The stream ended before: {[one.kind for one in seen]}")
