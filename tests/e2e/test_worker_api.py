"""The worker API over HTTP and by `crewlog worker`, and its effects for people: approvals and
artifacts.
"""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from hashlib import sha256
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2
import pytest

from api.commands.worker_client import WorkerClient, Workplace
from domain.job.result import LARGEST_RESULT
from tests.e2e.crews import pending, worker
from tests.e2e.people import add_user, sign_in
from tests.kit.client import Native
from tests.kit.server import Server, crewlog
from tests.kit.waiting import until

Json = dict[str, Any]

WAIT = 'while [ ! -e "$GATE" ]; do sleep 0.02; done; '

TEMPLATES = {
    "script": """
name: Script
inputs: {script: {type: string}, gate: {type: string, default: /dev/null}}
jobs:
  - id: work
    title: Work
    body: Do it.
    argv: [sh, -c, "{{ script }}"]
    env: {GATE: "{{ gate }}"}
    maxRetries: 0
    labels: [tested]
""",
    "checked": """
name: Checked
inputs: {script: {type: string}, gate: {type: string, default: /dev/null}}
jobs:
  - id: work
    title: Checked work
    argv: [sh, -c, "{{ script }}"]
    env: {GATE: "{{ gate }}"}
    maxRetries: 0
    result_schema: {type: object, required: [n], properties: {n: {type: integer}}}
""",
    "pair": """
name: Pair
inputs: {script: {type: string}}
jobs:
  - id: first
    title: First
    argv: [sh, -c, "crewlog worker complete n:=3 text=x=y"]
  - id: second
    title: Second
    parents: [first]
    argv: [sh, -c, "{{ script }}"]
    maxRetries: 0
""",
    "short": """
name: Short
inputs: {script: {type: string}}
jobs:
  - id: work
    title: Short
    argv: [sh, -c, "{{ script }}"]
    maxRetries: 0
    timeout_s: 2
""",
    "named": """
name: Named
inputs: {script: {type: string}, gate: {type: string, default: /dev/null}}
jobs:
  - id: work
    title: Named
    argv: [sh, -c, "{{ script }}"]
    env: {GATE: "{{ gate }}"}
    maxRetries: 0
    approvers: [boss@example.org]
""",
}


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("templates")
    for name, text in TEMPLATES.items():
        (folder / f"{name}.job_workflow.yaml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, templates: Path) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("worker") / "data"
    with Server.start(
        data, "--stop-jobs", "--log-level=warning", CREWLOG_TEMPLATES=str(templates)
    ) as started:
        yield started


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


def commit(http: Native, template: str, script: str, **inputs: str) -> list[str]:
    ids: list[str] = http.commit(template, inputs={"script": script, **inputs})["jobIds"]
    return ids


def runs(http: Native, job_id: str) -> None:
    until(lambda: http.get(f"/api/jobs/{job_id}").json()["attempt"], "the job runs")


def show(client: httpx2.Client, **headers: str) -> httpx2.Response:
    return client.get(str(client.base_url).rstrip("/"), headers=headers)


@pytest.fixture
def held(server: Server, http: Native, gate: Path) -> Iterator[tuple[str, httpx2.Client]]:
    """A job that runs until its gate is opened, and a client with its worker's token."""
    [job_id] = commit(http, "script", WAIT, gate=str(gate))
    runs(http, job_id)
    with worker(server, job_id) as client:
        yield job_id, client
    gate.touch()


def outcome(http: Native, job_id: str) -> Json:
    shown: Json = until(
        lambda: (
            found
            if (found := http.get(f"/api/jobs/{job_id}").json())["status"] in ("done", "blocked")
            else None
        ),
        "the job is done or blocked",
    )
    return shown


def output(http: Native, job_id: str) -> str:
    return "\n".join(http.printed(job_id))


# Access


def test_only_the_token_of_a_running_attempt_is_let_in(
    server: Server, http: Native, held: tuple[str, httpx2.Client]
) -> None:
    _, client = held
    assert http.get("/crewlog/v1/worker").status_code == 403
    assert httpx2.get(f"{server.url}/crewlog/v1/worker", trust_env=False).status_code == 401
    token = client.headers["Authorization"]
    for path in ("/api/jobs", "/crewlog/v1/log", "/api/approvals"):
        answer = httpx2.get(server.url + path, headers={"Authorization": token}, trust_env=False)
        assert answer.status_code == 403, path
    forged = {"Authorization": token[:-2] + ("AA" if token[-2:] != "AA" else "BB")}
    assert show(client, **forged).status_code == 403


def test_a_worker_that_is_not_current_is_refused_everywhere_and_changes_nothing(
    server: Server, http: Native, held: tuple[str, httpx2.Client], gate: Path
) -> None:
    job_id, late = held
    with worker(server, job_id, 2) as early:
        assert show(early).status_code == 409
        asked = late.post("/approvals", json={"description": "May I?"})
        http.post(f"/api/approvals/{asked.json()['id']}/resolve", json={"decision": "approve"})
        gate.touch()
        http.ended(job_id)
        before = http.events(job_id)
        for client in (early, late):
            assert show(client).status_code == 409
            for path in ("/approvals", f"/approvals/{asked.json()['id']}"):
                assert client.get(path).status_code == 409, path
            for path, body in (
                ("/heartbeat", {"text": "still here"}),
                ("/comments", {"body": "late"}),
                ("/complete", {"result": {"n": 1}}),
                ("/block", {"reason": "late"}),
                ("/approvals", {"description": "late"}),
            ):
                assert client.post(path, json=body).status_code == 409, path
    assert http.events(job_id) == before


# Work and reports


def test_a_worker_is_told_what_is_to_be_done(
    server: Server, http: Native, held: tuple[str, httpx2.Client], gate: Path
) -> None:
    job_id, client = held
    assert http.post(f"/api/jobs/{job_id}/comments", json={"body": "Mind the gap."}).is_success

    shown = show(client).json()

    job = shown["job"]
    assert (job["id"], job["title"], job["body"]) == (job_id, "Work", "Do it.")
    assert (job["attempt"], job["labels"], job["workspace"]) == (1, ["tested"], "scratch")
    assert (job["assignee"], job["parents"], job["resultSchema"]) == (None, [], None)
    assert (shown["parentResults"], shown["feedback"]) == ([], None)
    [comment] = shown["comments"]
    assert (comment["author"], comment["body"]) == ("operator", "Mind the gap.")

    gate.touch()
    http.ended(job_id)
    gate.unlink()
    assert http.post(f"/api/jobs/{job_id}/redo", json={"feedback": "Faster."}).is_success
    until(lambda: http.get(f"/api/jobs/{job_id}").json()["attempt"] == 2, "it runs again")
    with worker(server, job_id, 2) as again:
        shown = show(again).json()
    assert (shown["feedback"], shown["job"]["attempt"]) == ("Faster.", 2)


def test_a_heartbeat_is_an_event_only_when_it_says_something(
    http: Native, held: tuple[str, httpx2.Client]
) -> None:
    job_id, client = held
    before = len(http.events(job_id))
    assert client.post("/heartbeat", json={}).json() == {"ok": True, "cancelRequested": False}
    assert len(http.events(job_id)) == before

    answer = client.post("/heartbeat", json={"progress": 0.25, "text": "a quarter"})
    last = http.events(job_id)[-1]
    assert int(answer.headers["x-event-position"]) == last["position"]
    assert (last["type"], last["actor"]) == ("job.progressed", f"worker:{job_id}")
    assert last["data"] == {"attempt": 1, "fraction": "0.2500", "text": "a quarter"}
    assert http.get(f"/api/jobs/{job_id}").json()["progress"] == 0.25
    for bad in ({"progress": 1.5}, {"progress": "much"}, {"text": "x" * 501}, {"text": "\0"}):
        assert client.post("/heartbeat", json=bad).status_code == 422


def test_a_result_that_does_not_fit_is_refused_and_may_be_handed_in_again(
    server: Server, http: Native, gate: Path
) -> None:
    [job_id] = commit(http, "checked", WAIT, gate=str(gate))
    runs(http, job_id)
    with worker(server, job_id) as client:
        refused = client.post("/complete", json={"result": {"n": "x"}})
        assert (refused.status_code, refused.json()["path"]) == (422, "result.n")
        assert "is not of type 'integer'" in refused.json()["detail"]
        assert client.post("/complete", json={}).json()["path"] == "result"
        odd = r'{"result": {"\ud800": 99999999999999999999999}}'
        named = client.post("/complete", content=odd, headers={"content-type": "application/json"})
        assert (named.status_code, named.json()["path"]) == (422, r"result.\ud800")

        room = LARGEST_RESULT - len(json.dumps({"n": 1, "t": ""}, separators=(",", ":")))
        over = client.post("/complete", json={"result": {"n": 1, "t": "x" * (room + 1)}})
        assert (over.status_code, over.json()["path"]) == (422, "result")
        assert client.post("/complete", json={"result": {"n": 1, "t": "x" * room}}).is_success
        last = client.post("/complete", json={"result": {"n": 2}, "summary": "Two."})
        assert last.status_code == 200
        assert show(client).json()["job"]["result"] == {"n": 2}
    gate.touch()

    assert outcome(http, job_id)["result"] == {"n": 2}
    shown = http.events(job_id, "job.commented")
    assert [event["data"]["text"] for event in shown] == ["Two."]


def test_a_block_stops_the_job_when_the_worker_has_left(
    http: Native, held: tuple[str, httpx2.Client], gate: Path
) -> None:
    job_id, client = held
    assert client.post("/block", json={"reason": "Which one?"}).is_success
    assert http.get(f"/api/jobs/{job_id}").json()["status"] == "running"
    gate.touch()
    shown = outcome(http, job_id)
    assert (shown["status"], shown["blockReason"]) == ("blocked", "Which one?")


def test_the_command_line_says_the_same(server: Server, http: Native) -> None:
    script = """
        crewlog worker show --json | grep -o '"title": "Second"'
        crewlog worker result first
        crewlog worker result nobody; echo "unknown parent $?"
        crewlog worker heartbeat --progress 0.5 half; echo "beat $?"
        crewlog worker comment 'I was here'
        echo '{"from": "file", "over": 1}' > r.json
        crewlog worker complete --result @r.json over=two n:=[1] ; echo "complete $?"
        echo 'no json' | crewlog worker complete --result - ; echo "bad $?"
    """
    ids = commit(http, "pair", script)
    shown = outcome(http, ids[1])
    printed = output(http, ids[1])

    assert shown["result"] == {"from": "file", "over": "two", "n": [1]}
    assert '"title": "Second"' in printed
    assert '"text": "x=y"' in printed
    for line in ("unknown parent 2", "beat 0", "complete 0", "bad 2"):
        assert line in printed
    kinds = [event["type"] for event in http.events(ids[1])]
    assert {"job.progressed", "job.commented", "job.result_given"} <= set(kinds)

    outside = crewlog("worker", "show")
    assert outside.returncode == 2
    assert "CREWLOG_WORKER_TOKEN" in outside.stderr


def test_the_command_line_tells_why_a_result_was_refused(http: Native) -> None:
    script = 'crewlog worker complete n=x; echo "code $?"; crewlog worker complete n:=1'
    [job_id] = commit(http, "checked", script)
    assert outcome(http, job_id)["result"] == {"n": 1}
    printed = output(http, job_id)
    assert "result.n: 'x' is not of type 'integer'" in printed
    assert "code 1" in printed


def test_a_token_that_a_job_prints_is_not_in_the_log(http: Native) -> None:
    [job_id] = commit(http, "script", 'echo "have $CREWLOG_WORKER_TOKEN"; env | grep WORKER')
    outcome(http, job_id)
    printed = output(http, job_id)
    assert "have [REDACTED]" in printed
    assert "crewlog_w_" not in printed


# Questions


def test_a_wait_ends_with_the_answer(http: Native, held: tuple[str, httpx2.Client]) -> None:
    job_id, client = held
    asked = client.post(
        "/approvals", json={"description": "May I?", "proposed_action": "rm -r", "expiresInS": 600}
    )
    assert asked.status_code == 201
    approval = asked.json()
    assert (approval["state"], approval["proposedAction"]) == ("pending", "rm -r")
    assert approval["expiresAt"] > approval["requestedAt"]
    assert client.get(f"/approvals/{approval['id']}").json() == approval
    assert http.get(f"/api/jobs/{job_id}").json()["state"] == "waiting_for_approval"

    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(client.get, f"/approvals/{approval['id']}?wait=60")
        body = {"resolution": "rejected", "comment": "Too much."}
        resolved = http.post(f"/crewlog/v1/approvals/{approval['id']}/resolve", json=body)
        answer = waiting.result().json()

    assert resolved.json() == answer
    assert (answer["state"], answer["resolution"]) == ("rejected", "rejected")
    assert (answer["comment"], answer["resolvedBy"]) == ("Too much.", "operator")
    assert client.get("/approvals").json() == {"items": [answer], "cursor": None}
    # At its address of 0.2.0 the answer has its old form.
    before = str(client.base_url).replace("/crewlog/v1/", "/api/")
    assert client.get(f"{before}approvals").json() == [answer]
    again = http.post(f"/api/approvals/{approval['id']}/resolve", json={"decision": "approve"})
    assert again.status_code == 409
    assert client.get(f"/approvals/{approval['id']}?wait=61").status_code == 422


def test_a_job_asks_so_much_at_once_and_its_lists_stay_small(
    http: Native, held: tuple[str, httpx2.Client]
) -> None:
    job_id, client = held
    long = {"description": "d" * 10_000, "proposed_action": "a" * 10_000}
    for _ in range(100):
        assert client.post("/approvals", json=long).status_code == 201
    refused = client.post("/approvals", json=long)
    assert (refused.status_code, "100 answers" in refused.text) == (409, True)
    assert http.post(f"/crewlog/v1/jobs/{job_id}/trust").json() == {"approved": 100}
    for _ in range(10):
        assert client.post("/approvals", json=long).status_code == 201

    path = f"/crewlog/v1/jobs/{job_id}/approvals"
    seen = [approval["id"] for approval in http.items(f"/jobs/{job_id}/approvals")]
    assert len(set(seen)) == len(seen) == 110
    assert http.get(path, params={"limit": 7}).json()["cursor"] == seen[6]
    assert http.get(path, params={"cursor": "none"}).status_code == 400

    # CodePlane's list has no pages.
    listed = http.get(f"/api/jobs/{job_id}/approvals")
    assert [approval["id"] for approval in listed.json()] == seen
    assert len(listed.content) < 1024 * 1024


def test_the_work_shows_the_newest_comments(held: tuple[str, httpx2.Client]) -> None:
    _, client = held
    for number in range(203):
        client.post("/comments", json={"body": f"c{number}"})
    shown = show(client).json()
    assert [comment["body"] for comment in shown["comments"]] == [f"c{n}" for n in range(3, 203)]
    assert shown["olderComments"] == 3


def test_another_jobs_approval_is_not_there(
    server: Server, http: Native, held: tuple[str, httpx2.Client], tmp_path: Path
) -> None:
    _, client = held
    asked = client.post("/approvals", json={"description": "Mine?"}).json()
    gate = tmp_path / "other"
    [other_id] = commit(http, "script", WAIT, gate=str(gate))
    runs(http, other_id)
    with worker(server, other_id) as other:
        foreign = other.get(f"/approvals/{asked['id']}?wait=60")
        missing = other.get("/approvals/11111111-1111-4111-8111-111111111111?wait=60")
        assert (foreign.status_code, foreign.content) == (404, missing.content)
        assert other.get("/approvals").json()["items"] == []
    gate.touch()


def test_asking_goes_on_through_a_kill_at_another_address(tmp_path: Path, templates: Path) -> None:
    script = """
        printed=$(crewlog worker ask 'Shall I?' --action 'all of it'); echo "$? $printed"
        crewlog worker ask 'And now?'; echo "then $?"
        crewlog worker ask 'Anybody?' --expires 0.2s; echo "last $?"
    """
    with Server.start(tmp_path / "data", CREWLOG_TEMPLATES=str(templates)) as server:
        with Native(server) as http:
            [job_id] = commit(http, "script", script)
            asked = pending(http, job_id)
        server.kill()
        server.restart()
        with Native(server) as http:
            assert pending(http, job_id) == asked
            answer = {"decision": "approve", "comment": "Go on."}
            http.post(f"/api/approvals/{asked['id']}/resolve", json=answer)
            second = pending(http, job_id)
            http.post(f"/api/approvals/{second['id']}/resolve", json={"decision": "reject"})
            outcome(http, job_id)
            printed = output(http, job_id)
            states = [a["state"] for a in http.get(f"/api/jobs/{job_id}/approvals").json()]
    assert "0 Go on." in printed
    assert "then 3" in printed
    assert "last 4" in printed
    assert states == ["approved", "rejected", "expired"]


class Cutting:
    """A relay that passes on the first POST and cuts the connection before the answer."""

    def __init__(self, server: Server) -> None:
        self._to = urlsplit(server.url)
        self.cut = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = Thread(target=self._relay)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _relay(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                request = client.recv(65_536)
                while request.startswith(b"POST") and not request.endswith(b"}"):
                    request += client.recv(65_536)
                with socket.create_connection((self._to.hostname, self._to.port)) as server:
                    server.sendall(request)
                    answer = server.recv(65_536)
                    if request.startswith(b"POST") and not self.cut:
                        self.cut += 1
                        continue
                    while answer:
                        client.sendall(answer)
                        answer = server.recv(65_536)


def test_what_was_asked_when_the_connection_was_cut_is_not_asked_twice(
    server: Server, http: Native, held: tuple[str, httpx2.Client]
) -> None:
    _, client = held
    client.post("/approvals", json={"description": "Once?"})
    token = client.headers["Authorization"].removeprefix("Bearer ")
    with Cutting(server) as relay, ThreadPoolExecutor() as pool:
        asking = pool.submit(
            WorkerClient(Workplace(relay.url, None, token)).ask, {"description": "Once?"}
        )
        asked = until(
            lambda: found if len(found := client.get("/approvals").json()["items"]) > 1 else None,
            "asked",
        )
        until(lambda: relay.cut, "the connection was cut")
        http.post(f"/api/approvals/{asked[1]['id']}/resolve", json={"decision": "approve"})
        assert asking.result()["id"] == asked[1]["id"]
    assert len(client.get("/approvals").json()["items"]) == 2


def test_a_wait_ends_at_once_when_the_server_stops(tmp_path: Path, templates: Path) -> None:
    gate = tmp_path / "gate"
    with Server.start(tmp_path / "data", CREWLOG_TEMPLATES=str(templates)) as server:
        with Native(server) as http:
            [job_id] = commit(http, "script", WAIT, gate=str(gate))
            runs(http, job_id)
        with worker(server, job_id) as client:
            asked = client.post("/approvals", json={"description": "Still?"}).json()
            headers = {"Authorization": client.headers["Authorization"]}
        # The connection is accepted, and the whole request sent, before the server stops.
        waiting = HTTPConnection(urlsplit(server.url).netloc, timeout=50)
        with closing(waiting):
            waiting.request("GET", "/crewlog/v1/worker", headers=headers)
            waiting.getresponse().read()
            path = f"/crewlog/v1/worker/approvals/{asked['id']}?wait=60"
            waiting.request("GET", path, headers=headers)
            server.stop()
            answer = waiting.getresponse()
            assert (answer.status, json.load(answer)["state"]) == (200, "pending")
        gate.touch()
        server.restart()
        with Native(server) as http:
            outcome(http, job_id)


def test_a_cancel_withdraws_what_was_asked(http: Native, tmp_path: Path) -> None:
    """The worker ignores SIGTERM for a while: it must not get a yes meanwhile."""
    script = """
        trap '' TERM
        crewlog worker ask 'Delete it all?'; echo "answer $?"
    """
    [job_id] = commit(http, "script", script)
    asked = pending(http, job_id)
    assert http.post(f"/api/jobs/{job_id}/cancel").status_code == 200
    late = http.post(f"/api/approvals/{asked['id']}/resolve", json={"decision": "approve"})
    assert (late.status_code, late.json()["detail"]) == (409, "Approval is already withdrawn")
    shown = http.get(f"/api/approvals/{asked['id']}").json()
    assert shown["state"] == "withdrawn"
    http.ended(job_id)
    assert "approval.resolved" not in [e["type"] for e in http.events(job_id)]


def test_time_does_not_run_while_a_person_is_waited_for(
    server: Server, http: Native, tmp_path: Path
) -> None:
    past, gate = tmp_path / "past", tmp_path / "gate"
    script = f"(sleep 3; touch {past}) & until [ -e {gate} ]; do sleep 0.02; done; echo answered"
    [job_id] = commit(http, "short", script)
    runs(http, job_id)
    with worker(server, job_id) as client:
        asked = client.post("/approvals", json={"description": "Slowly?"}).json()
    until(past.exists, "the time limit has passed")
    http.post(f"/api/approvals/{asked['id']}/resolve", json={"decision": "approve"})
    gate.touch()
    assert outcome(http, job_id)["status"] == "done"
    assert "answered" in output(http, job_id)


# What people can read


def test_who_sees_and_answers_what(server: Server, http: Native, tmp_path: Path) -> None:
    for name in ("owner", "other", "boss"):
        add_user(server, f"{name}@example.org")
    gate = tmp_path / "gate"
    with (
        sign_in(server, "owner@example.org") as owner,
        sign_in(server, "other@example.org") as other,
        sign_in(server, "boss@example.org") as boss,
    ):
        [plain] = commit(owner, "script", WAIT, gate=str(gate))
        [named] = commit(owner, "named", WAIT, gate=str(gate))
        ids = {}
        for job_id in (plain, named):
            runs(owner, job_id)
            with worker(server, job_id) as client:
                ids[job_id] = client.post("/approvals", json={"description": "?"}).json()["id"]
                around = {"description": "?", "approvers": ["owner"]}
                expected = 422 if job_id == named else 201
                assert client.post("/approvals", json=around).status_code == expected

        def inbox(who: httpx2.Client, **query: Any) -> set[str]:
            page = who.get("/api/approvals", params={"state": "pending", **query}).json()
            assert not page["hasMore"]
            return {item["jobId"] for item in page["items"]}

        assert inbox(owner) == {plain, named}
        assert inbox(boss) == {named}
        assert inbox(other) == set()
        assert inbox(http) >= {plain, named}
        assert inbox(http, mine=True) == set()

        def resolve(who: httpx2.Client, job_id: str) -> int:
            path = f"/api/approvals/{ids[job_id]}/resolve"
            return who.post(path, json={"decision": "approve"}).status_code

        for who, job_id, code in (
            (other, plain, 404),
            (other, named, 404),
            (boss, plain, 404),
            (owner, named, 403),
        ):
            assert resolve(who, job_id) == code
        shown = other.get(f"/api/approvals/{ids[plain]}")
        missing = other.get("/api/approvals/11111111-1111-4111-8111-111111111111")
        assert (shown.status_code, shown.content) == (404, missing.content)
        for path in (f"/api/jobs/{plain}/approvals", "/api/jobs/nothing/approvals"):
            assert other.get(path).json() == []
        assert [a["id"] for a in boss.get(f"/api/jobs/{named}/approvals").json()] == [ids[named]]

        assert owner.post(f"/api/jobs/{named}/trust").status_code == 403
        for path in (f"/api/jobs/{plain}/trust", "/api/jobs/nothing/approvals/trust"):
            assert other.post(path).json() == {"resolved": 0}
        trusted = owner.post(f"/api/jobs/{plain}/approvals/trust")
        assert trusted.json() == {"resolved": 2}
        assert int(trusted.headers["x-event-position"]) > 0
        assert resolve(owner, plain) == 409
        assert resolve(boss, named) == 200
    gate.touch()


def test_the_list_of_approvals_is_read_page_by_page(
    http: Native, held: tuple[str, httpx2.Client]
) -> None:
    _, client = held
    asked = [client.post("/approvals", json={"description": str(n)}).json()["id"] for n in range(5)]
    seen: list[str] = []
    cursor: str | None = None
    while len(seen) < 5:
        query = {"limit": "2", **({"cursor": cursor} if cursor else {})}
        page = http.get("/api/approvals", params=query).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["cursor"]
    assert seen[:5] == asked[::-1]
    assert http.get("/api/approvals", params={"cursor": "nothing"}).status_code == 400
    assert http.get("/api/approvals", params={"state": "lost"}).status_code == 422


@pytest.fixture(scope="module")
def filled(server: Server) -> str:
    """A job that has left files."""
    script = """
        cd "$CREWLOG_ARTIFACTS"; mkdir sub
        printf '# Hi <b>x</b>\\n\\n<script>alert(1)</script>\\n\\n' > report.md
        printf '[a](javascript:alert(1))\\n' >> report.md
        printf '<script>alert(1)</script>' > page.html
        printf '0123456789' > 'sub/q"uo te\u00e9.txt'
        printf '\\000\\001' > blob.bin
        ln -s /etc/passwd passwd
    """
    with Native(server) as http:
        [job_id] = commit(http, "script", script)
        assert outcome(http, job_id)["status"] == "done"
    return job_id


def artifact(http: Native, job_id: str, name: str) -> httpx2.Response:
    items = http.get(f"/api/jobs/{job_id}/artifacts").json()["items"]
    [found] = [item for item in items if item["name"] == name]
    return http.get(f"/api/artifacts/{found['id']}")


def test_the_files_of_a_job_are_listed_and_given_as_they_are(http: Native, filled: str) -> None:
    items = http.get(f"/api/jobs/{filled}/artifacts").json()["items"]
    odd = 'sub/q"uo te\u00e9.txt'
    assert [item["name"] for item in items] == ["blob.bin", "page.html", "report.md", odd]
    assert items[2]["mimeType"] == "text/markdown"

    text = artifact(http, filled, odd)
    assert text.content == b"0123456789"
    assert text.headers["content-disposition"] == "inline; filename*=utf-8''q%22uo%20te%C3%A9.txt"
    assert text.headers["etag"] == f'"{sha256(b"0123456789").hexdigest()}"'
    part = http.get(f"/api/artifacts/{items[3]['id']}", headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")
    beyond = http.get(f"/api/artifacts/{items[3]['id']}", headers={"Range": "bytes=99-"})
    assert beyond.status_code == 416
    assert http.get("/api/artifacts/art-000000000000").status_code == 404
    assert http.get("/api/jobs/nothing/artifacts").json() == {"items": []}


def test_what_a_job_wrote_can_do_nothing_in_a_browser(http: Native, filled: str) -> None:
    page = artifact(http, filled, "page.html")
    assert page.headers["content-disposition"].startswith("attachment")
    shown = http.get(f"/api/jobs/{filled}/artifact", params={"format": "html"})
    for answer in (page, shown, artifact(http, filled, "blob.bin")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"].split("; ")
        assert policy[:2] == ["sandbox", "default-src 'none'"]
    assert shown.headers["content-type"] == "text/html; charset=utf-8"
    assert "<h1>" in shown.text
    assert "<script" not in shown.text
    assert "<b>" not in shown.text
    assert "href" not in shown.text.partition("<article>")[2]


def test_a_text_that_takes_long_to_read_is_shown_as_it_is_and_nobody_waits(
    server: Server, http: Native
) -> None:
    leave = "head -c 1000000 /dev/zero | tr '\\0' '[' > \"$CREWLOG_ARTIFACTS/report.md\""
    [job_id] = commit(http, "script", leave)
    assert outcome(http, job_id)["status"] == "done"

    def shown(_: int) -> httpx2.Response:
        with Native(server) as client:
            path = f"/api/jobs/{job_id}/artifact"
            return client.get(path, params={"format": "html"}, timeout=60)

    with ThreadPoolExecutor(3) as readers:
        pages = [readers.submit(shown, n) for n in range(3)]
        first = next(as_completed(pages)).result()
        # Commits and what is sealed take threads too.
        [other] = commit(http, "script", "true")
        assert sum(page.done() for page in pages) < len(pages)
    assert (first.status_code, first.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "as Markdown takes too long" in first.text
    assert f"<pre>{'[' * 1000}" in first.text
    assert {page.result().status_code for page in pages} == {200}
    assert outcome(http, other)["status"] == "done"


def test_the_file_that_a_job_is_about(http: Native, filled: str) -> None:
    path = f"/api/jobs/{filled}/artifact"
    assert http.get(path).text.startswith("# Hi")
    download = http.get(path, params={"download": "1"})
    assert download.headers["content-disposition"] == 'attachment; filename="report.md"'
    named = http.get(path, params={"name": "page.html", "format": "html"})
    assert "<pre>&lt;script&gt;" in named.text
    binary = http.get(path, params={"name": "blob.bin", "format": "html"})
    assert binary.status_code == 406
    assert http.get(path, params={"name": "../report.md"}).status_code == 404
    assert http.get("/api/jobs/nothing/artifact").status_code == 404


def test_files_are_the_owners(server: Server, http: Native, filled: str) -> None:
    add_user(server, "stranger@example.org")
    [first, *_] = http.get(f"/api/jobs/{filled}/artifacts").json()["items"]
    with sign_in(server, "stranger@example.org") as stranger:
        assert stranger.get(f"/api/jobs/{filled}/artifacts").json() == {"items": []}
        foreign = stranger.get(f"/api/artifacts/{first['id']}")
        missing = stranger.get("/api/artifacts/art-000000000000")
        assert (foreign.status_code, foreign.content) == (404, missing.content)
        assert stranger.get(f"/api/jobs/{filled}/artifact").status_code == 404
