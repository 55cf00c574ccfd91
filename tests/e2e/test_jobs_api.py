"""``/api/jobs`` and its figures: the promises of each request, tested on a running server."""

import asyncio
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from domain.clock import elapsed_ms
from tests.e2e.gitoma import cancel, dispatch, ended, following, status
from tests.kit.client import Native
from tests.kit.server import Server
from tests.kit.waiting import until

Json = dict[str, Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server.start(
        tmp_path_factory.mktemp("jobs") / "data", "--stop-jobs", "--log-level=warning"
    ) as started:
        yield started


@pytest.fixture(scope="module")
def holding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that starts nothing: its jobs stay queued."""
    with Server.start(
        tmp_path_factory.mktemp("holding") / "data", "--capacity=0", "--log-level=warning"
    ) as started:
        yield started


@pytest.fixture
def held(holding: Server) -> Iterator[Native]:
    with Native(holding) as client:
        yield client


def job(http: Native, job_id: str) -> Json:
    answer = http.get(f"/api/jobs/{job_id}")
    assert answer.status_code == 200, answer.text
    shown: Json = answer.json()
    return shown


def types_of(http: Native, job_id: str) -> list[str]:
    return [event["type"] for event in http.events(job_id)]


def list_all(http: Native, **asked: Any) -> list[str]:
    """Every id of a list, page by page."""
    found: list[str] = []
    while True:
        page = http.get("/api/jobs", params=asked).json()
        found += [item["id"] for item in page["items"]]
        assert page["hasMore"] is (page["cursor"] is not None)
        if not page["hasMore"]:
            return found
        asked["cursor"] = page["cursor"]


# Create and read


def test_a_new_job_is_told_whole(held: Native, tmp_path: Path) -> None:
    answer = held.post(
        "/api/jobs",
        json={
            "kind": "command",
            "argv": ["make", "a b"],
            "cwd": str(tmp_path),
            "env": {"B": "2", "A": "1"},
            "timeout_s": 1.5,
            "title": "Build it",
            "labels": ["build", "nightly"],
            "of_no_meaning": 1,
        },
        headers={"x-request-id": "request-of-the-test"},
    )

    assert answer.status_code == 201
    shown = answer.json()
    assert answer.headers["location"] == f"/api/jobs/{shown['id']}"
    expected = {
        "state": "queued",
        "outcome": None,
        "title": "Build it",
        "prompt": "make 'a b'",
        "kind": "command",
        "label": "build",
        "labels": ["build", "nightly"],
        "owner": "operator",
        "argv": ["make", "a b"],
        "cwd": str(tmp_path),
        "env": ["A", "B"],
        "timeoutS": 1.5,
        "attempt": 0,
        "startedAt": None,
        "completedAt": None,
        "exitCode": None,
        "lines": 0,
        "requestId": "request-of-the-test",
    }
    assert {name: shown[name] for name in expected} == expected
    assert shown["createdAt"].endswith("Z")
    read = held.get(answer.headers["location"]).json()
    assert {name: read[name] for name in shown} == shown
    assert {name: read[name] for name in shown} == shown


def test_both_spellings_of_a_field_mean_the_same(held: Native) -> None:
    for name in ("timeoutS", "timeout_s"):
        answer = held.post("/api/jobs", json={"argv": ["true"], name: 7})
        assert answer.json()["timeoutS"] == 7


def test_what_is_not_said_has_a_default(held: Native) -> None:
    shown = held.post("/api/jobs", json={"argv": ["printf", "%s", "a b"]}).json()

    assert (shown["kind"], shown["label"], shown["labels"]) == ("command", "command", [])
    assert (shown["title"], shown["timeoutS"], shown["env"]) == ("printf %s 'a b'", 86_400, [])


# Mutations


def test_every_mutation_tells_its_position_and_version(http: Native) -> None:
    """Position: of the mutation's newest event. ETag: the version of the job's stream."""

    def newest(job_id: str) -> Json:
        return [e for e in http.events(job_id) if e["stream"] == f"job-{job_id}"][-1]

    def check(answer: httpx2.Response, event: Json) -> None:
        assert answer.headers["x-event-position"] == str(event["position"])
        assert answer.headers["etag"] == f'"{event["version"]}"'

    created = http.post("/api/jobs", json={"argv": ["sleep", "300"]})
    job_id = created.json()["id"]
    check(created, http.events(job_id)[1])
    http.running(job_id)
    path = f"/api/jobs/{job_id}"
    asked = http.post(f"{path}/cancel")
    (request,) = http.events(job_id, "job.cancel_requested")
    check(asked, request)
    http.ended(job_id)
    check(http.post(f"{path}/archive"), newest(job_id))
    assert newest(job_id)["type"] == "job.archived"
    shown = http.get(path)
    assert shown.headers["etag"] == f'"{newest(job_id)["version"]}"'
    assert shown.json()["version"] == newest(job_id)["version"]
    deleted = http.delete(path)
    assert deleted.json() == {"ok": True}
    assert newest(job_id)["type"] == "job.deleted"
    assert deleted.headers["x-event-position"] == str(newest(job_id)["position"])
    dispatched = http.post("/api/v1/analyze", json={"repo_url": "https://github.com/crew/log"})
    theirs = http.events(dispatched.json()["job_id"])
    assert dispatched.headers["x-event-position"] == str(theirs[1]["position"])


def test_a_cancel_with_if_match_is_for_that_version_only(held: Native) -> None:
    created = held.post("/api/jobs", json={"argv": ["true"]})
    path = f"/api/jobs/{created.json()['id']}/cancel"

    for stale in ('"1"', '"3"', 'W/"1"'):
        refused = held.post(path, headers={"If-Match": stale})
        assert refused.status_code == 412
        assert "version 2" in refused.json()["detail"]
    done = held.post(path, headers={"If-Match": created.headers["etag"]})
    assert (done.status_code, done.json()["outcome"]) == (200, "cancelled")
    other = held.submit("true")
    assert held.post(f"/api/jobs/{other}/cancel", headers={"If-Match": "*"}).status_code == 200


def test_of_two_that_act_on_the_same_version_one_wins(held: Native) -> None:
    created = held.post("/api/jobs", json={"argv": ["true"]})
    path = f"/api/jobs/{created.json()['id']}/cancel"
    headers = {"If-Match": created.headers["etag"]}

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(held.post, path, headers=headers) for _ in range(8)]
        statuses = Counter(answer.result().status_code for answer in answers)
    assert statuses == {200: 1, 412: 7}


# Idempotency


def test_twenty_identical_requests_at_once_make_one_job(holding: Server) -> None:
    async def all_at_once() -> list[httpx2.Response]:
        async with httpx2.AsyncClient(
            base_url=holding.url, headers=holding.headers, trust_env=False, timeout=30
        ) as http:
            body, key = {"argv": ["true"], "env": {"A": "1"}}, {"Idempotency-Key": "twenty"}
            return await asyncio.gather(
                *(http.post("/api/jobs", json=body, headers=key) for _ in range(20))
            )

    with Native(holding) as http:
        before = len(list_all(http))
        answers = asyncio.run(all_at_once())
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.content for answer in answers}) == 1
        assert len({answer.headers["x-event-position"] for answer in answers}) == 1
        replayed = Counter(answer.headers.get("idempotency-replayed") for answer in answers)
        assert replayed == {None: 1, "true": 19}
        assert len(list_all(http)) == before + 1
    sealed = [path.stem for path in (holding.data / "sealed").iterdir()]
    assert answers[0].json()["id"] in sealed
    with Native(holding) as http:
        assert set(sealed) <= set(list_all(http)), "A private file without a job is left."


def test_the_same_key_gives_the_same_answer_after_a_restart(holding: Server) -> None:
    body, key = {"argv": ["echo", "once"]}, {"Idempotency-Key": "over the restart"}
    with Native(holding) as http:
        first = http.post("/api/jobs", json=body, headers=key)
    holding.kill()
    holding.restart()
    with Native(holding) as http:
        http.cancel(first.json()["id"])
        again = http.post("/api/jobs", json=body, headers=key)
        assert (again.status_code, again.content) == (201, first.content)
        for name in ("etag", "x-event-position", "location"):
            assert again.headers[name] == first.headers[name]
        other = http.post("/api/jobs", json={"argv": ["echo", "twice"]}, headers=key)
        assert other.status_code == 422
        assert set(other.json()) == {"detail", "error_id"}


# Lists


def test_lists_select_by_state_in_both_spellings(http: Native) -> None:
    good, bad = http.submit("true"), http.submit("false")
    late, stopped = http.shell("sleep 300", timeout_s=0.1), http.shell("sleep 300")
    http.cancel(stopped)
    for job_id in (good, bad, late, stopped):
        http.ended(job_id)
    going = http.shell("sleep 300")
    http.running(going)
    mine = {good, bad, late, stopped, going}

    for spelling, selected in {
        "completed": {good},
        "failed": {bad, late},
        "timed_out": {late},
        "cancelled": {stopped},
        "canceled": {stopped},
        "running": {going},
        "completed, canceled": {good, stopped},
        "queued": set[str](),
        "completed,of_no_meaning": {good},
        "": mine,
    }.items():
        assert set(list_all(http, state=spelling)) & mine == selected, spelling
    assert http.get("/api/jobs", params={"state": "of_no_meaning"}).status_code == 422
    http.cancel(going)
    http.ended(going)


def test_lists_select_by_label_and_by_archive(http: Native) -> None:
    first = http.submit("true", labels=["by-label", 'odd "%_\\'])
    second = http.submit("true", labels=["other", "by-label"])
    third = http.submit("true", labels=["by-label-too"])
    for job_id in (first, second, third):
        http.ended(job_id)

    assert list_all(http, label="by-label") == [second, first]
    assert list_all(http, label='odd "%_\\') == [first]
    assert list_all(http, label="%") == []
    assert http.post(f"/api/jobs/{first}/archive").status_code == 204
    assert http.get(f"/api/jobs/{first}").json()["archivedAt"] is not None
    assert list_all(http, label="by-label", archived=True) == [first]
    assert list_all(http, label="by-label", archived=False) == [second]
    assert list_all(http, label="by-label") == [second, first]
    again = http.post(f"/api/jobs/{first}/archive")
    assert again.status_code == 204
    assert types_of(http, first).count("job.archived") == 1


def test_clients_of_the_board_find_their_list_and_know_no_pages(held: Native) -> None:
    """``jobs``, without parameters or with the board's; CodePlane's page with CodePlane's."""
    made = [held.submit("true", title=str(number)) for number in range(120)][::-1]
    bare = held.get("/api/jobs").json()
    assert [job["id"] for job in bare["jobs"]][:120] == made
    assert [item["id"] for item in bare["items"]] == made[:50]
    assert bare["hasMore"] is True
    for theirs in ("status=ready", "mine=true"):
        page = held.get(f"/api/jobs?{theirs}").json()
        assert [item["id"] for item in page["jobs"]][:120] == made
        assert len(held.get(f"/api/jobs?{theirs}&limit=7").json()["jobs"]) == 7
    for codeplane in ("limit=20", "state=queued", "archived=false"):
        assert "jobs" not in held.get(f"/api/jobs?{codeplane}").json()
    assert len(held.get("/api/jobs?state=queued").json()["items"]) == 50


def test_one_job_shows_the_newest_of_what_happened_and_says_that_there_is_more(
    held: Native,
) -> None:
    job_id = held.submit("true")
    few = held.get(f"/api/jobs/{job_id}").json()
    assert few["earlierEvents"] is False
    for number in range(501):
        held.post(f"/api/jobs/{job_id}/comments", json={"body": f"n{number}"})
    many = held.get(f"/api/jobs/{job_id}").json()
    assert many["earlierEvents"] is True
    assert len(many["events"]) == 500
    whole = held.get(f"/crewlog/v1/jobs/{job_id}/timeline?limit=1000").json()["items"]
    assert [event["id"] for event in many["events"]] == [
        entry["position"] for entry in whole[-500:]
    ]


def test_pages_neither_repeat_nor_skip_while_jobs_come_in(held: Native) -> None:
    before = [held.submit("true", labels=["paged"]) for _ in range(23)]
    for size in (1, 4, 23, 100):
        seen: list[str] = []
        asked: dict[str, Any] = {"label": "paged", "limit": size}
        present = list_all(held, label="paged")
        while True:
            page = held.get("/api/jobs", params=asked).json()
            assert len(page["items"]) <= size
            seen += [item["id"] for item in page["items"]]
            held.submit("true", labels=["paged"])
            if not page["hasMore"]:
                assert page["cursor"] is None
                break
            asked["cursor"] = page["cursor"]
        assert seen == present
        assert seen[-len(before) :] == before[::-1]


def test_a_page_goes_on_after_a_job_that_was_deleted(held: Native) -> None:
    known = [held.submit("true", labels=["vanishing"]) for _ in range(5)]
    page = held.get("/api/jobs", params={"label": "vanishing", "limit": 2}).json()
    assert page["cursor"] == known[3]
    held.cancel(known[3])
    assert held.delete(f"/api/jobs/{known[3]}").status_code == 200

    rest = list_all(held, label="vanishing", cursor=page["cursor"])
    assert rest == known[2::-1]


# Cancel and delete


def test_a_queued_job_is_cancelled_at_once(held: Native) -> None:
    job_id = held.submit("true")

    answer = held.post(f"/api/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (200, "canceled")
    shown = job(held, job_id)
    assert (shown["outcome"], shown["attempt"]) == ("cancelled", 0)
    assert shown["completedAt"] == shown["cancelRequestedAt"]
    assert types_of(held, job_id)[2:] == ["job.cancel_requested", "job.finished"]
    refused = held.post(f"/api/jobs/{job_id}/cancel")
    assert (refused.status_code, refused.json()) == (409, {"detail": "Job is already cancelled"})


def test_a_cancel_says_who_and_a_second_only_acknowledges(http: Native) -> None:
    job_id = http.shell("trap 'sleep 0.5; exit 0' TERM; echo on; while :; do sleep 0.02; done")
    until(lambda: "job.output" in types_of(http, job_id), "its first line")

    first, second = (http.post(f"/api/jobs/{job_id}/cancel") for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json()["cancelRequestedAt"] == second.json()["cancelRequestedAt"]
    assert http.ended(job_id)["state"] == "cancelled"
    types = types_of(http, job_id)
    assert (types.count("job.cancel_requested"), types.count("job.finished")) == (1, 1)
    (asked,) = http.events(job_id, "job.cancel_requested")
    assert asked["actor"] == "operator"
    assert asked["request_id"] == first.headers["x-request-id"]


def test_a_deleted_job_is_hidden_and_the_log_keeps_it(http: Native) -> None:
    job_id = http.shell("echo still here")
    http.ended(job_id)
    before = http.events(job_id)
    assert http.delete(f"/api/jobs/{job_id}").status_code == 200

    for path in (
        f"/api/jobs/{job_id}",
        f"/crewlog/v1/jobs/{job_id}/timeline",
        f"/api/v1/status/{job_id}",
        f"/api/v1/stream/{job_id}",
        f"/crewlog/v1/log/stream?subject=job-{job_id}",
    ):
        assert http.get(path).status_code == 404, path
    for method, path in (
        ("DELETE", f"/api/jobs/{job_id}"),
        ("POST", f"/api/jobs/{job_id}/archive"),
        ("POST", f"/api/jobs/{job_id}/cancel"),
        ("POST", f"/api/v1/jobs/{job_id}/cancel"),
    ):
        assert http.request(method, path).status_code == 404, path
    assert job_id not in list_all(http)
    assert job_id not in http.get("/api/v1/jobs").json()
    assert http.events(job_id)[:-1] == before
    assert types_of(http, job_id)[-1] == "job.deleted"
    assert "still here" in http.get(f"/crewlog/v1/log/export?subject=job-{job_id}").text


# Timeline and dialects


def test_the_timeline_tells_what_happened_in_order(http: Native) -> None:
    job_id = http.shell("echo on; sleep 300", title="A nap")
    until(lambda: "job.output" in types_of(http, job_id), "its first line")
    http.cancel(job_id)
    http.ended(job_id)
    http.post(f"/api/jobs/{job_id}/archive")

    told = http.items(f"/jobs/{job_id}/timeline")
    recorded = [event for event in http.events(job_id) if event["type"] != "job.output"]
    assert [(e["position"], e["at"], e["actorId"], e["type"]) for e in told] == [
        (e["position"], e["at"], e["actor"], e["type"]) for e in recorded
    ]
    assert [e["actorId"] for e in told] == [
        *("operator", "operator", "system:dispatcher"),
        *("operator", "system:dispatcher", "operator"),
    ]
    sentences = [entry["sentence"] for entry in told]
    assert sentences[:2] == ["Submitted: A nap", "Queued."]
    assert sentences[2].startswith("Attempt 1 started on ")
    assert sentences[3] == "Cancellation requested: By request."
    assert sentences[4].startswith("Cancelled after ")
    assert sentences[5] == "Archived."
    first_two = http.get(f"/crewlog/v1/jobs/{job_id}/timeline?limit=2").json()["items"]
    after = {"cursor": first_two[-1]["position"]}
    rest = http.get(f"/crewlog/v1/jobs/{job_id}/timeline", params=after).json()["items"]
    assert first_two + rest == told


def test_a_job_is_streamed_and_cancelled_through_the_other_dialect(
    http: Native,
) -> None:
    ours = http.shell("echo ours; sleep 300")
    with following(http, ours) as stream:
        assert [next(stream).line, next(stream).line][1] == "ours"
        assert cancel(http, ours).status_code == 200
        assert [frame.line for frame in stream] == ["__END__:cancelled"]
    theirs = dispatch(http, "analyze")
    ended(http, theirs)
    seen = http.get(f"/crewlog/v1/log/stream?subject=job-{theirs}").text
    assert "event: job.submitted" in seen
    assert "event: job.finished" in seen
    assert job(http, theirs)["kind"] == "gitoma"
    assert http.post(f"/api/jobs/{theirs}/cancel").status_code == 409
    assert status(http, ours)["status"] == "cancelled"
    assert job(http, ours)["outcome"] == "cancelled"


# Analytics, and reading one's own writes


def percentile(values: list[int], share: int) -> int | None:
    """By nearest rank: the smallest value that `share` percent of all do not exceed."""
    return sorted(values)[math.ceil(share * len(values) / 100) - 1] if values else None


def sums(found: list[Json]) -> Json:
    """The overview, counted again from the events of the log."""
    jobs: dict[str, Json] = {}
    for event in found:
        data, subject = event["data"], event["stream"]
        if event["type"] == "job.submitted":
            jobs[subject] = {
                "label": data["label"],
                "day": event["at"][:10],
                "outcome": "open",
                "lines": 0,
            }
        elif event["type"] == "job.queued":
            jobs[subject]["queued"] = event["at"]
        elif event["type"] == "job.started":
            jobs[subject]["wait"] = elapsed_ms(jobs[subject]["queued"], event["at"])
        elif event["type"] == "job.output":
            jobs[subject.partition("/")[0]]["lines"] += len(data["lines"])
        elif event["type"] == "job.finished":
            jobs[subject]["outcome"] = data["outcome"]
            if data["attempt"]:
                jobs[subject]["run"] = data["run_ms"]
    every = list(jobs.values())
    outcomes = Counter(job["outcome"] for job in every)
    judged = len(every) - outcomes["open"] - outcomes["cancelled"]
    waits = [job["wait"] for job in every if "wait" in job]
    runs = [job["run"] for job in every if "run" in job]
    return {
        "totalJobs": len(every),
        "byOutcome": dict(outcomes),
        "byLabel": grouped(every, "label"),
        "byDay": grouped(every, "day"),
        "successRate": round(outcomes["completed"] / judged, 4),
        "queueWaitMs": spread(waits),
        "runTimeMs": spread(runs),
        "outputLines": sum(job["lines"] for job in every),
    }


def grouped(jobs: list[Json], name: str) -> list[Json]:
    groups: defaultdict[str, list[Json]] = defaultdict(list)
    for job in jobs:
        groups[job[name]].append(job)
    return [
        {
            name: value,
            "total": len(members),
            "byOutcome": dict(Counter(job["outcome"] for job in members)),
            "outputLines": sum(job["lines"] for job in members),
        }
        for value, members in sorted(groups.items())
    ]


def spread(values: list[int]) -> Json:
    return {"p50": percentile(values, 50), "p95": percentile(values, 95), "count": len(values)}


BOARD = ("crews", "schedules", "approvals")


def test_the_overview_is_what_the_log_adds_up_to(http: Native, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    known = [
        http.shell(f"seq {number}; sleep 0.0{number}; exit {number % 3}", labels=[f"l{number % 2}"])
        for number in range(9)
    ]
    known.append(http.submit("no-such-program-here", labels=["l0"]))
    known.append(http.shell("echo x; sleep 300", timeout_s=0.1, labels=["late"]))
    stopped = http.shell("sleep 300", labels=["stopped"])
    http.cancel(stopped)
    for job_id in [*known, stopped]:
        http.ended(job_id)
    # An open job, silent so that it does not change between the two reads.
    going = http.shell(f"until [ -e {gate} ]; do sleep 0.02; done", labels=["open"])
    http.running(going)

    shown = http.get("/crewlog/v1/analytics/overview").json()
    of_jobs = {name: told for name, told in shown.items() if name not in BOARD}
    assert of_jobs == {"period": 7, **sums(http.since(0))}
    assert [shown[name]["total"] for name in ("crews", "approvals")] == [0, 0]
    assert shown["schedules"]["firings"] == 0
    assert shown["byOutcome"]["open"] == 1
    assert http.get("/crewlog/v1/analytics/overview?period=365").json() == {**shown, "period": 365}
    gate.touch()
    http.ended(going)


def test_an_overview_of_nothing_has_no_rates(tmp_path: Path) -> None:
    with Server.start(tmp_path / "data") as server, Native(server) as http:
        shown = http.get("/crewlog/v1/analytics/overview?period=1").json()
    assert shown["totalJobs"] == 0
    assert shown["successRate"] is None
    assert shown["runTimeMs"] == {"p50": None, "p95": None, "count": 0}


def test_who_wrote_reads_it_at_once_however_busy_it_is(http: Native) -> None:
    busy = [http.shell("seq 200000") for _ in range(2)]
    for number in range(200):
        created = http.post("/api/jobs", json={"argv": ["true"], "title": str(number)})
        job_id = created.json()["id"]
        seen = http.get(f"/api/jobs/{job_id}")
        assert (seen.status_code, seen.json()["title"]) == (200, str(number))
        newest = http.get("/api/jobs?limit=1").json()["items"]
        assert [item["id"] for item in newest] == [job_id]
    for job_id in busy:
        assert http.ended(job_id)["state"] == "completed"
