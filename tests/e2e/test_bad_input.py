"""Bad input and failures: a plain refusal, the server stays up, nothing is lost."""

import hashlib
import json
import re
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.gitoma import REPOSITORY, cancel, ended, frames, output
from tests.kit.client import Native
from tests.kit.processes import is_alive
from tests.kit.server import Server, crewlog
from tests.kit.waiting import until

TOKEN = "a-token-that-must-not-be-seen"
UNKNOWN = "01a20000-0000-7000-8000-000000000000"
AS_JSON = {"content-type": "application/json"}
MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("bad-input")
    with Server.start(
        directory / "data",
        "--stop-jobs",
        CREWLOG_TOKEN=TOKEN,
        CREWLOG_GITOMA_COMMAND="true",
        CREWLOG_GITOMA_RATE_LIMIT="100000",
    ) as started:
        yield started


@pytest.fixture(scope="module")
def done(server: Server) -> str:
    """A job that has ended."""
    with Native(server) as http:
        job_id = http.submit("seq", "3")
        http.ended(job_id)
    return job_id


def code_of(http: Native, path: str, last_event_id: str | None = None) -> int:
    """The status of an answer that may be a stream without an end."""
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    with http.stream("GET", path, headers=headers) as answer:
        return answer.status_code


# Bodies and parameters


@pytest.mark.parametrize(
    ("rule", "place"),
    [
        (r'{"cadence": "daily", "\ud800": 1}', r"rule.\ud800"),
        (r'{"cadence": "daily", "\u0000": 1}', r"rule.\u0000"),
        (r'{"once": "2100-12-22\ud83d09:00"}', "rule.once"),
        (r'{"once": "2100-12-22\u000009:00"}', "rule.once"),
        (r'{"rrule": "DTSTART;FOO=\ud83d:20261222T090000\nRRULE:FREQ=DAILY"}', "rule.rrule"),
        (r'{"rrule": "DTSTART;FOO=\u0000:20261222T090000\nRRULE:FREQ=DAILY"}', "rule.rrule"),
    ],
)
def test_a_rule_that_no_text_can_carry_is_refused_at_its_place(
    http: Native, rule: str, place: str
) -> None:
    template = http.get("/crewlog/v1/templates").json()["items"][0]["id"]
    body = f'{{"name": "n", "template": "{template}", "templateId": "{template}", "rule": {rule}}}'

    for path in ("/crewlog/v1/schedules", "/crewlog/v1/schedules/preview", "/api/schedules"):
        answer = http.post(path, content=body, headers=AS_JSON)
        assert answer.status_code == 400, (path, answer.text)
        told = answer.json()
        assert told.get("path", told.get("errors", [{}])[0].get("path")) == place


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"nothing",
        b"\xff\xfe",
        b"[" * 50_000,
        b"null",
        b'"text"',
        b'["argv"]',
        b"{}",
        b'{"argv": []}',
        b'{"argv": [" "]}',
        b'{"argv": "ls"}',
        b'{"argv": [1]}',
        b'{"argv": [null]}',
        b'{"argv": ["a\\u0000b"]}',
        b'{"argv": ["a\\ud800"]}',
        b'{"argv": ["%s"]}' % (b"x" * 65_537),
        b'{"argv": [%s"x"]}' % (b'"x",' * 4_096),
        b'{"argv": ["a"], "kind": "agent"}',
        b'{"argv": ["a"], "cwd": ""}',
        b'{"argv": ["a"], "cwd": "/\\u0000"}',
        b'{"argv": ["a"], "cwd": "/%s"}' % (b"x" * 4_096),
        b'{"argv": ["a"], "env": {"A": 1}}',
        b'{"argv": ["a"], "env": {"A=B": "x"}}',
        b'{"argv": ["a"], "env": {"": "x"}}',
        b'{"argv": ["a"], "env": {"\\ud800": "x"}}',
        b'{"argv": ["a"], "env": {"A": "\\u0000"}}',
        b'{"argv": ["a"], "env": {"CREWLOG_TOKEN": "x"}}',
        b'{"argv": ["a"], "env": {"gitoma_api_token": "x"}}',
        b'{"argv": ["a"], "timeout_s": 0}',
        b'{"argv": ["a"], "timeout_s": -1}',
        b'{"argv": ["a"], "timeout_s": NaN}',
        b'{"argv": ["a"], "timeout_s": 1e400}',
        b'{"argv": ["a"], "title": "%s"}' % (b"x" * 201),
        b'{"argv": ["a"], "title": "\\udfff"}',
        b'{"argv": ["a"], "labels": [""]}',
        b'{"argv": ["a"], "labels": "one"}',
    ],
    ids=lambda content: repr(content[:40]),
)
def test_a_body_that_is_not_valid_makes_no_job(http: Native, content: bytes) -> None:
    before = http.get("/api/v1/jobs").json().keys()

    answer = http.post("/api/jobs", content=content, headers=AS_JSON)

    assert answer.status_code in ((400,) if content.startswith(b"[[") else (422,))
    for problem in answer.json()["detail"] if answer.status_code == 422 else ():
        assert set(problem) == {"loc", "msg", "type"}
    assert http.get("/api/v1/jobs").json().keys() == before


@pytest.mark.parametrize(
    "path",
    [
        "/api/jobs?limit=0",
        "/api/jobs?limit=101",
        "/api/jobs?limit=many",
        "/api/jobs?state=nonsense",
        f"/api/jobs?label={'x' * 65}",
        "/api/jobs?archived=perhaps",
        "/crewlog/v1/log?after=-1",
        "/crewlog/v1/log?limit=1001",
        f"/crewlog/v1/log?after={2**63}",
        f"/crewlog/v1/log?subject={'x' * 301}",
        "/crewlog/v1/log/one",
        "/crewlog/v1/log/stream?after=-1",
        "/crewlog/v1/analytics/overview?period=0",
        "/crewlog/v1/analytics/overview?period=week",
        "/api/v1/jobs?limit=-1",
    ],
)
def test_a_parameter_that_is_not_valid(http: Native, path: str) -> None:
    answer = http.get(path)
    assert answer.status_code == 422
    assert answer.json()["error_id"] == answer.headers["x-request-id"]


def test_keys_that_are_not_valid(http: Native) -> None:
    for key in (b"x" * 256, b"caf\xe9", b"a\tb"):
        headers = {b"idempotency-key": key}
        answer = http.post("/api/jobs", json={"argv": ["true"]}, headers=headers)
        assert answer.status_code == 422


# Cursors, ids, states, versions


@pytest.mark.parametrize("cursor", [UNKNOWN, "x", "%00", "'%20OR%201=1", "%F0%9F%90%8D"])
def test_a_cursor_of_no_list(http: Native, cursor: str) -> None:
    answer = http.get(f"/api/v1/jobs?before={cursor}")
    assert answer.status_code == 400
    assert set(answer.json()) == {"detail"}
    board = http.get(f"/api/jobs?status=done&cursor={cursor}")
    assert board.status_code == 400
    assert set(board.json()) == {"error", "detail"}
    codeplane = http.get(f"/api/jobs?cursor={cursor}")
    assert codeplane.status_code == 200
    assert codeplane.json() == {"items": [], "cursor": None, "hasMore": False}


@pytest.mark.parametrize(
    "cursor",
    ["x", "-1", "1.5", "0x1", "1:", ":1", "1:x", "1:-1", "01", "9" * 18, "9" * 5000, "0:1"],
)
def test_a_cursor_of_no_stream(http: Native, done: str, cursor: str) -> None:
    for path in (
        f"/api/v1/stream/{done}",
        "/crewlog/v1/log/stream",
        f"/crewlog/v1/log/stream?subject=job-{done}",
    ):
        assert code_of(http, path, cursor) == 400, path
        if len(cursor) < 1000:
            joined = "&" if "?" in path else "?"
            assert code_of(http, f"{path}{joined}last_event_id={cursor}") == 400


def test_a_cursor_beyond_what_there_is(http: Native, done: str) -> None:
    position, _, index = frames(http, done)[-1].id.partition(":")
    path = f"/api/v1/stream/{done}"

    for beyond in (
        f"{position}:{int(index) + 1}",
        str(http.log_head() + 1),
        f"{http.log_head() + 1}:0",
    ):
        assert code_of(http, path, beyond) == 400
    several = f"{position}:{index}"  # the dialect's, whose events may give several frames
    assert code_of(http, "/crewlog/v1/log/stream", several) == 400


def test_unknown_things(http: Native) -> None:
    for job_id in (UNKNOWN, "x", "%00", "%ED%A0%80", "x" * 500):
        assert http.get(f"/api/jobs/{job_id}").status_code == 404
        assert http.get(f"/api/jobs/{job_id}/timeline").status_code == 404
        assert http.post(f"/api/jobs/{job_id}/cancel").status_code == 404
        assert http.post(f"/api/jobs/{job_id}/archive").status_code == 404
        assert http.delete(f"/api/jobs/{job_id}").status_code == 404
        assert code_of(http, f"/crewlog/v1/log/stream?subject=job-{job_id}") in (404, 422)
    for position in ("0", "-1", "999999999", "9" * 30):
        assert http.get(f"/crewlog/v1/log/{position}").status_code == 404
    assert http.post("/crewlog/v1/projections/nothing/rebuild").status_code == 404


def test_what_the_state_does_not_allow(http: Native, done: str) -> None:
    job_id = http.shell("sleep 300")
    http.running(job_id)

    for refused in (
        http.delete(f"/api/jobs/{job_id}"),
        http.post(f"/api/jobs/{job_id}/archive"),
        http.post(f"/api/jobs/{done}/cancel"),
        cancel(http, done),
    ):
        assert refused.status_code == 409
        assert set(refused.json()) - {"error"} == {"detail"}
    http.cancel(job_id)
    http.ended(job_id)


def test_if_match_is_kept(http: Native) -> None:
    job_id = http.submit("true")
    http.ended(job_id)
    path = f"/api/jobs/{job_id}"
    tag = http.get(path).headers["etag"]

    for other in ('"1"', '"999"', "x", '"x"', "", '"' + "9" * 50 + '"'):
        if other:
            refused = http.post(f"{path}/archive", headers={"If-Match": other})
            assert refused.status_code == 412, other
    archived = http.post(f"{path}/archive", headers={"If-Match": tag})
    assert archived.status_code == 204
    assert archived.headers["etag"] != tag
    assert http.delete(path, headers={"If-Match": tag}).status_code == 412
    assert http.delete(path, headers={"If-Match": "*"}).status_code == 200
    assert http.get(path).status_code == 404


def test_a_key_is_for_one_request(http: Native) -> None:
    key = {"Idempotency-Key": "bad-input ~ 1"}
    first = http.post("/api/jobs", json={"argv": ["true"], "env": {"A": "1"}}, headers=key)

    same = http.post("/api/jobs", json={"env": {"A": "1"}, "argv": ["true"]}, headers=key)
    assert (same.status_code, same.content) == (201, first.content)
    for other in ({"argv": ["true"]}, {"argv": ["true"], "env": {"A": "2"}}):
        refused = http.post("/api/jobs", json=other, headers=key)
        assert refused.status_code == 422
        assert "Idempotency-Key" in refused.json()["detail"]


# Size and origin


def test_a_foreign_host_is_refused(http: Native) -> None:
    answer = http.get("/api/jobs", headers={"Host": "evil.example"})
    assert (answer.status_code, answer.text) == (400, "Invalid host header")


def test_bodies_over_a_mebibyte_are_refused(http: Native) -> None:
    def padded(size: int) -> bytes:
        body = b'{"argv": ["true"]}'
        return body + b" " * (size - len(body))

    def in_chunks(content: bytes) -> Iterator[bytes]:
        for start in range(0, len(content), 65_536):
            yield content[start : start + 65_536]

    before = http.get("/api/v1/jobs").json().keys()
    for path in ("/api/jobs", "/api/v1/run"):
        declared = http.post(path, content=padded(MEBIBYTE + 1), headers=AS_JSON)
        chunked = http.post(path, content=in_chunks(padded(MEBIBYTE + 1)), headers=AS_JSON)
        assert (declared.status_code, chunked.status_code) == (413, 413)
    assert http.get("/api/v1/jobs").json().keys() == before
    for content in (padded(MEBIBYTE), in_chunks(padded(MEBIBYTE))):
        assert http.post("/api/jobs", content=content, headers=AS_JSON).status_code == 201


# Programs that cannot be started


def test_a_job_that_cannot_start_fails_with_a_sentence(http: Native, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("not a program")
    headless = tmp_path / "headless"
    headless.write_bytes(b"\x00\x01\x02")
    headless.chmod(0o755)

    for body, why in (
        ({"argv": ["no-such-program-here"]}, "No such program"),
        ({"argv": [str(tmp_path / "nothing")]}, "No such program"),
        ({"argv": [str(plain)]}, "not executable"),
        ({"argv": [str(headless)]}, "Not a program"),
        ({"argv": [str(tmp_path)]}, "permission"),
        ({"argv": ["true"], "cwd": str(tmp_path / "nowhere")}, "No such working directory"),
        ({"argv": ["true"], "cwd": str(plain)}, "not a directory"),
    ):
        answer = http.post("/api/jobs", json=body)
        assert answer.status_code == 201
        job_id = answer.json()["id"]
        shown = ended(http, job_id)
        assert (shown["status"], shown["exit_code"]) == ("failed", None)
        assert re.fullmatch(r"[0-9a-f]{12}", shown["error_id"])
        job = http.get(f"/api/jobs/{job_id}").json()
        assert why.lower() in job["failureReason"].lower()
        assert job["failureReason"].endswith(".")
        assert frames(http, job_id)[-1].line == "__END__:failed"


# Secrets


def files_with(directory: Path, secret: str) -> list[str]:
    return [
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if path.is_file() and path.name != "token" and secret.encode() in path.read_bytes()
    ]


def test_values_of_the_environment_are_nowhere(server: Server, http: Native) -> None:
    value = "swordfish-of-the-environment"
    job_id = http.shell("echo ${#HARMLESS}", env={"HARMLESS": value})

    assert output(http, job_id) == [str(len(value))]
    http.ended(job_id)
    assert http.get(f"/api/jobs/{job_id}").json()["env"] == ["HARMLESS"]
    for path in (
        f"/api/jobs/{job_id}",
        f"/crewlog/v1/log?subject=job-{job_id}",
        "/crewlog/v1/log/export",
    ):
        assert value not in http.get(path).text
    until(lambda: files_with(server.data, value) == [], "a data directory without the value")


def test_secrets_in_arguments_are_hidden_and_passed_on(server: Server, http: Native) -> None:
    secret = "ghp_0123456789abcdefghijABCDEFGHIJ012345"
    arguments = (f"--token={secret}", f"https://u:{secret}@crew.example/x", f"key {TOKEN}")
    script = (
        "import hashlib,sys; print(hashlib.sha256('|'.join(sys.argv[1:]).encode()).hexdigest())"
    )

    job_id = http.submit(sys.executable, "-c", script, *arguments)

    assert output(http, job_id) == [hashlib.sha256("|".join(arguments).encode()).hexdigest()]
    http.ended(job_id)
    shown = http.get(f"/api/jobs/{job_id}").text + http.get(f"/api/v1/stream/{job_id}").text
    assert "REDACTED" in shown
    for hidden in (secret, TOKEN):
        assert hidden not in shown
        until(
            lambda hidden=hidden: files_with(server.data, hidden) == [],  # type: ignore[misc]
            "a data directory without the secret",
        )


# Storage


def serve(data: Path) -> subprocess.CompletedProcess[str]:
    """A server that is expected not to start."""
    return crewlog("serve", "--port", "0", "--data", data)


def test_a_second_server_on_the_same_data_is_refused(server: Server, http: Native) -> None:
    refused = serve(server.data)

    assert refused.returncode == 2
    assert f"pid {server.pid}" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert http.get("/readyz").status_code == 200
    http.submit("true")


def test_a_log_of_a_newer_version_is_refused_untouched(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Server.start(data) as server, Native(server) as http:
        http.ended(http.submit("true"))
    for key, value, named in (
        ("format", "99", "format 99"),
        ("schemas", json.dumps({"job.submitted": 99}), "job.submitted"),
    ):
        with sqlite3.connect(data / "log.db") as database:
            (kept,) = database.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
            database.execute("UPDATE meta SET value=? WHERE key=?", (value, key))
        database.close()
        before = (data / "log.db").read_bytes()
        refused = serve(data)
        assert refused.returncode == 2
        assert named in refused.stderr
        assert "newer" in refused.stderr
        assert (data / "log.db").read_bytes() == before
        with sqlite3.connect(data / "log.db") as database:
            database.execute("UPDATE meta SET value=? WHERE key=?", (kept, key))
        database.close()
    with Server.start(data) as server, Native(server) as http:
        assert len(http.get("/api/v1/jobs").json()) == 1


def fill_disk(server: Server, full: bool) -> None:
    """Let the server's writes fail as on a full disk, or no longer."""
    unlimited = resource.RLIM_INFINITY
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (0 if full else unlimited, unlimited))


def test_a_full_disk_refuses_and_loses_nothing(tmp_path: Path) -> None:
    with Server.start(tmp_path / "data", "--stop-jobs", CREWLOG_GITOMA_COMMAND="true") as server:
        with Native(server) as http:
            done = http.submit("echo", "before")
            http.ended(done)
            gate = tmp_path / "gate"
            script = f"echo $$; until [ -e {gate} ]; do sleep 0.02; done; seq 2000; exit 5"
            job_id = http.shell(script)
            pid = int(until(lambda: _first_line(http, job_id), "the job's first line"))

            fill_disk(server, True)
            requests: tuple[tuple[str, dict[str, Any]], ...] = (
                ("/api/jobs", {"argv": ["true"]}),
                ("/api/jobs", {"argv": ["true"], "env": {"A": "sealed"}}),
                ("/api/v1/run", {"repo_url": REPOSITORY}),
                (f"/api/jobs/{job_id}/cancel", {}),
            )
            for path, body in requests:
                refused = http.post(path, json=body, headers={"Idempotency-Key": "full"})
                assert refused.status_code == 503, (path, refused.text)
                answer = refused.json()
                assert answer["error_id"] == refused.headers["x-request-id"]
                assert not re.search("sqlite|disk I/O|Errno|Traceback", answer["detail"])
                assert int(refused.headers["retry-after"]) > 0
            gate.touch()
            until(lambda: not is_alive(pid), "the end of the process, which nobody can write down")
            assert http.get("/healthz").text == "ok"
            assert output(http, done) == ["before"]
            assert server.running

            fill_disk(server, False)
            shown = http.ended(job_id)
            assert (shown["state"], shown["exitCode"]) == ("failed", 5)
            assert output(http, job_id)[1:] == [str(n) for n in range(1, 2001)]
            known = [done, job_id]
            assert list(http.get("/api/v1/jobs").json()) == known
            again = http.post(
                "/api/jobs", json={"argv": ["true"]}, headers={"Idempotency-Key": "full"}
            )
            assert again.status_code == 201
            known.append(again.json()["id"])
            http.ended(known[-1])
            kept = {job: http.events(job) for job in known}
        server.kill()
        server.restart()
        with Native(server) as http:
            assert {job: http.events(job) for job in known} == kept
            assert list(http.get("/api/v1/jobs").json()) == known
            assert "Traceback" not in server.output.read_text()


def test_readiness_comes_back_with_the_room(tmp_path: Path) -> None:
    """Even if nothing is appended meanwhile."""
    with Server.start(tmp_path / "data", "--stop-jobs") as server, Native(server) as http:

        def answered_with(status: int) -> dict[str, Any] | None:
            answer = http.get("/readyz")
            return answer.json() if answer.status_code == status else None

        http.ended(http.submit("true"))
        head = until(lambda: answered_with(200), "that it is ready")["head"]
        fill_disk(server, True)
        assert http.post("/api/jobs", json={"argv": ["true"]}).status_code == 503
        for _ in range(3):
            refused = answered_with(503)
            assert refused is not None
            assert (refused["status"], refused["writable"]["log"]) == ("not ready", False)
        assert http.get("/healthz").text == "ok"
        fill_disk(server, False)
        assert until(lambda: answered_with(200), "that it is ready again")["head"] == head
        http.ended(http.submit("true"))


def _first_line(http: Native, job_id: str) -> str | None:
    written = [e["data"]["lines"] for e in http.events(job_id) if e["type"] == "job.output"]
    return str(written[0][0]) if written else None


def test_a_data_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    refused = serve(tmp_path / "file" / "data")

    assert refused.returncode == 2
    assert str(tmp_path / "file" / "data") in refused.stderr
    assert "Traceback" not in refused.stderr
