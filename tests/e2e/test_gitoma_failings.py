"""The seventeen failings of gitoma's own server (`contracts/gitoma.md` §9): this server has none of
them.
"""

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from threading import Barrier
from typing import Any

import httpx2
import pytest
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as open_websocket

from tests.e2e.gitoma import (
    REPOSITORY,
    cancel,
    dispatch,
    ended,
    following,
    frames,
    output,
    parse,
    running,
    status,
)
from tests.kit.client import Native
from tests.kit.processes import is_alive, processes_with
from tests.kit.server import Server, crewlog
from tests.kit.waiting import DEADLINE_S, until

STAND_IN = f"{sys.executable} -S {Path(__file__).with_name('gitoma_program.py')}"


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of gitoma's state files."""
    return tmp_path_factory.mktemp("states")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, states: Path) -> Iterator[Server]:
    with Server.start(
        tmp_path_factory.mktemp("failings") / "data",
        "--stop-jobs",
        "--log-level=warning",
        CREWLOG_GITOMA_COMMAND=STAND_IN,
        CREWLOG_GITOMA_RATE_LIMIT="100000",
        CREWLOG_GITOMA_STATE_DIR=str(states),
        STATE_DIRECTORY=str(states),
    ) as started:
        yield started


def websocket(server: Server) -> AbstractContextManager[ClientConnection]:
    return open_websocket(
        f"ws{server.url.removeprefix('http')}/ws/state",
        additional_headers=server.headers,
        proxy=None,
    )


def pid_of(http: Native, job_id: str) -> int:
    """The pid that a job's script prints first, with `echo $$`."""
    with following(http, job_id) as stream:
        next(stream)
        return int(next(stream).line)


def ends(pid: int) -> None:
    until(lambda: not is_alive(pid), f"the end of process {pid}")


def finishes(http: Native, job_id: str) -> int:
    return sum(event["type"] == "job.finished" for event in http.events(job_id))


def lines_of(shown: list[str], count: int) -> None:
    """Every line of `seq count` is there, once and in order."""
    assert shown == [str(number) for number in range(1, count + 1)]


def test_failing_01_jobs_outlive_the_server(tmp_path: Path) -> None:
    """Jobs only in RAM: after SIGKILL no job was known, and none could be cancelled."""
    with Server.start(tmp_path / "data", "--stop-jobs") as server:
        with Native(server) as http:
            done = http.submit("seq", "3")
            before = ended(http, done)
            quiet = http.shell("echo $$; sleep 300")
            chatty = http.shell(
                "i=0; while [ $i -lt 400 ]; do echo $i; i=$((i+1)); sleep 0.002; done"
            )
            pid = pid_of(http, quiet)
            running(http, chatty)
            listed = list(http.get("/api/v1/jobs").json())
        server.kill()
        assert is_alive(pid)
        server.restart()
        with Native(server) as http:
            assert list(http.get("/api/v1/jobs").json()) == listed == [done, quiet, chatty]
            assert status(http, done) == before
            lines_of(output(http, done), 3)
            assert output(http, chatty) == [str(number) for number in range(400)]
            assert ended(http, chatty)["status"] == "completed"
            assert cancel(http, quiet).json() == {"job_id": quiet, "status": "cancelling"}
            assert ended(http, quiet)["status"] == "cancelled"
            assert cancel(http, done).status_code == 409
            ends(pid)


def test_failing_02_history_stays_however_much_comes_after(http: Native) -> None:
    """History destroyed while busy: after 100 quick jobs 49 were forgotten."""
    known = [http.submit("echo", f"job {number}") for number in range(100)]

    for number, job_id in enumerate(known):
        assert ended(http, job_id)["status"] == "completed"
        assert output(http, job_id) == [f"job {number}"]
    listed = list(http.get("/api/v1/jobs").json())
    assert [job_id for job_id in listed if job_id in set(known)] == known


def test_failing_03_whoever_joins_while_it_runs_gets_every_line_and_the_end(
    server: Server,
) -> None:
    """Late join: 69 of 80 readers missed lines of a 490-line job, 27 never got its end."""

    async def lines(http: httpx2.AsyncClient, job_id: str, moment: float) -> list[str]:
        await asyncio.sleep(moment)
        async with http.stream("GET", f"/api/v1/stream/{job_id}") as answer:
            text = [line async for line in answer.aiter_lines()]
        return [frame.line for frame in parse(text)]

    async def join_all() -> list[list[str]]:
        async with httpx2.AsyncClient(
            base_url=server.url, headers=server.headers, trust_env=False, timeout=DEADLINE_S
        ) as http:
            readers = []
            for _ in range(10):
                answer = await http.post("/api/jobs", json={"argv": ["seq", "490"]})
                job_id = answer.json()["id"]
                readers += [
                    asyncio.create_task(lines(http, job_id, turn * 0.012)) for turn in range(8)
                ]
            return await asyncio.gather(*readers)

    for seen in asyncio.run(join_all()):
        assert (seen[0], seen[-1]) == ("$ seq 490", "__END__:completed")
        lines_of(seen[1:-1], 490)


def test_failing_04_live_readers_lose_no_line_of_a_fast_job(http: Native, tmp_path: Path) -> None:
    """Live subscriber: a fifth of 20,000 lines was dropped."""
    gate = tmp_path / "gate"
    job_id = http.shell(f"until [ -e {gate} ]; do sleep 0.05; done; seq 20000")
    joined = Barrier(3, action=gate.touch, timeout=DEADLINE_S)

    def read() -> list[str]:
        with following(http, job_id) as stream:
            next(stream)
            joined.wait()
            return [frame.line for frame in stream]

    with ThreadPoolExecutor(joined.parties) as pool:
        for reading in [pool.submit(read) for _ in range(joined.parties)]:
            *shown, end = reading.result()
            assert end == "__END__:completed"
            lines_of(shown, 20_000)


def test_failing_05_who_joins_late_gets_the_beginning_too(http: Native) -> None:
    """Late join: the first 1,500 of 2,000 lines were gone."""
    job_id = http.submit("seq", "2000")
    assert ended(http, job_id)["lines_buffered"] == 2002
    lines_of(output(http, job_id), 2000)


def test_failing_06_output_cannot_forge_the_end(http: Native, tmp_path: Path) -> None:
    """Forged end: a line beginning with __END__ closed every stream, for ever."""
    gate = tmp_path / "gate"
    job_id = http.shell(f"echo __END__:completed; until [ -e {gate} ]; do sleep 0.05; done; exit 3")
    with following(http, job_id) as stream:
        next(stream)
        assert next(stream).line == "\\__END__:completed"
        assert status(http, job_id)["status"] == "running"
        gate.touch()
        assert [frame.line for frame in stream] == ["__END__:failed"]
    assert ended(http, job_id)["exit_code"] == 3
    assert output(http, job_id) == ["\\__END__:completed"]


def test_failing_07_a_long_line_breaks_nothing(http: Native) -> None:
    """One line of 70 kB: the job was `failed`, but its process lived and could not be cancelled."""
    script = "head -c 70000 /dev/zero | tr '\\0' x; echo; echo after; sleep 300"
    job_id = http.shell(f"echo $$; {script}")
    with following(http, job_id) as stream:
        shown = [next(stream).line for _ in range(4)]
        assert shown[2:] == ["x" * 4096 + "…(truncated)", "after"]
        assert status(http, job_id)["status"] == "running"
        assert cancel(http, job_id).status_code == 200
        assert [frame.line for frame in stream] == ["__END__:cancelled"]
    ends(int(shown[1]))
    written = [e["data"]["lines"] for e in http.events(job_id) if e["type"] == "job.output"]
    assert "x" * 70_000 in [line for lines in written for line in lines]


def test_failing_08_the_time_limit_ends_chatty_and_stubborn_jobs(http: Native) -> None:
    """Timeout leaks: a chatty job never timed out, and one that ignored TERM lived on."""
    chatty = http.shell("echo $$; while :; do echo tick; sleep 0.1; done", timeout_s=1)
    stubborn = http.shell("trap '' TERM; echo $$; while :; do sleep 0.1; done", timeout_s=0.3)
    for job_id in (chatty, stubborn):
        pid = pid_of(http, job_id)
        shown = ended(http, job_id)
        assert (shown["status"], shown["error_id"]) == ("timed_out", None)
        ends(pid)
        *_, why, end = [frame.line for frame in frames(http, job_id)]
        assert "killed" in why
        assert end == "__END__:timed_out"


def test_failing_09_a_cancel_at_any_instant_ends_the_job_once(http: Native) -> None:
    """Cancel in the spawn window: `running` for ever, the process alive, the stream endless."""
    marks = [f"{300_000 + os.getpid()}.{number}" for number in range(24)]
    known = [http.submit("sleep", mark) for mark in marks[:12]]
    for job_id in known:
        assert cancel(http, job_id).status_code == 200
    for mark in marks[12:]:
        known.append(http.submit("sleep", mark))
        assert cancel(http, known[-1]).status_code == 200

    for job_id in known:
        shown = ended(http, job_id)
        assert shown["status"] == "cancelled"
        assert shown["finished_at"] is not None
        assert frames(http, job_id)[-1].line == "__END__:cancelled"
        assert finishes(http, job_id) == 1
        assert cancel(http, job_id).json() == {"detail": "Job is already cancelled"}
    until(lambda: not any(map(processes_with, marks)), "the end of every process")


def test_failing_10_sigterm_stops_the_server_whatever_is_connected(tmp_path: Path) -> None:
    """Graceful stop: a live stream delayed the exit until the job's end, a socket for ever."""
    gate = tmp_path / "gate"
    with Server.start(tmp_path / "data") as server, ExitStack() as open_things:
        open_things.callback(gate.touch)  # in any case, because the job outlives the server
        http = open_things.enter_context(Native(server))
        job_id = http.shell(f"echo begun; until [ -e {gate} ]; do sleep 0.05; done; echo over")
        readers = [open_things.enter_context(following(http, job_id)) for _ in range(5)]
        for reader in readers:
            assert [next(reader).line, next(reader).line][1] == "begun"
        for _ in range(3):
            open_things.enter_context(websocket(server)).recv(timeout=90)

        os.kill(server.pid, signal.SIGTERM)
        until(lambda: not server.running, "the exit", deadline_s=3)
        for reader in readers:
            assert list(reader) == []  # ended, not cut
        assert server.stop() in (0, -signal.SIGTERM)

        server.restart()
        with Native(server) as later:
            assert status(later, job_id)["status"] == "running"
            gate.touch()
            assert ended(later, job_id)["status"] == "completed"
            assert output(later, job_id) == ["begun", "over"]
            assert finishes(later, job_id) == 1


def test_failing_11_closed_sockets_leave_nothing_behind(server: Server) -> None:
    """Sockets leak: 200 opened and closed ones went on polling twice a second."""

    def descriptors() -> Counter[str]:
        found: Counter[str] = Counter()
        for entry in os.scandir(f"/proc/{server.pid}/fd"):
            try:
                found[os.readlink(entry.path).partition(":")[0]] += 1
            except FileNotFoundError:
                continue
        return found

    with websocket(server) as socket:
        socket.recv(timeout=90)
    before = descriptors()
    for _ in range(10):
        with ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(websocket(server)).recv(timeout=90)
            assert descriptors()["socket"] >= before["socket"] + 20
    until(
        lambda: (
            descriptors()["socket"] <= before["socket"] and descriptors().total() <= before.total()
        ),
        "as many descriptors as before",
    )


def test_failing_11_nobody_looks_at_the_states_when_nobody_listens(tmp_path: Path) -> None:
    """The same, seen from the directory: the kernel reports each time it is opened."""
    (tmp_path / "states").mkdir()
    with (
        Server.start(
            tmp_path / "data", CREWLOG_GITOMA_STATE_DIR=str(tmp_path / "states")
        ) as server,
        Watch(tmp_path / "states") as watch,
    ):
        with websocket(server) as socket:
            socket.recv(timeout=90)
            assert watch.opened_within(5)
        until(lambda: not watch.opened_within(1.2), "a second without a look")
        with (
            Native(server) as http,
            http.stream("GET", "/crewlog/v1/system/repositories/stream") as stream,
        ):
            data = (line[6:] for line in stream.iter_lines() if line.startswith("data: "))
            assert json.loads(next(data)) == []
            assert watch.opened_within(5)
            (tmp_path / "states" / "crew__log.json").write_text('{"phase": "DONE"}')
            assert [state["phase"] for state in json.loads(next(data))] == ["DONE"]
        until(lambda: not watch.opened_within(1.2), "a second without a look")


class Watch:
    """Detects with inotify(7) whether a directory is opened."""

    def __init__(self, directory: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _WATCH, str(directory)],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        self._events = self._process.stdout
        self._events.read(1)
        os.set_blocking(self._events.fileno(), False)

    def opened_within(self, seconds: float) -> bool:
        """Whether it is opened within the next `seconds`."""
        with suppress(BlockingIOError):
            os.read(self._events.fileno(), 65_536)
        return bool(select.select([self._events], [], [], seconds)[0])

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._events.close()


_WATCH = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
fd = libc.inotify_init1(0)
assert libc.inotify_add_watch(fd, os.fsencode(sys.argv[1]), 0x20) >= 0
os.write(1, b'!')
while os.read(fd, 65536):
    os.write(1, b'.')
"""


def test_failing_12_a_push_means_that_something_changed(server: Server, states: Path) -> None:
    """Change detection: the age of a heartbeat pushed everything twice a second."""
    state = {"phase": "WORKING", "last_heartbeat": "2026-01-01T00:00:00+00:00"}
    path = states / "crew__beating.json"

    def phase(frame: str | bytes) -> str | None:
        return next((s["phase"] for s in json.loads(frame) if "last_heartbeat" in s), None)

    path.write_text(json.dumps(state))
    with websocket(server) as socket:
        until(lambda: phase(socket.recv(timeout=90)) == "WORKING", "the state")
        with pytest.raises(TimeoutError):
            socket.recv(timeout=1.3)
        path.with_suffix(".new").write_text(json.dumps({**state, "phase": "DONE"}))
        path.with_suffix(".new").rename(path)
        assert phase(socket.recv(timeout=90)) == "DONE"
    path.unlink()


def test_failing_13_the_same_request_twice_is_one_job(http: Native) -> None:
    """No idempotency key: a repeated request made a second job."""
    key = {"Idempotency-Key": f"once-{os.getpid()}"}

    def post(**body: Any) -> httpx2.Response:
        return http.post("/api/v1/analyze", json={"repo_url": REPOSITORY, **body}, headers=key)

    with ThreadPoolExecutor(8) as pool:
        answers = [asked.result() for asked in [pool.submit(post) for _ in range(8)]]
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.text for answer in answers}) == 1
    job_id = answers[0].json()["job_id"]
    ended(http, job_id)
    assert post().text == answers[0].text
    assert post(repo_url=f"{REPOSITORY}-other").status_code == 422
    analyses = http.get("/api/jobs?limit=100&label=analyze").json()["items"]
    assert [job["id"] for job in analyses] == [job_id]


def test_failing_14_a_cancel_is_on_record_and_a_state_names_its_job(
    server: Server, http: Native
) -> None:
    """A cancel looked like a crash, and nothing linked a job to its state file."""
    sleeping = http.shell("echo $$; sleep 300")
    pid_of(http, sleeping)
    cancel(http, sleeping)
    assert ended(http, sleeping)["status"] == "cancelled"
    timeline = http.items(f"/jobs/{sleeping}/timeline")
    asked = next(entry for entry in timeline if entry["type"] == "job.cancel_requested")
    assert asked["actor"] == "operator"
    assert "cancel" in asked["sentence"].lower()
    assert timeline[-1]["type"] == "job.finished"

    job_id = dispatch(http, "review")
    start = json.loads(output(http, job_id)[0])
    assert start["env"]["CREWLOG_JOB_ID"] == job_id
    with websocket(server) as socket:
        pushed(socket, "log", job_id=job_id, is_orphaned=False)


def test_failing_14_a_state_that_a_cancel_left_is_no_orphan(
    server: Server, http: Native, states: Path
) -> None:
    """The same for a state in the middle of its work, which does not name the job."""
    url = "https://github.com/crew/cut"
    crashed = dispatch(http, "run", repo_url=url)
    with websocket(server) as socket:
        pushed(socket, "cut", job_id=crashed, is_alive=True, is_orphaned=False)
        (states / "crash").touch()
        assert ended(http, crashed)["status"] == "failed"
        pushed(socket, "cut", job_id=crashed, is_alive=False, is_orphaned=True)
        (states / "crash").unlink()

        cut = dispatch(http, "run", repo_url=f"{url}.git/")
        pushed(socket, "cut", job_id=cut, is_alive=True, is_orphaned=False)
        cancel(http, cut)
        seen = pushed(socket, "cut", is_alive=False)
        assert (seen["phase"], seen["exit_clean"]) == ("WORKING", False)
        assert ended(http, cut)["status"] == "cancelled"
        ended(http, dispatch(http, "analyze", repo_url=url))
    with websocket(server) as socket:  # whatever came in between, this state is pushed in the end
        pushed(socket, "cut", job_id=cut, is_alive=False, is_orphaned=False)


def pushed(socket: ClientConnection, name: str, **standing: Any) -> dict[str, Any]:
    """The state of this repository, once it is pushed with these values."""

    def now() -> dict[str, Any] | None:
        told: list[dict[str, Any]] = json.loads(socket.recv(timeout=DEADLINE_S))
        state = next((state for state in told if state.get("name") == name), {})
        return state if state.items() >= standing.items() else None

    return until(now, f"{name} as {standing}")


def test_failing_15_no_header_no_file_no_url_gets_round_a_rule(tmp_path: Path) -> None:
    """Rate limit by spelling, a 500 for a non-ASCII token, undeletable states, tokens in URLs."""
    states = tmp_path / "states"
    states.mkdir()
    (states / "crew__broken.json").write_bytes(b'{"phase": \xff')
    with (
        Server.start(
            tmp_path / "data",
            CREWLOG_GITOMA_RATE_LIMIT="3",
            CREWLOG_GITOMA_COMMAND=STAND_IN,
            CREWLOG_GITOMA_STATE_DIR=str(states),
        ) as server,
        Native(server) as http,
    ):
        answers = [
            http.post(
                "/api/v1/fix-ci",
                json={"repo_url": url, "branch": "main"},
                headers={"Authorization": f"{scheme}{server.token}"},
            )
            for scheme, url in (
                ("Bearer ", f"{REPOSITORY}/"),
                ("bearer ", f"{REPOSITORY}.git"),
                ("BEARER   ", REPOSITORY),
                ("bEaReR  ", REPOSITORY),
            )
        ]
        assert [answer.status_code for answer in answers] == [202, 202, 202, 429]
        for answer in answers[:3]:
            start = json.loads(output(http, answer.json()["job_id"])[0])
            assert start["argv"] == ["fix-ci", REPOSITORY, "--branch", "main"]

        foreign = {b"authorization": "Bearer tök€n".encode()}
        assert http.get("/api/v1/jobs", headers=foreign).status_code == 403

        deleted = http.delete("/api/v1/state/crew/broken")
        assert deleted.json() == {"owner": "crew", "name": "broken", "result": "deleted"}
        assert list(states.iterdir()) == []

        url = "https://ghp_0123456789abcdefghijABCDEFGHIJ012345@github.com/crew/log"
        job_id = http.submit("echo", url)
        assert output(http, job_id) == ["https://REDACTED@github.com/crew/log"]
        assert b"ghp_0123" not in http.get(f"/crewlog/v1/log?subject=job-{job_id}").content


def test_failing_16_every_setting_is_read(tmp_path: Path) -> None:
    """A setting was written but not read. Here each one works, or is refused by name."""
    file = tmp_path / "crewlog.toml"
    file.write_text(
        f'capacity = 7\ngitoma_rate_limit = 2\nworkdir = "{tmp_path}"\ntoken = "from-file"'
    )
    with (
        Server.start(
            tmp_path / "data",
            f"--config={file}",
            CREWLOG_TOKEN="token-of-the-environment",
            GITOMA_ALLOWED_HOSTS="127.0.0.1, crew.example",
            CREWLOG_GITOMA_COMMAND=STAND_IN,
        ) as server,
        Native(server) as http,
    ):
        assert http.get("/readyz").json()["capacity"] == 7
        assert http.get("/healthz", headers={"Host": "crew.example"}).status_code == 200
        assert http.get("/healthz", headers={"Host": "localhost"}).status_code == 400
        asked = [http.post("/api/v1/run", json={"repo_url": REPOSITORY}) for _ in range(3)]
        assert [answer.status_code for answer in asked] == [202, 202, 429]
        start = json.loads(output(http, asked[0].json()["job_id"])[0])
        assert start["cwd"] == str(tmp_path)
    for text, name in (("tokn = 'x'", "tokn"), ("capacity = 'many'", "capacity")):
        file.write_text(text)
        refused = crewlog("serve", "--config", file, "--data", tmp_path / "other")
        assert refused.returncode == 2
        assert name in refused.stderr


def test_failing_17_a_job_ends_with_its_process(http: Native) -> None:
    """The end depended on the pipe: a grandchild that held it kept the job `running`."""
    kept = http.shell("sleep 300 & echo $!; exit 0")
    escaped = http.submit(
        sys.executable,
        "-Sc",
        "from subprocess import Popen; "
        "print(Popen(['sleep', '300'], start_new_session=True, env={}).pid)",
    )
    pids = [int(output(http, job_id)[0]) for job_id in (kept, escaped)]
    try:
        assert [ended(http, job_id)["status"] for job_id in (kept, escaped)] == ["completed"] * 2
        ends(pids[0])
        assert is_alive(pids[1])
    finally:
        os.kill(pids[1], signal.SIGKILL)
