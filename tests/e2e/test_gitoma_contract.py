"""The contract of gitoma's clients, against a real server (`contracts/gitoma.md` §1 to §8)."""

import asyncio
import base64
import json
import re
import signal
import socket
import stat
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as open_websocket
from websockets.typing import Subprotocol

from api.app import create_app, edge
from api.parts import build
from api.settings import Settings
from tests.e2e.gitoma import (
    REPOSITORY,
    cancel,
    dispatch,
    ended,
    following,
    frames,
    output,
    running,
    status,
)
from tests.e2e.people import add_user, client, issue_token
from tests.kit.client import Native
from tests.kit.server import Server, crewlog
from tests.kit.waiting import DEADLINE_S, until

TOKEN = "a-token-of-the-contract"
PAGE = "http://cockpit.example"
STAND_IN = f"{sys.executable} -S {Path(__file__).with_name('gitoma_program.py')}"
MISSING = {"detail": "Missing or malformed Authorization header."}
WRONG = {"detail": "Invalid authentication token."}
UNKNOWN = "01a20000-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("contract")
    (made / "states").mkdir()
    (made / "work").mkdir()
    return made


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[Server]:
    """A server configured by gitoma's own variables where they exist."""
    with Server.start(
        directory / "data",
        "--stop-jobs",
        CREWLOG_TOKEN=TOKEN,
        GITOMA_ALLOWED_HOSTS="127.0.0.1,crew.example",
        GITOMA_CORS_ORIGINS=PAGE,
        GITOMA_WS_ALLOWED_ORIGINS=PAGE,
        GITOMA_DIARY_TOKEN="diary-secret-value",
        LAYER0_API_KEY="layer0-secret-value",
        GITHUB_TOKEN="github-secret-value",
        LM_STUDIO_BASE_URL="http://127.0.0.1:9/v1",
        CREWLOG_GITOMA_COMMAND=STAND_IN,
        CREWLOG_GITOMA_RATE_LIMIT="100000",
        CREWLOG_GITOMA_STATE_DIR=str(directory / "states"),
        CREWLOG_WORKDIR=str(directory / "work"),
    ) as started:
        yield started


@pytest.fixture(scope="module")
def stranger(server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, trust_env=False) as client:
        yield client


# §1 Auth


@pytest.mark.parametrize(
    ("given", "code", "body"),
    [
        (None, 401, MISSING),
        ("Basic YTpi", 401, MISSING),
        ("Bearer", 401, MISSING),
        (TOKEN, 401, MISSING),
        ("Bearer wrong", 403, WRONG),
        (f"Bearer {TOKEN}x", 403, WRONG),
        (f"Bearer {TOKEN.upper()}", 403, WRONG),
        (f"Bearer {TOKEN}", 200, None),
        (f"bEARER   {TOKEN}", 200, None),
    ],
)
def test_the_token_is_asked_for(
    stranger: httpx2.Client, given: str | None, code: int, body: dict[str, str] | None
) -> None:
    answer = stranger.get("/api/v1/jobs", headers={} if given is None else {"Authorization": given})

    assert answer.status_code == code
    assert body is None or answer.json() == body
    assert answer.headers.get("www-authenticate") == ("Bearer" if code == 401 else None)


def test_a_token_outside_ascii_is_a_wrong_one(stranger: httpx2.Client) -> None:
    for given in (b"Bearer t\xc3\xb6k\xe2\x82\xacn", b"Bearer \xff\xfe"):
        answer = stranger.get("/api/v1/jobs", headers={b"authorization": given})
        assert (answer.status_code, answer.json()) == (403, WRONG)


def test_without_a_token_of_the_server_all_is_refused(tmp_path: Path) -> None:
    parts = build(Settings(data=tmp_path, token=None))
    try:
        app = edge(create_app(parts), parts)

        async def ask(headers: dict[str, str]) -> httpx2.Response:
            transport = httpx2.ASGITransport(app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
                return await http.get("/api/v1/health", headers=headers)

        for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer x"}):
            answer = asyncio.run(ask(headers))
            assert answer.status_code == 503
            assert answer.json() == {"detail": "GITOMA_API_TOKEN is not configured on the server."}
    finally:
        parts.close()


def test_every_route_of_the_api_asks_for_the_token(stranger: httpx2.Client) -> None:
    document = stranger.get("/openapi.json").json()
    asked = 0
    for path, operations in document["paths"].items():
        for method in operations:
            if path.startswith("/api/"):
                concrete = re.sub(r"\{\w+\}", "1", path)
                answer = stranger.request(method, concrete, json={"repo_url": 1})
                assert (answer.status_code, answer.json()) == (401, MISSING), path
                asked += 1
    assert asked == 10


@pytest.mark.parametrize("path", ["/", "/dashboard.js", "/docs", "/redoc", "/openapi.json"])
def test_public_pages_need_no_token(stranger: httpx2.Client, path: str) -> None:
    assert stranger.get(path).status_code == 200


def test_order_of_auth_routing_and_validation(stranger: httpx2.Client) -> None:
    as_json = {"content-type": "application/json"}

    assert stranger.get("/api/v1/nothing").status_code == 404
    assert stranger.put("/api/v1/run").status_code == 405
    assert stranger.post("/api/v1/run", content=b"{", headers=as_json).status_code == 422
    assert stranger.post("/api/v1/run", json={"repo_url": 1}).status_code == 401


# §2 Cross-cutting


@pytest.mark.parametrize(
    ("method", "path", "code", "headers"),
    [
        ("GET", "/api/v1/jobs", 200, {}),
        ("GET", "/healthz", 400, {"Host": "evil.example"}),
        ("GET", "/api/v1/jobs", 401, {"Authorization": ""}),
        ("GET", "/nothing", 404, {}),
        ("PUT", "/api/v1/run", 405, {}),
        ("GET", "/api/v1/jobs/", 307, {}),
        ("POST", "/api/v1/run", 413, {}),
        ("POST", "/api/v1/run", 422, {}),
        (
            "OPTIONS",
            "/api/v1/run",
            200,
            {"Origin": PAGE, "Access-Control-Request-Method": "POST"},
        ),
    ],
)
def test_every_answer_carries_the_request_id(
    http: Native, method: str, path: str, code: int, headers: dict[str, str]
) -> None:
    given = "an id of its own " + "x" * 300
    content = b"x" * 1_048_577 if code == 413 else b""

    answer = http.request(method, path, headers={**headers, "x-request-id": given}, content=content)
    assert (answer.status_code, answer.headers["x-request-id"]) == (code, given)
    made = http.request(method, path, headers=headers, content=content).headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{16}", made)
    if code == 422:
        assert answer.json()["error_id"] == given
    elif code >= 400 and code != 400:
        assert set(answer.json()) == {"detail"}


MUST_NOT = "Value error, resume and reset are mutually exclusive"


@pytest.mark.parametrize(
    ("content", "loc", "kind"),
    [
        (b"", ["body"], "missing"),
        (b"{}", ["body", "repo_url"], "missing"),
        (b'{"repo_url": 1}', ["body", "repo_url"], "string_type"),
        (b'{"repo_url": null}', ["body", "repo_url"], "string_type"),
        (b'{"repo_url": "%s"}' % (b"x" * 256), ["body", "repo_url"], "string_too_long"),
        (
            b'{"repo_url": "https://github.com/a/b", "dry_run": 2}',
            ["body", "dry_run"],
            "bool_parsing",
        ),
        (b'{"repo_url": 1', ["body", 14], "json_invalid"),
        (b"[]", ["body"], "model_attributes_type"),
        (b"null", ["body"], "model_attributes_type"),
        (b'{"repo_url": "http://github.com/a/b"}', ["body", "repo_url"], "value_error"),
    ],
)
def test_what_is_not_valid_is_named_and_not_repeated(
    http: Native, content: bytes, loc: list[str | int], kind: str
) -> None:
    answer = http.post("/api/v1/run", content=content, headers={"content-type": "application/json"})

    assert answer.status_code == 422
    assert set(answer.json()) == {"detail", "error_id"}
    (problem,) = answer.json()["detail"]
    assert set(problem) == {"loc", "msg", "type"}
    assert (problem["loc"], problem["type"]) == (loc, kind)
    assert kind != "value_error" or problem["msg"].startswith("Value error, ")


def test_a_body_that_is_not_declared_as_json_is_no_object(http: Native) -> None:
    answer = http.post("/api/v1/run", content=b"{}", headers={"content-type": "text/plain"})
    assert answer.json()["detail"][0]["type"] == "model_attributes_type"


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/a",
        "https://github.com/a/b/c",
        "https://user:pass@github.com/a/b",
        "https://github.com.evil.example/a/b",
        "https://github.com/-a/b",
        f"https://github.com/{'a' * 40}/b",
        f"https://github.com/a/{'b' * 101}",
        "https://github.com/a/b\n",
        "https://github.com/a/b --yes",
    ],
)
def test_only_repositories_of_github_are_taken(http: Native, url: str) -> None:
    answer = http.post("/api/v1/analyze", json={"repo_url": url})
    assert answer.status_code == 422
    assert url not in answer.text


def test_unknown_paths_and_methods(http: Native) -> None:
    assert (http.get("/nothing").status_code, http.get("/nothing").json()) == (
        404,
        {"detail": "Not Found"},
    )
    for method in ("PUT", "PATCH", "OPTIONS"):
        refused = http.request(method, "/api/v1/run")
        assert (refused.status_code, refused.json()) == (405, {"detail": "Method Not Allowed"})
        assert refused.headers["allow"] == "POST"
        assert "access-control-allow-origin" not in refused.headers
    assert http.head("/api/v1/jobs").status_code == 405
    assert http.put("/api/jobs").headers["allow"] == "GET, POST"
    moved = http.get("/api/v1/jobs/", follow_redirects=False)
    assert (moved.status_code, httpx2.URL(moved.headers["location"]).path) == (307, "/api/v1/jobs")


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:1", 200),
        ("CREW.example:80", 200),
        ("localhost", 400),
        ("evil.example", 400),
        ("crew.example.evil.example", 400),
    ],
)
def test_hosts(stranger: httpx2.Client, host: str, code: int) -> None:
    answer = stranger.get("/healthz", headers={"Host": host})
    assert answer.status_code == code
    if code == 400:
        assert answer.text == "Invalid host header"
        assert answer.headers["content-type"].startswith("text/plain")


def test_cors_is_for_the_named_origins(http: Native) -> None:
    asks = {
        "Access-Control-Request-Method": "DELETE",
        "Access-Control-Request-Headers": "Authorization",
    }

    allowed = http.options("/api/v1/jobs", headers={"Origin": PAGE, **asks}).headers
    assert allowed["access-control-allow-origin"] == PAGE
    assert allowed["access-control-allow-credentials"] == "true"
    assert allowed["access-control-max-age"] == "600"
    assert set(allowed["access-control-allow-methods"].split(", ")) == {
        "GET",
        "POST",
        "PATCH",
        "DELETE",
    }
    refused = http.options("/api/v1/jobs", headers={"Origin": "http://evil.example", **asks})
    assert refused.status_code == 400
    assert "access-control-allow-origin" not in refused.headers
    assert (
        "access-control-allow-origin"
        not in http.get("/api/v1/jobs", headers={"Origin": "http://evil.example"}).headers
    )


def test_large_answers_are_compressed_and_streams_never(http: Native) -> None:
    job_id = http.submit("seq", "5000")
    ended(http, job_id)
    gzip = {"Accept-Encoding": "gzip"}

    page = http.get("/dashboard.js", headers=gzip)
    assert page.headers["content-encoding"] == "gzip"
    assert "Accept-Encoding" in page.headers["vary"]
    for path in (
        f"/api/v1/stream/{job_id}",
        f"/crewlog/v1/log/stream?subject=job-{job_id}",
        "/crewlog/v1/log/export",
    ):
        with http.stream("GET", path, headers=gzip) as stream:
            assert stream.status_code == 200
            assert "content-encoding" not in stream.headers


# §3, §5 Dispatches

ARGUMENTS: list[tuple[str, dict[str, Any], list[str], str, str]] = [
    ("run", {}, ["--yes"], "run", "run"),
    ("run", {"branch": ""}, ["--yes"], "run", ""),
    (
        "run",
        {"branch": "feat/x", "dry_run": "yes"},
        ["--yes", "--branch", "feat/x", "--dry-run"],
        "run",
        "",
    ),
    ("run", {"resume": 1, "reset": False}, ["--yes", "--resume"], "run-resume", "Resuming "),
    ("run", {"reset": True}, ["--yes", "--reset"], "run-reset", "Fresh "),
    ("fix-ci", {"branch": "main", "resume": True}, ["--branch", "main"], "fix-ci", ""),
    ("analyze", {"unknown": "field"}, [], "analyze", ""),
    ("review", {}, [], "review", "Review fetch "),
    ("review", {"integrate": True}, ["--integrate"], "review", "Review integration "),
]


@pytest.mark.parametrize(("kind", "body", "tail", "label", "message"), ARGUMENTS)
def test_each_dispatch_runs_the_program_with_its_arguments(
    http: Native, kind: str, body: dict[str, Any], tail: list[str], label: str, message: str
) -> None:
    answer = http.post(f"/api/v1/{kind}", json={"repo_url": REPOSITORY, **body})

    assert answer.status_code == 202
    accepted = answer.json()
    assert set(accepted) == {"job_id", "status", "message"}
    assert accepted["status"] == "started"
    assert message in accepted["message"]
    assert int(answer.headers["x-event-position"]) > 0
    job_id = accepted["job_id"]
    assert str(UUID(job_id)) == job_id
    lines = [frame.line for frame in frames(http, job_id)]
    assert lines[0] == f"$ {STAND_IN} {' '.join([kind, REPOSITORY, *tail])}"
    assert json.loads(lines[1])["argv"] == [kind, REPOSITORY, *tail]
    assert ended(http, job_id)["label"] == label


def test_refused_dispatches_start_nothing(http: Native) -> None:
    before = list(http.get("/api/v1/jobs").json())

    both = http.post("/api/v1/run", json={"repo_url": REPOSITORY, "resume": True, "reset": True})
    assert both.status_code == 422
    (problem,) = both.json()["detail"]
    assert (problem["loc"], problem["msg"]) == (["body", "reset"], MUST_NOT)
    bare = http.post("/api/v1/fix-ci", json={"repo_url": REPOSITORY})
    assert (bare.status_code, bare.json()) == (400, {"detail": "branch is required for fix-ci"})
    for branch in ("-x", "a b", "a\n", "x" * 256):
        body = {"repo_url": REPOSITORY, "branch": branch}
        assert http.post("/api/v1/run", json=body).status_code == 422
    assert list(http.get("/api/v1/jobs").json()) == before


def test_what_the_program_gets_from_the_server(http: Native, directory: Path) -> None:
    job_id = dispatch(http, "analyze")

    start = json.loads(output(http, job_id)[0])
    assert start["stdin_is_null"]
    assert start["merged"]
    assert start["leads_its_group"]
    assert start["cwd"] == str(directory / "work")
    env = start["env"]
    assert env["CREWLOG_JOB_ID"] == job_id
    assert "GITOMA_ALLOWED_HOSTS" in env
    assert not {"CREWLOG_TOKEN", "GITOMA_API_TOKEN", "GITOMA_DIARY_TOKEN", "LAYER0_API_KEY"} & set(
        env
    )
    # The program has the value, but its output is redacted.
    assert env["GITHUB_TOKEN"] == "[REDACTED]"


def test_a_program_that_is_absent_fails_with_what_to_do(tmp_path: Path) -> None:
    with (
        Server.start(tmp_path / "data", CREWLOG_GITOMA_COMMAND="gitoma-that-is-not-here") as server,
        Native(server) as http,
    ):
        job_id = dispatch(http, "run")
        shown = ended(http, job_id)
        assert (shown["status"], shown["exit_code"]) == ("failed", None)
        assert re.fullmatch(r"[0-9a-f]{12}", shown["error_id"])
        _, why, end = [frame.line for frame in frames(http, job_id)]
        assert "CREWLOG_GITOMA_COMMAND" in why
        assert end == "__END__:failed"


# §3 Status, jobs, cancel

STATUS = {
    "job_id",
    "label",
    "status",
    "created_at",
    "finished_at",
    "lines_buffered",
    "error_id",
    "exit_code",
}


@pytest.mark.parametrize(
    ("script", "outcome", "code"),
    [
        ("exit 0", "completed", 0),
        ("exit 3", "failed", 3),
        ("kill -9 $$", "failed", -signal.SIGKILL),
    ],
)
def test_status_and_entry_of_a_job(http: Native, script: str, outcome: str, code: int) -> None:
    job_id = http.shell(f"echo one; {script}")
    shown = ended(http, job_id)

    assert set(shown) == STATUS
    assert (shown["status"], shown["exit_code"], shown["error_id"]) == (outcome, code, None)
    assert shown["lines_buffered"] == len(frames(http, job_id)) == 3
    for key in ("created_at", "finished_at"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", shown[key])
        assert datetime.fromisoformat(shown[key]).tzinfo == UTC
    assert shown["created_at"] <= shown["finished_at"]
    entry = http.get("/api/v1/jobs").json()[job_id]
    assert set(entry) == STATUS - {"job_id", "lines_buffered"} | {"lines"}
    assert entry["lines"] == shown["lines_buffered"]
    assert frames(http, job_id)[-1].line == f"__END__:{outcome}"


def test_jobs_come_in_the_order_of_their_coming(http: Native) -> None:
    known = [http.submit("true") for _ in range(6)]

    def page(**asked: Any) -> list[str]:
        return list(http.get("/api/v1/jobs", params=asked).json())

    assert page()[-6:] == known
    assert page(limit=2) == known[4:]
    assert page(limit=2, before=known[4]) == known[2:4]
    assert page(limit=5000, before=known[2])[-2:] == known[:2]
    assert http.get("/api/v1/jobs?limit=5001").status_code == 422
    assert http.get(f"/api/v1/jobs?before={UNKNOWN}").status_code == 400


def test_cancel(http: Native, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    lingers = f"until [ -e {gate} ]; do sleep 0.05; done; exit 0"
    job_id = http.shell(f"trap '{lingers}' TERM; echo ready; while :; do sleep 0.05; done")
    with following(http, job_id) as stream:
        assert [next(stream).line, next(stream).line][1] == "ready"
        for _ in range(2):
            answer = cancel(http, job_id)
            assert (answer.status_code, answer.json()) == (
                200,
                {"job_id": job_id, "status": "cancelling"},
            )
        assert status(http, job_id)["status"] == "running"
        gate.touch()
        assert [frame.line for frame in stream][-1] == "__END__:cancelled"
    again = cancel(http, job_id)
    assert (again.status_code, again.json()) == (409, {"detail": "Job is already cancelled"})


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "status"), ("GET", "stream"), ("POST", "jobs")]
)
def test_unknown_jobs(http: Native, method: str, path: str) -> None:
    tail = "/cancel" if path == "jobs" else ""
    for job_id in (UNKNOWN, "nothing", "%00", "..%2f..", "%ED%A0%80"):
        answer = http.request(method, f"/api/v1/{path}/{job_id}{tail}")
        assert answer.status_code == 404
        assert answer.json() in ({"detail": "Job not found"}, {"detail": "Not Found"})


def test_every_dialect_shows_every_job(http: Native) -> None:
    ours, theirs = http.shell("sleep 300"), dispatch(http, "analyze")
    ended(http, theirs)
    running(http, ours)

    assert http.get(f"/api/jobs/{theirs}").json()["label"] == "analyze"
    assert theirs in [job["id"] for job in http.get("/api/jobs").json()["items"]]
    assert {ours, theirs} <= set(http.get("/api/v1/jobs").json())
    assert http.post(f"/api/jobs/{ours}/cancel").status_code == 200
    assert ended(http, ours)["status"] == "cancelled"
    assert http.get(f"/api/jobs/{ours}").json()["state"] == "canceled"
    timeline = http.items(f"/jobs/{theirs}/timeline")
    assert [entry["type"] for entry in timeline][:2] == ["job.submitted", "job.queued"]


def test_an_idempotency_key_makes_one_job(http: Native) -> None:
    key, body = {"Idempotency-Key": "contract-1"}, {"argv": ["true"]}

    first = http.post("/api/jobs", json=body, headers=key)
    ended(http, first.json()["id"])
    second = http.post("/api/jobs", json=body, headers=key)
    assert (second.status_code, second.json()) == (201, first.json())
    assert second.headers["idempotency-replayed"] == "true"
    assert second.headers["x-event-position"] == first.headers["x-event-position"]
    assert http.post("/api/jobs", json={"argv": ["false"]}, headers=key).status_code == 422
    assert http.post("/api/v1/run", json={"repo_url": REPOSITORY}, headers=key).status_code == 422
    dispatched = [
        http.post(
            "/api/v1/run", json={"repo_url": REPOSITORY}, headers={"Idempotency-Key": "run-1"}
        )
        for _ in range(2)
    ]
    assert [one.headers.get("idempotency-replayed") for one in dispatched] == [None, "true"]
    assert dispatched[0].json() == dispatched[1].json()


# §3 Health


def test_health(http: Native) -> None:
    answer = http.get("/api/v1/health")

    assert answer.status_code == 200
    health = answer.json()
    assert set(health) == {"status", "lm_studio", "github_token_set"}
    assert (health["status"], health["github_token_set"]) == ("ok", True)
    studio = health["lm_studio"]
    assert set(studio) == {"level", "message", "detail", "available_models", "target_model_loaded"}
    assert (studio["level"], studio["target_model_loaded"]) == ("error", False)


def test_health_waits_for_nobody(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        with (
            Server.start(tmp_path / "data", LM_STUDIO_BASE_URL=url) as server,
            Native(server) as http,
        ):
            studio = http.get("/api/v1/health").json()["lm_studio"]
    assert studio["level"] == "error"
    assert "timed out" in studio["message"]


# §4 Limits


def test_dispatches_are_limited_for_a_principal(tmp_path: Path) -> None:
    with (
        Server.start(tmp_path / "data", "--capacity=0", CREWLOG_GITOMA_RATE_LIMIT="3") as server,
        Native(server) as http,
    ):
        body = {"repo_url": REPOSITORY}
        for _ in range(5):  # invalid requests do not count
            assert http.post("/api/v1/run", json={}).status_code == 422
        assert http.post("/api/v1/fix-ci", json=body).status_code == 400  # this one counts
        assert http.post("/api/v1/run", json=body).status_code == 202
        assert http.post("/api/v1/review", json=body).status_code == 202
        for scheme in ("Bearer", "bearer ", "BEARER  "):
            spelled = {"Authorization": f"{scheme} {server.token}"}
            answer = http.post("/api/v1/analyze", json=body, headers=spelled)
            assert answer.status_code == 429
            assert "rate limit" in answer.json()["detail"]
            assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert http.post("/api/jobs", json={"argv": ["true"]}).status_code == 201


def test_a_person_has_one_limit_however_many_tokens(tmp_path: Path) -> None:
    with Server.start(tmp_path / "data", "--capacity=0", CREWLOG_GITOMA_RATE_LIMIT="3") as server:
        ada, bob = (add_user(server, f"{name}@example.org")["id"] for name in ("ada", "bob"))
        statuses = []
        for person in (*[ada] * 4, bob):
            with client(server, issue_token(server, person, "write")) as http:
                statuses.append(http.post("/api/v1/run", json={"repo_url": REPOSITORY}).status_code)
        assert statuses == [202, 202, 202, 429, 202]


# §6 The stream


def test_a_line_is_cut_at_4096_bytes_and_never_within_a_character(http: Native) -> None:
    cut = "…(truncated)"
    long = {
        "€" * 1365 + "x": "€" * 1365 + "x",  # exactly 4,096 bytes
        "€" * 2000: "€" * 1365 + cut,
        "x" * 4095 + "éx": "x" * 4095 + cut,
        "x" * 4094 + "éx": "x" * 4094 + "é" + cut,
    }
    job_id = http.submit("printf", "%s\\n", *long)

    assert output(http, job_id) == list(long.values())


def test_the_stream_byte_by_byte(http: Native) -> None:
    job_id = http.submit(
        "printf",
        "one\\n\\nd\\303\\251j\\303\\240 \\342\\202\\254 \\360\\237\\220\\215\\nlast",
    )
    ended(http, job_id)
    answer = http.get(f"/api/v1/stream/{job_id}")

    headers = answer.headers
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert {"no-cache", "no-store", "no-transform"} == set(headers["cache-control"].split(", "))
    assert headers["x-accel-buffering"] == "no"
    assert headers["transfer-encoding"] == "chunked"
    assert "x-request-id" in headers
    retry, *blocks, rest = answer.content.split(b"\n\n")
    assert re.fullmatch(rb"retry: \d+", retry)
    assert rest == b""
    lines = []
    for block in blocks:
        match = re.fullmatch(rb'id: \d+:\d+\nevent: line\ndata: (\{"line": "[ -~]*"\})', block)
        assert match, block
        lines.append(json.loads(match[1])["line"])
    assert lines[1:] == ["one", "", "déjà € 🐍", "last", "__END__:completed"]


def test_the_stream_goes_on_after_every_frame(http: Native) -> None:
    job_id = http.shell("echo 1; echo 2; sleep 0.2; echo 3; exit 4")
    everything = frames(http, job_id)

    assert len({frame.id for frame in everything}) == len(everything) == 5
    for seen, frame in enumerate(everything[:-1], 1):
        assert frames(http, job_id, frame.id) == everything[seen:]
    last = everything[-1].id
    path = f"/api/v1/stream/{job_id}"
    assert http.get(path, headers={"Last-Event-ID": last}).status_code == 204
    assert http.get(path, params={"last_event_id": last}).status_code == 204
    both = http.get(
        path, params={"last_event_id": last}, headers={"Last-Event-ID": everything[-2].id}
    )
    assert b"__END__:failed" in both.content
    other = http.submit("true")
    ended(http, other)
    beyond = frames(http, other)[-1].id
    assert [frame.line for frame in frames(http, job_id, beyond)] == ["__END__:failed"]


# §8 State


def test_deleting_a_state(http: Native, directory: Path) -> None:
    path = directory / "states" / "crew__log.json"
    path.write_text("{}")

    expected = {"owner": "crew", "name": "log", "result": "deleted"}
    assert http.delete("/api/v1/state/crew/log").json() == expected
    assert not path.exists()
    expected["result"] = "not_found"
    assert http.delete("/api/v1/state/crew/log").json() == expected
    for owner, name in ((".crew", "log"), ("crew", "x" * 101), ("crew", "a%20b"), ("crew", "é")):
        refused = http.delete(f"/api/v1/state/{owner}/{name}")
        assert refused.status_code == 422
        assert set(refused.json()) == {"detail"}
        assert isinstance(refused.json()["detail"], str)
    assert http.delete("/api/v1/state/crew/..%2f..%2fetc").status_code == 404


def test_the_state_socket(server: Server, http: Native) -> None:
    url = f"ws{server.url.removeprefix('http')}/ws/state"
    encoded = base64.urlsafe_b64encode(TOKEN.encode()).decode().rstrip("=")
    offered = Subprotocol(f"gitoma-bearer.{encoded}")

    with open_websocket(url, subprotocols=[offered], origin=None, proxy=None) as ws:
        assert ws.subprotocol == offered
        assert json.loads(ws.recv(timeout=90)) == []
        ws.send("ignored")
    trusted = {**server.headers, "Origin": PAGE}
    with open_websocket(url, additional_headers=trusted, proxy=None) as ws:
        assert json.loads(ws.recv(timeout=90)) == []
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {**server.headers, "Origin": "http://evil.example"},
        {**server.headers, "Origin": f"{PAGE}.evil.example"},
        {**server.headers, "Host": "evil.example"},
    ):
        with (
            pytest.raises(InvalidStatus) as refused,
            open_websocket(url, additional_headers=headers, proxy=None),
        ):
            pass
        assert refused.value.response.status_code == (400 if "Host" in headers else 403)


def test_the_socket_tells_when_a_job_starts_and_when_it_ends(
    server: Server, http: Native, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    url = f"ws{server.url.removeprefix('http')}/ws/state"
    with open_websocket(url, additional_headers=server.headers, proxy=None) as ws:
        ws.recv(timeout=DEADLINE_S)
        job_id = http.shell(f"until [ -e {gate} ]; do sleep 0.05; done")
        ws.recv(timeout=DEADLINE_S)
        running(http, job_id)
        with pytest.raises(TimeoutError):
            ws.recv(timeout=1)
        gate.touch()
        ws.recv(timeout=DEADLINE_S)
        assert ended(http, job_id)["status"] == "completed"


# §1, §10 The token and the address


def test_a_token_is_made_once_and_is_for_its_owner_only(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Server.start(data, "--capacity=0") as server:
        token = server.token
        assert stat.S_IMODE((data / "token").stat().st_mode) == 0o600
        assert len(token) >= 43
        printed = server.output.read_text()
        assert str(data / "token") in printed
        assert token not in printed
        server.restart()
        assert server.token == token
        with Native(server) as http:
            assert http.get("/api/v1/jobs").status_code == 200


def test_off_loopback_nothing_is_open(tmp_path: Path) -> None:
    refused = crewlog("serve", "--host", "0.0.0.0", "--port", "0", "--data", tmp_path / "data")
    assert refused.returncode == 2
    assert "CREWLOG_TOKEN" in refused.stderr
    assert not (tmp_path / "data" / "log.db").exists()


def test_gitomas_token_variable_works(tmp_path: Path) -> None:
    with Server.start(
        tmp_path / "data", "--capacity=0", GITOMA_API_TOKEN="gitoma-of-old"
    ) as server:
        assert not (tmp_path / "data" / "token").exists()
        answer = httpx2.get(
            f"{server.url}/api/v1/jobs",
            headers={"Authorization": "Bearer gitoma-of-old"},
            trust_env=False,
        )
        assert (answer.status_code, answer.json()) == (200, {})


def test_by_default_no_page_of_another_origin_may_call(tmp_path: Path) -> None:
    with Server.start(tmp_path / "data", "--capacity=0") as server, Native(server) as http:
        asks = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
        refused = http.options("/api/v1/run", headers=asks)
        assert refused.status_code == 405
        assert not [name for name in refused.headers if name.startswith("access-control-")]
        for host in ("localhost", "0.0.0.0", "testserver"):
            assert http.get("/healthz", headers={"Host": host}).status_code == 200
        assert http.get("/healthz", headers={"Host": "box.local"}).status_code == 400
        until(lambda: http.get("/readyz").status_code == 200, "readiness")
