"""How jobs run: their order, their output, their end, and what they can read."""

import asyncio
import json
import os
import re
import shlex
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.crews import all_done, commit, job, stands
from tests.e2e.gitoma import frames, output
from tests.kit.client import Native
from tests.kit.processes import is_alive, processes_with
from tests.kit.server import Server
from tests.kit.waiting import until

CAPACITY = 4
LIMIT = 200_000
KIB = 1_024
MIB = 1_024 * KIB
SECRET = "correct-horse-battery"
GITHUB_TOKEN = "ghp_0123456789abcdefghijABCDEFGHIJ012345"
UNTIL = "until [ -e {gate} ]; do sleep 0.02; done"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server.start(
        tmp_path_factory.mktemp("running") / "data",
        "--stop-jobs",
        "--log-level=warning",
        f"--capacity={CAPACITY}",
        CREW_TOKEN=SECRET,
        CREW_API_KEY=f"{SECRET}-2",
        crew_password=f"{SECRET}-3",
        CREWLOG_TOKEN=f"{SECRET}-4",
        GITOMA_API_TOKEN=f"{SECRET}-5",
        GITHUB_TOKEN=GITHUB_TOKEN,
        CREW_PLAIN="plain",
    ) as started:
        yield started


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that runs one job at a time and keeps little output."""
    with Server.start(
        tmp_path_factory.mktemp("narrow") / "data",
        "--stop-jobs",
        "--log-level=warning",
        "--capacity=1",
        CREWLOG_OUTPUT_LIMIT_BYTES=str(LIMIT),
    ) as started:
        yield started


def fresh(tmp_path: Path, limit: int = 256 * MIB) -> Server:
    """A server for one test: earlier tests would raise its peak memory."""
    options = ("--stop-jobs", "--log-level=warning")
    return Server(tmp_path / "data", *options, CREWLOG_OUTPUT_LIMIT_BYTES=str(limit))


def outputs(http: Native, job_id: str) -> list[dict[str, Any]]:
    """The data of the job's output events."""
    return [event["data"] for event in http.events(job_id, "job.output")]


def logged(http: Native, job_id: str) -> list[str]:
    """The lines of an ended job as the log keeps them, each once and in order."""
    http.ended(job_id)
    lines: list[str] = []
    for data in outputs(http, job_id):
        assert data["first_line"] == len(lines) + 1
        lines += data["lines"]
    return lines


def end_of(http: Native, job_id: str) -> dict[str, Any]:
    """The data of the one event that ended the job."""
    http.ended(job_id)
    (end,) = http.events(job_id, "job.finished")
    data: dict[str, Any] = end["data"]
    return data


def starts_and_ends(http: Native) -> list[dict[str, Any]]:
    page = http.get("/crewlog/v1/log?type=job.started,job.finished&limit=1000").json()
    assert page["cursor"] is None
    return list(page["items"])


def peak_memory(server: Server) -> int:
    """Peak resident memory of the server, in bytes."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{server.pid}/status").read_text())
    assert found is not None
    return int(found[1]) * KIB


# Order and room


def test_jobs_start_in_the_order_in_which_they_were_queued(narrow: Server, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with Native(narrow) as http:
        first = http.shell(UNTIL.format(gate=gate))
        http.running(first)
        known = [first, *(http.submit("true") for _ in range(12))]
        assert [http.state(job_id) for job_id in known[1:]] == ["queued"] * 12
        gate.touch()
        http.ended(known[-1])
        walk = [(e["type"], e["stream"].removeprefix("job-")) for e in starts_and_ends(http)]

    mine = [(kind, job_id) for kind, job_id in walk if job_id in known]
    assert mine == [(kind, job_id) for job_id in known for kind in ("job.started", "job.finished")]


def test_no_more_jobs_run_than_there_is_room_for(http: Native, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    known = [http.shell(UNTIL.format(gate=gate)) for _ in range(3 * CAPACITY)]
    until(
        lambda: [http.state(job_id) for job_id in known].count("running") == CAPACITY,
        "as many jobs as there is room for",
    )
    gate.touch()
    for job_id in known:
        http.ended(job_id)

    now = most = 0
    for event in starts_and_ends(http):
        if event["type"] == "job.started":
            now += 1
        elif event["data"]["attempt"]:
            now -= 1
        most = max(most, now)
    assert (now, most) == (0, CAPACITY)


# Output


def test_any_bytes_come_out_as_lines(http: Native) -> None:
    crab = "; sleep 0.06; ".join(f"printf '\\{byte:o}'" for byte in "🦀é\n".encode())
    cases: dict[str, list[str]] = {
        r"printf 'a\377b\300\n'": [r"a\xffb\xc0"],
        r"printf '10%%\r50%%\r100%%\n'": ["10%", "50%", "100%"],
        r"printf 'one\r\ntwo\r\n'": ["one", "two"],
        r"printf 'one\ntwo'": ["one", "two"],
        r"printf 'no\n\n\nlines\n\n'": ["no", "", "", "lines", ""],
        r"printf 'nul\000nul\n'": [r"nul\x00nul"],
        r"printf '\033[31mred\033[0m\n'": ["\x1b[31mred\x1b[0m"],
        "echo out; echo err >&2; echo out": ["out", "err", "out"],
        crab: ["🦀é"],
        r"printf 'half'; sleep 0.2; printf ' and half\n'": ["half and half"],
        r"printf 'one\r'; sleep 0.2; printf '\ntwo\n'": ["one", "two"],
        "true": [],
    }
    known = [(http.shell(script), lines) for script, lines in cases.items()]

    for job_id, lines in known:
        assert logged(http, job_id) == lines
        assert output(http, job_id) == lines
        assert http.get(f"/api/jobs/{job_id}").json()["lines"] == len(lines)
        assert end_of(http, job_id)["lines"] == len(lines)


def test_every_byte_is_accounted_for(http: Native) -> None:
    written = r"one\r\n\rthree\377\n\nlast"
    job_id = http.shell(f"printf '{written}'")

    assert end_of(http, job_id)["output_bytes"] == 18
    assert outputs(http, job_id)[-1]["end_offset"] == 18


def test_a_line_of_three_mebibytes_is_kept_up_to_one_and_says_so(http: Native) -> None:
    job_id = http.shell(f"head -c {3 * MIB} /dev/zero | tr '\\0' x; echo; echo after")

    long, after = logged(http, job_id)
    note = f" …(line cut: {2 * MIB} bytes over the limit of {MIB} were dropped)"
    assert long == "x" * MIB + note
    assert after == "after"
    assert output(http, job_id) == ["x" * 4096 + "…(truncated)", "after"]
    assert end_of(http, job_id)["outcome"] == "completed"


def test_a_line_that_never_ends_costs_no_memory(tmp_path: Path) -> None:
    with fresh(tmp_path) as server, Native(server) as http:
        before = peak_memory(server)
        job_id = http.shell("head -c 100000000 /dev/zero | tr '\\0' x")

        (line,) = logged(http, job_id)
        assert line.startswith("x" * MIB + " …(line cut: 98951424 bytes")
        assert end_of(http, job_id)["output_bytes"] == 100_000_000
        assert peak_memory(server) - before < 60 * MIB


def test_millions_of_lines_cost_no_memory(tmp_path: Path) -> None:
    with fresh(tmp_path) as server, Native(server) as http:
        before = peak_memory(server)
        job_id = http.shell("yes | head -c 10000000")

        http.ended(job_id, deadline_s=120)
        assert http.get(f"/api/jobs/{job_id}").json()["lines"] == 5_000_000
        assert peak_memory(server) - before < 150 * MIB


def test_many_lines_come_once_in_order_and_in_few_events(http: Native) -> None:
    job_id = http.submit("seq", "20000")

    assert logged(http, job_id) == [str(number) for number in range(1, 20_001)]
    sizes = [sum(map(len, data["lines"])) for data in outputs(http, job_id)]
    assert len(sizes) < 200
    assert max(sizes) <= 64 * KIB + 8


def test_output_over_the_limit_is_dropped_counted_and_costs_no_memory(tmp_path: Path) -> None:
    with fresh(tmp_path, LIMIT) as server, Native(server) as http:
        before = peak_memory(server)
        lines = "head -c 1000000 /dev/zero | tr '\\0' y | fold -w 99"
        job_id = http.shell(f"{lines}; head -c 300000000 /dev/zero | tr '\\0' x; exit 3")
        kept = logged(http, job_id)
        (drop,) = [e["data"] for e in http.events(job_id, "job.output_dropped")]
        end = end_of(http, job_id)
        shown = http.get(f"/api/jobs/{job_id}").json()
        streamed = [frame.line for frame in frames(http, job_id)]
        told = http.items(f"/jobs/{job_id}/timeline")
        grown = peak_memory(server) - before

    assert kept == ["y" * 99] * (LIMIT // 100)
    wrote = 1_000_000 + -(-1_000_000 // 99) - 1 + 300_000_000
    assert end["output_bytes"] == wrote
    assert drop == {"attempt": 1, "from_offset": LIMIT, "bytes": wrote - LIMIT}
    assert (end["outcome"], end["exit_code"], end["lines"]) == ("failed", 3, len(kept))
    assert shown["droppedBytes"] == wrote - LIMIT
    assert streamed[-2:] == [
        f"[warn] {wrote - LIMIT} bytes of output over the limit were dropped",
        "__END__:failed",
    ]
    assert f"{wrote - LIMIT} bytes from byte {LIMIT} on" in told[-2]["sentence"]
    assert grown < 60 * MIB


# Ends


def test_a_silent_job_is_ended_by_its_time_limit(http: Native) -> None:
    job_id = http.shell("exec sleep 300", timeout_s=0.25)

    end = end_of(http, job_id)
    assert (end["outcome"], end["exit_code"]) == ("timed_out", -15)
    assert end["run_ms"] >= 250
    job = http.get(f"/api/jobs/{job_id}").json()
    assert (job["state"], job["outcome"], job["timeoutS"]) == ("failed", "timed_out", 0.25)
    assert job["failureReason"] == "The time limit passed."


def test_the_smallest_time_limit_is_one(server: Server, http: Native) -> None:
    alone = http.submit("sleep", "300", timeout_s=1e-5)
    crew = commit(server, http, job("a", "sleep 300", timeout_s=1e-5, lease_s=1e-5, max_retries=0))

    assert end_of(http, alone)["outcome"] == "timed_out"
    assert http.get(f"/api/jobs/{alone}").json()["timeoutS"] == 0.001
    stands(http, crew["a"], "blocked")
    submitted = http.events(crew["a"])[0]["data"]
    assert (submitted["timeout_ms"], submitted["plan"]["lease_ms"]) == (1, 1)


def test_a_cancelled_job_that_ignores_it_is_killed(http: Native) -> None:
    job_id = http.shell("trap '' TERM; echo $$; while :; do sleep 0.1; done")
    pid = int(until(lambda: outputs(http, job_id), "its first line")[0]["lines"][0])

    for _ in range(3):
        asked = http.post(f"/api/jobs/{job_id}/cancel")
        assert (asked.status_code, asked.json()["state"]) == (200, "running")
    assert is_alive(pid)
    end = end_of(http, job_id)
    assert (end["outcome"], end["exit_code"]) == ("cancelled", -9)
    assert end["run_ms"] >= 5_000
    assert not is_alive(pid)
    asks = http.events(job_id, "job.cancel_requested")
    assert len(asks) == 1


def test_a_job_may_tidy_up_when_it_is_cancelled(http: Native) -> None:
    tidy = "trap 'echo bye; exit 7' TERM; echo hello; exec 2>&-; while :; do sleep 0.02; done"
    job_id = http.shell(tidy)
    until(lambda: outputs(http, job_id), "its first line")
    http.post(f"/api/jobs/{job_id}/cancel")

    end = end_of(http, job_id)
    assert (end["outcome"], end["exit_code"]) == ("cancelled", 7)
    assert logged(http, job_id) == ["hello", "bye"]


def test_what_a_job_leaves_behind_is_ended_with_it(http: Native) -> None:
    """The exit code is its own, even if others of its group hold its output and ignore SIGTERM."""
    mark = f"{400_000 + os.getpid()}.5"
    left = f"(trap '' TERM; sleep {mark} & wait) & sleep {mark} | cat & echo begun; exit 5"
    job_id = http.shell(left)

    assert http.ended(job_id)["exitCode"] == 5
    assert logged(http, job_id) == ["begun"]
    until(lambda: not processes_with(mark), "the end of the whole group")


def test_forty_jobs_cancelled_at_forty_instants_end_once_each(server: Server) -> None:
    mark = f"{500_000 + os.getpid()}.5"

    async def create_and_cancel(http: httpx2.AsyncClient, number: int) -> str:
        created = await http.post("/api/jobs", json={"argv": ["sleep", mark]})
        job_id = str(created.json()["id"])
        await asyncio.sleep(number % 8 * 0.008)
        asked = [http.post(f"/api/jobs/{job_id}/cancel") for _ in range(1 + number % 3)]
        for answer in await asyncio.gather(*asked):
            # The first cancel may have ended the job already.
            assert answer.status_code in (200, 409), answer.text
        return job_id

    async def all_at_once() -> list[str]:
        async with httpx2.AsyncClient(
            base_url=server.url, headers=server.headers, trust_env=False, timeout=30
        ) as http:
            return await asyncio.gather(*(create_and_cancel(http, n) for n in range(40)))

    known = asyncio.run(all_at_once())
    with Native(server) as http:
        for job_id in known:
            assert end_of(http, job_id)["outcome"] == "cancelled"
            types = [event["type"] for event in http.events(job_id)]
            assert types.count("job.cancel_requested") == 1
            assert types.count("job.started") <= 1
            assert types[-1] == "job.finished"
    until(lambda: not processes_with(mark), "the end of every process")


# What a job can read, and what others can read of it


def test_a_job_knows_who_it_is_and_none_of_the_servers_secrets(http: Native) -> None:
    show = "import json,os,sys; print(json.dumps([sorted(os.environ), sys.stdin.read()]))"
    given = {"JOB_TOKEN": "given with the job", "CREW_PLAIN": "another"}
    job_id = http.submit(sys.executable, "-S", "-c", show, env=given)
    plain = http.shell('echo "$CREWLOG_JOB_ID $CREWLOG_ATTEMPT $CREW_PLAIN"')

    names, stdin = json.loads(logged(http, job_id)[0])
    assert {"CREWLOG_JOB_ID", "CREWLOG_ATTEMPT", "GITHUB_TOKEN", "JOB_TOKEN", "PATH"} <= set(names)
    assert not {"CREW_TOKEN", "CREW_API_KEY", "crew_password", "GITOMA_API_TOKEN"} & set(names)
    own = [name for name in names if name.startswith("CREWLOG_")]
    assert own == [
        "CREWLOG_ARTIFACTS",
        "CREWLOG_ATTEMPT",
        "CREWLOG_JOB_ID",
        "CREWLOG_RESULT",
        "CREWLOG_SERVER_FILE",
        "CREWLOG_URL",
        "CREWLOG_WORKER_TOKEN",
    ]
    assert stdin == ""
    assert logged(http, plain) == [f"{plain} 1 plain"]


def test_a_relative_directory_is_below_the_servers(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    with (
        Server.start(tmp_path / "data", CREWLOG_WORKDIR=str(tmp_path)) as server,
        Native(server) as http,
    ):
        known = [http.submit("pwd", cwd=cwd) for cwd in (None, "below", "/")]
        assert [logged(http, job_id) for job_id in known] == [
            [str(tmp_path)],
            [str(tmp_path / "below")],
            ["/"],
        ]


def test_the_private_part_of_a_job_is_a_private_file_until_its_end(
    server: Server, http: Native, tmp_path: Path
) -> None:
    gate, value = tmp_path / "gate", "a value of the environment"
    job_id = http.shell(
        f'{UNTIL.format(gate=gate)}; [ {shlex.quote(value)} = "$VALUE" ] && echo got it',
        env={"VALUE": value},
    )
    plain = http.submit("true")
    http.running(job_id)
    sealed = server.data / "sealed" / f"{job_id}.json"

    assert stat.S_IMODE(sealed.stat().st_mode) == 0o600
    assert stat.S_IMODE(sealed.parent.stat().st_mode) == 0o700
    assert not sealed.with_stem(plain).exists()
    gate.touch()
    assert logged(http, job_id) == ["got it"]
    until(lambda: not sealed.exists(), "the end of the file")


def test_the_private_part_goes_when_a_job_is_cancelled_before_its_start(
    narrow: Server, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    with Native(narrow) as http:
        http.running(http.shell(UNTIL.format(gate=gate)))
        job_id = http.submit("true", env={"VALUE": "x"})
        sealed = narrow.data / "sealed" / f"{job_id}.json"
        assert sealed.exists()
        assert http.post(f"/api/jobs/{job_id}/cancel").json()["outcome"] == "cancelled"
        until(lambda: not sealed.exists(), "the end of the file")
        gate.touch()


def test_a_job_runs_in_the_directory_that_was_given_whatever_the_log_shows_of_it(
    server: Server, http: Native, tmp_path: Path
) -> None:
    given, beside = tmp_path / SECRET, server.data / "templates" / SECRET
    given.mkdir()
    beside.mkdir(parents=True)
    alone = http.shell("touch alone", cwd=str(given))
    crew = commit(
        server,
        http,
        job("named", "touch named", cwd=str(given)),
        job("placed", "touch placed", "named", workspace=f"dir:{SECRET}"),
    )
    assert http.ended(alone)["state"] == "completed"
    all_done(http, crew)

    assert {path.name for path in given.iterdir()} == {"alone", "named"}
    assert {path.name for path in beside.iterdir()} == {"placed"}
    shown = [http.events(job_id)[0]["data"] for job_id in (alone, *crew.ids.values())]
    assert [Path(data["cwd"]).name for data in shown] == ["[REDACTED]"] * 3
    assert all(data["sealed"] for data in shown)


def test_credentials_in_output_never_reach_the_log(server: Server, http: Native) -> None:
    script = f"""
        echo "the server's own: {SECRET}"
        echo https://user:pass@crew.example/a https://{GITHUB_TOKEN}@github.com/crew/log
        printf 'in two writes: {GITHUB_TOKEN[:12]}'; sleep 0.2; echo '{GITHUB_TOKEN[12:]}'
        echo "$GITHUB_TOKEN" >&2
    """
    job_id = http.shell(script)

    assert logged(http, job_id) == [
        "the server's own: [REDACTED]",
        "https://REDACTED@crew.example/a https://REDACTED@github.com/crew/log",
        "in two writes: [REDACTED]",
        "[REDACTED]",
    ]
    seen = http.get(f"/api/v1/stream/{job_id}").text + http.get("/crewlog/v1/log/export").text
    assert not [secret for secret in (SECRET, GITHUB_TOKEN, "user:pass") if secret in seen]
