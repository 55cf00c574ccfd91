"""The figures of the board and of the analytics: the server's, and those counted from the log."""

import math
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from domain.clock import elapsed_ms
from tests.e2e.crews import (
    Json,
    all_done,
    commit,
    job,
    only_after,
    pending,
    resolve,
    stands,
    write_template,
)
from tests.e2e.people import add_user, client, issue_token
from tests.kit.client import Native
from tests.kit.server import Server
from tests.kit.waiting import until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with crews, firings and answers of every kind."""
    data = tmp_path_factory.mktemp("figures") / "data"
    with Server.start(data, "--capacity=6", "--stop-jobs") as running:
        with Native(running) as http:
            _crews_and_approvals(running, http)
            _schedules(running, http)
        yield running


def _crews_and_approvals(server: Server, http: Native) -> None:
    never = server.data / "never"
    done = commit(server, http, job("a"), job("b", "true", "a"))
    blocked = commit(server, http, job("a", only_after(never), maxRetries=0))
    answers = [commit(server, http, job("a", approval="required")) for _ in range(4)]
    for crew, resolution in zip(answers, ("approved", "rejected", "approved", ""), strict=True):
        asked = pending(http, crew["a"])
        if resolution:
            resolve(http, asked["id"], resolution)
    trusted = commit(server, http, job("a", 'crewlog worker ask "?"', approval="required"))
    pending(http, trusted["a"])
    http.post(f"/api/jobs/{trusted['a']}/trust")
    for crew in (done, answers[0], answers[2], trusted):
        all_done(http, crew)
    stands(http, blocked["a"], "blocked")


def _schedules(server: Server, http: Native) -> None:
    write_template(server.data, "quick", job("a"))
    gone = write_template(server.data, "gone", job("a"))
    waits = write_template(server.data, "waits", job("a", approval="required"))
    made = {}
    for name, terms in {
        "spawned": {"templateId": "quick"},
        "failed": {"templateId": "gone"},
        "skipped": {"templateId": "waits", "overlap": "skip"},
    }.items():
        body = {"name": name, "rule": {"once": _soon()}, **terms}
        answer = http.post("/api/schedules", json=body)
        assert answer.status_code == 201, answer.text
        made[name] = answer.json()["schedule"]["id"]
    assert http.post(f"/api/schedules/{made['skipped']}/run-now").is_success
    gone.unlink()
    until(lambda: len(http.since(0, "schedule.fired")) == 4, "all have fired")
    until(lambda: len(_outcomes(http)) == 4, "each has its outcome")
    assert waits.exists()
    http.post(
        "/api/schedules",
        json={"name": "later", "templateId": "quick", "rule": {"cadence": "daily"}},
    )


def _soon() -> str:
    return (datetime.now(UTC) + timedelta(seconds=2)).isoformat()


def _outcomes(http: Native) -> list[Json]:
    return http.since(0, "schedule.spawned", "schedule.failed", "schedule.skipped")


def percentile(values: list[int], share: int) -> int | None:
    """By nearest rank: the smallest value that `share` percent of all do not exceed."""
    return sorted(values)[math.ceil(share * len(values) / 100) - 1] if values else None


def answer_times(log: list[Json]) -> list[int]:
    """How long people took to answer, in milliseconds; trust answers by itself."""
    asked = {e["stream"]: e["at"] for e in log if e["type"] == "approval.requested"}
    return [
        elapsed_ms(asked[event["stream"]], event["at"])
        for event in log
        if event["type"] == "approval.resolved" and not event["data"]["by_trust"]
    ]


def overview(http: Native, **query: Any) -> Json:
    answer = http.get("/crewlog/v1/analytics/overview", params=query)
    assert answer.status_code == 200, answer.text
    told: Json = answer.json()
    return told


def test_crews_are_counted_by_state_and_by_template(http: Native) -> None:
    committed = http.since(0, "crew.committed")
    crews = [http.crew(event["stream"][5:]) for event in committed]
    told = overview(http)["crews"]
    assert told["total"] == len(committed) == 9
    assert told["byTemplate"] == dict(Counter(event["data"]["template"] for event in committed))
    assert told["byState"] == dict(Counter(crew["state"] for crew in crews))
    assert {"completed", "blocked"} < set(told["byState"])


def test_a_job_that_gave_up_has_failed_until_it_goes_on(tmp_path: Path) -> None:
    with Server.start(tmp_path / "data", "--stop-jobs") as own, Native(own) as http:
        made = commit(own, http, job("a", "exit 3", maxRetries=0), job("b"))
        stands(http, made["a"], "blocked")
        stands(http, made["b"], "done")
        told = overview(http)
        assert told["byOutcome"] == {"failed": 1, "completed": 1}
        assert told["successRate"] == 0.5
        rejected = commit(own, http, job("c", approval="required"))
        resolve(http, pending(http, rejected["c"])["id"], "rejected")
        stands(http, rejected["c"], "blocked")
        told = overview(http)
        assert told["byOutcome"] == {"failed": 1, "completed": 1, "blocked": 1}
        assert told["successRate"] == 0.5
        assert http.post(f"/api/jobs/{rejected['c']}/unblock").is_success
        pending(http, rejected["c"])
        assert overview(http)["byOutcome"] == {"failed": 1, "completed": 1, "open": 1}


def test_approvals_are_counted_and_waits_ranked(http: Native) -> None:
    log = http.since(0)
    told = overview(http)["approvals"]
    states = Counter(
        event["data"]["resolution"] for event in log if event["type"] == "approval.resolved"
    )
    asked = sum(event["type"] == "approval.requested" for event in log)
    pending_now = asked - states.total()
    assert told["byState"] == {**states, "pending": pending_now}
    assert (told["total"], told["pending"]) == (asked, pending_now)
    waits = answer_times(log)
    assert len(waits) == 3
    assert told["waitMs"] == {
        "count": 3,
        "p50": percentile(waits, 50),
        "p95": percentile(waits, 95),
    }


def test_firings_are_counted_by_what_came_of_them_and_lateness_ranked(http: Native) -> None:
    told = overview(http)["schedules"]
    assert (told["firings"], told["spawned"], told["failed"], told["skipped"]) == (4, 2, 1, 1)
    assert (told["missed"], told["caughtUp"]) == (0, 0)
    by_rule = [e for e in http.since(0, "schedule.fired") if not e["data"]["manual"]]
    late = [event["data"]["late_ms"] for event in by_rule]
    assert told["latenessMs"] == {
        "count": 3,
        "p50": percentile(late, 50),
        "p99": percentile(late, 99),
    }


def test_what_others_own_is_not_counted(server: Server) -> None:
    user = add_user(server, "eve@figures.org")
    with client(server, issue_token(server, user["id"], "read")) as hers:
        told = overview(hers)
    assert [told[name]["total"] for name in ("crews", "approvals")] == [0, 0]
    assert told["schedules"]["firings"] == 0
    assert told["approvals"]["waitMs"]["count"] == 0


def test_the_board_shows_the_wait_for_answers_and_the_next_firing(http: Native) -> None:
    board = http.get("/crewlog/v1/board").json()
    waits = answer_times(http.since(0))
    assert board["approvals"]["medianWaitMs"] == percentile(waits, 50)
    assert board["approvals"]["pending"] == overview(http)["approvals"]["pending"]
    listed = http.get("/api/schedules").json()["schedules"]
    by_id = {one["id"]: one["nextRunAt"] for one in listed}
    assert {one["id"]: one["nextRunAt"] for one in board["schedules"]} == {
        id: at for id, at in by_id.items() if at is not None
    }
    assert sum(at is not None for at in by_id.values()) == 1
    counts = {column["name"]: column["count"] for column in board["columns"]}
    for status, count in counts.items():
        shown = http.get("/api/jobs", params={"status": status}).json()["jobs"]
        assert len(shown) == count, status
