"""The last part of the demo: a crew of jobs, and a question that waits through a restart."""

import sys
import time
from typing import TYPE_CHECKING, Any

from tests.demo_table import table

if TYPE_CHECKING:
    from tests.demo import Demo

_TEMPLATE = f"""\
name: A release of this checkout
description: Counts what there is, compiles it, asks a person, and writes the notes.
inputs:
  version: {{type: string}}
jobs:
  - id: count
    title: Count the lines
    body: How much is there?
    argv: [{sys.executable}, -c, "COUNT"]
    cwd: ROOT
  - id: compile
    title: Compile everything
    body: Does it compile?
    argv: [{sys.executable}, -m, compileall, -q, domain, projections]
    cwd: ROOT
    env: {{PYTHONPYCACHEPREFIX: BYTECODE}}
  - id: publish
    title: Publish version {{{{ version }}}}
    body: Ask first.
    parents: [count, compile]
    argv: [sh, -c, "crewlog worker ask 'Publish version {{{{ version }}}}?' --action 'git tag' && cp $CREWLOG_PARENTS $CREWLOG_ARTIFACTS/notes.json"]
"""  # noqa: E501 - one argument is one line

_COUNT = (
    "import json,os,pathlib;"
    "n=sum(len(p.read_bytes().splitlines()) for p in pathlib.Path('.').glob('*/*.py'));"
    "print(n,'lines');"
    "json.dump({'lines': n}, open(os.environ['CREWLOG_RESULT'],'w'))"
)

_DEADLINE_S = 90.0


def crew(demo: "Demo", root: str) -> None:
    demo.chapter("5  A crew of jobs, and a person who is asked")
    _write_template(demo, root)
    made = demo.client.post("/api/jobs", {"templateId": "release", "inputs": {"version": "1.0"}})
    demo.say(f"one template, {len(made['jobIds'])} jobs in one append: crew {made['crewId']}")
    approval = _first_question(demo)
    demo.say(f"? {approval['description']}  (it wants to: {approval['proposedAction']})", "yellow")
    status = demo.client.get("/api/dispatcher/status")
    demo.say(
        f"the job waits and holds none of the {status['maxInProgress']} places; "
        "the server is killed meanwhile",
        "dim",
    )
    port = int(demo.server.url.rsplit(":", 1)[1])
    demo.server.kill()
    demo.server.restart(port)
    demo.say("⟳ started again; now the question is answered: approved", "bold green")
    demo.client.post(
        f"/api/approvals/{approval['id']}/resolve",
        {"resolution": "approved", "comment": "Go on."},
    )
    shown = _until_over(demo, made["crewId"])
    rows = [
        (job["key"], ", ".join(_keys(shown, job["parents"])) or "-", job["column"], job["title"])
        for job in shown["jobs"]
    ]
    demo.screen.print(table(("job", "waits for", "status", "title"), rows))
    publish = made["jobIds"][-1]
    kept = demo.client.get(f"/api/jobs/{publish}/artifacts")["items"]
    demo.promise(shown["state"] == "completed", f"The crew is {shown['state']}.")
    demo.promise([one["name"] for one in kept] == ["notes.json"], "The notes were not kept.")
    found = demo.client.get(f"/api/jobs/{publish}")["parentResults"][0]["metadata"]
    demo.keep(
        f"the answer reached the job that asked an earlier server; it published {found['lines']} "
        "lines and left its notes"
    )


def _write_template(demo: "Demo", root: str) -> None:
    folder = demo.server.data / "templates"
    folder.mkdir(exist_ok=True)
    bytecode = str(demo.server.data / "bytecode")
    text = _TEMPLATE.replace("COUNT", _COUNT).replace("ROOT", f"{root!r}")
    text = text.replace("BYTECODE", f"{bytecode!r}")
    (folder / "release.job_workflow.yaml").write_text(text)


def _first_question(demo: "Demo") -> dict[str, Any]:
    deadline = time.monotonic() + _DEADLINE_S
    while True:
        found = demo.client.get("/api/approvals?state=pending")["items"]
        if found:
            first: dict[str, Any] = found[0]
            return first
        demo.promise(time.monotonic() < deadline, "Nobody was asked in time.")
        time.sleep(0.05)


def _until_over(demo: "Demo", crew_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + _DEADLINE_S
    while True:
        shown: dict[str, Any] = demo.client.get(f"/crewlog/v1/crews/{crew_id}")
        if shown["state"] in ("completed", "failed", "blocked"):
            return shown
        demo.promise(time.monotonic() < deadline, "The crew was not over in time.")
        time.sleep(0.05)


def _keys(shown: dict[str, Any], ids: list[str]) -> list[str]:
    keys = {job["id"]: job["key"] for job in shown["jobs"]}
    return [keys[job_id] for job_id in ids]
