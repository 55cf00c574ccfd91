"""The fields of each dialect's answers beside those of its contract: each of them must be in the
table, with a reason in docs/dialects.md.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx2
import pytest

from tests.e2e.crews import Crew, commit, job, stands
from tests.kit.client import Native
from tests.kit.server import Server
from tests.kit.waiting import until

Json = dict[str, Any]


class Fields(NamedTuple):
    contract: str
    beside: str = ""
    """Fields for which docs/dialects.md gives a reason."""

    @property
    def all(self) -> set[str]:
        named, more = self.contract.split(), self.beside.split()
        assert not set(named) & set(more)
        return {*named, *more}


CODEPLANE = {
    "job": Fields(
        "id repo prompt title state baseRef worktreePath branch permissionMode createdAt updatedAt "
        "completedAt prUrl mergeStatus resolution archivedAt failureReason progressHeadline "
        "progressSummary model sdk worktreeName verify selfReview maxTurns verifyPrompt "
        "selfReviewPrompt parentJobId",
        "outcome kind label labels owner argv cwd env timeoutS attempt node queuedAt startedAt "
        "cancelRequestedAt exitCode errorId runMs lines outputBytes droppedBytes progress crewId "
        "scheduleId requestId version position blockReason gaveUp strandedBy failures "
        "pendingApprovals shortened",
    ),
    "jobs": Fields("items cursor hasMore"),
    "headline": Fields("jobId headline headlinePast summary timestamp replacesCount"),
    "approval": Fields(
        "id jobId description proposedAction requestedAt resolvedAt resolution "
        "requiresExplicitApproval",
        "state approvers expiresAt resolvedBy resolvedByName comment",
    ),
    "approvals": Fields("", "items count cursor hasMore"),
    "trust": Fields("resolved"),
    "artifact": Fields("id jobId name type mimeType sizeBytes phase createdAt"),
    "artifacts": Fields("items"),
}
"""`contracts/codeplane.md` §2 and §3."""

BOARD = {
    "job": Fields(
        "id title body status assignee parents createdBy ownerId crewId templateId scheduleId "
        "scheduledAt workspace resultSchema maxRetries attempts result blockReason costSpent "
        "costSaved createdAt startedAt completedAt updatedAt",
        "state outcome prompt repo kind label labels owner argv cwd env timeoutS attempt node "
        "queuedAt cancelRequestedAt archivedAt exitCode failureReason errorId runMs lines "
        "outputBytes droppedBytes progress progressHeadline parentJobId requestId version position "
        "key failures gaveUp strandedBy pendingApprovals shortened",
    ),
    "jobs": Fields("jobs", "cursor"),
    "detail": Fields(
        "job runs events comments parentResults", "earlierRuns earlierEvents earlierComments"
    ),
    "run": Fields(
        "id jobId outcome startedAt endedAt workerPid lastHeartbeatAt metadata error costSpent "
        "costSaved sessionName",
        "detailedOutcome leaseExpired errorId exitCode",
    ),
    "event": Fields("id jobId runId kind payload createdAt"),
    "comment": Fields("id jobId author body createdAt"),
    "parentResult": Fields("jobId title metadata completedAt"),
    "changed": Fields("job"),
    "crew": Fields("jobIds", "crewId"),
    "graph": Fields("jobs"),
    "node": Fields("id title assignee status parents"),
    "cleared": Fields("deleted", "skipped"),
    "dispatcher": Fields("running lastTickAt ageMs pid maxInProgress inProgress"),
    "templates": Fields("templates"),
    "template": Fields("id name description inputs"),
    "schedules": Fields("schedules", "cursor"),
    "scheduleAnswer": Fields("schedule"),
    "schedule": Fields(
        "id name template inputs rule timezone enabled nextRunAt lastRunAt ownerId createdAt",
        "templateId ruleText state stateReason lastOutcome lastError failuresInARow firings missed "
        "skipped catchUp overlap jitterS endsAt maxFirings updatedAt version shortened",
    ),
    "profile": Fields("id email displayName avatarUrl authProvider isAdmin createdAt"),
}
"""`contracts/board.md` §2 and §5 to §8."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("fields") / "data"
    listening = (f"--listen={name}=127.0.0.1:0" for name in ("codeplane", "board"))
    with Server.start(data, "--stop-jobs", *listening) as running:
        yield running


def alone(server: Server, dialect: str) -> httpx2.Client:
    listening = json.loads((server.data / "server.json").read_text())["listen"]
    (url,) = (one["url"] for one in listening if one["dialect"] == dialect)
    return httpx2.Client(base_url=url, headers=server.headers, trust_env=False, timeout=90)


@pytest.fixture(scope="module")
def crew(server: Server) -> Crew:
    """A completed job with a file and a comment, and a job that waits for a person."""
    with Native(server) as http:
        made = commit(
            server,
            http,
            job("first", 'echo hi > "$CREWLOG_ARTIFACTS/a.txt"'),
            job("second", "true", "first", approval="required"),
        )
        stands(http, made["first"], "done")
        until(lambda: http.get("/api/approvals").json()["items"], "it is asked")
        return made


def read(http: httpx2.Client, path: str) -> Any:
    answer = http.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_codeplane_answers_the_fields_of_its_contract(server: Server, crew: Crew) -> None:
    first, second = crew["first"], crew["second"]
    with alone(server, "codeplane") as http:
        listed, files, inbox = (
            read(http, path)
            for path in ("/api/jobs", f"/api/jobs/{first}/artifacts", "/api/approvals")
        )
        (asked,) = read(http, f"/api/jobs/{second}/approvals")
        found = {
            "job": [
                read(http, f"/api/jobs/{first}"),
                *listed["items"],
                http.post("/api/jobs", json={"argv": ["true"]}).json(),
            ],
            "jobs": [listed],
            "headline": read(http, f"/api/jobs/{first}/timeline"),
            "approval": [asked, *inbox["items"], read(http, f"/api/approvals/{asked['id']}")],
            "approvals": [inbox],
            "trust": [http.post("/api/jobs/none/approvals/trust").json()],
            "artifact": files["items"],
            "artifacts": [files],
        }
    compare(found, CODEPLANE)


def test_the_board_answers_the_fields_of_its_contract(server: Server, crew: Crew) -> None:
    first, second = crew["first"], crew["second"]
    with alone(server, "board") as http:
        commented = http.post(f"/api/jobs/{first}/comments", json={"body": "Well."}).json()
        detail, waiting = (read(http, f"/api/jobs/{one}") for one in (first, second))
        listed, templates = read(http, "/api/jobs"), read(http, "/api/templates")
        graph = read(http, f"/api/jobs/{first}/graph")
        made = http.post(
            "/api/schedules",
            json={
                "templateId": "gitoma-crew",
                "name": "n",
                "rule": {"cron": "0 0 1 1 *"},
                "inputs": {"repo_url": "https://github.com/crew/log", "branch": "main"},
            },
        ).json()
        path = f"/api/schedules/{made['schedule']['id']}"
        schedules, spawned = read(http, "/api/schedules"), read(http, f"{path}/jobs")
        again = http.post(f"/api/jobs/{first}/redo", json={"feedback": "Anew."}).json()
        found = {
            "job": [detail["job"], waiting["job"], again["job"], *listed["jobs"]],
            "jobs": [listed, spawned],
            "detail": [detail, waiting],
            "run": detail["runs"],
            "event": detail["events"],
            "comment": [commented["comment"], *detail["comments"]],
            "parentResult": waiting["parentResults"],
            "changed": [again],
            "crew": [crew.answer.json()],
            "graph": [graph],
            "node": graph["jobs"],
            "cleared": [http.post("/api/jobs/clear", json={"status": "archived"}).json()],
            "dispatcher": [read(http, "/api/dispatcher/status")],
            "templates": [templates],
            "template": templates["templates"],
            "schedules": [schedules],
            "scheduleAnswer": [made, read(http, path)],
            "schedule": [made["schedule"], *schedules["schedules"]],
            "profile": [http.post("/auth/token", json={"token": server.token}).json()],
        }
    compare(found, BOARD)


def test_at_the_main_address_a_job_has_the_fields_of_both_and_no_other(
    server: Server, crew: Crew
) -> None:
    with Native(server) as http:
        both = read(http, f"/api/jobs/{crew['first']}")
        listed = read(http, "/api/jobs")
    fields = CODEPLANE["job"].all | BOARD["job"].all
    assert both.keys() == fields | BOARD["detail"].all
    assert listed.keys() == CODEPLANE["jobs"].all | BOARD["jobs"].all
    assert {frozenset(one) for one in listed["items"]} == {frozenset(CODEPLANE["job"].all)}
    assert {frozenset(one) for one in listed["jobs"]} == {frozenset(BOARD["job"].all)}


def compare(found: dict[str, list[Json]], table: dict[str, Fields]) -> None:
    assert found.keys() == table.keys()
    for name, objects in found.items():
        assert objects, name
        for one in objects:
            assert one.keys() == table[name].all, name
