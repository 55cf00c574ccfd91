"""The contract of CodePlane's clients (`contracts/codeplane.md`), and the one address that the job
board publishes too.
"""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from api.dialects.codeplane.job_json import ABSENT
from tests.e2e.crews import commit, job
from tests.kit.client import Native
from tests.kit.server import Server

JOB = {
    *("id", "repo", "prompt", "title", "state", "baseRef", "worktreePath", "branch"),
    *("permissionMode", "createdAt", "updatedAt", "completedAt", "prUrl", "mergeStatus"),
    *("resolution", "archivedAt", "failureReason", "progressHeadline", "progressSummary"),
    *("model", "sdk", "worktreeName", "verify", "selfReview", "maxTurns", "verifyPrompt"),
    *("selfReviewPrompt", "parentJobId"),
}
"""Fields of the job object; every answer has all of them (§2)."""

DETAIL = {"job", "runs", "events", "comments", "parentResults"}
"""Fields of the board's job detail (`contracts/board.md` §5.3)."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("codeplane") / "data"
    with Server.start(data, "--listen=codeplane=127.0.0.1:0") as running:
        yield running


@pytest.fixture(scope="module")
def done(server: Server) -> str:
    with Native(server) as http:
        job_id = http.submit("true", title="Say yes")
        http.ended(job_id)
    return job_id


def read(http: Native, path: str) -> Any:
    answer = http.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_every_job_object_has_every_field(http: Native, done: str) -> None:
    made = http.post("/api/jobs", json={"argv": ["true"]}).json()
    shown = read(http, f"/api/jobs/{done}")
    listed = read(http, "/api/jobs?limit=1")["items"][0]

    for one in (made, shown, listed):
        assert one.keys() >= JOB
        assert [one[name] for name in ABSENT] == [None] * len(ABSENT)
        assert all(isinstance(one[name], str) for name in ("repo", "prompt", "sdk"))
    assert made.keys() == listed.keys()


def test_a_page_is_items_cursor_and_more_and_an_unknown_cursor_is_an_empty_one(
    http: Native, done: str
) -> None:
    assert read(http, "/api/jobs?limit=1").keys() == {"items", "cursor", "hasMore"}
    empty: dict[str, Any] = {"items": [], "cursor": None, "hasMore": False}
    assert read(http, f"/api/jobs?cursor={done}x") == empty


def test_archive_is_204_also_again(http: Native) -> None:
    job_id = http.submit("true")
    http.ended(job_id)

    for _ in range(2):
        answer = http.post(f"/api/jobs/{job_id}/archive")
        assert (answer.status_code, answer.content) == (204, b"")
    assert read(http, f"/api/jobs/{job_id}")["archivedAt"] is not None


def test_the_timeline_is_headlines(http: Native, done: str) -> None:
    told = read(http, f"/api/jobs/{done}/timeline")

    assert [one["headline"] for one in told][:2] == ["Submitted: Say yes", "Queued."]
    for one in told:
        assert one.keys() == {
            *("jobId", "headline", "headlinePast", "summary", "timestamp", "replacesCount")
        }
        assert (one["jobId"], one["replacesCount"]) == (done, 0)
    assert len(read(http, f"/api/jobs/{done}/timeline?limit=1")) == 1


def test_at_the_main_address_one_object_is_what_codeplane_and_the_board_publish(
    server: Server, http: Native, done: str
) -> None:
    both = read(http, f"/api/jobs/{done}")
    assert both.keys() >= JOB | DETAIL
    assert both["job"]["id"] == both["id"] == done
    everything = read(http, "/api/jobs")
    assert everything.keys() >= {"items", "cursor", "hasMore", "jobs"}
    missing = http.get("/api/jobs/nothing")
    assert missing.status_code == 404
    with httpx2.Client(headers={}, base_url=server.url, trust_env=False) as nobody:
        for path in (f"/api/jobs/{done}", "/api/jobs"):
            assert nobody.get(path).status_code == 401


def test_a_body_that_names_a_template_is_the_boards(server: Server, http: Native) -> None:
    crew = commit(server, http, job("one"))
    assert crew.answer.json() == {"jobIds": [crew["one"]], "crewId": crew.id}
    refused = http.post("/api/jobs", json={"templateId": "not-there"})
    assert refused.status_code == 404
    assert refused.json().keys() == {"error", "detail"}
    malformed = http.post("/api/jobs", json={"argv": []})
    assert malformed.status_code == 422
    assert malformed.json().keys() == {"detail", "error_id"}
