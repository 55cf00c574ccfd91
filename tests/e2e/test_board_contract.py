"""The eleven cases that every server of the board's contract must pass
(`contracts/board.md` §11), by number. There are no chat turns yet; streams of jobs fulfil cases 3
and 4.
"""

import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx2
import pytest

from domain.job.result import LARGEST_RESULT
from tests.e2e.crews import (
    DEADLINE_S,
    Crew,
    Frame,
    Json,
    all_done,
    attempt_runs,
    commit,
    following,
    frames,
    job,
    kinds,
    pending,
    pid_in,
    post,
    read_until,
    resolve,
    scheduled_soon,
    shown,
    stands,
    until_there,
    worker,
    write_template,
)
from tests.e2e.people import PASSWORD, add_user, client, issue_token, sign_in
from tests.kit.client import Native
from tests.kit.processes import is_alive
from tests.kit.server import Server
from tests.kit.waiting import until

CAPACITY = 4
UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("contract") / "data"
    options = ("--stop-jobs", "--log-level=warning", f"--capacity={CAPACITY}")
    with Server.start(data, *options) as started:
        write_template(data, "greeting", job("greet", "echo hello"))
        yield started


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


def in_a_moment(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


# 1. Owners

VERBS: list[tuple[str, str, Json | None]] = [
    ("GET", "/api/jobs/{job}", None),
    ("GET", "/api/jobs/{job}/stream", None),
    ("GET", "/api/jobs/{job}/graph", None),
    ("GET", "/api/jobs/{job}/artifact", None),
    ("GET", "/api/jobs/{job}/timeline", None),
    ("POST", "/api/jobs/{job}/comments", {"body": "x"}),
    ("POST", "/api/jobs/{job}/unblock", None),
    ("POST", "/api/jobs/{job}/redo", {"feedback": "x"}),
    ("POST", "/api/jobs/{job}/cancel", None),
    ("POST", "/api/jobs/{job}/archive", None),
    ("DELETE", "/api/jobs/{job}", None),
    ("GET", "/api/approvals/{approval}", None),
    ("POST", "/api/approvals/{approval}/resolve", {"resolution": "approved"}),
    ("GET", "/api/schedules/{schedule}", None),
    ("GET", "/api/schedules/{schedule}/jobs", None),
    ("GET", "/api/schedules/{schedule}/preview", None),
    ("GET", "/api/schedules/{schedule}/firings", None),
    ("PATCH", "/api/schedules/{schedule}", {"name": "mine now"}),
    ("POST", "/api/schedules/{schedule}/enable", None),
    ("POST", "/api/schedules/{schedule}/disable", None),
    ("POST", "/api/schedules/{schedule}/run-now", None),
    ("DELETE", "/api/schedules/{schedule}", None),
]
"""All actions on a person's own objects. Each is a 404 for others."""

EMPTY: list[tuple[str, str]] = [
    ("GET", "/api/jobs/{job}/approvals"),
    ("GET", "/api/jobs/{job}/artifacts"),
    ("POST", "/api/jobs/{job}/trust"),
]
"""Requests for which another contract demands an empty answer instead of a 404."""


def asked(found: httpx2.Client, method: str, path: str, body: Json | None) -> tuple[int, Any]:
    answer = found.request(method, path, json=body)
    content = answer.json()
    if isinstance(content, dict):
        content.pop("error_id", None)
    return answer.status_code, content


def test_case_01_another_persons_things_are_not_there(server: Server, http: Native) -> None:
    ann, bob = add_user(server, "ann@example.org"), add_user(server, "bob@example.org")
    tokens = [issue_token(server, user["id"], "read", "write") for user in (ann, bob)]
    with client(server, tokens[0]) as anns, client(server, tokens[1]) as bobs:
        hers = commit(server, anns, job("a", "true", approval="required"))
        rule = {"cadence": "daily", "at": "09:00"}
        body = {"name": "s", "templateId": "greeting", "rule": rule, "timezone": "UTC"}
        schedule = anns.post("/api/schedules", json=body).json()["schedule"]
        named = {
            "job": hers["a"],
            "crew": hers.id,
            "approval": pending(anns, hers["a"])["id"],
            "schedule": schedule["id"],
        }
        missing = dict.fromkeys(named, UNKNOWN)
        before = http.log_head()
        for method, path, sent in VERBS:
            foreign = asked(bobs, method, path.format(**named), sent)
            assert foreign[0] == 404, (method, path, foreign)
            assert foreign == asked(bobs, method, path.format(**missing), sent), path
        for method, path in EMPTY:
            foreign = asked(bobs, method, path.format(**named), None)
            assert foreign == asked(bobs, method, path.format(**missing), None), path
        assert [e for e in http.since(before) if e["actor"].startswith("token:")] == []

        with client(server) as nobody:
            for method, path, sent in VERBS:
                assert asked(nobody, method, path.format(**named), sent)[0] == 401, path
        looks = [path for method, path, _ in VERBS if method == "GET" and "/stream" not in path]
        for path in looks:
            if "artifact" not in path:
                assert http.get(path.format(**named)).status_code == 200, path


def test_case_01_lists_are_scoped(server: Server, http: Native) -> None:
    cyd = add_user(server, "cyd@example.org")
    mine = commit(server, http, job("a"))
    with client(server, issue_token(server, cyd["id"], "read", "write")) as cyds:
        theirs = commit(server, cyds, job("a"))

        def ids(found: httpx2.Client, path: str, field: str, **params: Any) -> set[str]:
            return {one["id"] for one in found.get(path, params=params).json()[field]}

        for path, field, own, other in (
            ("/api/jobs", "jobs", theirs["a"], mine["a"]),
            ("/crewlog/v1/crews", "items", theirs.id, mine.id),
        ):
            only_mine = {"mine": True, "owner": "me"}  # each API has its own parameter
            assert ids(cyds, path, field) == ids(cyds, path, field, **only_mine) == {own}
            assert {own, other} <= ids(http, path, field)
            narrowed = ids(http, path, field, **only_mine)
            assert other in narrowed
            assert own not in narrowed
        columns = cyds.get("/crewlog/v1/board").json()["columns"]
        assert {one["id"] for column in columns for one in column["jobs"]} == {theirs["a"]}


# 2. Identity


def test_case_02_one_is_told_who_one_is_and_never_the_hash(server: Server, http: Native) -> None:
    user = add_user(server, "dee@example.org", name="Dee")
    with client(server) as nobody:
        assert (nobody.get("/auth/me").status_code, nobody.get("/auth/me").json()) == (200, None)
        assert nobody.get("/auth/google-enabled").json() == {"enabled": False}
        wrong = nobody.post("/auth/login", json={"email": "dee@example.org", "password": "no"})
        assert wrong.status_code == 401
    with sign_in(server, "dee@example.org") as dee:
        me = dee.get("/auth/me")
        assert me.json()["id"] == user["id"]
        assert me.json()["displayName"] == "Dee"
        told = [
            me.text,
            http.get("/crewlog/v1/users").text,
            http.get("/crewlog/v1/log?limit=1000").text,
        ]
    for text in told:
        assert "argon2" not in text
        assert PASSWORD not in text


# 3. and 4. Contents of a stream


def kinds_of(seen: list[Frame]) -> list[str]:
    return [frame.kind for frame in seen]


@pytest.mark.parametrize("outcome", ["done", "no such program", "cancelled"])
def test_case_03_a_stream_is_chunks_and_then_one_end(
    server: Server, http: Native, outcome: str
) -> None:
    planned = job(
        "a", "echo one; echo two" + ("; exec sleep 600" if outcome == "cancelled" else "")
    )
    if outcome == "no such program":
        planned["argv"] = ["/no/such/program"]
        planned["maxRetries"] = 0
    made = commit(server, http, planned)
    with following(http, made["a"]) as stream:
        if outcome == "cancelled":
            seen = read_until(stream, lambda frame: frame.text == "two\n")
            post(http, f"/api/jobs/{made['a']}/cancel")
        elif outcome == "no such program":
            seen = read_until(stream, lambda frame: frame.text.startswith("Gave up: "))
            assert "No such program" in seen[-1].text
            assert seen[-1].data["stepResult"]["note"] is True
            post(http, f"/api/jobs/{made['a']}/cancel")
        else:
            seen = []
        seen += list(stream)
    assert kinds_of(seen)[-1] == "final_result"
    assert kinds_of(seen).count("final_result") == 1
    assert {frame.data["type"] for frame in seen[1:-1]} == {"chunk"}


def test_case_04_a_replay_is_what_was_live_in_its_order(
    server: Server, http: Native, gate: Path
) -> None:
    script = f"echo one; {until_there(gate)}; printf torn"
    made = commit(server, http, job("a", script, body="Do it."))
    with following(http, made["a"]) as stream:
        live = read_until(stream, lambda frame: frame.text == "one\n")
        with following(http, made["a"]) as late:
            assert read_until(late, lambda frame: frame.text == "one\n") == live
        assert kinds_of(live) == ["user_message", "agent_start", "text"]
        gate.touch()
        live += list(stream)
    assert live[0].data["userInput"] == "Do it."
    assert kinds_of(live)[3:] == ["text", "agent_end", "final_result"]
    assert live[3].text.rstrip("\n") == "torn"
    assert frames(http, made["a"]) == live


# 5. Dependencies


def test_case_05_roots_are_ready_and_children_wait_for_the_last_parent(
    server: Server, http: Native, tmp_path: Path
) -> None:
    gates = {key: tmp_path / key for key in "abc"}
    made = commit(
        server,
        http,
        job("a", until_there(gates["a"])),
        job("b", until_there(gates["b"]), "a"),
        job("c", until_there(gates["c"]), "a"),
        job("d", "true", "b", "c"),
    )

    def columns() -> dict[str, str]:
        nodes = http.get(f"/api/jobs/{made['d']}/graph").json()["jobs"]
        assert [node["id"] for node in nodes] == [made[key] for key in "abcd"]
        assert nodes[3]["parents"] == [made["b"], made["c"]]
        return dict(zip("abcd", (node["status"] for node in nodes), strict=True))

    attempt_runs(http, made["a"])
    assert columns() == {"a": "running", "b": "todo", "c": "todo", "d": "todo"}
    gates["a"].touch()
    attempt_runs(http, made["b"])
    attempt_runs(http, made["c"])
    gates["c"].touch()
    stands(http, made["c"], "done")
    assert columns() == {"a": "done", "b": "running", "c": "done", "d": "todo"}
    gates["b"].touch()
    all_done(http, made)


# 6. Results


def test_case_06_a_result_is_refused_and_then_taken(
    server: Server, http: Native, gate: Path
) -> None:
    schema = {"type": "object", "required": ["t"], "properties": {"t": {"type": "string"}}}
    made = commit(server, http, job("a", until_there(gate), result_schema=schema))
    attempt_runs(http, made["a"])
    room = LARGEST_RESULT - len('{"t":""}')
    with worker(server, made["a"]) as speaking:
        for refused in ({"t": 1}, {}, {"t": "x" * (room + 1)}):
            answer = speaking.post("/complete", json={"result": refused})
            assert answer.status_code == 422, refused
            assert answer.json()["path"].startswith("result")
        assert speaking.post("/complete", json={"result": {"t": "x" * room}}).is_success
    gate.touch()
    assert len(stands(http, made["a"], "done")["result"]["t"]) == room


# 7. How attempts end


@pytest.mark.parametrize("how", ["no result", "exit code", "kill -9"])
def test_case_07_a_failure_is_tried_again_and_then_given_up(
    server: Server, http: Native, tmp_path: Path, how: str
) -> None:
    pid = tmp_path / "pid"
    script, more = {
        "no result": ("true", {"result_schema": {"type": "object"}}),
        "exit code": ("exit 3", {}),
        "kill -9": (f"echo $$ > {pid}.$CREWLOG_ATTEMPT; exec sleep 600", {}),
    }[how]
    made = commit(server, http, job("a", script, maxRetries=1, **more))
    if how == "kill -9":
        for attempt in (1, 2):
            attempt_runs(http, made["a"], attempt)
            os.kill(pid_in(tmp_path / f"pid.{attempt}"), signal.SIGKILL)
    blocked = stands(http, made["a"], "blocked")
    assert [run["outcome"] for run in blocked["runs"]] == ["crashed", "gave_up"]
    assert blocked["gaveUp"]
    assert (
        blocked["blockReason"]
        == {
            "no result": "The worker left without a result.",
            "exit code": "Exit code 3.",
            "kill -9": "Killed by signal 9.",
        }[how]
    )


def test_case_07_a_worker_outlives_the_server(server: Server, tmp_path: Path, gate: Path) -> None:
    pid = tmp_path / "pid"
    with Native(server) as before:
        made = commit(server, before, job("a", f"echo $$ > {pid}; {until_there(gate)}; echo end"))
        attempt_runs(before, made["a"])
        worker = pid_in(pid)
    server.kill()
    assert is_alive(worker)
    gate.touch()
    server.restart()
    with Native(server) as after:
        done = stands(after, made["a"], "done")
        assert (done["attempts"], after.printed(made["a"])) == (1, ["end"])


# 8. Actions by state


def in_columns(server: Server, http: Native, gate: Path, count: int) -> dict[str, Crew]:
    """One crew for each column, with this many jobs each."""
    keys = [f"j{n}" for n in range(count)]

    def crew(script: str, **fields: Any) -> Crew:
        return commit(server, http, *(job(key, script, maxRetries=0) for key in keys), **fields)

    found = {
        "todo": crew("true", scheduledAt=in_a_moment(3600)),
        "done": crew("true"),
        "blocked": crew("false"),
        "archived": crew("true"),
    }
    for column in ("done", "blocked"):
        for key in keys:
            stands(http, found[column][key], column)
    for key in keys:
        stands(http, found["archived"][key], "done")
        post(http, f"/api/jobs/{found['archived'][key]}/archive")
    found["running"] = commit(
        server, http, *(job(f"j{n}", until_there(gate)) for n in range(CAPACITY))
    )
    for n in range(CAPACITY):
        attempt_runs(http, found["running"][f"j{n}"])
    found["ready"] = crew("true")
    return found


GUARDS = {
    "unblock": {"blocked"},
    "redo": {"blocked", "done"},
    "archive": {"todo", "ready", "blocked", "done", "archived"},
    "delete": {"todo", "ready", "blocked", "done", "archived"},
}
"""The columns that allow each action (`contracts/board.md` §5.1); archiving twice does nothing."""


def test_case_08_guards_in_every_column(server: Server, http: Native, gate: Path) -> None:
    found = in_columns(server, http, gate, len(GUARDS))
    for number, (verb, columns) in enumerate(GUARDS.items()):
        for column, crew in found.items():
            job_id = crew[f"j{number}"]
            before = kinds(http, job_id)
            path = f"/api/jobs/{job_id}"
            answer = http.delete(path) if verb == "delete" else http.post(f"{path}/{verb}")
            # At the main address, archiving does not have the board's answer (`docs/dialects.md`).
            done = 204 if verb == "archive" else 200
            wanted = done if column in columns else 409
            assert answer.status_code == wanted, (verb, column, answer.text)
            if wanted == 409:
                assert kinds(http, job_id) == before
            elif verb == "delete":
                assert http.get(path).status_code == 404
    gate.touch()
    all_done(http, found["running"])


def test_case_08_feedback_is_seen_by_the_next_attempt(
    server: Server, http: Native, gate: Path
) -> None:
    gate.touch()
    made = commit(server, http, job("a", until_there(gate)))
    stands(http, made["a"], "done")
    gate.unlink()
    post(http, f"/api/jobs/{made['a']}/redo", {"feedback": "More detail."})
    attempt_runs(http, made["a"], 2)
    with worker(server, made["a"], 2) as speaking:
        told = speaking.get(f"{server.url}/crewlog/v1/worker").json()
    assert told["feedback"] == "More detail."
    assert [comment["body"] for comment in told["comments"]] == ["More detail."]
    gate.touch()
    stands(http, made["a"], "done")


def test_case_08_one_column_is_cleared_and_only_by_an_admin(
    server: Server, http: Native, gate: Path
) -> None:
    user = add_user(server, "eve@example.org")
    with client(server, issue_token(server, user["id"], "read", "write")) as eve:
        own = commit(server, eve, job("a"))
        stands(eve, own["a"], "done")
        before = http.log_head()
        assert eve.post("/api/jobs/clear", json={"status": "done"}).status_code == 403
        assert http.since(before, "job.deleted") == []
    kept = commit(server, http, job("a", "false", maxRetries=0), job("b", until_there(gate)))
    stands(http, kept["a"], "blocked")
    attempt_runs(http, kept["b"])

    assert http.post("/api/jobs/clear", json={"status": "gone"}).status_code == 400
    cleared = post(http, "/api/jobs/clear", {"status": "done"}).json()
    assert cleared["deleted"] >= 1
    assert http.get("/api/jobs", params={"status": "done"}).json()["jobs"] == []
    assert http.get(f"/api/jobs/{own['a']}").status_code == 404
    assert shown(http, kept["a"])["status"] == "blocked"

    everything = post(http, "/api/jobs/clear").json()
    assert everything["skipped"] == 1
    left = http.get("/api/jobs").json()["items"]
    assert [one["id"] for one in left] == [kept["b"]]
    assert len(http.get(f"/crewlog/v1/log?subject=job-{own['a']}").json()["items"]) > 3
    gate.touch()
    stands(http, kept["b"], "done")


# 9. Schedules


def scheduled(http: Native, rule: Json, **fields: Any) -> Json:
    body = {"name": "s", "templateId": "greeting", "rule": rule, "timezone": "UTC", **fields}
    answer = http.post("/api/schedules", json=body)
    assert answer.status_code == 201, answer.text
    made: Json = answer.json()["schedule"]
    return made


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ({"cadence": "daily", "at": "07:30"}, lambda t: (t.hour, t.minute) == (7, 30)),
        (
            {"cadence": "weekly", "days": [1, 5], "at": "09:00"},
            lambda t: t.isoweekday() in (1, 5) and (t.hour, t.minute) == (9, 0),
        ),
        ({"cadence": "monthly", "dayOfMonth": 31, "at": "09:00"}, lambda t: t.day >= 28),
        ({"cadence": "hourly", "everyHours": 6}, lambda t: t.minute == 0),
        ({"cadence": "minutely", "everyMinutes": 5}, lambda t: t.second == 0),
    ],
)
def test_case_09_five_cadences_in_their_zone(http: Native, rule: Json, wanted: Any) -> None:
    zone = "America/New_York"
    made = scheduled(http, rule, timezone=zone)
    previewed = http.get(f"/api/schedules/{made['id']}/preview?n=20").json()["times"]
    moments = [datetime.fromisoformat(at).astimezone(ZoneInfo(zone)) for at in previewed]
    assert len(moments) == 20
    assert moments == sorted(set(moments))
    assert all(wanted(moment) for moment in moments), moments
    assert made["nextRunAt"] == previewed[0]
    http.delete(f"/api/schedules/{made['id']}")


def test_case_09_disabled_run_by_hand_and_deleted(http: Native) -> None:
    made = scheduled(http, {"cadence": "daily", "at": "09:00"})
    path = f"/api/schedules/{made['id']}"
    assert post(http, f"{path}/disable").json()["schedule"]["nextRunAt"] is None
    run = post(http, f"{path}/run-now").json()
    stands(http, run["jobIds"][0], "done")
    assert post(http, f"{path}/enable").json()["schedule"]["nextRunAt"] == made["nextRunAt"]
    assert [one["id"] for one in http.get(f"{path}/jobs").json()["jobs"]] == run["jobIds"]
    assert http.delete(path).status_code == 200
    assert http.get(path).status_code == 404
    assert shown(http, run["jobIds"][0])["scheduleId"] == made["id"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"rule": {"cadence": "fortnightly"}},
        {"rule": {"cadence": "daily", "at": "25:00"}},
        {"timezone": "Mars/Olympus"},
        {"templateId": None},
    ],
)
def test_case_09_a_schedule_that_cannot_be_is_refused(http: Native, wrong: Json) -> None:
    body = {"name": "s", "templateId": "greeting", "rule": {"cadence": "daily"}, **wrong}
    before = http.log_head()
    assert http.post("/api/schedules", json=body).status_code == 400
    assert http.since(before, "schedule.created") == []


def test_case_09_and_10_a_restart_when_one_is_due_fires_it_once(server: Server) -> None:
    """The dispatcher's status also ends with its server, and returns with the next one."""
    with Native(server) as before:
        assert before.get("/api/dispatcher/status").json()["running"] is True
        made = scheduled_soon(before, 2.0, name="s", templateId="greeting", timezone="UTC")
        server.kill()
        with pytest.raises(httpx2.TransportError):
            before.get("/api/dispatcher/status")
    until(lambda: datetime.now(UTC).isoformat() > made["nextRunAt"], "its time passes")
    server.restart()
    with Native(server) as http:
        status: Json = until(
            lambda: (
                found if (found := http.get("/api/dispatcher/status").json())["running"] else None
            ),
            "the dispatcher works",
        )
        assert (status["pid"], status["maxInProgress"]) == (server.pid, CAPACITY)
        assert status["ageMs"] < 5_000

        def jobs() -> list[Json]:
            found: list[Json] = http.get(f"/api/schedules/{made['id']}/jobs").json()["jobs"]
            return found

        until(jobs, "it fires", DEADLINE_S)
        stands(http, jobs()[0]["id"], "done")
        log = http.get(f"/crewlog/v1/log?subject=schedule-{made['id']}&limit=1000").json()["items"]
        assert [e["type"] for e in log].count("schedule.fired") == 1
        assert len(jobs()) == 1


# 11. The stream of a job

SYMBOLS = "é€😀"


def test_case_11_the_stream_is_open_before_the_first_run_and_goes_on_across_a_retry(
    server: Server, http: Native, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    script = f"echo attempt; if [ -e {flag} ]; then exit 0; fi; touch {flag}; exit 1"
    made = commit(server, http, job("a", script, approval="required"))
    with following(http, made["a"]) as stream:
        seen = read_until(stream, lambda frame: frame.kind == "agent_tool_start")
        assert shown(http, made["a"])["attempt"] == 0
        resolve(http, pending(http, made["a"])["id"], "approved")
        seen += list(stream)
    turn = ["agent_start", "text", "agent_end"]
    asked_first = ["user_message", "agent_tool_start", "agent_tool_end"]
    assert kinds_of(seen) == [*asked_first, *turn, *turn, "final_result"]
    assert frames(http, made["a"]) == seen


def test_case_11_a_reader_resumes_at_every_id_and_is_told_when_all_was_seen(
    server: Server, http: Native
) -> None:
    made = commit(server, http, job("a", "seq 5; sleep 0.2; seq 6 8"))
    seen = frames(http, made["a"])
    assert len({frame.id for frame in seen}) == len(seen)
    for number, frame in enumerate(seen[:-1]):
        assert frames(http, made["a"], frame.id) == seen[number + 1 :]
    headers = {"Last-Event-ID": seen[-1].id}
    path = f"/api/jobs/{made['a']}/stream"
    assert http.get(path, headers=headers).status_code == 204
    post(http, f"/api/jobs/{made['a']}/archive")
    assert http.get(path, headers=headers).status_code == 204
    assert http.get(path, headers={"Last-Event-ID": str(http.log_head() + 1)}).status_code == 400


def test_case_11_text_may_be_split_at_every_byte(server: Server, http: Native) -> None:
    one_by_one = "; sleep 0.06; ".join(f"printf '\\{byte:03o}'" for byte in SYMBOLS.encode())
    made = commit(server, http, job("a", f"{one_by_one}; echo; {one_by_one}"))
    texts = [frame.text.rstrip("\n") for frame in frames(http, made["a"]) if frame.kind == "text"]
    assert texts == [SYMBOLS, SYMBOLS]
