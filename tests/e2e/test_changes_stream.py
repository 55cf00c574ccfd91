"""The stream of changes, as CodePlane's client reads it (`contracts/codeplane.md` §5): the changes
that each person sees, live and from the beginning. It ends when its reader loses access.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.crews import (
    Json,
    all_done,
    attempt_runs,
    commit,
    job,
    only_after,
    pending,
    post,
    resolve,
    shown,
    stands,
    until_there,
)
from tests.e2e.people import add_user, client, issue_token, sign_in
from tests.kit.client import Native
from tests.kit.server import Server
from tests.kit.waiting import until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server.start(
        tmp_path_factory.mktemp("changes") / "data", "--capacity=6", "--stop-jobs"
    ) as running:
        yield running


@dataclass(frozen=True)
class Change:
    """A frame of the stream; `id` is empty if it has none."""

    id: str
    name: str
    data: Json


def parse(lines: Iterable[str]) -> Iterator[Change]:
    """The changes in a stream's lines, without the heartbeats."""
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if line:
            fields[name] = value.removeprefix(" ")
        elif fields:
            if fields.get("event", "session_heartbeat") != "session_heartbeat":
                yield Change(fields.get("id", ""), fields["event"], json.loads(fields["data"]))
            fields = {}


@contextmanager
def changes(http: Native, after: int | None = None, **query: str) -> Iterator[Iterator[Change]]:
    """The open stream, from a position or from now on."""
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    with http.stream("GET", "/api/events", headers=headers, params=query) as answer:
        assert answer.status_code == 200, answer.read()
        lines = answer.iter_lines()
        assert next(lines) == "event: session_heartbeat"
        yield parse(lines)


def up_to(stream: Iterator[Change], position: int) -> list[Change]:
    """The changes up to the one with this id."""
    seen: list[Change] = []
    for change in stream:
        seen.append(change)
        if change.id == str(position):
            return seen
    raise AssertionError(f"The stream ended after {seen[-3:]}.")


def marker(http: Native, job_id: str) -> int:
    """The position of a comment, which every reader of the job gets as a change."""
    commented = post(http, f"/api/jobs/{job_id}/comments", {"body": "That is all."})
    return int(commented.headers["x-event-position"])


def short(changes: Iterable[Change], job_id: str) -> list[str]:
    """The changes of a job, without `job_updated`, which is not in the contract."""
    return [
        change.data.get("newState") or change.data.get("resolution") or change.name
        for change in changes
        if change.data.get("jobId") == job_id and change.name != "job_updated"
    ]


def test_each_change_has_the_name_and_the_fields_of_codeplane(http: Native, server: Server) -> None:
    begin = http.log_head()
    asks = commit(server, http, job("asks", 'crewlog worker ask "Go on?" --action "rm -r"; true'))
    approval = pending(http, asks["asks"])
    resolve(http, approval["id"], "approved")
    all_done(http, asks)
    fails = commit(server, http, job("fails", "exit 3", onReject="fail", approval="required"))
    refused = pending(http, fails["fails"])
    resolve(http, refused["id"], "rejected", comment="No.")
    until(lambda: shown(http, fails["fails"])["state"] == "failed", "the failure")
    post(http, f"/api/jobs/{fails['fails']}/archive")
    last = marker(http, fails["fails"])
    with changes(http, begin) as stream:
        seen = up_to(stream, last)
    of_asks = short(seen, asks["asks"])
    assert of_asks == [
        "held",
        "queued",
        "running",
        "approval_requested",
        "waiting_for_approval",
        "approved",
        "running",
        "job_completed",
        "completed",
    ]
    by_name = {change.name: change for change in seen}
    stamp = {"timestamp"}
    assert by_name["job_completed"].data.keys() == {"jobId", "resolution", "prUrl"} | stamp
    assert by_name["job_failed"].data.keys() == {"jobId", "reason"} | stamp
    assert by_name["job_failed"].data["reason"] == "Approval rejected: No."
    assert by_name["job_archived"].data.keys() == {"jobId"} | stamp
    changed = by_name["job_state_changed"].data
    assert changed.keys() == {"jobId", "previousState", "newState", "kind"} | stamp
    asked = next(c for c in seen if c.data.get("approvalId") == approval["id"])
    assert (asked.name, asked.data["description"], asked.data["proposedAction"]) == (
        "approval_requested",
        "Go on?",
        "rm -r",
    )
    assert asked.data["requiresExplicitApproval"] is False
    answers = {
        change.data["approvalId"]: change.data["resolution"]
        for change in seen
        if change.name == "approval_resolved"
    }
    assert answers == {approval["id"]: "approved", refused["id"]: "rejected"}
    assert short(seen, fails["fails"])[-3:] == ["job_failed", "failed", "job_archived"]


def test_live_and_from_the_beginning_it_is_the_same(http: Native, server: Server) -> None:
    begin = http.log_head()
    with changes(http) as live:
        made = commit(server, http, job("a"), job("b", "exit 1", "a", maxRetries=0))
        stands(http, made["b"], "blocked")
        last = marker(http, made["b"])
        seen = up_to(live, last)
    with changes(http, begin) as replayed:
        assert up_to(replayed, last) == seen
    with changes(http, None, **{"Last-Event-ID": str(begin)}) as asked:
        assert up_to(asked, last) == seen
    ids = [int(change.id) for change in seen if change.id]
    assert ids == sorted(set(ids))
    for position in ids[:-1]:
        with changes(http, position) as resumed:
            assert up_to(resumed, last) == seen[_behind(seen, position) :]


def _behind(seen: list[Change], position: int) -> int:
    return 1 + [change.id for change in seen].index(str(position))


def test_of_one_job_it_shows_that_one_and_its_questions(http: Native, server: Server) -> None:
    begin = http.log_head()
    made = commit(server, http, job("a", 'crewlog worker ask "Go on?"'), job("b"))
    resolve(http, pending(http, made["a"])["id"], "approved")
    all_done(http, made)
    last = marker(http, made["a"])
    with changes(http, begin, job_id=made["a"]) as stream:
        seen = up_to(stream, last)
    assert {change.data["jobId"] for change in seen} == {made["a"]}
    assert {"approval_requested", "approval_resolved"} <= {change.name for change in seen}


def test_a_job_with_a_second_question_open_does_not_run(
    http: Native, server: Server, tmp_path: Path
) -> None:
    """CodePlane's client drops the questions of jobs that do not wait."""
    begin = http.log_head()
    script = 'crewlog worker ask "One?" & crewlog worker ask "Two?"; wait'
    made = commit(server, http, job("a", script))

    def both() -> list[Json]:
        asked: list[Json] = http.get(f"/api/jobs/{made['a']}/approvals").json()
        return asked if len(asked) == 2 else []

    first, second = until(both, "both questions")
    resolve(http, first["id"], "approved")
    last = marker(http, made["a"])
    with changes(http, begin) as stream:
        assert short(up_to(stream, last), made["a"])[-2:] == ["waiting_for_approval", "approved"]
    assert shown(http, made["a"])["state"] == "waiting_for_approval"
    resolve(http, second["id"], "approved")
    all_done(http, made)
    last = marker(http, made["a"])
    with changes(http, begin) as stream:
        after = short(up_to(stream, last), made["a"])
    assert after[-4:] == ["approved", "running", "job_completed", "completed"]


def test_others_see_nothing_but_the_questions_they_are_named_for(
    http: Native, server: Server, tmp_path: Path
) -> None:
    ann, bob, eve = (add_user(server, f"{name}@changes.org") for name in ("ann", "bob", "eve"))
    gate = tmp_path / "gate"
    with (
        client(server, issue_token(server, ann["id"], "write")) as hers,
        client(server, issue_token(server, bob["id"], "write")) as his,
        client(server, issue_token(server, eve["id"], "read")) as nobodys,
    ):
        own = commit(server, his, job("own", until_there(gate)))["own"]
        attempt_runs(his, own)
        begin = http.log_head()
        with changes(his) as live:
            asks = commit(
                server,
                hers,
                job("asks", approval="required", approvers=["BOB@changes.org"]),
            )
            approval = pending(hers, asks["asks"])
            assert resolve(his, approval["id"], "approved").status_code == 200
            all_done(hers, asks)
            last = marker(his, own)
            seen = up_to(live, last)
        theirs = [change for change in seen if change.data["jobId"] == asks["asks"]]
        assert [change.name for change in theirs] == ["approval_requested", "approval_resolved"]
        with changes(his, begin) as replayed:
            assert up_to(replayed, last) == seen
        with changes(hers, begin) as stream:
            last = marker(hers, asks["asks"])
            assert {change.data["jobId"] for change in up_to(stream, last)} == {asks["asks"]}
        assert nobodys.get("/api/events", params={"job_id": asks["asks"]}).status_code == 404
        assert his.get("/api/events", params={"job_id": asks["asks"]}).status_code == 404
    gate.touch()


# A stream ends when its reader loses access


@pytest.mark.parametrize("way", ["disabled", "revoked", "signed out", "no admin any more"])
@pytest.mark.parametrize("path", ["/api/events", "/crewlog/v1/log/stream", "of a job"])
def test_a_stream_ends_with_the_standing_of_its_reader(
    http: Native, server: Server, tmp_path: Path, way: str, path: str
) -> None:
    email = f"{way}.{path}@changes.org".replace(" ", ".").replace("/", "")
    user = add_user(server, email, role="admin")
    gate = tmp_path / "gate"
    by_token = client(server, issue_token(server, user["id"], "read", "write", "admin"))
    with sign_in(server, email) as browser, by_token:
        reader = browser if way == "signed out" else by_token
        made = commit(server, http, job("a", f"{until_there(gate)}; cat {gate}"))
        if path == "of a job":
            path = f"/api/jobs/{made['a']}/stream"
        with reader.stream("GET", path) as stream:
            assert stream.status_code == 200
            lines = stream.iter_lines()
            next(lines)
            if way == "disabled":
                assert http.post(f"/crewlog/v1/users/{user['id']}/disable").is_success
            elif way == "revoked":
                [token] = http.get(f"/crewlog/v1/users/{user['id']}/tokens").json()["items"]
                answer = http.delete(f"/crewlog/v1/users/{user['id']}/tokens/{token['id']}")
                assert answer.is_success, answer.text
            elif way == "signed out":
                with client(server) as other:
                    other.cookies.update(browser.cookies)
                    other.headers["Origin"] = server.url
                    assert other.post("/auth/logout").status_code < 400
            else:
                assert http.patch(
                    f"/crewlog/v1/users/{user['id']}", json={"role": "user"}
                ).is_success
            written = gate.with_name("written")
            written.write_text(f"secret {email}\n")
            written.rename(gate)
            assert f"secret {email}" not in "\n".join(lines)
    all_done(http, made)


def test_a_stream_goes_on_while_others_come_and_go(
    http: Native, server: Server, tmp_path: Path
) -> None:
    user = add_user(server, "stays@changes.org")
    with client(server, issue_token(server, user["id"], "write")) as reader:
        flag = tmp_path / "flag"
        made = commit(server, reader, job("a", only_after(flag), maxRetries=0))
        with changes(reader) as stream:
            other = add_user(server, "goes@changes.org")
            http.post(f"/crewlog/v1/users/{other['id']}/disable")
            issue_token(server, user["id"], "read")
            last = marker(http, made["a"])
            assert up_to(stream, last)[-1].id == str(last)
