"""``/crewlog/v1/log`` and ``/crewlog/v1/projections``: the log by page, by position, live and as a
whole, and the views of it.
"""

import json
import re
import socket
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from projections.views import PROJECTIONS
from tests.e2e.gitoma import following, frames, output, parse
from tests.kit.client import Native
from tests.kit.server import Server
from tests.kit.waiting import until

Json = dict[str, Any]

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server.start(
        tmp_path_factory.mktemp("log") / "data",
        "--stop-jobs",
        "--log-level=warning",
        "--capacity=8",
    ) as started:
        yield started


@pytest.fixture
def done(http: Native) -> str:
    """A job that has ended, with some events of output."""
    job_id = http.shell("for n in 1 2 3 4; do echo $n; echo and $n; sleep 0.08; done; exit 3")
    http.ended(job_id)
    return job_id


class Frame(NamedTuple):
    """One event of a log stream; `data` is its envelope."""

    id: str
    event: str
    data: Json


def parsed(lines: Iterable[str]) -> Iterator[Frame]:
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield Frame(fields["id"], fields["event"], json.loads(fields["data"]))
            fields = {}


@contextmanager
def streaming(
    http: Native, seen: str | None = None, **asked: str | int
) -> Iterator[Iterator[Frame]]:
    """An open stream past the id `seen`, frame by frame."""
    headers = {} if seen is None else {"Last-Event-ID": seen}
    with http.stream("GET", "/crewlog/v1/log/stream", params=asked, headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        yield parsed(answer.iter_lines())


def streamed(http: Native, seen: str | None = None, **asked: str | int) -> list[Frame]:
    """A whole stream, until the server ends it."""
    with streaming(http, seen, **asked) as stream:
        return list(stream)


def walk(http: Native, **asked: Any) -> list[Json]:
    """Every event that matches, page by page."""
    found: list[Json] = []
    for page in http.pages("/log", cursor=0, **asked):
        assert set(page) == {"items", "cursor", "head"}
        assert len(page["items"]) <= asked.get("limit", 100)
        found += page["items"]
    return found


# Pages


def test_pages_are_the_log_from_its_first_position_to_its_head(http: Native, done: str) -> None:
    everything = walk(http, limit=7)

    head = http.log_head()
    assert [event["position"] for event in everything] == list(range(1, head + 1))
    assert set(everything[0]) == {
        *("position", "id", "stream", "version", "type", "schema"),
        *("at", "actor", "request_id", "cause", "data"),
    }
    assert walk(http, limit=7, after=head - 3) == everything[-3:]
    assert walk(http, limit=1000, before=4) == everything[:3]
    assert walk(http, limit=2, after=2, before=6) == everything[2:5]
    assert walk(http, after=head) == []
    assert walk(http, after=10**9) == []
    last = http.get("/crewlog/v1/log", params={"after": head - 3, "limit": 3}).json()
    assert (len(last["items"]), last["cursor"]) == (3, None)


def test_filters_select_what_they_name(http: Native, done: str) -> None:
    everything = walk(http)

    def check(chosen: list[Json], **asked: str) -> None:
        for limit in (2, 1000):
            assert walk(http, limit=limit, **asked) == chosen

    about = [e for e in everything if e["stream"].partition("/")[0] == f"job-{done}"]
    assert {e["stream"] for e in about} == {f"job-{done}", f"job-{done}/output"}
    check(about, subject=f"job-{done}")
    kinds = ("job.started", "job.finished")
    check([e for e in everything if e["type"] in kinds], type=",".join(kinds))
    dispatched = [e for e in everything if e["actor"] == "system:dispatcher"]
    assert 0 < len(dispatched) < len(everything)
    check(dispatched, actor="system:dispatcher")
    both = [e for e in about if e["type"] in kinds and e["actor"] == "system:dispatcher"]
    assert len(both) == 2
    check(
        both, subject=f"job-{done}", type=" job.started , job.finished", actor="system:dispatcher"
    )
    check([], subject="job-nothing")
    check([], type="nothing.happened")
    check([], actor="nobody")


def test_every_position_can_be_looked_up(http: Native, done: str) -> None:
    for event in http.events(done):
        answer = http.get(f"/crewlog/v1/log/{event['position']}")
        assert (answer.status_code, answer.json()) == (200, event)


def test_an_event_names_who_and_why(http: Native, done: str) -> None:
    found = http.events(done)
    submitted, queued, started = found[:3]

    assert {e["actor"] for e in (submitted, queued)} == {"operator"}
    assert submitted["request_id"] == queued["request_id"] is not None
    assert {e["actor"] for e in found[2:]} == {"system:dispatcher"}
    assert started["cause"] == queued["id"]


# Export


def test_an_export_is_the_log_line_by_line(http: Native, done: str) -> None:
    answer = http.get("/crewlog/v1/log/export")

    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.text.endswith("}\n")
    everything = walk(http)
    assert unhashed(answer.text) == everything
    about = http.get(f"/crewlog/v1/log/export?subject=job-{done}").text
    assert unhashed(about) == http.events(done)
    rest = http.get("/crewlog/v1/log/export?after=5").text
    assert unhashed(rest) == everything[5:]
    assert unhashed(http.get("/crewlog/v1/log/export?subject=job-nothing").text) == []


def unhashed(export: str) -> list[dict[str, Any]]:
    """The envelopes of an export, whose last line has their number."""
    *lines, end = [json.loads(line) for line in export.splitlines()]
    assert (end["type"], end["events"]) == ("export.ended", len(lines))
    assert all(len(bytes.fromhex(line.pop("hash"))) == 32 for line in lines)
    return lines


# Streams


def test_a_stream_of_an_ended_job_is_its_envelopes_and_an_end(http: Native, done: str) -> None:
    answer = http.get("/crewlog/v1/log/stream", params={"subject": f"job-{done}"})

    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert "no-store" in answer.headers["cache-control"]
    assert answer.headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in answer.headers
    assert re.match(r"retry: \d+\n\n", answer.text)
    found = http.events(done)
    assert list(parsed(answer.text.split("\n"))) == [
        Frame(str(event["position"]), event["type"], event) for event in found
    ]
    raw = [json.dumps(event, separators=(",", ":"), ensure_ascii=False) for event in found]
    assert [line[6:] for line in answer.text.split("\n") if line.startswith("data: ")] == raw


def test_a_stream_goes_on_after_every_id(http: Native, done: str) -> None:
    everything = streamed(http, subject=f"job-{done}")

    assert len(everything) >= 5  # its lines may have come as one event
    for seen, frame in enumerate(everything[:-1], 1):
        assert streamed(http, frame.id, subject=f"job-{done}") == everything[seen:]
        assert streamed(http, subject=f"job-{done}", last_event_id=frame.id) == everything[seen:]
        assert streamed(http, subject=f"job-{done}", after=frame.id) == everything[seen:]
    first, last = everything[0].id, everything[-1].id
    assert streamed(http, first, subject=f"job-{done}", last_event_id=last) == everything[1:]
    assert streamed(http, "0", subject=f"job-{done}") == everything


def test_a_stream_goes_on_after_any_position_of_another_subject(http: Native, done: str) -> None:
    first, second = (http.shell("for n in 1 2 3; do echo $n; sleep 0.06; done") for _ in range(2))
    http.ended(first)
    http.ended(second)
    everything = streamed(http, subject=f"job-{first}")

    begin, end = int(everything[0].id), int(everything[-1].id)
    for position in range(begin - 1, end):
        rest = [frame for frame in everything if int(frame.id) > position]
        assert streamed(http, str(position), subject=f"job-{first}") == rest


def test_once_all_was_seen_there_is_nothing(http: Native, done: str) -> None:
    asked = {"subject": f"job-{done}"}
    last = {"Last-Event-ID": streamed(http, **asked)[-1].id}

    assert http.get("/crewlog/v1/log/stream", params=asked, headers=last).status_code == 204
    for only in ({"type": "job.queued,job.submitted"}, {"actor": "operator"}):
        submitted, queued = streamed(http, **asked, **only)
        seen = {"Last-Event-ID": queued.id}
        answer = http.get("/crewlog/v1/log/stream", params={**asked, **only}, headers=seen)
        assert answer.status_code == 204, only
        assert streamed(http, submitted.id, **asked, **only) == [queued]
        assert http.get("/crewlog/v1/log/stream", params=asked, headers=seen).status_code == 200
    nothing = {**asked, "type": "job.archived"}
    assert http.get("/crewlog/v1/log/stream", params=nothing).status_code == 204
    http.post(f"/api/jobs/{done}/archive")
    (archived,) = streamed(http, last["Last-Event-ID"], **asked)
    assert archived.event == "job.archived"


def test_a_live_stream_of_a_job_ends_with_it(http: Native, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job_id = http.shell(f"echo on; until [ -e {gate} ]; do sleep 0.02; done; echo off")
    seen: list[Frame] = []
    with streaming(http, subject=f"job-{job_id}") as stream:
        for frame in stream:
            seen.append(frame)
            if frame.event == "job.output":
                gate.touch()
    assert [frame.data for frame in seen] == http.events(job_id)
    assert seen[-1].event == "job.finished"


def test_a_stream_ends_where_it_is_told_to(http: Native, done: str) -> None:
    everything = streamed(http, before=walk(http)[-1]["position"] + 1)
    about = streamed(http, subject=f"job-{done}")
    first, last = int(about[0].id), int(about[-1].id)

    assert [frame.data for frame in everything] == walk(http)
    assert streamed(http, limit=3) == everything[:3]
    assert streamed(http, "2", limit=3, before=4) == everything[2:3]
    assert streamed(http, after=1, before=4) == everything[1:3]
    assert (
        streamed(http, limit=2, actor="operator")
        == [frame for frame in everything if frame.data["actor"] == "operator"][:2]
    )
    for before in range(first + 1, last + 2):
        rest = [frame for frame in about if int(frame.id) < before]
        assert streamed(http, subject=f"job-{done}", before=before) == rest
        assert streamed(http, subject=f"job-{done}", before=before, limit=2) == rest[:2]
        seen = {"Last-Event-ID": rest[-1].id}
        asked: dict[str, str | int] = {"subject": f"job-{done}", "before": before}
        assert http.get("/crewlog/v1/log/stream", params=asked, headers=seen).status_code == 204
    for cursor in (first, first + 1, last):
        seen = {"Last-Event-ID": str(cursor)}
        told = http.get("/crewlog/v1/log/stream", params={"before": first}, headers=seen)
        assert told.status_code == 204
    assert http.get("/crewlog/v1/log/stream", params={"before": 0}).status_code == 204
    assert http.get("/crewlog/v1/log/stream", params={"limit": 0}).status_code == 422


def test_a_stream_ends_at_a_position_that_is_to_come(http: Native, done: str) -> None:
    """Even if the event there has another subject."""
    archived = http.log_head() + 1
    with (
        streaming(http, subject="approval-none", before=archived + 1) as nothing,
        streaming(http, after=archived - 1, before=archived + 1) as one,
    ):
        http.post(f"/api/jobs/{done}/archive")
        assert [frame.event for frame in one] == ["job.archived"]
        assert list(nothing) == []


def test_a_live_stream_has_only_what_its_filter_names(http: Native) -> None:
    head = http.log_head()
    with (
        streaming(http, type="job.finished", after=head) as ends,
        streaming(http, actor="operator", after=head) as asked,
    ):
        known = [http.submit("seq", "100") for _ in range(3)]
        finished = [next(ends) for _ in known]
        mine = [next(asked) for _ in range(2 * len(known))]
    assert {frame.event for frame in finished} == {"job.finished"}
    assert sorted(frame.data["stream"] for frame in finished) == sorted(f"job-{n}" for n in known)
    assert [frame.event for frame in mine] == ["job.submitted", "job.queued"] * len(known)
    assert {frame.data["actor"] for frame in mine} == {"operator"}


def test_a_stream_of_the_log_has_every_position_once_from_any_start(
    http: Native, done: str
) -> None:
    """Replay and live part join without a gap, although jobs write all the time."""
    known = [http.shell("seq 300; sleep 0.1; seq 300") for _ in range(4)]
    head = http.log_head()
    for start in (0, 1, head // 2, head - 1, head):
        with streaming(http, str(start)) as stream:
            seen = [next(stream) for _ in range(max(0, head + 4 - start))]
        assert [int(frame.id) for frame in seen] == list(range(start + 1, head + 5))
        assert [frame.data["position"] for frame in seen] == [int(frame.id) for frame in seen]
    for job_id in known:
        http.ended(job_id)


def test_the_lines_of_a_job_go_on_after_every_id(http: Native) -> None:
    """If one event gave several lines, the id says which of them was seen."""
    job_id = http.shell("seq 5; sleep 0.15; seq 6 9; exec sleep 300", timeout_s=0.6)
    http.ended(job_id)
    everything = frames(http, job_id)

    assert [frame.line for frame in everything[1:10]] == [str(n) for n in range(1, 10)]
    assert len({frame.id.partition(":")[0] for frame in everything}) < len(everything) - 3
    for seen, frame in enumerate(everything[:-1], 1):
        assert frames(http, job_id, frame.id) == everything[seen:]
    position = everything[5].id.partition(":")[0]
    of_that = [n for n, frame in enumerate(everything) if frame.id.partition(":")[0] == position]
    assert frames(http, job_id, position) == everything[of_that[-1] + 1 :]


# Slow readers


def resident(server: Server) -> int:
    """Resident memory of the server, in bytes."""
    found = re.search(r"VmRSS:\s*(\d+) kB", Path(f"/proc/{server.pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


class Sleeper:
    """A reader of the whole log that reads nothing until the test asks for it."""

    def __init__(self, server: Server) -> None:
        host, _, port = server.url.removeprefix("http://").partition(":")
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.settimeout(30)
        self._socket.connect((host, int(port)))
        request = (
            f"GET /crewlog/v1/log/stream HTTP/1.1\r\nHost: {host}\r\n"
            f"Authorization: Bearer {server.token}\r\n\r\n"
        )
        self._socket.sendall(request.encode())

    def stalls(self) -> None:
        """Return once the server has begun to send."""
        assert self._socket.recv(1, socket.MSG_PEEK)

    def positions(self, head: int) -> list[int]:
        """Read on: the ids of all frames, up to that of `head`."""
        with self._socket.makefile("rb") as stream:
            found: list[int] = []
            for line in stream:
                if line.startswith(b"id: "):
                    found.append(int(line[4:]))
                    if found[-1] == head:
                        break
            return found

    def close(self) -> None:
        self._socket.close()


def test_readers_that_do_not_read_cost_nothing_and_lose_nothing(
    server: Server, http: Native
) -> None:
    with ExitStack() as stack:
        before = resident(server)
        sleepers = [Sleeper(server) for _ in range(20)]
        for sleeper in sleepers:
            stack.callback(sleeper.close)
        line = "x" * 999
        job_id = http.shell(
            f"n=0; while [ $n -lt 30 ]; do n=$((n+1)); yes {line} | head -500; done"
        )
        assert output(http, job_id) == [line] * 15_000  # others are not delayed
        assert http.ended(job_id)["state"] == "completed"
        # Kept for each of twenty readers, it would be 15 MB for each.
        assert resident(server) - before < 120 * MIB
        head = http.log_head()
        for sleeper in sleepers[:2]:
            assert sleeper.positions(head) == list(range(1, head + 1))


def most_resident(server: Server) -> int:
    """Peak resident memory of the server, in bytes."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{server.pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def test_long_lines_do_not_fill_the_memory(tmp_path: Path) -> None:
    """Not with stalled readers, not for a page, and not while the views are filled again: the bytes
    of a page are bounded for any events.
    """
    line = "x" * 1_000_000
    with Server.start(tmp_path / "data", "--stop-jobs", "--log-level=warning") as server:
        idle = most_resident(server)
        with Native(server) as http, ExitStack() as stack:
            one = "head -c 1000000 /dev/zero | tr '\\0' x; echo"
            job_id = http.shell(f"n=0; while [ $n -lt 60 ]; do n=$((n+1)); {one}; done")
            assert http.ended(job_id, 60)["state"] == "completed"
            sleepers = [Sleeper(server) for _ in range(5)]
            for sleeper in sleepers:
                stack.callback(sleeper.close)
                sleeper.stalls()
            found = walk(http, limit=1000, subject=f"job-{job_id}")
            written = [x for e in found if e["type"] == "job.output" for x in e["data"]["lines"]]
            assert written == [line] * 60
            first = http.get("/crewlog/v1/log", params={"limit": 1000})
            assert len(first.content) < 12 * MIB
            assert first.json()["cursor"] is not None
            head = first.json()["head"]
            assert sleepers[0].positions(head) == list(range(1, head + 1))
            # With pages bounded by events only: 60 MB for each of five, and 120 MB for the page.
            assert most_resident(server) - idle < 350 * MIB
        server.stop()
        for file in server.data.glob("views.db*"):
            file.unlink()
        server.restart()
        with Native(server) as http:
            assert http.get(f"/api/jobs/{job_id}").status_code == 200
            settled(http)
            assert most_resident(server) - idle < 60 * MIB


# Views


def projections(http: Native) -> dict[str, Json]:
    answer = http.get("/crewlog/v1/projections").json()
    assert set(answer) == {"items", "cursor", "head"}
    return {shown["name"]: {**shown, "head": answer["head"]} for shown in answer["items"]}


def settled(http: Native) -> dict[str, Json]:
    """The views once all show the head."""

    def now() -> dict[str, Json] | None:
        shown = projections(http)
        stands = all(p["position"] == p["head"] and p["status"] == "live" for p in shown.values())
        return shown if stands else None

    return until(now, "every view at the head")


def test_each_view_says_where_it_stands(http: Native, done: str) -> None:
    shown = settled(http)

    assert set(shown) == {projection.name for projection in PROJECTIONS}
    for view in shown.values():
        assert {"name", "version", "position", "lag", "status", "progress", "digest"} <= set(view)
        assert (view["lag"], view["progress"], view["failure"]) == (0, 1.0, None)
        assert re.fullmatch(r"[0-9a-f]{32,64}", view["digest"])


def test_a_rebuild_is_accepted_once_at_a_time_and_comes_out_the_same(
    server: Server, http: Native, done: str
) -> None:
    before = settled(http)["timeline"]

    def ask() -> int:
        with Native(server) as client:
            return client.post("/crewlog/v1/projections/timeline/rebuild").status_code

    def both() -> set[int] | None:
        with ThreadPoolExecutor(6) as pool:
            statuses = {asked.result() for asked in [pool.submit(ask) for _ in range(6)]}
        assert statuses <= {202, 409}
        assert 202 in statuses
        settled(http)
        return statuses if 409 in statuses else None

    until(both, "a rebuild that is asked for while one runs")
    after = settled(http)["timeline"]
    assert (after["digest"], after["rebuildMatched"]) == (before["digest"], True)
    assert http.post("/crewlog/v1/projections/nothing/rebuild").status_code == 404
    told = http.items(f"/jobs/{done}/timeline")
    assert told[-1]["type"] == "job.finished"


def test_views_that_are_deleted_come_back_the_same(tmp_path: Path) -> None:
    with Server.start(tmp_path / "data", "--stop-jobs") as server:
        with Native(server) as http:
            known = [http.shell(f"seq {n}; exit {n % 2}") for n in range(1, 6)]
            for job_id in known:
                http.ended(job_id)
            before = settled(http)
            shown = http.get("/api/jobs").content
        server.stop()
        for file in server.data.glob("views.db*"):
            file.unlink()
        server.restart()
        with Native(server) as http:
            assert http.get("/api/jobs").content == shown
            after = settled(http)
    assert {n: v["digest"] for n, v in after.items()} == {n: v["digest"] for n, v in before.items()}


def test_views_that_are_deleted_under_a_running_server_come_back_the_same(tmp_path: Path) -> None:
    """During reads: a read may be refused for a moment, but none is wrong."""
    stop = threading.Event()

    def reader(server: Server, right: bytes, quiet: list[int], number: int) -> set[int]:
        statuses: set[int] = set()
        with Native(server) as http:
            while not stop.is_set():
                answer = http.get("/api/jobs")
                statuses.add(answer.status_code)
                if answer.status_code == 200:
                    assert answer.content == right
                    quiet[number] += 1
                else:
                    assert int(answer.headers["retry-after"]) > 0
                    quiet[number] = 0
        return statuses

    with (
        Server.start(tmp_path / "data", "--stop-jobs") as server,
        Native(server) as http,
        ThreadPoolExecutor(6) as pool,
    ):
        for n in range(1, 6):
            http.ended(http.shell(f"seq {n}; exit {n % 2}"))
        before = settled(http)
        shown = http.get("/api/jobs").content
        quiet = [0] * 6
        reads = [pool.submit(reader, server, shown, quiet, number) for number in range(6)]
        try:
            until(lambda: min(quiet) > 5, "readers at work")
            for file in server.data.glob("views.db*"):
                file.unlink()
            # Only the engine makes the file.
            until((server.data / "views.db").exists, "the views being filled again")
            after = settled(http)
            quiet[:] = [0] * 6
            until(lambda: min(quiet) > 50, "reads without a refusal")
        finally:
            stop.set()
        assert set().union(*(read.result() for read in reads)) <= {200, 503}
        assert {n: v["digest"] for n, v in after.items()} == {
            n: v["digest"] for n, v in before.items()
        }
        assert http.get("/readyz").status_code == 200
        http.ended(http.submit("true"))
        with sqlite3.connect(server.data / "views.db") as database:
            (stored,) = database.execute("SELECT count(*) FROM fillings WHERE live").fetchone()
        database.close()
        assert stored == len(PROJECTIONS)


def test_views_that_cannot_be_made_are_said_by_readyz_until_they_can(tmp_path: Path) -> None:
    with Server.start(tmp_path / "data", "--stop-jobs") as server, Native(server) as http:
        http.ended(http.submit("true"))
        settled(http)
        for file in server.data.glob("views.db*"):
            file.unlink()
        (server.data / "views.db").mkdir()

        def answered_with(status: int) -> Json | None:
            answer = http.get("/readyz")
            return answer.json() if answer.status_code == status else None

        refused = until(lambda: answered_with(503), "that it is not ready")
        assert refused["status"] == "not ready"
        assert refused["writable"] == {"log": True, "views": False}
        assert http.get("/healthz").text == "ok"
        (server.data / "views.db").rmdir()
        assert until(lambda: answered_with(200), "that it is ready again")["status"] == "ready"
        assert len(http.get("/api/jobs").json()["items"]) == 1


def test_readyz_tells_the_kinds_of_readers_apart(http: Native) -> None:
    readers = http.get("/readyz").json()["readers"]

    kinds = [(reader["kind"], reader["name"]) for reader in readers]
    assert len(set(kinds)) == len(kinds)
    assert {("view", "crews"), ("policy", "crews")} <= set(kinds)
    views = {name for kind, name in kinds if kind == "view"}
    assert views == {projection.name for projection in PROJECTIONS}
    following = [reader for reader in readers if reader["kind"] != "view"]
    assert {reader["kind"] for reader in following} == {
        "dispatcher",
        "policy",
        "clock",
        "deadlines",
        "deliveries",
    }
    assert [(reader["problem"], reader["passedOver"]) for reader in following] == [
        (None, 0) for _ in following
    ]


# Two readers of two kinds


def test_both_kinds_of_stream_tell_the_same_job(http: Native) -> None:
    job_id = http.shell("for n in 1 2 3; do echo $n; sleep 0.06; done; sleep 300")
    http.running(job_id)
    with following(http, job_id) as lines, streaming(http, subject=f"job-{job_id}") as envelopes:
        shown = [next(lines).line for _ in range(4)]
        http.cancel(job_id)
        shown += [frame.line for frame in lines]
        told = list(envelopes)
    written = [x for f in told if f.event == "job.output" for x in f.data["data"]["lines"]]
    assert shown[1:-1] == written == ["1", "2", "3"]
    assert shown[-1] == f"__END__:{told[-1].data['data']['outcome']}"


@pytest.mark.parametrize(
    "path", ["/crewlog/v1/log", "/crewlog/v1/log/stream", "/crewlog/v1/log/export"]
)
def test_a_sub_stream_is_no_subject(http: Native, path: str) -> None:
    """It would match nothing, and an empty stream would stay open for ever."""
    assert http.get(path, params={"subject": "job-a/output"}).status_code == 422


def test_a_stream_starts_at_any_line(http: Native) -> None:
    """The output index knows the place of each line, however lines are split into events."""
    job = http.shell("for n in 1 2 3 4; do seq $n 10 $((n * 10 + 200)); sleep 0.08; done; exit 0")
    http.ended(job)
    everything = following_all(http, job)
    lines = everything[1:-1]
    for number in (1, 2, len(lines) // 2, len(lines)):
        shown = following_all(http, job, from_line=number)
        assert shown == everything[number:]
    for number in (len(lines) + 1, 10**12):
        past = http.get(f"/api/v1/stream/{job}", params={"from_line": number})
        assert past.status_code == 400
    assert http.get(f"/api/v1/stream/{job}", params={"from_line": 0}).status_code == 422


def following_all(http: Native, job: str, **params: int) -> list[tuple[str, str]]:
    """Ids and lines of a stream that ends."""
    text = http.get(f"/api/v1/stream/{job}", params=params).text
    return [(frame.id, frame.line) for frame in parse(text.splitlines())]
