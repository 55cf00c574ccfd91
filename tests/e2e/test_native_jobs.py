"""``/crewlog/v1/jobs``: crewlog's own states and outcomes, and the commands on a job."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.people import add_user, sign_in
from tests.kit.client import ROOT, Json, Native
from tests.kit.server import Server
from tests.kit.waiting import until

JOBS = f"{ROOT}/jobs"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("native-jobs") / "data"
    with Server.start(data, "--stop-jobs", "--log-level=warning") as started:
        yield started


def listed(http: Native, **query: Any) -> list[str]:
    answer = http.get(JOBS, params=query)
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


def test_a_job_has_true_states_and_outcomes_and_no_field_of_a_dialect(http: Native) -> None:
    slow = http.submit("sleep", "60", timeoutS=0.2, title="Slow")
    assert http.job(slow)["kind"] == "command"
    late = http.ended(slow)
    assert (late["state"], late["outcome"], late["gaveUp"]) == ("timed_out", "timed_out", False)
    assert late["reason"]

    job = http.submit("sleep", "60")
    cancelled = http.post(f"{JOBS}/{job}/cancel")
    assert cancelled.status_code == 200
    assert int(cancelled.headers["x-event-position"]) > cancelled.json()["position"]
    assert http.ended(job)["state"] == "cancelled"
    foreign = {"status", "prompt", "repo", "templateId", "failureReason", "completedAt", "body2"}
    assert not foreign & late.keys()


def test_a_list_carries_the_short_form_or_the_fields_asked_for(http: Native) -> None:
    job = http.submit("echo", "x" * 5_000, title="Long")
    short = http.get(JOBS, params={"text": "Long"}).json()["items"][0]
    assert short["id"] == job
    assert not {"argv", "result", "body", "envNames"} & short.keys()

    chosen = http.get(JOBS, params={"text": "Long", "fields": "title,argv"}).json()["items"][0]
    assert list(chosen) == ["id", "title", "argv", "shortened"]
    assert chosen["shortened"] == ["argv"]
    assert http.job(job)["argv"] == ["echo", "x" * 5_000]

    refused = http.get(JOBS, params={"fields": "title,prompt"})
    assert refused.status_code == 400
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["errors"][0]["path"] == "fields"


def test_pages_go_on_where_the_last_one_ended(http: Native) -> None:
    made = [http.submit("true", labels=["paged"]) for _ in range(5)]
    pages = list(http.pages("/jobs", label="paged", limit=2))
    assert [len(page["items"]) for page in pages] == [2, 2, 1]
    assert all(page.keys() == {"items", "cursor"} for page in pages)
    assert [item["id"] for page in pages for item in page["items"]] == made[::-1]


def test_filters_select_by_state_outcome_text_kind_owner_and_time(http: Native) -> None:
    good = http.submit("sh", "-c", ": needle; exit 0", labels=["sieve"])
    bad = http.submit("false", title="Needle in it", labels=["sieve"])
    first, last = http.ended(good), http.ended(bad)

    assert listed(http, label="sieve", outcome="completed") == [good]
    assert listed(http, label="sieve", state="failed,cancelled") == [bad]
    assert listed(http, label="sieve", state="gave_up,blocked") == []
    assert listed(http, label="sieve", text="needle") == [bad, good]
    assert listed(http, label="sieve", kind="command", owner="me") == [bad, good]
    assert listed(http, label="sieve", kind="agent") == []
    assert listed(http, label="sieve", owner="user:nobody") == []
    assert listed(http, label="sieve", owner="nobody@example.org") == []
    assert listed(http, label="sieve", created_after=last["createdAt"]) == [bad]
    assert listed(http, label="sieve", created_before=first["createdAt"]) == [good]
    assert listed(http, label="sieve", ended_before="2001-01-01T00:00:00Z") == []
    assert sorted(listed(http, label="sieve", ended_after=first["createdAt"])) == sorted(
        [good, bad]
    )
    for wrong in ({"state": "done"}, {"outcome": "running"}, {"created_after": "yesterday"}):
        answer = http.get(JOBS, params=wrong)
        assert (answer.status_code, answer.json()["errors"][0]["path"]) == (400, *wrong)


def test_some_jobs_are_asked_for_by_their_ids(http: Native) -> None:
    one, other, deleted = (http.submit("true") for _ in range(3))
    http.ended(deleted)
    assert http.delete(f"{JOBS}/{deleted}").is_success
    assert listed(http, ids=f"{one}, {deleted},{other},nothing") == [other, one]
    assert listed(http, ids=one, kind="other") == []
    for ids in ("", " , ", ",".join(f"id-{number}" for number in range(101))):
        refused = http.get(JOBS, params={"ids": ids})
        assert refused.status_code == 400
        assert refused.json()["errors"][0]["path"] == "ids"


def test_the_same_key_makes_one_job_and_another_body_is_refused(http: Native) -> None:
    headers = {"Idempotency-Key": "native-once"}
    first = http.post(JOBS, json={"argv": ["true"]}, headers=headers)
    again = http.post(JOBS, json={"argv": ["true"]}, headers=headers)
    assert first.json()["id"] == again.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"
    other = http.post(JOBS, json={"argv": ["false"]}, headers=headers)
    assert other.status_code == 422
    assert other.json()["error_id"]


def test_a_change_of_another_version_is_refused(http: Native) -> None:
    job = http.submit("sleep", "60")
    http.running(job)
    seen = http.get(f"{JOBS}/{job}").headers["etag"]
    http.post(f"{JOBS}/{job}/comments", json={"body": "Moved on."})
    refused = http.post(f"{JOBS}/{job}/cancel", headers={"If-Match": seen})
    assert refused.status_code == 412
    now = http.get(f"{JOBS}/{job}").headers["etag"]
    assert http.post(f"{JOBS}/{job}/cancel", headers={"If-Match": now}).status_code == 200


def test_rerun_makes_a_new_job_of_the_same(http: Native) -> None:
    old = http.submit("sh", "-c", "exit 3", title="Again", labels=["twice"], timeoutS=50)
    assert http.ended(old)["exitCode"] == 3
    answer = http.post(f"{JOBS}/{old}/rerun")
    assert answer.status_code == 201
    new = http.ended(answer.json()["id"])
    same = ("title", "argv", "cwd", "labels", "timeoutS", "exitCode", "ownerId")
    before = http.job(old)
    assert {name: new[name] for name in same} == {name: before[name] for name in same}
    assert new["parentId"] == old

    private = http.submit("true", env={"SECRET_KEY": "0123456789abcdef"})
    http.ended(private)
    assert http.post(f"{JOBS}/{private}/rerun").status_code == 409


def test_redo_and_retry_do_a_job_again_and_what_is_done_is_not_retried(
    http: Native,
) -> None:
    bad = http.submit("false")
    http.ended(bad)
    assert http.post(f"{JOBS}/{bad}/retry").json()["outcome"] is None
    until(lambda: http.job(bad)["attempt"] == 2, "it is tried again")
    http.ended(bad)
    attempts = http.get(f"{JOBS}/{bad}/attempts").json()["items"]
    assert [(a["attempt"], a["outcome"]) for a in attempts] == [(1, "failed"), (2, "failed")]

    good = http.submit("true")
    http.ended(good)
    assert http.post(f"{JOBS}/{good}/retry").status_code == 409
    assert http.post(f"{JOBS}/{good}/unblock").status_code == 409
    redone = http.post(f"{JOBS}/{good}/redo", json={"feedback": "Once more."})
    assert redone.status_code == 200
    comments = http.get(f"{JOBS}/{good}/comments").json()["items"]
    assert [comment["body"] for comment in comments] == ["Once more."]
    assert [p["id"] for p in [http.job(good)]] == [good]
    assert http.get(f"{JOBS}/{good}/parents").json() == {"items": [], "cursor": None}


def test_comments_and_the_timeline_have_pages(http: Native) -> None:
    job = http.submit("true")
    http.ended(job)
    for text in ("one", "two", "three"):
        answer = http.post(f"{JOBS}/{job}/comments", json={"body": text})
        assert (answer.status_code, answer.json()["body"]) == (201, text)
    newest = http.get(f"{JOBS}/{job}/comments", params={"limit": 2}).json()
    assert [comment["body"] for comment in newest["items"]] == ["two", "three"]
    before = http.get(f"{JOBS}/{job}/comments", params={"cursor": newest["cursor"]}).json()
    assert ([comment["body"] for comment in before["items"]], before["cursor"]) == (["one"], None)

    timeline = http.items(f"/jobs/{job}/timeline", cursor=0, limit=2)
    types = [entry["type"] for entry in timeline]
    told = ["job.submitted", "job.queued", "job.started", "job.finished", *["job.commented"] * 3]
    assert types == told
    assert [e["type"] for e in http.get(f"{JOBS}/{job}/events").json()["items"]] == told


def test_no_comment_is_left_out_where_they_are_too_long_for_one_page(http: Native) -> None:
    job = http.submit("true")
    http.ended(job)
    for number in range(56):  # 40 kB each
        body = {"body": f"{number} ".ljust(10_000, "\N{SNAKE}")}
        assert http.post(f"{JOBS}/{job}/comments", json=body).status_code == 201
    pages = [
        [comment["body"].partition(" ")[0] for comment in page["items"]]
        for page in http.pages(f"/jobs/{job}/comments")
    ][::-1]
    assert len(pages) == 2
    assert [number for page in pages for number in page] == list(map(str, range(56)))


def test_a_stream_gives_envelopes_to_the_end_and_goes_on_where_it_was_cut(
    server: Server, http: Native
) -> None:
    job = http.submit("sh", "-c", "echo a; echo b")
    http.ended(job)

    def frames(last: str = "") -> list[Json]:
        headers = {"Last-Event-ID": last} if last else {}
        with http.stream("GET", f"{JOBS}/{job}/stream", headers=headers) as answer:
            assert answer.status_code == 200
            lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
        return [json.loads(line.removeprefix("data: ")) for line in lines]

    whole = frames()
    assert whole[0]["type"] == "job.submitted"
    assert whole[-1]["type"] == "job.finished"
    assert frames(str(whole[1]["position"])) == whole[2:]
    over = http.get(f"{JOBS}/{job}/stream", headers={"Last-Event-ID": str(whole[-1]["position"])})
    assert over.status_code == 204
    assert http.get(f"{JOBS}/{job}/stream", headers={"Last-Event-ID": "x"}).status_code == 400


def test_one_action_on_many_jobs_says_of_each_what_became_of_it(
    server: Server, http: Native
) -> None:
    runs = [http.submit("sleep", "60", labels=["many"]) for _ in range(2)]
    done = http.submit("true", labels=["many"])
    http.ended(done)

    answer = http.post(
        f"{JOBS}/actions", json={"action": "cancel", "ids": [*runs, done, "nowhere"]}
    ).json()
    assert [(item["id"], item["status"]) for item in answer["items"]] == [
        (runs[0], 200),
        (runs[1], 200),
        (done, 409),
        ("nowhere", 404),
    ]
    assert (answer["done"], answer["refused"], answer["more"]) == (2, 2, False)
    for job in runs:
        assert http.ended(job)["outcome"] == "cancelled"

    by_filter = {"action": "archive", "filter": {"label": "many", "outcome": "cancelled"}}
    assert http.post(f"{JOBS}/actions", json=by_filter).json()["done"] == 2
    assert listed(http, label="many", archived="false") == [done]
    assert http.post(f"{JOBS}/{runs[0]}/unarchive").json()["archivedAt"] is None
    deleted = http.post(f"{JOBS}/actions", json={"action": "delete", "filter": {"label": "many"}})
    assert deleted.json()["done"] == 3
    assert listed(http, label="many") == []
    for body in ({"action": "cancel"}, {"action": "cancel", "ids": ["a"], "filter": {}}):
        assert http.post(f"{JOBS}/actions", json=body).status_code == 422
    unknown = {"action": "cancel", "filter": {"lable": "many"}}
    assert http.post(f"{JOBS}/actions", json=unknown).status_code == 422


def test_an_action_reaches_no_job_of_somebody_else(server: Server, http: Native) -> None:
    job = http.submit("sleep", "60", labels=["foreign"])
    add_user(server, "stranger@example.org")
    with sign_in(server, "stranger@example.org") as stranger:
        by_id = stranger.post(f"{JOBS}/actions", json={"action": "cancel", "ids": [job]}).json()
        assert [item["status"] for item in by_id["items"]] == [404]
        body = {"action": "cancel", "filter": {"label": "foreign", "owner": "operator"}}
        assert stranger.post(f"{JOBS}/actions", json=body).json()["items"] == []
        assert stranger.post(f"{JOBS}/{job}/rerun").status_code == 404
        mine = stranger.submit("true")
        assert listed(http, owner="stranger@example.org") == [mine]
    assert http.job(job)["cancelRequestedAt"] is None
    http.post(f"{JOBS}/{job}/cancel")
