"""The twenty weaknesses of the board's contract (`contracts/board.md` §10), by number: this server
has none of them. Those of chat sessions are tested on the parts of a future session: jobs, their
streams and their log.
"""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.crews import (
    DEADLINE_S,
    KEEP_PARENTS,
    Json,
    all_done,
    attempt_runs,
    commit,
    following,
    frames,
    gives,
    job,
    kinds,
    parents_of,
    pid_in,
    post,
    read_until,
    shown,
    stands,
    until_there,
    worker,
    write_template,
)
from tests.e2e.people import add_user, client, issue_token
from tests.kit.client import Native
from tests.kit.processes import is_alive
from tests.kit.server import Server, crewlog
from tests.kit.waiting import until

CAPACITY = 3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("weaknesses") / "data"
    options = ("--stop-jobs", "--log-level=warning", f"--capacity={CAPACITY}")
    with Server.start(data, *options) as started:
        yield started


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


def test_weakness_01_the_board_is_made_from_the_log_and_a_wipe_destroys_no_history(
    tmp_path: Path,
) -> None:
    """State was mutable rows beside a log; a wipe destroyed history."""

    def board(http: Native, crew_id: str) -> list[Json]:
        crew = http.crew(crew_id)
        return [
            http.get("/crewlog/v1/board").json(),
            crew,
            *(shown(http, j) for j in crew["jobIds"]),
        ]

    with Server.start(tmp_path / "data", "--stop-jobs") as server:
        with Native(server) as http:
            gone = commit(server, http, job("gone"))
            all_done(http, gone)
            post(http, "/api/jobs/clear", {"status": "done"})
            made = commit(
                server, http, job("a", gives({"n": 1})), job("b", "false", "a", maxRetries=1)
            )
            stands(http, made["b"], "blocked")
            before = board(http, made.id)
            assert http.get(f"/api/jobs/{gone['gone']}").status_code == 404
            assert "job.finished" in kinds(http, gone["gone"])
        server.stop()
        for file in (tmp_path / "data").glob("views.db*"):
            file.unlink()
        server.restart()
        with Native(server) as http:
            assert board(http, made.id) == before


def test_weakness_02_many_write_and_one_appends(server: Server, http: Native) -> None:
    """Every worker and server wrote to the same database file."""
    made = commit(server, http, job("a"))
    stands(http, made["a"], "done")
    before = http.log_head()

    def say(number: int) -> int:
        """Comment; on a 409, another writer was first: try again."""
        while True:
            answer = http.post(f"/api/jobs/{made['a']}/comments", json={"body": f"c{number}"})
            if answer.status_code != 409:
                assert answer.json()["comment"]["body"] == f"c{number}"
                return int(answer.headers["x-event-position"])

    with ThreadPoolExecutor(8) as pool:
        positions = list(pool.map(say, range(40)))
    everything = http.since(before)
    assert [e["position"] for e in everything] == list(
        range(before + 1, before + 1 + len(everything))
    )
    written = [event for event in everything if event["type"] == "job.commented"]
    assert [event["position"] for event in written] == sorted(positions)
    assert sorted(e["data"]["text"] for e in written) == sorted(f"c{n}" for n in range(40))


def test_weakness_03_a_worker_that_is_there_and_does_nothing_is_found_by_its_lease(
    server: Server, http: Native, tmp_path: Path
) -> None:
    """A process that existed was never recovered, one that did not after 4 hours."""
    pid, once = tmp_path / "pid", tmp_path / "once"
    script = f"[ -e {once} ] && exit 0; touch {once}; echo $$ > {pid}; sleep 600 & wait"
    made = commit(server, http, job("a", script, lease_s=2))
    attempt_runs(http, made["a"])
    stuck = pid_in(pid)
    assert is_alive(stuck)
    runs = stands(http, made["a"], "done")["runs"]
    assert (runs[0]["leaseExpired"], runs[-1]["leaseExpired"]) == (True, False)
    assert "job.lease_expired" in kinds(http, made["a"])
    assert not is_alive(stuck)


def test_weakness_04_a_late_worker_cannot_finish_what_was_handed_on(
    server: Server, http: Native, tmp_path: Path, gate: Path
) -> None:
    pid = tmp_path / "pid"
    made = commit(server, http, job("a", f"echo $$ > {pid}; {until_there(gate)}"))
    attempt_runs(http, made["a"])
    os.kill(pid_in(pid), signal.SIGKILL)
    attempt_runs(http, made["a"], 2)
    with worker(server, made["a"], 1) as late, worker(server, made["a"], 2) as current:
        assert late.post("/complete", json={"result": {"by": 1}}).status_code == 409
        assert current.post("/complete", json={"result": {"by": 2}}).is_success
        assert late.post("/complete", json={"result": {"by": 1}}).status_code == 409
    gate.touch()
    assert stands(http, made["a"], "done")["result"] == {"by": 2}


def test_weakness_05_what_runs_away_is_stopped(
    server: Server, http: Native, tmp_path: Path
) -> None:
    """There was no cancel, and a running job could not be deleted."""
    pid = tmp_path / "pid"
    made = commit(server, http, job("a", f"echo $$ > {pid}; exec sleep 600"), job("b", "true", "a"))
    attempt_runs(http, made["a"])
    runs = pid_in(pid)
    post(http, f"/api/jobs/{made['a']}/cancel")
    assert stands(http, made["a"], "blocked")["outcome"] == "cancelled"
    assert kinds(http, made["a"]).count("job.queued") == 1
    until(lambda: not is_alive(runs), "the end of its process")
    until(lambda: shown(http, made["b"])["strandedBy"], "its child is told")
    assert http.delete(f"/api/jobs/{made['a']}").status_code == 200


def test_weakness_06_a_stream_resumes_and_goes_on_across_attempts(
    server: Server, http: Native, tmp_path: Path
) -> None:
    """No ids and no resume; a retry in the middle was lost."""
    once, gate = tmp_path / "once", tmp_path / "gate"
    script = f"if [ -e {once} ]; then echo two; exit 0; fi; touch {once}; echo one; "
    made = commit(server, http, job("a", script + f"{until_there(gate)}; exit 1"))
    with following(http, made["a"]) as stream:
        first = read_until(stream, lambda frame: frame.text == "one\n")
    gate.touch()
    rest = frames(http, made["a"], first[-1].id)
    assert [frame.text for frame in rest if frame.kind == "text"] == ["two\n"]
    assert first + rest == frames(http, made["a"])


def test_weakness_07_a_failing_launch_is_an_end_and_the_server_lives(
    server: Server, http: Native
) -> None:
    """Any failure of the runner hung the work for ever, or ended the process."""
    absent = job("a", maxRetries=1) | {"argv": ["/no/such/program"]}
    nowhere = job("b", maxRetries=0, cwd="/no/such/directory")
    made = commit(server, http, absent, nowhere)
    blocked = stands(http, made["a"], "blocked")
    assert [run["outcome"] for run in blocked["runs"]] == ["crashed", "gave_up"]
    assert "No such program" in blocked["blockReason"]
    assert "No such working directory" in stands(http, made["b"], "blocked")["blockReason"]
    assert server.running
    all_done(http, commit(server, http, job("other")))
    for key in "ab":
        post(http, f"/api/jobs/{made[key]}/cancel")
        assert [frame.kind for frame in frames(http, made[key])][-1] == "final_result"


def test_weakness_08_text_that_is_cut_within_a_character_is_whole(
    server: Server, http: Native
) -> None:
    made = commit(server, http, job("a", r"printf 'a\360\237'; sleep 0.4; printf '\230\200z\n'"))
    stands(http, made["a"], "done")
    assert http.printed(made["a"]) == ["a😀z"]
    assert "a😀z\n" in [frame.text for frame in frames(http, made["a"])]


def test_weakness_09_what_was_acknowledged_is_in_the_log_before_anybody_sees_it(
    server: Server, http: Native
) -> None:
    """One failed append poisoned a log, and most were never waited for."""
    made = commit(server, http, job("a"))
    for number in range(5):
        answer = post(http, f"/api/jobs/{made['a']}/comments", {"body": f"c{number}"})
        position = int(answer.headers["x-event-position"])
        [event] = http.since(position - 1)[:1]
        assert (event["position"], event["data"]["text"]) == (position, f"c{number}")
        assert shown(http, made["a"])["comments"][-1]["body"] == f"c{number}"
    bad = http.post(f"/api/jobs/{made['a']}/comments", json={"body": "\0"})
    assert bad.status_code == 422
    post(http, f"/api/jobs/{made['a']}/comments", {"body": "still here"})


def test_weakness_10_two_who_change_a_job_at_once_do_so_one_after_the_other(
    server: Server, http: Native
) -> None:
    """Two turns of one session were interleaved."""
    made = commit(server, http, job("a", "false", maxRetries=0))
    version = stands(http, made["a"], "blocked")["version"]
    headers = {"If-Match": f'"{version}"'}
    path = f"/api/jobs/{made['a']}/redo"
    with ThreadPoolExecutor(6) as pool:
        asked = [
            pool.submit(http.post, path, json={"feedback": f"f{n}"}, headers=headers)
            for n in range(6)
        ]
        statuses = sorted(one.result().status_code for one in asked)
    assert statuses[0] == 200
    assert set(statuses[1:]) <= {409, 412}
    assert kinds(http, made["a"]).count("job.redone") == 1
    stands(http, made["a"], "blocked")
    own = [e for e in http.since(0) if e["stream"] == f"job-{made['a']}"]
    assert [e["version"] for e in own] == list(range(1, len(own) + 1))


def test_weakness_11_and_13_names_that_look_alike_share_nothing(
    server: Server, http: Native
) -> None:
    """Logs were found by a slug of the name, or under one fixed user."""
    names = ("ann.lee@example.org", "ann_lee@example.org", "анна@example.org", "åsa@example.org")
    made = {}
    for name in names:
        user = add_user(server, name)
        token = issue_token(server, user["id"], "read", "write")
        with client(server, token) as own:
            crew = commit(server, own, job("my.chat", f"echo only {user['id']}"))
            all_done(own, crew)
            made[user["id"]] = (token, crew["my.chat"])
    assert len({job_id for _, job_id in made.values()}) == len(names)
    for user_id, (token, job_id) in made.items():
        [first] = http.events(job_id, "job.submitted")
        assert (first["data"]["owner"], first["actor"][:6]) == (f"user:{user_id}", "token:")
        with client(server, token) as own:
            assert [one["id"] for one in own.get("/api/jobs").json()["items"]] == [job_id]
            texts = [frame.text for frame in frames(own, job_id) if frame.kind == "text"]
            assert texts == [f"only {user_id}\n"]
            for other in {other for _, other in made.values()} - {job_id}:
                assert own.get(f"/api/jobs/{other}/stream").status_code == 404
                assert own.get(f"/crewlog/v1/log?subject=job-{other}").status_code == 404


def test_weakness_12_stream_detail_and_timeline_come_from_one_log(
    server: Server, http: Native, tmp_path: Path
) -> None:
    """The model's input and the people's view were written separately."""
    once = tmp_path / "once"
    made = commit(server, http, job("a", f"echo x; [ -e {once} ] || {{ touch {once}; exit 1; }}"))
    detail = stands(http, made["a"], "done")
    seen = frames(http, made["a"])
    assert [f.text for f in seen if f.kind == "text"] == [f"{x}\n" for x in http.printed(made["a"])]
    assert [f.kind for f in seen].count("agent_start") == len(detail["runs"]) == 2
    positions = {event["position"] for event in http.events(made["a"], *kinds(http, made["a"]))}
    assert {event["id"] for event in detail["events"]} <= positions
    timeline = http.items(f"/jobs/{made['a']}/timeline")
    assert [e["position"] for e in timeline] == [e["id"] for e in detail["events"]]


def test_weakness_14_children_of_one_that_gave_up_are_not_stranded_in_silence(
    server: Server, http: Native
) -> None:
    made = commit(
        server, http, job("a", "false", maxRetries=0), job("b", "true", "a"), job("c", "true", "b")
    )
    stands(http, made["a"], "blocked")
    for key in "bc":
        until(lambda key=key: shown(http, made[key])["strandedBy"], "it is told")  # type: ignore[misc]
        [event] = http.events(made[key], "job.stranded")
        assert event["data"] == {"parent": made["a"], "reason": "“Job a” gave up."}
        assert event["actor"] == "system:crews"


def test_weakness_15_what_was_made_of_a_redone_parent_is_made_anew(
    server: Server, http: Native
) -> None:
    script = 'printf "{\\"attempt\\": $CREWLOG_ATTEMPT}" > "$CREWLOG_RESULT"'
    made = commit(server, http, job("a", script), job("b", KEEP_PARENTS, "a"))
    all_done(http, made)
    post(http, f"/api/jobs/{made['a']}/redo", {"feedback": "Anew."})
    until(lambda: shown(http, made["b"])["attempt"] == 2, "the child runs again", DEADLINE_S)
    all_done(http, made)
    assert parents_of(http, made["b"])[0]["metadata"] == {"attempt": 2}
    queued = http.events(made["b"], "job.queued")
    assert [event["data"]["after"] for event in queued] == [{made["a"]: 1}, {made["a"]: 2}]


def test_weakness_16_what_an_attempt_left_is_kept_and_crews_do_not_share_it(
    server: Server, http: Native
) -> None:
    """Only the latest run's file was kept, in a folder that all crews of a template shared."""
    script = 'ls -A; echo $CREWLOG_JOB_ID > mine; cp mine "$CREWLOG_ARTIFACTS/a.txt"'
    crews = [commit(server, http, job("a", script)) for _ in range(2)]
    for crew in crews:
        all_done(http, crew)
        assert http.printed(crew["a"]) == []
        answer = http.get(f"/api/jobs/{crew['a']}/artifact")
        assert answer.text == f"{crew['a']}\n"


def test_weakness_17_a_crew_that_is_asked_for_twice_is_made_once(
    server: Server, http: Native
) -> None:
    write_template(server.data, "once", job("a"))
    headers = {"Idempotency-Key": "weakness 17"}
    with ThreadPoolExecutor(6) as pool:
        asked = [
            pool.submit(http.post, "/api/jobs", json={"templateId": "once"}, headers=headers)
            for _ in range(6)
        ]
        answers = [one.result() for one in asked]
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["crewId"] for answer in answers}) == 1
    made = http.since(0, "crew.committed")
    assert sum(event["data"]["template"] == "once" for event in made) == 1


def test_weakness_18_a_place_is_taken_before_the_work_begins(server: Server, http: Native) -> None:
    """The budget was checked only after workers had ended, so it was exceeded."""
    before = http.log_head()
    made = commit(server, http, *(job(f"j{n}", "sleep 0.05") for n in range(12)))
    all_done(http, made)
    running = most = 0
    for event in http.since(before):
        running += {"job.started": 1, "job.finished": -1}.get(event["type"], 0)
        most = max(most, running)
    assert 1 <= most <= CAPACITY


def test_weakness_19_a_second_dispatcher_is_refused_and_the_board_is_pushed(
    server: Server, http: Native
) -> None:
    """Two dispatchers could not be distinguished; pages polled each second."""
    second = crewlog("serve", "--port", "0", "--data", server.data)
    assert second.returncode != 0
    assert http.get("/api/dispatcher/status").json()["pid"] == server.pid
    with http.stream("GET", "/api/events") as stream:
        lines = stream.iter_lines()
        assert next(lines) == "event: session_heartbeat"
        made = commit(server, http, job("a"))
        seen = next(line for line in lines if made["a"] in line)
        assert '"newState":' in seen


def test_weakness_20_nobody_is_there_before_somebody_is_added(tmp_path: Path) -> None:
    """A well-known administrator with a public password came with the installation."""
    with Server.start(tmp_path / "data") as server:
        with Native(server) as http:
            assert http.get("/crewlog/v1/users").json()["items"] == []
        with client(server) as nobody:
            for email, password in (
                ("john@example.com", "password"),
                ("admin@example.com", "admin"),
            ):
                answer = nobody.post("/auth/login", json={"email": email, "password": password})
                assert answer.status_code == 401
            assert nobody.get("/api/jobs").status_code == 401
