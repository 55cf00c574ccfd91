"""Crews on a running server: commits, dependencies, retries, redo, approvals and fencing. Jobs are
real shell processes; a script that must not go on yet waits for a file.
"""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from domain.approval.commands import Approvals
from domain.catalogue import CATALOGUE
from domain.clock import parse_time
from domain.crew.commands import Crews
from domain.job.commands import Jobs
from domain.job.result import LARGEST_RESULT
from domain.log import Context, open_sqlite_log
from domain.redaction import Redactor
from tests.e2e.crews import (
    DEADLINE_S,
    KEEP_PARENTS,
    Json,
    all_done,
    attempt_runs,
    commit,
    gives,
    job,
    kinds,
    only_after,
    parents_of,
    pending,
    pid_in,
    post,
    resolve,
    shown,
    stands,
    until_there,
    worker,
    write_template,
)
from tests.e2e.people import add_user, client, issue_token
from tests.kit.client import Native
from tests.kit.processes import is_alive, parent_of
from tests.kit.server import Server
from tests.kit.waiting import until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("crews") / "data"
    with Server.start(data, "--stop-jobs", "--log-level=warning", "--capacity=8") as started:
        yield started


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


def in_an_hour() -> str:
    return (datetime.now(UTC) + timedelta(hours=1)).isoformat()


# Committing


@pytest.mark.parametrize(
    ("body", "status", "path"),
    [
        ({"templateId": "no/such"}, 404, None),
        ({"templateId": "good"}, 400, "inputs.who"),
        ({"templateId": "good", "inputs": {"who": 7}}, 400, "inputs.who"),
        ({"templateId": "good", "inputs": {"who": "x", "what": 1}}, 400, "inputs.what"),
        (
            {"templateId": "good", "inputs": {"who": "x"}, "scheduledAt": "soon"},
            400,
            "scheduledAt",
        ),
        (
            {"templateId": "good", "inputs": {"who": "x"}, "scheduledAt": "2030-01-01T00:00:00"},
            400,
            "scheduledAt",
        ),
        *(
            (
                {"templateId": "good", "inputs": {"who": "x"}, "scheduledAt": beyond},
                400,
                "scheduledAt",
            )
            for beyond in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00")
        ),
        ({"templateId": "cycle"}, 400, "jobs[0].parents[0]"),
        ({"templateId": "orphan"}, 400, "jobs[0].parents[0]"),
        ({"templateId": "blank", "inputs": {"who": ""}}, 400, "jobs[1].title"),
    ],
)
def test_a_crew_is_committed_as_a_whole_or_not_at_all(
    server: Server, http: Native, body: Json, status: int, path: str | None
) -> None:
    who = {"who": {"type": "string"}}
    write_template(server.data, "good", job("a"), job("b", "true", "a"), inputs=who)
    write_template(server.data, "cycle", job("a", "true", "b"), job("b", "true", "a"))
    write_template(server.data, "orphan", job("a", "true", "nobody"))
    write_template(
        server.data, "blank", job("a"), job("b", "true", "a") | {"title": "{{ who }}"}, inputs=who
    )
    before = http.log_head()

    answer = http.post("/api/jobs", json=body)

    assert answer.status_code == status, answer.text
    refusal = answer.json()
    assert refusal.get("path") == path
    assert refusal["detail"]
    assert http.since(before, "crew.committed", "job.submitted") == []


def test_a_crew_is_one_append_and_the_answer_says_where(server: Server, http: Native) -> None:
    before = http.log_head()
    made = commit(server, http, job("a"), job("b", "true", "a"))
    position = int(made.answer.headers["x-event-position"])
    types = ["crew.committed", "job.submitted", "job.queued", "job.submitted"]
    events = [e for e in http.since(before) if e["position"] <= position][-len(types) :]
    assert [event["type"] for event in events] == types
    assert len({event["request_id"] for event in events}) == 1
    assert made.answer.headers["location"] == f"/crewlog/v1/crews/{made.id}"
    all_done(http, made)


def test_the_same_key_makes_one_crew(server: Server, http: Native) -> None:
    write_template(server.data, "keyed", job("a"), inputs={"n": {"type": "integer"}})
    key = {"Idempotency-Key": "crew-1"}
    body = {"templateId": "keyed", "inputs": {"n": 1}}
    first = http.post("/api/jobs", json=body, headers=key)
    after = http.log_head()
    again = http.post("/api/jobs", json=body, headers=key)
    other = http.post("/api/jobs", json={**body, "inputs": {"n": 2}}, headers=key)
    elsewhen = http.post(
        "/api/jobs", json=body, headers=key, params={"scheduledAt": "2030-01-01T00:00:00Z"}
    )
    command = http.post("/api/jobs", json={"argv": ["true"]}, headers=key)

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert [other.status_code, elsewhen.status_code, command.status_code] == [422, 422, 422]
    assert http.since(after, "crew.committed") == []
    stands(http, first.json()["jobIds"][0], "done")


@pytest.mark.parametrize("where", ["body", "query"])
def test_nothing_starts_before_its_time(server: Server, http: Native, where: str) -> None:
    due = (datetime.now(UTC) + timedelta(seconds=3)).isoformat()
    given: dict[str, Any] = (
        {"scheduledAt": due} if where == "body" else {"params": {"scheduledAt": due}}
    )
    made = commit(server, http, job("a"), job("b", "true", "a"), **given)
    first = shown(http, made["a"])
    assert first["status"] == "todo" or datetime.now(UTC) > datetime.fromisoformat(due)
    assert parse_time(first["scheduledAt"]) == datetime.fromisoformat(due)
    done = all_done(http, made)
    assert all(parse_time(one["startedAt"]) >= datetime.fromisoformat(due) for one in done)


# Dependencies


def test_a_fan_of_twenty_opens_and_closes(server: Server, http: Native) -> None:
    leaves = [f"leaf{n}" for n in range(20)]
    made = commit(
        server,
        http,
        job("root", gives({"root": True})),
        *(job(leaf, gives({"leaf": leaf}), "root") for leaf in leaves),
        job("sink", KEEP_PARENTS, *leaves),
    )
    done = all_done(http, made)
    given = parents_of(http, made["sink"])
    assert [parent["key"] for parent in given] == leaves
    assert [parent["metadata"] for parent in given] == [{"leaf": leaf} for leaf in leaves]
    ends = {node["id"]: node["endedAt"] for node in done}
    [queued] = http.events(made["sink"], "job.queued")
    assert max(ends[made[leaf]] for leaf in leaves) <= queued["at"]
    assert queued["data"]["after"] == {made[leaf]: 1 for leaf in leaves}
    detail = shown(http, made["sink"])["parentResults"]
    assert [one["metadata"] for one in detail] == [{"leaf": leaf} for leaf in leaves]


def test_how_a_crew_stands_follows_from_its_jobs(
    server: Server, http: Native, gate: Path, tmp_path: Path
) -> None:
    def state() -> str:
        return str(http.crew(made.id)["state"])

    flag = tmp_path / "flag"
    made = commit(
        server,
        http,
        job("first", until_there(gate)),
        job("asked", "true", "first", approval="required"),
        job("flaky", only_after(flag), "asked", maxRetries=0),
        scheduledAt=in_an_hour(),
    )
    assert state() == "held"
    made = commit(
        server,
        http,
        job("first", until_there(gate)),
        job("asked", "true", "first", approval="required"),
        job("flaky", only_after(flag), "asked", maxRetries=0),
    )
    assert state() == "running"
    gate.touch()
    asked = pending(http, made["asked"])
    assert state() == "waiting_for_approval"
    resolve(http, asked["id"], "approved")
    stands(http, made["flaky"], "blocked")
    assert state() == "blocked"
    flag.touch()
    post(http, f"/api/jobs/{made['flaky']}/unblock")
    all_done(http, made)
    assert state() == "completed"
    for key in ("first", "asked", "flaky"):
        assert http.delete(f"/api/jobs/{made[key]}").status_code == 200
    assert state() == "deleted"


# Results


def test_a_result_that_does_not_fit_is_a_failure_that_is_tried_again(
    server: Server, http: Native, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    script = f"if [ -e {flag} ]; then {gives({'n': 1})}; else touch {flag}; {gives({'n': 'x'})}; fi"
    made = commit(server, http, job("a", script, result_schema=schema))
    done = stands(http, made["a"], "done")
    assert done["result"] == {"n": 1}
    first, second = done["runs"]
    assert (first["outcome"], second["outcome"]) == ("crashed", "completed")
    assert "result.n: 'x' is not of type 'integer'" in first["error"]


def test_the_largest_result_is_taken_and_one_byte_more_is_not(server: Server, http: Native) -> None:
    def of(size: int) -> str:
        fill = size - len('{"t":""}')
        return (
            f'(printf \'{{"t":"\'; head -c {fill} /dev/zero | tr "\\0" x; printf \'"}}\') '
            '> "$CREWLOG_RESULT"'
        )

    made = commit(
        server,
        http,
        job("most", of(LARGEST_RESULT), maxRetries=0),
        job("more", of(LARGEST_RESULT + 1), maxRetries=0),
    )
    assert len(stands(http, made["most"], "done")["result"]["t"]) == LARGEST_RESULT - 8
    refused = stands(http, made["more"], "blocked")
    assert "more than 65536 bytes" in refused["blockReason"]
    assert refused["result"] is None


def test_files_are_kept_per_attempt(server: Server, http: Native) -> None:
    script = 'echo "# Attempt $CREWLOG_ATTEMPT" > "$CREWLOG_ARTIFACTS/report.md"'
    made = commit(server, http, job("a", script))
    stands(http, made["a"], "done")
    post(http, f"/api/jobs/{made['a']}/redo", {"feedback": "Again."})
    until(lambda: len(shown(http, made["a"])["runs"]) == 2, "the second attempt")
    stands(http, made["a"], "done")

    items = http.items(f"/jobs/{made['a']}/artifacts")
    assert sorted(item["attempt"] for item in items) == [1, 2]
    texts = {i["attempt"]: http.get(f"/api/artifacts/{i['id']}").text for i in items}
    assert texts == {1: "# Attempt 1\n", 2: "# Attempt 2\n"}
    assert http.get(f"/api/jobs/{made['a']}/artifact").text == "# Attempt 2\n"
    page = http.get(f"/api/jobs/{made['a']}/artifact", params={"format": "html"})
    assert "<h1>Attempt 2</h1>" in page.text
    saved = http.get(f"/api/jobs/{made['a']}/artifact", params={"download": "1"})
    assert saved.headers["content-disposition"].startswith("attachment")


# Failures


@pytest.mark.parametrize("again", ["unblock", "redo"])
def test_whoever_waits_for_one_that_gave_up_is_told_and_runs_when_it_is_done_after_all(
    server: Server, http: Native, tmp_path: Path, again: str
) -> None:
    flag = tmp_path / "flag"
    made = commit(
        server,
        http,
        job("a", only_after(flag), maxRetries=1),
        job("b", "true", "a"),
        job("c", "true", "b"),
    )
    blocked = stands(http, made["a"], "blocked")
    assert (blocked["gaveUp"], blocked["attempts"]) == (True, 2)
    assert [run["outcome"] for run in blocked["runs"]] == ["crashed", "gave_up"]
    assert blocked["blockReason"] == "Exit code 1."
    for key in ("b", "c"):
        until(lambda key=key: shown(http, made[key])["strandedBy"], "it is stranded")  # type: ignore[misc]
        assert shown(http, made[key])["strandedBy"] == made["a"]
    flag.touch()
    answer = post(http, f"/api/jobs/{made['a']}/{again}")
    assert answer.json()["job"]["status"] in ("ready", "running", "done")
    all_done(http, made)
    for key in ("b", "c"):
        assert kinds(http, made[key])[1:3] == ["job.stranded", "job.freed"]


@pytest.mark.parametrize("how", ["cancel", "archive", "delete"])
def test_whoever_waits_for_one_that_was_put_away_is_told(
    server: Server, http: Native, how: str
) -> None:
    made = commit(server, http, job("a"), job("b", "true", "a"), scheduledAt=in_an_hour())
    if how == "delete":
        assert http.delete(f"/api/jobs/{made['a']}").status_code == 200
    else:
        post(http, f"/api/jobs/{made['a']}/{how}")
    until(lambda: shown(http, made["b"])["strandedBy"] == made["a"], "it is stranded")


# Redo


def test_what_was_made_of_an_old_result_is_made_anew_and_what_runs_is_ended(
    server: Server, http: Native, gate: Path, tmp_path: Path
) -> None:
    number = tmp_path / "number"
    counts = f"n=$(cat {number} 2>/dev/null || echo 0); n=$((n+1)); echo $n > {number}; "
    pid = tmp_path / "pid"
    made = commit(
        server,
        http,
        job("a", counts + 'printf "{\\"n\\": $n}" > "$CREWLOG_RESULT"'),
        job("b", KEEP_PARENTS, "a"),
        job("c", f"echo $$ > {pid}; {until_there(gate)}; {KEEP_PARENTS}", "a", "b"),
    )
    attempt_runs(http, made["c"])
    old = pid_in(pid)
    assert parents_of(http, made["b"])[0]["metadata"] == {"n": 1}

    post(http, f"/api/jobs/{made['a']}/redo", {"feedback": "Count on."})
    until(lambda: not is_alive(old), "the end of the old attempt's process", DEADLINE_S)
    gate.touch()
    all_done(http, made)

    assert parents_of(http, made["b"])[0]["metadata"] == {"n": 2}
    assert [p["attempt"] for p in parents_of(http, made["c"])] == [2, 2]
    runs = shown(http, made["c"])["runs"]
    assert [run["detailedOutcome"] for run in runs] == ["stale", "completed"]
    assert [c["body"] for c in shown(http, made["a"])["comments"]] == ["Count on."]


def test_feedback_reaches_the_next_attempt(server: Server, http: Native, tmp_path: Path) -> None:
    done_once = tmp_path / "once"
    show = "crewlog worker show"
    made = commit(
        server, http, job("a", f"if [ -e {done_once} ]; then {show}; fi; touch {done_once}")
    )
    stands(http, made["a"], "done")
    post(http, f"/api/jobs/{made['a']}/redo", {"feedback": "Täglich, bitte."})
    until(lambda: shown(http, made["a"])["attempt"] == 2, "the second attempt")
    stands(http, made["a"], "done")
    assert "Feedback: Täglich, bitte." in http.printed(made["a"])


def test_a_late_attempt_is_fenced(server: Server, http: Native, gate: Path, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    made = commit(server, http, job("a", f"echo $$ > {pid}; {until_there(gate)}"))
    attempt_runs(http, made["a"])
    os.kill(pid_in(pid), signal.SIGKILL)
    attempt_runs(http, made["a"], 2)
    before = kinds(http, made["a"])
    with worker(server, made["a"], 1) as late:
        for path, body in (
            ("/heartbeat", {"text": "here"}),
            ("/complete", {"result": {}}),
            ("/block", {"reason": "r"}),
            ("/comments", {"body": "b"}),
            ("/approvals", {"description": "d"}),
        ):
            assert late.post(path, json=body).status_code == 409, path
    assert kinds(http, made["a"]) == before
    gate.touch()
    assert stands(http, made["a"], "done")["attempts"] == 2


@pytest.mark.parametrize("what", ["worker", "shim"])
def test_a_process_that_is_killed_is_a_crash_that_is_tried_again(
    server: Server, http: Native, gate: Path, tmp_path: Path, what: str
) -> None:
    pid = tmp_path / "pid"
    made = commit(server, http, job("a", f"echo $$ > {pid}; {until_there(gate)}"))
    attempt_runs(http, made["a"])
    working = pid_in(pid)
    if what == "worker":
        os.kill(working, signal.SIGKILL)
    else:
        os.kill(parent_of(working), signal.SIGKILL)
    attempt_runs(http, made["a"], 2)
    gate.touch()
    first, second = stands(http, made["a"], "done")["runs"]
    assert (first["outcome"], second["outcome"]) == ("crashed", "completed")
    assert ("job.attempt_lost" in kinds(http, made["a"])) == (what == "shim")
    until(lambda: not is_alive(working), "the end of the first process")


def test_a_worker_that_hangs_is_ended_and_one_that_gives_signs_is_not(
    server: Server, http: Native, tmp_path: Path
) -> None:
    once = tmp_path / "once"
    hangs = f"[ -e {once} ] && exit 0; touch {once}; exec sleep 600"
    beats = "for i in $(seq 24); do echo $i; sleep 0.25; done"
    made = commit(
        server, http, job("hangs", hangs, lease_s=2), job("beats", beats, lease_s=4, maxRetries=0)
    )
    stuck = stands(http, made["hangs"], "done")
    runs = stuck["runs"]
    assert (runs[0]["leaseExpired"], runs[-1]["leaseExpired"]) == (True, False)
    assert stuck["runs"][0]["error"] == "The worker gave no sign of life."
    assert [run["leaseExpired"] for run in stands(http, made["beats"], "done")["runs"]] == [False]


# Approvals


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a single place for each owner."""
    data = tmp_path_factory.mktemp("narrow") / "data"
    options = ("--stop-jobs", "--log-level=warning", "--capacity=2")
    with Server.start(data, *options, CREWLOG_OWNER_CAPACITY="1") as started:
        yield started


def test_a_job_that_waits_for_its_approval_holds_no_place(narrow: Server) -> None:
    with Native(narrow) as http:
        asking = commit(narrow, http, job("a", "true", approval="required"), job("b", "true", "a"))
        approval = pending(http, asking["a"])
        assert approval["description"] == "May “Job a” start?"
        assert shown(http, asking["a"])["status"] == "todo"
        all_done(http, commit(narrow, http, job("other")))
        assert kinds(http, asking["a"])[-1] == "job.approval_requested"
        answer = resolve(http, approval["id"], "approved")
        assert answer.status_code == 200
        assert int(answer.headers["x-event-position"]) > 0
        assert resolve(http, approval["id"], "rejected").status_code == 409
        all_done(http, asking)


def test_a_worker_that_asks_holds_no_place(narrow: Server) -> None:
    with Native(narrow) as http:
        asking = commit(narrow, http, job("a", 'crewlog worker ask "Go on?"; echo "code $?"'))
        approval = pending(http, asking["a"])
        status = http.get("/crewlog/v1/dispatcher").json()
        assert (status["active"], status["waitingForApproval"]) == (0, 1)
        all_done(http, commit(narrow, http, job("other")))
        assert shown(http, asking["a"])["state"] == "waiting_for_approval"
        resolve(http, approval["id"], "rejected", comment="No.")
        stands(http, asking["a"], "done")
        assert "code 3" in http.printed(asking["a"])


def test_an_owner_has_no_more_places_than_allowed(narrow: Server, gate: Path) -> None:
    user = add_user(narrow, "ann@example.org")
    token = issue_token(narrow, user["id"], "read", "write")
    with Native(narrow) as http, client(narrow, token) as ann:
        mine = commit(narrow, http, *(job(f"j{n}", until_there(gate)) for n in range(3)))
        attempt_runs(http, mine["j0"])
        hers = commit(narrow, ann, job("a", until_there(gate)))
        attempt_runs(ann, hers["a"])
        status = http.get("/crewlog/v1/dispatcher").json()
        assert (status["active"], status["queued"]) == (2, 2)
        assert status["ownerCapacity"] == 1
        gate.touch()
        all_done(http, mine)
        all_done(ann, hers)


@pytest.mark.parametrize(("on_reject", "state"), [("answer", "waiting"), ("fail", "failed")])
def test_a_rejection_before_the_start_blocks_or_fails_as_the_template_says(
    server: Server, http: Native, on_reject: str, state: str
) -> None:
    made = commit(
        server,
        http,
        job("a", "true", approval="required", on_reject=on_reject),
        job("b", "true", "a"),
    )
    resolve(http, pending(http, made["a"])["id"], "rejected", comment="Not today.")
    blocked = stands(http, made["a"], "blocked")
    assert blocked["attempt"] == 0
    if state == "failed":
        assert (blocked["outcome"], blocked["gaveUp"]) == ("failed", False)
        assert "Not today." in blocked["failureReason"]
        until(lambda: shown(http, made["b"])["strandedBy"], "its child is stranded")
    else:
        assert (blocked["outcome"], "Not today." in blocked["blockReason"]) == (None, True)
    post(http, f"/api/jobs/{made['a']}/unblock")
    resolve(http, pending(http, made["a"])["id"], "approved")
    all_done(http, made)


def test_a_rejection_of_a_worker_ends_it_where_the_template_says_so(
    server: Server, http: Native
) -> None:
    script = 'crewlog worker ask "Go on?"; exec sleep 600'
    made = commit(server, http, job("a", script, on_reject="fail"), job("b", "true", "a"))
    resolve(http, pending(http, made["a"])["id"], "rejected")
    failed = stands(http, made["a"], "blocked")
    assert (failed["outcome"], failed["attempts"]) == ("failed", 1)
    assert failed["failureReason"] == "Approval rejected by operator"


def test_a_question_that_nobody_answers_expires(server: Server, http: Native) -> None:
    made = commit(
        server, http, job("a", 'crewlog worker ask "Go on?" --expires 1s; echo "code $?"')
    )
    stands(http, made["a"], "done")
    assert "code 4" in http.printed(made["a"])
    [asked] = http.get(f"/api/jobs/{made['a']}/approvals").json()
    assert (asked["state"], asked["resolvedBy"]) == ("expired", "system:clock")
    assert resolve(http, asked["id"], "approved").status_code == 409


def test_a_trusted_job_is_not_held_up(server: Server, http: Native) -> None:
    made = commit(
        server,
        http,
        job("a", 'crewlog worker ask "Go on?"; echo "code $?"', approval="required"),
    )
    pending(http, made["a"])
    assert post(http, f"/api/jobs/{made['a']}/trust").json() == {"resolved": 1}
    stands(http, made["a"], "done")
    assert "code 0" in http.printed(made["a"])
    asked = http.get(f"/api/jobs/{made['a']}/approvals").json()
    assert [one["state"] for one in asked] == ["approved", "approved"]


def test_what_a_worker_that_was_killed_asked_is_withdrawn(
    server: Server, http: Native, gate: Path, tmp_path: Path
) -> None:
    pid, once = tmp_path / "pid", tmp_path / "once"
    script = (
        f"[ -e {once} ] && exit 0; touch {once}; echo $$ > {pid}; "
        f'crewlog worker ask "Go on?" & {until_there(gate)}'
    )
    made = commit(server, http, job("a", script))
    asked = pending(http, made["a"])
    os.kill(pid_in(pid), signal.SIGKILL)
    stands(http, made["a"], "done")

    def withdrawn() -> bool:
        return bool(http.get(f"/api/approvals/{asked['id']}").json()["state"] == "withdrawn")

    until(withdrawn, "the question is withdrawn")
    assert resolve(http, asked["id"], "approved").status_code == 409


# Restarts


def test_what_waits_goes_on_waiting_over_a_kill_and_goes_on_after_it(tmp_path: Path) -> None:
    with Server.start(tmp_path / "data", "--stop-jobs") as server:
        with Native(server) as http:
            held = commit(server, http, job("hour"), scheduledAt=in_an_hour())
            asked = commit(server, http, job("asked", "true", approval="required"))
            script = 'crewlog worker ask "Go on?"; echo "code $?"'
            asks = commit(server, http, job("asks", script))
            told_late = commit(server, http, job("late", script))
            pending(http, asked["asked"])
            pending(http, asks["asks"])
            answered = pending(http, told_late["late"])
            assert resolve(http, answered["id"], "approved").is_success
            # Made last, so that the steps above cannot last until it is due.
            due = (datetime.now(UTC) + timedelta(seconds=4)).isoformat()
            planned = commit(server, http, job("later"), scheduledAt=due)
        server.kill()
        assert datetime.now(UTC) < datetime.fromisoformat(due)
        server.restart()
        with Native(server) as http:
            assert shown(http, asked["asked"])["status"] == "todo"
            assert resolve(http, pending(http, asked["asked"])["id"], "approved").is_success
            all_done(http, asked)
            assert resolve(http, pending(http, asks["asks"])["id"], "approved").is_success
            all_done(http, asks)
            assert "code 0" in http.printed(asks["asks"])
            all_done(http, told_late)
            assert "code 0" in http.printed(told_late["late"])
            assert resolve(http, answered["id"], "rejected").status_code == 409
            [done] = all_done(http, planned)
            assert parse_time(done["startedAt"]) >= datetime.fromisoformat(due)
            assert shown(http, held["hour"])["status"] == "todo"


async def redo(data: Path, job_id: str) -> None:
    """Redo as a server that is killed right after the append: no reader is told of it."""
    log = open_sqlite_log(data, redactor=Redactor(), catalogue=CATALOGUE)
    try:
        jobs = Jobs(log)
        crews = Crews(log, jobs, Approvals(log, jobs))
        await crews.redo(job_id, "Anew.", Context(actor="operator"))
    finally:
        log.close()


def test_an_attempt_that_was_made_stale_as_the_server_died_is_ended(tmp_path: Path) -> None:
    pid, gate = tmp_path / "pid", tmp_path / "gate"
    with Server.start(tmp_path / "data", "--stop-jobs") as server:
        with Native(server) as http:
            waits = f"echo $$ > {pid}; {until_there(gate)}"
            made = commit(server, http, job("a"), job("b", waits, "a"))
            attempt_runs(http, made["b"])
            old = pid_in(pid)
        server.kill()
        asyncio.run(redo(server.data, made["a"]))
        assert is_alive(old)
        pid.unlink()
        server.restart()
        with Native(server) as http:
            until(lambda: not is_alive(old), "the end of the old process", DEADLINE_S)
            attempt_runs(http, made["b"], 2)
            assert pid_in(pid) != old
            gate.touch()
            all_done(http, made)
            runs = shown(http, made["b"])["runs"]
            assert [run["detailedOutcome"] for run in runs] == ["stale", "completed"]


def test_a_crew_of_thirty_comes_through_many_kills(tmp_path: Path) -> None:
    """Every job is done, each attempt ends once, and nothing is released twice."""
    ran = tmp_path / "ran"
    dice = random.Random(3)
    script = f'echo "$CREWLOG_JOB_ID" >> {ran}; sleep 0.0{{}}; ' + gives({"ok": True})
    jobs: list[Json] = []
    for index in range(30):
        parents = sorted({f"j{dice.randrange(index)}" for _ in range(2)}) if index else []
        jobs.append(job(f"j{index}", script.replace("{}", str(dice.randrange(1, 9))), *parents))
    with Server.start(tmp_path / "data", "--capacity=6") as server:
        with Native(server) as http:
            made = commit(server, http, *jobs)
        for _ in range(4):
            time.sleep(dice.uniform(0.0, 0.4))
            server.kill()
            server.restart()
        with Native(server) as http:
            all_done(http, made)
            executions = Counter(ran.read_text().split())
            for key, job_id in made.ids.items():
                counted = Counter(kinds(http, job_id))
                assert counted["job.queued"] == counted["job.started"] == 1, key
                assert counted["job.finished"] == 1, key
                assert executions[job_id] == 1, key
            assert http.crew(made.id)["state"] == "completed"
