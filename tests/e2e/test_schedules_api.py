"""Schedules on a running server: firings, a kill -9 when one is due, and the command line."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.api.test_cli import Ran, crewlog
from tests.e2e.crews import scheduled_soon
from tests.kit.client import Native
from tests.kit.server import Server
from tests.kit.waiting import until

Json = dict[str, Any]

TEMPLATE = """\
name: Greeting
inputs:
  who: {type: string}
jobs:
  - id: greet
    title: Greet {{ who }}
    argv: [echo, "hello {{ who }}"]
  - id: leave
    title: Leave
    parents: [greet]
    argv: ["true"]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("schedules") / "data"
    (data / "templates").mkdir(parents=True)
    (data / "templates" / "greeting.job_workflow.yaml").write_text(TEMPLATE)
    with Server.start(data, "--log-level=warning") as started:
        yield started


def template(http: Native) -> str:
    found = http.get("/api/templates").json()["templates"]
    return str(next(item["id"] for item in found if item["name"] == "Greeting"))


def create_for_soon(http: Native) -> Json:
    return scheduled_soon(http, 4, name="greet", templateId=template(http), inputs={"who": "you"})


def create(http: Native, **fields: Any) -> Json:
    body = {"name": "greet", "templateId": template(http), "inputs": {"who": "you"}, **fields}
    answer = http.post("/api/schedules", json=body)
    assert answer.status_code == 201, answer.text
    made: Json = answer.json()["schedule"]
    return made


def firings(http: Native, schedule_id: str) -> list[Json]:
    answer = http.get(f"/api/schedules/{schedule_id}/firings")
    assert answer.status_code == 200, answer.text
    return [item for item in answer.json()["items"] if item["outcome"]]


def test_a_time_comes_and_its_crew_runs_to_the_end(http: Native) -> None:
    made = create_for_soon(http)
    assert made["nextRunAt"] is not None
    (fired,) = until(lambda: firings(http, made["id"]), "the firing")
    assert fired["outcome"] == "spawned"
    assert not fired["catchUp"]

    def done() -> list[Json] | None:
        jobs = http.get(f"/api/schedules/{made['id']}/jobs").json()["jobs"]
        over = [job for job in jobs if job["outcome"] == "completed"]
        return jobs if len(over) == 2 else None

    jobs = until(done, "both jobs complete")
    assert {job["scheduleId"] for job in jobs} == {made["id"]}
    assert {job["crewId"] for job in jobs} == {fired["crewId"]}
    assert {job["id"] for job in jobs} == set(fired["jobIds"])
    shown = http.get(f"/api/schedules/{made['id']}").json()["schedule"]
    assert (shown["state"], shown["nextRunAt"]) == ("ended", None)
    types = [event["type"] for event in http.events(fired["jobIds"][0])]
    assert types.count("job.submitted") == 1


def test_killed_before_its_time_and_started_after_it_fires_once(server: Server) -> None:
    with Native(server) as http:
        made = create_for_soon(http)
    server.kill()
    until(lambda: datetime.now(UTC).isoformat() > made["nextRunAt"], "the time passes")
    server.restart()
    with Native(server) as http:
        (fired,) = until(lambda: firings(http, made["id"]), "the firing")
        assert fired["outcome"] == "spawned"
        server.kill()
        server.restart()
    with Native(server) as http:
        assert len(firings(http, made["id"])) == 1
        jobs = http.get(f"/api/schedules/{made['id']}/jobs").json()["jobs"]
        assert len(jobs) == 2


def schedules(server: Server, *arguments: str) -> Ran:
    return crewlog("schedules", *arguments, data=server.data)


def test_the_command_line_makes_shows_fires_and_deletes(server: Server, http: Native) -> None:
    weekly = ("--weekly", "mon,fri", "--at", "18:30", "--timezone", "Europe/Berlin")
    options = ("--name", "friday", "--input", "who=all", "--catch-up", "2h", "--overlap", "skip")
    made = schedules(server, "create", template(http), *weekly, *options)
    assert made.returncode == 0, made.stderr
    schedule_id = made.stdout.strip()
    shown = json.loads(schedules(server, "show", "friday", "--json").stdout)
    assert shown["id"] == schedule_id
    assert shown["rule"] == {"cadence": "weekly", "days": [1, 5], "at": "18:30"}
    assert shown["catchUp"] == {"mode": "all", "windowS": 7200}
    assert len(shown["nextTimes"]) == 5
    assert "Every Monday and Friday at 18:30" in schedules(server, "show", schedule_id).stdout
    assert "is disabled" in schedules(server, "disable", "friday").stdout
    assert "disabled" in schedules(server, "list").stdout
    assert "its next time is" in schedules(server, "enable", "friday").stdout
    assert len(schedules(server, "run", "friday").stdout.split()) == 2
    assert len(schedules(server, "preview", "friday", "-n", "3").stdout.splitlines()) == 3
    assert len(schedules(server, "preview", "--cron", "0 * * * *").stdout.splitlines()) == 10
    wrong = schedules(server, "create", template(http), "--cron", "61 * * * *")
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("--cron: ")
    assert schedules(server, "create", template(http)).returncode == 2
    assert schedules(server, "delete", "friday").stdout == "Deleted.\n"
    gone = schedules(server, "show", "friday")
    assert gone.returncode == 1
    assert "No schedules have the name or id" in gone.stderr
