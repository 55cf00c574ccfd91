"""Templates of a running server over HTTP, and on the command line with and without a server."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeAlias
from zoneinfo import ZoneInfo

import httpx2
import pytest

from api.commands.main import main
from tests.kit.client import Native
from tests.kit.server import Server

Command: TypeAlias = Callable[..., "Ran"]

DEPLOY = """\
name: Deploy
description: Puts a service in its place.
inputs:
  service: {type: string, enum: [web, api]}
  note: {type: string, default: "on {{ today }}"}
jobs:
  - {id: put, title: "Put {{ service }}", argv: [deploy, "{{ service }}"], parents: [test]}
  - {id: test, title: Test, argv: [test], env: {TOKEN: hidden-in-the-file}}
"""
BROKEN = """\
jobs:
  - {id: a, title: A, argv: [x], parents: [c]}
  - {id: b, title: B, argv: [x], parents: [a]}
  - {id: c, title: C, argv: [x], parents: [b]}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("templates") / "data"
    templates = data / "templates"
    (templates / "ops").mkdir(parents=True)
    (templates / "ops/deploy.job_workflow.yaml").write_text(DEPLOY)
    (templates / "broken.job_workflow.yaml").write_text(BROKEN)
    return data


@pytest.fixture(scope="module")
def server(data: Path) -> Iterator[Server]:
    with Server.start(data, "--capacity=0") as running:
        yield running


@dataclass(frozen=True)
class Ran:
    """Output and exit code of a command."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def crewlog(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command in a folder to its end, in this process because that is faster."""
    for name in os.environ:
        if name.startswith("CREWLOG_"):
            monkeypatch.delenv(name)

    def run(*arguments: str | Path, cwd: Path) -> Ran:
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["crewlog", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as left:
            code = int(left.code or 0)
        return Ran(code, *capsys.readouterr())

    return run


def test_the_list_has_own_and_shipped_templates_and_the_faults(http: Native, data: Path) -> None:
    listing = http.get("/api/templates").json()

    templates = {template["id"]: template for template in listing["templates"]}
    assert {"ops/deploy", "repository-health", "gitoma-crew"} <= set(templates)
    assert templates["ops/deploy"] == {
        "id": "ops/deploy",
        "name": "Deploy",
        "description": "Puts a service in its place.",
        "inputs": {
            "service": {"type": "string", "enum": ["web", "api"]},
            "note": {"type": "string", "default": "on {{ today }}"},
        },
    }
    assert listing.keys() == {"templates"}
    native = http.get("/crewlog/v1/templates").json()
    (shown,) = (one for one in native["items"] if one["id"] == "ops/deploy")
    assert shown["file"] == str(data / "templates/ops/deploy.job_workflow.yaml")
    assert [shown["inputs"][name]["required"] for name in ("service", "note")] == [True, False]
    (fault,) = native["faults"]
    assert fault["file"] == str(data / "templates/broken.job_workflow.yaml")
    assert (fault["line"], fault["path"]) == (2, "jobs[0].parents[0]")
    assert "a ← c ← b ← a" in fault["reason"]


def test_one_template_has_its_jobs_in_order(http: Native) -> None:
    shown = http.get("/api/templates/ops/deploy").json()

    assert shown == http.get("/api/templates/ops/deploy.job_workflow.yaml").json()
    assert [(job["id"], job["parents"]) for job in shown["jobs"]] == [
        ("test", []),
        ("put", ["test"]),
    ]
    assert shown["jobs"][0]["envNames"] == ["TOKEN"]
    assert shown["source"] == DEPLOY
    del shown["source"]
    assert "hidden-in-the-file" not in json.dumps(shown)


def test_what_is_not_there_is_404_and_what_is_broken_400(http: Native) -> None:
    for template_id in ("none", "..%2Fbroken", "%00", "a" * 3_000):
        missing = http.get(f"/api/templates/{template_id}")
        sentence = "Template not found"
        assert (missing.status_code, missing.json()) == (
            404,
            {"error": sentence, "detail": sentence},
        )
    broken = http.get("/api/templates/broken")
    assert broken.status_code == 400
    assert broken.json()["path"] == "jobs[0].parents[0]"


def test_a_crew_can_be_seen_before_it_is_committed(http: Native) -> None:
    head = http.get("/crewlog/v1/projections").json()["head"]
    body = {"templateId": "ops/deploy", "inputs": {"service": "web", "note": "-"}}

    rendered = http.post("/api/templates/render", json=body)

    assert rendered.status_code == 200
    crew = rendered.json()
    assert (crew["templateId"], crew["name"]) == ("ops/deploy", "Deploy")
    assert [(job["key"], job["title"], job["argv"]) for job in crew["jobs"]] == [
        *(("test", "Test", ["test"]), ("put", "Put web", ["deploy", "web"])),
    ]
    assert "hidden-in-the-file" not in rendered.text
    assert http.get("/crewlog/v1/projections").json()["head"] == head


@pytest.mark.parametrize(
    ("body", "status", "path"),
    [
        ({"templateId": "none"}, 404, None),
        ({"templateId": "broken"}, 400, "jobs[0].parents[0]"),
        ({"templateId": "ops/deploy"}, 400, "inputs.service"),
        ({"templateId": "ops/deploy", "inputs": {"service": "db-7"}}, 400, "inputs.service"),
        ({"templateId": "ops/deploy", "inputs": {"service": "web", "x": 1}}, 400, "inputs.x"),
        ({"template_id": "ops/deploy", "inputs": []}, 422, None),
        ({"inputs": {}}, 422, None),
    ],
)
def test_a_mistake_is_named_with_its_path(
    http: Native, body: dict[str, object], status: int, path: str | None
) -> None:
    answer = http.post("/api/templates/render", json=body)

    assert answer.status_code == status
    assert answer.json().get("path") == path
    assert "db-7" not in answer.text


def test_today_is_in_the_zone_that_is_asked_for(http: Native) -> None:
    """At any moment, at least one of these two zones has another date than UTC."""
    for zone in ("Pacific/Kiritimati", "Etc/GMT+12", None):
        body = {"templateId": "ops/deploy", "inputs": {"service": "api"}, "timezone": zone}
        today = datetime.now(ZoneInfo(zone or "UTC")).date()
        note = f"on {today}"
        assert http.post("/api/templates/render", json=body).json()["inputs"]["note"] == note
        made = http.post("/api/jobs", json=body).json()
        assert http.crew(made["crewId"])["inputs"]["note"] == note
    body["timezone"] = "Mars/Base"
    for path in ("/api/templates/render", "/api/jobs"):
        answer = http.post(path, json=body)
        assert (answer.status_code, answer.json()["path"]) == (400, "timezone")


@pytest.mark.parametrize(
    "note",
    [r'"cut \ud83d"', r'{"\ud800": 1}', "[" * 400 + "]" * 400, "NaN", "1e999", "1" * 40],
    ids=["surrogate", "key", "deep", "nan", "infinite", "large"],
)
def test_an_input_that_nothing_can_carry_is_refused_alike_everywhere(
    http: Native, data: Path, note: str
) -> None:
    text = DEPLOY.replace("{type: string, default", "{default")
    file = data / "templates/any.job_workflow.yaml"
    file.write_text(text)
    inputs = f'{{"service": "api", "note": {note}}}'
    rule = '"name": "x", "rule": {"cadence": "daily"}'
    for path, more, key in (
        ("/api/templates/render", "", {}),
        ("/api/jobs", "", {}),
        ("/api/jobs", "", {"Idempotency-Key": note[:200]}),
        ("/api/schedules", f", {rule}", {}),
    ):
        body = f'{{"templateId": "any", "inputs": {inputs}{more}}}'
        headers = {"Content-Type": "application/json", **key}
        answer = http.post(path, content=body, headers=headers)
        assert answer.status_code == 400, (path, answer.text)
        assert answer.json()["path"].startswith("inputs.note"), (path, answer.text)
    file.unlink()


@pytest.mark.parametrize(
    "number",
    [
        *("9007199254740993", "9007199254740993.0", "-9223372036854775808", "1e22", "1e15"),
        *("4.9999999999999999999", "9007199254740990.9999999", "1.00000000000000000001", "1e-400"),
    ],
)
def test_a_whole_number_is_the_same_everywhere(http: Native, data: Path, number: str) -> None:
    file = data / "templates/n.job_workflow.yaml"
    file.write_text(
        "inputs: {n: {type: integer}}\njobs:\n  - {id: a, title: '{{ n }}', argv: ['true']}\n"
    )
    body = '{"templateId": "n", "inputs": {"n": %s}%s}'
    headers = {"Content-Type": "application/json"}
    render = http.post("/api/templates/render", content=body % (number, ""), headers=headers)
    crew = http.post("/api/jobs", content=body % (number, ""), headers=headers)
    more = ', "name": "x", "rule": {"cadence": "daily"}'
    schedule = http.post("/api/schedules", content=body % (number, more), headers=headers)
    native = http.post(
        "/crewlog/v1/crews",
        content=f'{{"template": "n", "inputs": {{"n": {number}}}}}',
        headers=headers,
    )
    file.unlink()
    if number == "1e22" or "." in number or "-400" in number:
        assert {a.status_code for a in (render, crew, schedule, native)} == {400}
        assert {a.json()["path"] for a in (render, crew, schedule)} == {"inputs.n"}
        assert [problem["path"] for problem in native.json()["errors"]] == ["inputs.n"]
        return
    exact = str(int(float(number))) if "e" in number else number
    assert f'"n":{exact}' in render.text
    assert http.get(f"/api/jobs/{crew.json()['jobIds'][0]}").json()["title"] == exact
    assert schedule.status_code == 201


def test_a_number_deep_in_an_input_is_not_rounded(http: Native, data: Path) -> None:
    file = data / "templates/deep.job_workflow.yaml"
    file.write_text(
        "inputs: {o: {properties: {i: {type: integer}}}}\n"
        "jobs:\n  - {id: a, title: '{{ o.i }}', argv: ['true']}\n"
    )
    answers = [
        http.post(
            path,
            content=f'{{"templateId": "deep", "inputs": {{"o": {{"i": {i}, "x": {x}}}}}{more}}}',
            headers={"Content-Type": "application/json"},
        )
        for i, x in (("9007199254740993.0", 1), (1, "12345678901234567890.0"), ("3.0", 0.1))
        for path, more in (
            ("/api/templates/render", ""),
            ("/api/jobs", ""),
            ("/api/schedules", ', "name": "x", "rule": {"cadence": "daily"}'),
        )
    ]
    file.unlink()
    assert [answer.status_code for answer in answers[:6]] == [400] * 6
    places = ["inputs.o.i"] * 3 + ["inputs.o.x"] * 3
    assert [answer.json()["path"] for answer in answers[:6]] == places
    assert '{"o":{"i":3,"x":0.1}}' in answers[6].text
    assert [answer.status_code for answer in answers[6:]] == [200, 201, 201]


def test_the_list_shows_whatever_one_file_holds(http: Native, data: Path) -> None:
    odd = data / "templates/odd.job_workflow.yaml"
    odd.write_text(DEPLOY.replace("Puts a service in its place.", r'"\ud83d"'))
    unnamed = os.fsencode(data / "templates") + b"/\xff.job_workflow.yaml"
    Path(os.fsdecode(unnamed)).write_text(DEPLOY)
    answer = http.get("/api/templates")
    assert answer.status_code == 200
    assert "ops/deploy" in [template["id"] for template in answer.json()["templates"]]
    faults = {
        fault["file"].rpartition("/")[2]: fault
        for fault in http.get("/crewlog/v1/templates").json()["faults"]
    }
    assert faults["odd.job_workflow.yaml"]["line"] == 2
    assert faults["\\udcff.job_workflow.yaml"]["reason"] == "Its name is not UTF-8."
    odd.unlink()
    os.unlink(unnamed)


def test_the_order_of_keys_makes_no_other_request(http: Native) -> None:
    first = '{"templateId": "ops/deploy", "inputs": {"service": "web", "note": "x"}}'
    again = '{"inputs": {"note": "x", "service": "web"}, "templateId": "ops/deploy"}'
    other = '{"inputs": {"note": "y", "service": "web"}, "templateId": "ops/deploy"}'
    job = '{"argv": ["true"], "env": {"A": "1", "B": "2"}}'
    turned = '{"env": {"B": "2", "A": "1"}, "argv": ["true"]}'
    for key, one, same, another in (("crew", first, again, other), ("job", job, turned, first)):
        headers = {"Content-Type": "application/json", "Idempotency-Key": f"order {key}"}
        made = http.post("/api/jobs", content=one, headers=headers)
        replayed = http.post("/api/jobs", content=same, headers=headers)
        assert (made.status_code, replayed.status_code) == (201, 201), replayed.text
        assert replayed.headers["Idempotency-Replayed"] == "true"
        assert http.post("/api/jobs", content=another, headers=headers).status_code == 422


def test_nobody_sees_them_without_signing_in(server: Server) -> None:
    for path in ("", "/ops/deploy", "/none"):
        answer = httpx2.get(f"{server.url}/api/templates{path}", trust_env=False)
        assert answer.status_code == 401


def test_a_new_file_is_there_at_the_next_request(http: Native, data: Path) -> None:
    file = data / "templates/new.job_workflow.yaml"
    assert http.get("/api/templates/new").status_code == 404
    file.write_text(DEPLOY)
    assert http.get("/api/templates/new").status_code == 200
    file.write_text(BROKEN)
    assert http.get("/api/templates/new").status_code == 400
    file.unlink()
    assert http.get("/api/templates/new").status_code == 404


# The command line


def test_list_and_show_ask_the_server(
    server: Server, crewlog: Command, data: Path, tmp_path: Path
) -> None:
    listed = crewlog("templates", "list", "--data", data, cwd=tmp_path)
    assert listed.returncode == 0
    row = next(line for line in listed.stdout.splitlines() if line.startswith("ops/deploy"))
    assert row.split() == ["ops/deploy", "Deploy", "service", "[note]"]
    assert "broken.job_workflow.yaml:2: jobs[0].parents[0]: " in listed.stderr

    shown = crewlog("templates", "show", "ops/deploy", "--data", data, cwd=tmp_path)
    assert shown.returncode == 0
    assert "Puts a service in its place." in shown.stdout
    assert "web | api" in shown.stdout
    assert shown.stdout.index("\ntest ") < shown.stdout.index("\nput ")

    as_json = crewlog("templates", "list", "--json", "--data", data, cwd=tmp_path)
    assert "ops/deploy" in {t["id"] for t in json.loads(as_json.stdout)["templates"]}
    missing = crewlog("templates", "show", "none", "--data", data, cwd=tmp_path)
    assert (missing.returncode, missing.stderr) == (1, "There is no template 'none'.\n")


def test_check_names_file_line_and_reason_without_a_server(
    crewlog: Command, data: Path, tmp_path: Path
) -> None:
    broken = data / "templates/broken.job_workflow.yaml"

    checked = crewlog("templates", "check", broken, cwd=tmp_path)

    assert checked.returncode == 1
    assert checked.stdout == (
        f"{broken}:2: jobs[0].parents[0]: These wait for each other: a ← c ← b ← a.\n"
    )
    assert checked.stderr == "1 mistake.\n"


def test_check_takes_files_and_folders(crewlog: Command, data: Path, tmp_path: Path) -> None:
    templates = data / "templates"
    both = crewlog("templates", "check", templates, "--json", cwd=tmp_path)
    assert both.returncode == 1
    assert json.loads(both.stdout)["templates"] == 1
    assert len(json.loads(both.stdout)["faults"]) == 1

    good = crewlog("templates", "check", "deploy.job_workflow.yaml", cwd=templates / "ops")
    assert (good.returncode, good.stdout, good.stderr) == (0, "", "1 template, no mistake.\n")

    empty = crewlog("templates", "check", tmp_path, cwd=tmp_path)
    assert (empty.returncode, empty.stdout) == (
        *(1, f"{tmp_path}:1: (file): No *.job_workflow.yaml is below it.\n"),
    )
    (tmp_path / "deploy.yaml").write_text(DEPLOY)
    named = crewlog("templates", "check", "deploy.yaml", cwd=tmp_path)
    assert named.returncode == 1
    assert "The name must end in .job_workflow.yaml." in named.stdout
    assert crewlog("templates", "check", "none", cwd=tmp_path).returncode == 2


def test_check_lets_a_file_point_at_its_skillet(crewlog: Command, tmp_path: Path) -> None:
    (tmp_path / "crews").mkdir()
    (tmp_path / "jobs").mkdir()
    (tmp_path / "crews/a.skilled_crew.yaml").write_text("agents: {writer: {}}")
    (tmp_path / "jobs/a.job_workflow.yaml").write_text(
        "skillet: ../crews/a.skilled_crew.yaml\n"
        "jobs:\n  - {id: a, title: T, body: B, assignee: writer}\n"
    )

    checked = crewlog("templates", "check", "jobs/a.job_workflow.yaml", cwd=tmp_path)
    assert (checked.returncode, checked.stdout) == (0, "")
