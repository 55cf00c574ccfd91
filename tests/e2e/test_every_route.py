"""Every route of the server, requested by every kind of client (`contracts/board.md` §1).

A route that is not in the table fails here, so each new route must say whom it is for.
"""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from api.app import create_app
from api.dialects import DIALECTS
from api.edge.security import SAFE_METHODS
from api.edge.worker_tokens import WorkerTokens, load_key
from api.parts import build
from api.settings import Settings
from domain.catalogue import CATALOGUE
from domain.delivery.aggregate import DeliveryRequested, delivery_stream
from domain.log import SYSTEM, new_events, open_sqlite_log
from domain.redaction import Redactor
from tests.e2e.people import PASSWORD, add_user, client, issue_token, sign_in
from tests.kit.client import Native
from tests.kit.server import Server
from tests.kit.waiting import until
from tests.routes import every_route

PUBLIC, LOGIN, OWNER, EMPTY, OWN, ADMIN, PERSON, WORKER = (
    "public",
    "login",
    "owner",
    "empty",
    "own",
    "admin",
    "person",
    "worker",
)
"""Whom a route is for: everybody; signed-in people; the owner of the object and administrators,
with a 404 for others, or (`contracts/codeplane.md` §3.6) an empty list, as for a missing object;
only the owner; administrators; people who signed in with a password or a provider; a running
attempt.
"""

WHO = ("anonymous", "owner", "other", "admin", "reader", "writer", "worker")
"""No identity; the owner, another person and an administrator, each with a cookie; tokens of the
owner that may read, or read and write; the token of a running attempt.
"""


@dataclass(frozen=True)
class Row:
    """Whom a route is for, and a valid body and query."""

    kind: str
    body: Any = field(default_factory=dict)
    query: dict[str, Any] = field(default_factory=dict)


YEARLY = {"cron": "0 0 1 1 *"}

TABLE: dict[tuple[str, str], Row] = {
    # Pages and health
    ("GET", "/openapi.json"): Row(PUBLIC),
    ("GET", "/openapi/gitoma.json"): Row(PUBLIC),
    ("GET", "/openapi/codeplane.json"): Row(PUBLIC),
    ("GET", "/openapi/board.json"): Row(PUBLIC),
    ("GET", "/crewlog/v1/openapi.json"): Row(PUBLIC),
    ("GET", "/"): Row(PUBLIC),
    ("GET", "/dashboard.js"): Row(PUBLIC),
    ("GET", "/docs"): Row(PUBLIC),
    ("GET", "/redoc"): Row(PUBLIC),
    ("GET", "/docs/docs.js"): Row(PUBLIC),
    ("GET", "/docs/swagger-ui-bundle.js"): Row(PUBLIC),
    ("GET", "/docs/swagger-ui.css"): Row(PUBLIC),
    ("GET", "/healthz"): Row(PUBLIC),
    ("GET", "/readyz"): Row(PUBLIC),
    ("GET", "/login/"): Row(PUBLIC),
    ("GET", "/profile/"): Row(PUBLIC),
    ("GET", "/job_board"): Row(PUBLIC),
    ("GET", "/page/{version}/{name:path}"): Row(PUBLIC),
    # People
    ("POST", "/auth/login"): Row(PUBLIC),
    ("POST", "/auth/token"): Row(PUBLIC),
    ("POST", "/auth/link"): Row(PUBLIC),
    ("GET", "/auth/logout"): Row(PUBLIC),
    ("POST", "/auth/logout"): Row(PUBLIC),
    ("GET", "/auth/me"): Row(PUBLIC),
    ("GET", "/auth/google-enabled"): Row(PUBLIC),
    ("GET", "/auth/providers"): Row(PUBLIC),
    ("GET", "/auth/google"): Row(PUBLIC),
    ("GET", "/auth/google/callback"): Row(PUBLIC),
    ("GET", "/auth/oidc/{name}"): Row(PUBLIC),
    ("GET", "/auth/oidc/{name}/callback"): Row(PUBLIC),
    ("POST", "/auth/password"): Row(PERSON, {"current": PASSWORD, "new": PASSWORD}),
    ("GET", "/crewlog/v1/users"): Row(ADMIN),
    ("POST", "/crewlog/v1/users"): Row(ADMIN, {"email": "nobody"}),
    ("GET", "/crewlog/v1/users/{user_id}"): Row(ADMIN),
    ("PATCH", "/crewlog/v1/users/{user_id}"): Row(ADMIN),
    ("POST", "/crewlog/v1/users/{user_id}/disable"): Row(ADMIN),
    ("POST", "/crewlog/v1/users/{user_id}/enable"): Row(ADMIN),
    ("POST", "/crewlog/v1/users/{user_id}/password"): Row(ADMIN, {"password": PASSWORD}),
    ("DELETE", "/crewlog/v1/users/{user_id}/sessions"): Row(ADMIN),
    ("GET", "/crewlog/v1/users/{user_id}/tokens"): Row(ADMIN),
    ("POST", "/crewlog/v1/users/{user_id}/tokens"): Row(ADMIN, {"name": "one more"}),
    ("DELETE", "/crewlog/v1/users/{user_id}/tokens/{token_id}"): Row(ADMIN),
    ("GET", "/crewlog/v1/tokens"): Row(LOGIN),
    ("POST", "/crewlog/v1/tokens"): Row(LOGIN, {"name": "mine"}),
    ("DELETE", "/crewlog/v1/tokens/{token_id}"): Row(OWN),
    # Jobs and the board
    ("GET", "/api/jobs"): Row(LOGIN),
    ("POST", "/api/jobs"): Row(LOGIN, {"argv": ["true"]}),
    ("POST", "/api/jobs/clear"): Row(ADMIN, {"status": "archived"}),
    ("GET", "/api/jobs/{job_id}"): Row(OWNER),
    ("DELETE", "/api/jobs/{job_id}"): Row(OWNER),
    ("POST", "/api/jobs/{job_id}/cancel"): Row(OWNER),
    ("POST", "/api/jobs/{job_id}/archive"): Row(OWNER),
    ("GET", "/api/jobs/{job_id}/timeline"): Row(OWNER),
    ("GET", "/api/jobs/{job_id}/stream"): Row(OWNER),
    ("GET", "/api/jobs/{job_id}/graph"): Row(OWNER),
    ("POST", "/api/jobs/{job_id}/comments"): Row(OWNER, {"body": "Look again."}),
    ("POST", "/api/jobs/{job_id}/unblock"): Row(OWNER),
    ("POST", "/api/jobs/{job_id}/redo"): Row(OWNER, {"feedback": "Once more."}),
    ("GET", "/api/jobs/{job_id}/approvals"): Row(EMPTY),
    ("POST", "/api/jobs/{job_id}/approvals/trust"): Row(EMPTY),
    ("POST", "/api/jobs/{job_id}/trust"): Row(EMPTY),
    ("GET", "/api/jobs/{job_id}/artifacts"): Row(EMPTY),
    ("GET", "/api/jobs/{job_id}/artifact"): Row(OWNER),
    ("GET", "/api/artifacts/{artifact_id}"): Row(OWNER),
    ("GET", "/api/approvals"): Row(LOGIN),
    ("GET", "/api/approvals/{approval_id}"): Row(OWNER),
    ("POST", "/api/approvals/{approval_id}/resolve"): Row(OWNER, {"decision": "approved"}),
    ("GET", "/api/events"): Row(LOGIN),
    ("GET", "/api/dispatcher/status"): Row(LOGIN),
    ("GET", "/crewlog/v1/analytics/overview"): Row(LOGIN),
    ("GET", "/crewlog/v1/system"): Row(LOGIN),
    ("GET", "/crewlog/v1/system/repositories/stream"): Row(ADMIN),
    # Jobs of the native API
    ("GET", "/crewlog/v1/jobs"): Row(LOGIN),
    ("POST", "/crewlog/v1/jobs"): Row(LOGIN, {"argv": ["true"]}),
    ("POST", "/crewlog/v1/jobs/actions"): Row(LOGIN, {"action": "cancel", "ids": ["none"]}),
    ("GET", "/crewlog/v1/jobs/{job_id}"): Row(OWNER),
    ("DELETE", "/crewlog/v1/jobs/{job_id}"): Row(OWNER),
    ("POST", "/crewlog/v1/jobs/{job_id}/cancel"): Row(OWNER),
    ("POST", "/crewlog/v1/jobs/{job_id}/retry"): Row(OWNER),
    ("POST", "/crewlog/v1/jobs/{job_id}/rerun"): Row(OWNER),
    ("POST", "/crewlog/v1/jobs/{job_id}/redo"): Row(OWNER, {"feedback": "Once more."}),
    ("POST", "/crewlog/v1/jobs/{job_id}/unblock"): Row(OWNER),
    ("POST", "/crewlog/v1/jobs/{job_id}/archive"): Row(OWNER),
    ("POST", "/crewlog/v1/jobs/{job_id}/unarchive"): Row(OWNER),
    ("GET", "/crewlog/v1/jobs/{job_id}/attempts"): Row(OWNER),
    ("GET", "/crewlog/v1/jobs/{job_id}/parents"): Row(OWNER),
    ("GET", "/crewlog/v1/jobs/{job_id}/comments"): Row(OWNER),
    ("POST", "/crewlog/v1/jobs/{job_id}/comments"): Row(OWNER, {"body": "Look again."}),
    ("GET", "/crewlog/v1/jobs/{job_id}/timeline"): Row(OWNER),
    ("GET", "/crewlog/v1/jobs/{job_id}/events"): Row(OWNER),
    ("GET", "/crewlog/v1/jobs/{job_id}/stream"): Row(OWNER),
    ("GET", "/crewlog/v1/jobs/{job_id}/approvals"): Row(OWNER),
    ("POST", "/crewlog/v1/jobs/{job_id}/trust"): Row(OWNER),
    ("GET", "/crewlog/v1/jobs/{job_id}/artifacts"): Row(OWNER),
    ("GET", "/crewlog/v1/artifacts/{artifact_id}"): Row(OWNER),
    ("GET", "/crewlog/v1/artifacts/{artifact_id}/content"): Row(OWNER),
    ("GET", "/crewlog/v1/approvals"): Row(LOGIN),
    ("GET", "/crewlog/v1/approvals/{approval_id}"): Row(OWNER),
    ("POST", "/crewlog/v1/approvals/{approval_id}/resolve"): Row(OWNER, {"resolution": "approved"}),
    ("GET", "/crewlog/v1/board"): Row(LOGIN),
    ("GET", "/crewlog/v1/events/stream"): Row(LOGIN),
    ("GET", "/crewlog/v1/dispatcher"): Row(LOGIN),
    ("GET", "/crewlog/v1/health"): Row(LOGIN),
    ("GET", "/crewlog/v1/templates"): Row(LOGIN),
    ("GET", "/crewlog/v1/templates/{template_id:path}"): Row(LOGIN),
    ("POST", "/crewlog/v1/templates/render"): Row(LOGIN, {"template": "every"}),
    ("GET", "/crewlog/v1/schedules"): Row(LOGIN),
    ("POST", "/crewlog/v1/schedules"): Row(LOGIN, {"template": "every", "name": "empty"}),
    ("POST", "/crewlog/v1/schedules/preview"): Row(LOGIN, {"rule": YEARLY}),
    ("GET", "/crewlog/v1/schedules/{schedule_id}"): Row(OWNER),
    ("PATCH", "/crewlog/v1/schedules/{schedule_id}"): Row(OWNER, {"name": "another"}),
    ("DELETE", "/crewlog/v1/schedules/{schedule_id}"): Row(OWNER),
    ("POST", "/crewlog/v1/schedules/{schedule_id}/enable"): Row(OWNER),
    ("POST", "/crewlog/v1/schedules/{schedule_id}/disable"): Row(OWNER),
    ("POST", "/crewlog/v1/schedules/{schedule_id}/run-now"): Row(OWNER),
    ("GET", "/crewlog/v1/schedules/{schedule_id}/preview"): Row(OWNER),
    ("GET", "/crewlog/v1/schedules/{schedule_id}/firings"): Row(OWNER),
    ("GET", "/crewlog/v1/crews"): Row(LOGIN),
    ("POST", "/crewlog/v1/crews"): Row(LOGIN, {"template": "every"}),
    ("GET", "/crewlog/v1/crews/{crew_id}"): Row(OWNER),
    ("POST", "/crewlog/v1/crews/{crew_id}/cancel"): Row(OWNER),
    ("POST", "/crewlog/v1/crews/{crew_id}/retry"): Row(OWNER),
    ("POST", "/crewlog/v1/crews/{crew_id}/rerun"): Row(OWNER),
    # Templates and schedules
    ("GET", "/api/templates"): Row(LOGIN),
    ("GET", "/api/templates/{template_id:path}"): Row(LOGIN),
    ("POST", "/api/templates/render"): Row(LOGIN, {"templateId": "every"}),
    ("GET", "/api/schedules"): Row(LOGIN),
    ("POST", "/api/schedules"): Row(LOGIN, {"name": "empty"}),
    ("POST", "/api/schedules/preview"): Row(LOGIN, {"rule": YEARLY}),
    ("GET", "/api/schedules/{schedule_id}"): Row(OWNER),
    ("PATCH", "/api/schedules/{schedule_id}"): Row(OWNER, {"name": "another"}),
    ("DELETE", "/api/schedules/{schedule_id}"): Row(OWNER),
    ("POST", "/api/schedules/{schedule_id}/enable"): Row(OWNER),
    ("POST", "/api/schedules/{schedule_id}/disable"): Row(OWNER),
    ("POST", "/api/schedules/{schedule_id}/run-now"): Row(OWNER),
    ("GET", "/api/schedules/{schedule_id}/preview"): Row(OWNER),
    ("GET", "/api/schedules/{schedule_id}/firings"): Row(OWNER),
    ("GET", "/api/schedules/{schedule_id}/jobs"): Row(OWNER),
    # The worker API, also at the addresses of attempts that 0.2.0 started
    ("GET", "/api/worker"): Row(WORKER),
    ("POST", "/api/worker/heartbeat"): Row(WORKER),
    ("POST", "/api/worker/comments"): Row(WORKER, {"body": "Half done."}),
    ("POST", "/api/worker/complete"): Row(WORKER),
    ("POST", "/api/worker/block"): Row(WORKER),
    ("GET", "/api/worker/approvals"): Row(WORKER),
    ("POST", "/api/worker/approvals"): Row(WORKER),
    ("GET", "/api/worker/approvals/{approval_id}"): Row(WORKER),
    ("GET", "/crewlog/v1/worker"): Row(WORKER),
    ("POST", "/crewlog/v1/worker/heartbeat"): Row(WORKER),
    ("POST", "/crewlog/v1/worker/comments"): Row(WORKER, {"body": "Half done."}),
    ("POST", "/crewlog/v1/worker/complete"): Row(WORKER),
    ("POST", "/crewlog/v1/worker/block"): Row(WORKER),
    ("GET", "/crewlog/v1/worker/approvals"): Row(WORKER),
    ("POST", "/crewlog/v1/worker/approvals"): Row(WORKER),
    ("GET", "/crewlog/v1/worker/approvals/{approval_id}"): Row(WORKER),
    # The log and the views
    ("GET", "/crewlog/v1/log"): Row(ADMIN),
    ("GET", "/crewlog/v1/log/stream"): Row(ADMIN),
    ("GET", "/crewlog/v1/log/export"): Row(ADMIN),
    ("GET", "/crewlog/v1/log/{position}"): Row(OWNER),
    ("GET", "/crewlog/v1/deliveries"): Row(ADMIN),
    ("GET", "/crewlog/v1/deliveries/{delivery_id}"): Row(ADMIN),
    ("POST", "/crewlog/v1/deliveries/{delivery_id}/retry"): Row(ADMIN),
    ("GET", "/crewlog/v1/projections"): Row(LOGIN),
    ("POST", "/crewlog/v1/projections/{name}/rebuild"): Row(ADMIN),
    # gitoma's dialect
    ("GET", "/api/v1/health"): Row(LOGIN),
    ("GET", "/api/v1/jobs"): Row(LOGIN),
    ("GET", "/api/v1/status/{job_id}"): Row(OWNER),
    ("GET", "/api/v1/stream/{job_id}"): Row(OWNER),
    ("POST", "/api/v1/jobs/{job_id}/cancel"): Row(OWNER),
    ("POST", "/api/v1/run"): Row(LOGIN),
    ("POST", "/api/v1/fix-ci"): Row(LOGIN),
    ("POST", "/api/v1/analyze"): Row(LOGIN),
    ("POST", "/api/v1/review"): Row(LOGIN),
    ("DELETE", "/api/v1/state/{owner}/{name}"): Row(ADMIN),
}

SOCKETS = {"/ws/state"}
"""Open only with the server's token; tested below."""


TEMPLATE = """
name: Everything
jobs:
  - id: kept
    title: Leaves something behind
    argv: [sh, -c, 'echo kept > "$CREWLOG_ARTIFACTS/kept.txt"']
  - id: asked
    title: Waits for an answer
    argv: ["true"]
    approval: required
"""


# All routes


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, str]]:
    """Method and path of every route, in the document or not."""
    parts = build(Settings(data=tmp_path_factory.mktemp("routes") / "data"))
    app = create_app(parts)
    parts.close()
    return {(found.method, found.path) for found in every_route(app)}


def test_the_table_has_every_route_and_no_other(routes: set[tuple[str, str]]) -> None:
    sockets = {("WS", path) for path in SOCKETS}
    missing, gone = routes - TABLE.keys() - sockets, (TABLE.keys() | sockets) - routes
    assert not missing, f"Say in the table whom these are for: {sorted(missing)}"
    assert not gone, f"There is no such route (any more): {sorted(gone)}"


class World:
    """A server with people, and objects of one of them."""

    def __init__(self, server: Server, stack: ExitStack) -> None:
        self.server = server
        self._stack = stack
        self.owner = add_user(server, "owner@example.org")
        self.victim = add_user(server, "victim@example.org")
        add_user(server, "other@example.org")
        add_user(server, "admin@example.org", role="admin")
        self.clients = {"anonymous": self._kept(client(server))}
        for who in ("owner", "other", "admin"):
            self.clients[who] = self._kept(sign_in(server, f"{who}@example.org"))
        reads = issue_token(server, self.owner["id"], "read")
        writes = issue_token(server, self.owner["id"], "read", "write")
        self.clients["reader"] = self._kept(client(server, reads))
        self.clients["writer"] = self._kept(client(server, writes))
        self._samples()

    def _kept(self, http: Native) -> Native:
        return self._stack.enter_context(http)

    def _samples(self) -> None:
        """A crew of the owner with an artifact, an approval, and a running job that keeps all
        others waiting.
        """
        http = self.clients["owner"]
        crew = http.post("/api/jobs", json={"templateId": "every.job_workflow.yaml"})
        assert crew.status_code == 201, crew.text
        kept = crew.json()["jobIds"][0]
        self.crew_id = self._shown(f"/api/jobs/{kept}")["crewId"]
        self.approval_id = until(
            lambda: self._shown("/api/approvals")["items"], "an approval is asked for"
        )[0]["id"]
        self.artifact_job = kept
        self.artifact_id = until(
            lambda: self._shown(f"/api/jobs/{kept}/artifacts")["items"], "the artifact is kept"
        )[0]["id"]
        self.running = self.job("sleep", "600")
        until(
            lambda: self._shown(f"/api/jobs/{self.running}")["state"] == "running", "the job runs"
        )
        tokens = WorkerTokens(load_key(self.server.data / "worker.key"))
        self.clients["worker"] = self._kept(client(self.server, tokens.issue(self.running, 1)))

    def _shown(self, path: str) -> Any:
        answer = self.clients["owner"].get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def job(self, *argv: str) -> str:
        answer = self.clients["owner"].post("/api/jobs", json={"argv": argv or ["true"]})
        assert answer.status_code == 201, answer.text
        self.position = int(answer.headers["x-event-position"])
        return str(answer.json()["id"])

    def crew(self) -> str:
        """A crew that only waits."""
        return str(self.clients["owner"].commit("every", notBefore="2100-01-01T00:00:00Z")["id"])

    def schedule(self) -> str:
        body = {"name": "yearly", "templateId": "every", "rule": YEARLY, "timezone": "UTC"}
        answer = self.clients["owner"].post("/api/schedules", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["schedule"]["id"])

    def leave(self) -> None:
        self.clients["admin"].post(f"/api/jobs/{self.running}/cancel")

    def filled(self, path: str) -> str:
        """The path of an object of the owner; a new one if an earlier request may have ended it."""
        samples: dict[str, Callable[[], Any]] = {
            "{job_id}": self.artifact_job.__str__ if "/artifact" in path else self.job,
            "{schedule_id}": self.schedule,
            "{delivery_id}": DELIVERY.__str__,
            "{template_id:path}": lambda: "every",
            "{crew_id}": self.crew_id.__str__ if not path.endswith("cancel") else self.crew,
            "{approval_id}": self.approval_id.__str__,
            "{artifact_id}": self.artifact_id.__str__,
            "{position}": lambda: (self.job(), self.position)[1],
            "{user_id}": self.victim["id"].__str__,
            "{token_id}": lambda: self._token(path),
            "{name}": lambda: "people",
            "{owner}": lambda: "crew",
        }
        for parameter, sample in samples.items():
            if parameter in path:
                path = path.replace(parameter, str(sample()))
        return path

    def _token(self, path: str) -> str:
        whose = self.victim["id"] if path.startswith("/crewlog/v1/users") else self.owner["id"]
        with Native(self.server) as operator:
            answer = operator.post(f"/crewlog/v1/users/{whose}/tokens", json={"name": "x"})
        return str(answer.json()["id"])


DELIVERY = "golden"


def with_a_delivery(data: Path) -> None:
    """A log with a pending delivery to a receiver that does not exist."""
    log = open_sqlite_log(data, redactor=Redactor(), catalogue=CATALOGUE)
    requested = DeliveryRequested(channel="webhook", receiver="gone", event="e", event_position=1)
    stream = delivery_stream(DELIVERY)
    log.append_blocking(new_events(stream, [requested], SYSTEM), {stream: 0})
    log.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("every-route")
    (directory / "templates").mkdir()
    (directory / "templates" / "every.job_workflow.yaml").write_text(TEMPLATE)
    with_a_delivery(directory / "data")
    with (
        Server.start(
            directory / "data",
            "--capacity=1",
            CREWLOG_TEMPLATES=str(directory / "templates"),
            CREWLOG_GITOMA_RATE_LIMIT="1000000",
            CREWLOG_GITOMA_STATE_DIR=str(directory / "state"),
            LM_STUDIO_BASE_URL="http://127.0.0.1:9/v1",
        ) as server,
        ExitStack() as stack,
    ):
        made = World(server, stack)
        yield made
        made.leave()


# Access


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes

    @property
    def let_in(self) -> bool:
        """No 401, 403 or 404, and no error of the server."""
        return self.status not in (401, 403, 404) and self.status < 500


def ask(http: httpx2.Client, method: str, path: str, row: Row) -> Answer:
    """Send a request; a stream is not read."""
    body = None if method in SAFE_METHODS else row.body
    with http.stream(method, path, json=body, params=row.query, follow_redirects=False) as answer:
        streams = "event-stream" in answer.headers.get("content-type", "")
        return Answer(answer.status_code, b"" if streams else answer.read())


def allowed(kind: str, who: str) -> bool | int:
    """Whether a client has access to a route of a kind, or the status of the refusal.

    The worker API ignores cookies. The limits of a read-only token are not included.
    """
    if kind == PUBLIC:
        return True
    if who == "anonymous":
        return 401
    if kind == WORKER:
        return {"worker": True, "reader": 403, "writer": 403}.get(who, 401)
    if who == "worker":
        return 403
    owns = who in ("owner", "reader", "writer")
    if kind == ADMIN:
        return True if who == "admin" else 403
    if kind == OWNER:
        return True if owns or who == "admin" else 404
    if kind == OWN:
        return True if owns else 404
    if kind == PERSON:
        return True if who in ("owner", "other", "admin") else 403
    return True


@pytest.mark.parametrize("method_and_path", sorted(TABLE), ids=" ".join)
def test_a_route_lets_in_whom_it_is_for(world: World, method_and_path: tuple[str, str]) -> None:
    method, path = method_and_path
    row = TABLE[method, path]
    got: dict[str, bool | int] = {}
    expected: dict[str, bool | int] = {}
    for who in WHO:
        expected[who] = allowed(row.kind, who)
        if who == "reader" and method not in SAFE_METHODS and row.kind not in (PUBLIC, WORKER):
            expected[who] = 403
        if row.kind == PUBLIC:
            answer = ask(client_for_public(world, who, path), method, world.filled(path), row)
            got[who] = answer.status not in (401, 403)
        else:
            answer = ask(world.clients[who], method, world.filled(path), row)
            got[who] = True if answer.let_in else answer.status
            if row.kind == WORKER and expected[who] is True:
                got[who] = answer.status not in (401, 403)
    assert got == expected


def client_for_public(world: World, who: str, path: str) -> httpx2.Client:
    """Other rows need the sessions, so only the anonymous client signs out."""
    return world.clients["anonymous" if path == "/auth/logout" else who]


_IDS = (
    *("{job_id}", "{crew_id}", "{schedule_id}"),
    *("{approval_id}", "{artifact_id}", "{token_id}"),
)
OWNED = sorted(
    key for key, row in TABLE.items() if row.kind in (OWNER, EMPTY, OWN) and "{" in key[1]
)


@pytest.mark.parametrize("method_and_path", OWNED, ids=" ".join)
def test_what_is_anothers_looks_as_what_is_not_there(
    world: World, method_and_path: tuple[str, str]
) -> None:
    method, path = method_and_path
    row = TABLE[method, path]
    nowhere = path
    for parameter in _IDS:
        nowhere = nowhere.replace(parameter, "01a20000-0000-7000-8000-000000000000")
    nowhere = nowhere.replace("{position}", "999999999")
    others = ask(world.clients["other"], method, world.filled(path), row)
    missing = ask(world.clients["other"], method, nowhere, row)
    assert (others.status, others.body) == (missing.status, missing.body)
    assert others.status == (200 if row.kind == EMPTY else 404)


def test_lists_show_what_is_ones_own_and_an_administrator_everything(world: World) -> None:
    job = world.job()

    def listed(who: str, **query: Any) -> bool:
        page = world.clients[who].get("/api/jobs", params={"limit": 100, **query}).json()
        return job in [one["id"] for one in page["jobs" if query else "items"]]

    seen = {who: listed(who) for who in ("owner", "reader", "other", "admin")}
    assert seen == {"owner": True, "reader": True, "other": False, "admin": True}
    assert not listed("admin", mine="true")
    assert listed("owner", mine="true")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/crewlog/v1/jobs", "cursor"),
        ("/crewlog/v1/crews", "cursor"),
        ("/crewlog/v1/approvals", "cursor"),
        ("/api/v1/jobs", "before"),
        ("/api/jobs?status=done", "cursor"),
        ("/api/jobs?state=queued", "cursor"),
        ("/api/approvals", "cursor"),
    ],
)
def test_a_cursor_that_is_anothers_looks_as_one_that_names_nothing(
    world: World, path: str, name: str
) -> None:
    its = world.approval_id if "approvals" in path else world.running
    its = world.crew_id if "crews" in path else its
    with_its, with_none = (
        world.clients["other"].get(path + ("&" if "?" in path else "?") + f"{name}={cursor}")
        for cursor in (its, "01a20000-0000-7000-8000-000000000000")
    )
    assert (with_its.status_code, with_its.json()) == (with_none.status_code, with_none.json())
    for who in ("owner", "admin"):
        asked = f"{path}{'&' if '?' in path else '?'}{name}={its}"
        assert world.clients[who].get(asked).status_code == 200


# Sockets


def handshake(server: Server, path: str, **headers: str) -> int:
    """The status that answers an attempt to open a WebSocket (RFC 6455 section 4.1)."""
    at = urlsplit(server.url)
    sent = {
        "Host": at.netloc,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        **headers,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    with socket.create_connection((at.hostname, at.port), 10) as line:
        line.sendall(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
        first = line.makefile("rb").readline()
    return int(first.split()[1])


@pytest.mark.parametrize("path", sorted(SOCKETS))
def test_a_socket_opens_for_the_operator_and_for_nobody_else(world: World, path: str) -> None:
    def status(who: str) -> int:
        headers = dict(world.clients[who].headers)
        authorization = headers.get("authorization", "")
        return handshake(world.server, path, Authorization=authorization)

    assert handshake(world.server, path, **world.server.headers) == 101
    assert {who: status(who) for who in WHO} == dict.fromkeys(WHO, 403)


@pytest.mark.parametrize("path", sorted(SOCKETS))
def test_a_socket_opens_for_an_administrator_at_a_page_of_this_server(
    world: World, path: str
) -> None:
    def status(who: str, origin: str) -> int:
        jar = world.clients[who].cookies
        cookie = "; ".join(f"{name}={value}" for name, value in jar.items())
        return handshake(world.server, path, Cookie=cookie, Origin=origin)

    assert status("admin", world.server.url) == 101
    assert status("admin", "http://localhost:9") == 403
    assert status("other", world.server.url) == 403


@pytest.mark.parametrize(
    ("path_of_it", "prefix"),
    [
        *((f"/openapi/{name}.json", "") for name in DIALECTS),
        ("/crewlog/v1/openapi.json", "/crewlog/v1"),
    ],
)
def test_the_document_says_which_routes_need_a_token(
    world: World, path_of_it: str, prefix: str
) -> None:
    document = json.loads(world.clients["anonymous"].get(path_of_it).content)
    kinds = {(m, path.replace(":path}", "}")): row.kind for (m, path), row in TABLE.items()}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            kind = kinds[method.upper(), prefix + path]
            assert ("security" in operation) == (kind not in (PUBLIC, PERSON)), (method, path)


def test_what_could_not_be_delivered_is_shown_and_sent_again(world: World) -> None:
    http, path = world.clients["admin"], "/crewlog/v1/deliveries"

    def failed() -> dict[str, Any] | None:
        shown: dict[str, Any] = http.get(f"{path}/{DELIVERY}").json()
        return shown if shown["state"] == "failed" else None

    before = until(failed, "that it is given up")
    assert before["reason"] == "There is no webhook called 'gone'."
    assert (before["channel"], before["receiver"], before["tries"]) == ("webhook", "gone", 1)
    answer = http.post(f"{path}/{DELIVERY}/retry")
    assert answer.status_code == 200
    assert int(answer.headers["x-event-position"]) > before["position"]
    assert until(failed, "that it is given up again")["updatedAt"] > before["updatedAt"]
    listed = http.get(path, params={"state": "failed"}).json()
    assert [item["id"] for item in listed["items"]] == [DELIVERY]
    assert listed["cursor"] is None
    assert http.get(path, params={"state": "delivered"}).json()["items"] == []
    assert http.post(f"{path}/none/retry").status_code == 404
