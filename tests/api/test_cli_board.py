"""`crewlog crews` and `crewlog approvals` against a real server."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.commands.crew_following import moving
from api.commands.crews import BadInputs, inputs_of
from api.commands.states import state_of
from tests.api.test_cli import Ran, begin, crewlog, crewlog_process, ended
from tests.kit.server import Server
from tests.kit.waiting import until

PAIR = """
name: A pair
inputs:
  word: {type: string}
  times: {type: integer, default: 1}
jobs:
  - id: first
    title: Say it
    argv: [sh, -c, 'for n in $(seq $2); do echo "$1 $n"; done', sh, "{{ word }}", "{{ times }}"]
  - id: second
    title: Say that it was said
    parents: [first]
    argv: [echo, "said [bold]{{ word }}"]
"""

ASKING = """
name: Asking
jobs:
  - id: asked
    title: Ask first
    approval: required
    argv: [echo, allowed]
"""

FAILING = """
name: Failing
jobs:
  - id: fails
    title: Fails at once
    argv: [sh, -c, 'echo tried; exit 3']
    max_retries: 1
  - id: never
    title: Never begins
    parents: [fails]
    argv: ["true"]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("cli-board") / "data"
    (data / "templates").mkdir(parents=True)
    for name, text in (("pair", PAIR), ("asking", ASKING), ("failing", FAILING)):
        (data / "templates" / f"{name}.job_workflow.yaml").write_text(text)
    with Server.start(data, "--stop-jobs") as running:
        yield running


def run(server: Server, *arguments: str) -> Ran:
    return crewlog_process("crews", "run", *arguments, data=server.data)


def asked(data: Path) -> dict[str, Any]:
    """The newest question, once there is one."""

    def newest() -> Any:
        return json.loads(crewlog("approvals", "list", "--json", data=data).stdout)

    found: dict[str, Any] = until(newest)[0]
    return found


def test_a_crew_is_followed_to_its_end_with_each_line_behind_the_key_of_its_job(
    server: Server,
) -> None:
    ran = run(server, "pair", "word=ho", "times:=3")
    assert ran.returncode == 0, ran
    assert ran.stdout.splitlines() == [
        "first  | ho 1",
        "first  | ho 2",
        "first  | ho 3",
        "second | said [bold]ho",
    ]
    told = ran.stderr.splitlines()
    for key in ("first ", "second"):
        assert [line for line in told if line.startswith(key)] == [
            f"{key} * queued",
            f"{key} * running, attempt 1",
            f"{key} * completed",
        ]
    assert told[-1] == "The crew is completed."


def test_a_crew_that_cannot_be_done_exits_with_1_and_says_why(server: Server) -> None:
    ran = run(server, "failing")
    assert ran.returncode == 1
    assert ran.stdout.splitlines() == ["fails | tried"] * 2
    assert "fails * attempt 1 crashed: exit code 3" in ran.stderr
    assert "fails * gave up: Exit code 3." in ran.stderr
    assert "never * cannot start: “Fails at once” gave up." in ran.stderr
    assert ran.stderr.splitlines()[-1] == "The crew is blocked."
    crew_id = re.findall("Crew (.+)", ran.stderr)[0]
    shown = crewlog("crews", "show", crew_id, data=server.data)
    rows = [line.split()[:2] for line in shown.stdout.splitlines()[-2:]]
    assert rows == [["fails", "failed"], ["never", "stranded"]]


def test_a_question_is_told_with_its_answer_and_waits_through_a_restart(server: Server) -> None:
    following = begin("crews", "run", "asking", data=server.data)
    assert following.stderr is not None
    while "asked ?" not in (told := following.stderr.readline()):
        assert told, "It ended without a question."
    question = asked(server.data)
    assert told.endswith(
        f"start?  Answer with: crewlog approvals approve {question['id']} (or reject)\n"
    )
    port = int(server.url.rpartition(":")[2])
    server.kill()
    server.restart(port)
    short = question["id"][:12]
    answer = crewlog("approvals", "approve", short, "--comment", "Go on.", data=server.data)
    assert (answer.returncode, answer.stdout) == (0, "Approved: May “Ask first” start?\n")
    code, out, _ = ended(following)
    assert (code, out) == (0, "asked | allowed\n")
    again = crewlog("approvals", "reject", question["id"], data=server.data)
    assert (again.returncode, again.stderr) == (1, "Approval is already approved\n")


def test_a_rejected_crew_is_blocked(server: Server) -> None:
    following = begin("crews", "run", "asking", "--json", data=server.data)
    question = asked(server.data)
    refused = crewlog("approvals", "reject", question["id"], "--json", data=server.data)
    assert json.loads(refused.stdout)["state"] == "rejected"
    code, out, _ = ended(following)
    assert (code, json.loads(out)["state"]) == (1, "blocked")
    listed = crewlog("approvals", "list", "--state", "rejected", data=server.data)
    assert question["id"] in listed.stdout


def test_a_crew_may_be_left_alone_and_held_until_a_time(server: Server) -> None:
    ran = crewlog(
        "crews", "run", "pair", "--inputs", '{"word": "later"}', "--no-follow",
        "--at", "2100-01-01T00:00:00Z", data=server.data,
    )  # fmt: skip
    crew_id = ran.stdout.strip()
    shown = json.loads(crewlog("crews", "show", crew_id, "--json", data=server.data).stdout)
    assert shown["state"] == "held"
    assert shown["inputs"] == {"word": "later", "times": 1}
    listed = crewlog("crews", "list", "--limit", "1", data=server.data)
    assert listed.stdout.splitlines()[1].split()[:2] == [crew_id, "held"]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("pair", "word"), 2, "'word' must be NAME=TEXT or NAME:=JSON."),
        (("pair", "times:=x"), 2, "The value of 'times' is not JSON"),
        (("pair", "--inputs", "[1]"), 2, "The inputs must be a JSON object."),
        (("pair", "word=a", "times=many"), 1, "input times: "),
        (("nowhere",), 1, "There is no template 'nowhere'."),
    ],
)
def test_what_cannot_be_started_says_why(
    server: Server, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    ran = crewlog("crews", "run", *arguments, data=server.data)
    assert (ran.returncode, ran.stdout) == (code, "")
    assert sentence in ran.stderr


def test_an_id_that_names_nothing_is_refused(server: Server) -> None:
    for command in (("crews", "show"), ("approvals", "approve")):
        ran = crewlog(*command, "ffffffff", data=server.data)
        assert ran.returncode == 1
        assert "begin with 'ffffffff'" in ran.stderr


def test_inputs_come_from_a_file_and_pairs_count_more(tmp_path: Path) -> None:
    file = tmp_path / "inputs.json"
    file.write_text('{"a": 1, "b": "file"}')
    assert inputs_of(f"@{file}", ["b=pair", "c:=[2]"]) == {"a": 1, "b": "pair", "c": [2]}
    with pytest.raises(BadInputs, match="cannot be read"):
        inputs_of(f"@{tmp_path / 'none'}", [])


def job(key: str, state: str, *parents: str, **more: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "outcome": None,
        "pendingApprovals": [],
        "strandedBy": None,
        "gaveUp": False,
        "cancelRequestedAt": None,
    }
    return {"id": key, "state": state, "parents": list(parents), **fields, **more}


def test_what_waits_for_a_job_that_stands_still_does_not_move() -> None:
    jobs = [
        job("done", "completed", outcome="completed"),
        job("still", "blocked"),
        job("leaving", "running", cancelRequestedAt="2026-01-01T00:00:00Z"),
        job("asks", "waiting_for_approval", "done", pendingApprovals=["x"]),
        job("next", "held", "asks"),
        job("stuck", "held", "done", "still"),
        job("lost", "failed", gaveUp=True),
        job("unmarked", "held", "done", "lost"),
        job("hopeless", "held", "lost", strandedBy="lost"),
    ]
    assert moving(jobs) == {"leaving", "asks", "next", "unmarked"}
    assert state_of(jobs[-1]) == "stranded"
