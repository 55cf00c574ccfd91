"""The server as a process: its environment, its log without a reader, and its life as process 1.
Commands without a reader of their output.
"""

import fcntl
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.gitoma import output
from tests.kit.client import Native
from tests.kit.processes import is_alive
from tests.kit.server import CREWLOG, Server, environment
from tests.kit.waiting import DEADLINE_S, until

TOKEN = "the-token-of-the-server-0123456789"
PASSWORD = "the-password-of-an-administrator"


def test_no_secret_is_in_the_environment_that_the_system_shows(tmp_path: Path) -> None:
    env: dict[str, Any] = {
        "CREWLOG_TOKEN": TOKEN,
        "CREWLOG_ADMIN_EMAIL": "ada@example.org",
        "CREWLOG_ADMIN_PASSWORD": PASSWORD,
        "CREWLOG_OIDC": '{"x": {"issuer": "http://127.0.0.1:9", "client_id": "i", '
        '"client_secret": "oidc-secret-0123456789"}}',
        "DEPLOY_TOKEN": "deploy-token-0123456789",
        "GH_TOKEN": "what-jobs-are-to-have",
        "PLAIN": "is there",
    }
    server = Server(tmp_path / "data", "--stop-jobs", **env)
    server.executed = True
    with server, Native(server) as http:
        shown = Path(f"/proc/{server.pid}/environ").read_bytes()
        for secret in (TOKEN, PASSWORD, "oidc-secret", "deploy-token"):
            assert secret.encode() not in shown
        assert b"PLAIN=is there\0" in shown
        script = f"cat /proc/{server.pid}/environ | tr '\\0' '\\n'; echo $GH_TOKEN | wc -c; "
        job_id = http.shell(script + "echo ${DEPLOY_TOKEN:-none}")
        assert http.ended(job_id)["exitCode"] == 0
        # The output is redacted, so only the length shows that the job had it.
        assert output(http, job_id)[-2:] == [str(len("what-jobs-are-to-have") + 1), "none"]
        written = http.shell("echo deploy-token-0123456789")
        http.ended(written)
        assert output(http, written) == ["[REDACTED]"]


def test_a_job_cannot_look_into_the_server_without_the_rights_of_root(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", "--stop-jobs", CREWLOG_TOKEN=TOKEN)
    if os.geteuid() == 0:
        server.prefix = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    with server, Native(server) as http:
        for what in ("environ", "mem", "maps"):
            job_id = http.shell(f"head -c 1 /proc/{server.pid}/{what}")
            shown = http.ended(job_id)
            assert (shown["state"], shown["exitCode"]) == ("failed", 1), what
            assert "Permission denied" in output(http, job_id)[0]


def full_pipe() -> tuple[int, int]:
    """A full pipe that nobody reads."""
    read, write = os.pipe()
    flags = fcntl.fcntl(write, fcntl.F_GETFL)
    fcntl.fcntl(write, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    try:
        while True:
            os.write(write, b"x" * 4_096)
    except BlockingIOError:
        fcntl.fcntl(write, fcntl.F_SETFL, flags)
    return read, write


def begun(data: Path, stdout: int, stderr: int) -> "tuple[subprocess.Popen[bytes], Server]":
    """A server with these for its output."""
    process = subprocess.Popen(
        [CREWLOG, "serve", "--port", "0", "--data", str(data), "--log-level", "debug"],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        env=environment(),
        process_group=0,
    )
    server = Server(data)
    try:
        until(server._answers, "the server answers")
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process, server


def test_a_log_that_nobody_reads_holds_nothing_up_and_says_later_what_is_missing(
    tmp_path: Path,
) -> None:
    read, write = full_pipe()
    process, server = begun(tmp_path / "data", write, write)
    try:
        with Native(server) as http:
            for _ in range(5_000):
                http.get("/healthz")
                if _ % 5 == 0:
                    http.get("/api/v1/jobs")
            assert http.ended(http.submit("true"))["state"] == "completed"
        os.close(write)
        write = -1
        told = b""
        while b"records were dropped" not in told:
            told = told[-100:] + os.read(read, 65_536)
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == -signal.SIGTERM
    finally:
        process.kill()
        process.wait()
        os.close(read)
        if write >= 0:
            os.close(write)


@pytest.mark.parametrize("closed", [False, True], ids=["full", "closed"])
def test_a_server_whose_log_takes_nothing_stops_when_asked(tmp_path: Path, closed: bool) -> None:
    read, write = full_pipe()
    if closed:
        os.close(read)
    process, server = begun(tmp_path / "data", write, write)
    try:
        with Native(server) as http:
            assert http.ended(http.submit("true"))["state"] == "completed"
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == -signal.SIGTERM
    finally:
        process.kill()
        process.wait()
        os.close(write)
        if not closed:
            os.close(read)


COMMANDS = (
    ("jobs", "list"),
    ("jobs", "list", "--json"),
    ("jobs", "logs", "{job}"),
    ("jobs", "show", "{job}"),
    ("log", "export", "-"),
    ("version",),
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    """A server, and a job of it with more output than a pipe holds."""
    with Server.start(tmp_path_factory.mktemp("written") / "data") as server:
        with Native(server) as http:
            job_id = http.shell("seq 100000")
            http.ended(job_id)
        yield server, job_id


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("how", ["> /dev/full", ">&-", "| true", "> >(true)"])
def test_a_command_whose_output_nobody_takes_says_so_in_a_sentence(
    written: tuple[Server, str], command: tuple[str, ...], how: str
) -> None:
    server, job_id = written
    words = " ".join(word.format(job=job_id) for word in command)
    data = "" if command == ("version",) else f"--data {server.data}"
    # The reader of the pipe has exited before the command begins to write.
    run = f"(sleep 0.3; exec {CREWLOG} {words} {data})" if "true" in how else ""
    script = f"{run or f'{CREWLOG} {words} {data}'} {how}; exit ${{PIPESTATUS[0]}}"
    ran = subprocess.run(
        ["bash", "-c", script],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 1, ran.stderr
    (sentence,) = ran.stderr.splitlines()
    assert sentence.startswith("The output cannot be written: ")


def test_output_that_is_taken_is_whole(written: tuple[Server, str]) -> None:
    server, job_id = written
    command = [CREWLOG, "jobs", "logs", job_id, "--data", str(server.data)]
    ran = subprocess.run(command, env=environment(), capture_output=True, check=True)
    assert ran.stdout == b"".join(b"%d\n" % n for n in range(1, 100_001))
    # At a terminal too, standard error must stay empty.
    leader, follower = pty.openpty()
    try:
        listed = subprocess.run(
            [CREWLOG, "version"], stdout=follower, stderr=subprocess.PIPE, check=True
        )
        assert (listed.stderr, os.read(leader, 100)[:8]) == (b"", b"crewlog ")
    finally:
        os.close(leader)
        os.close(follower)


def as_first_process() -> tuple[str, ...]:
    """The prefix that runs a command as process 1 of its own namespace."""
    rights = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    return ("unshare", *rights, "--pid", "--fork", "--mount-proc", "--kill-child")


def children(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_as_process_1_the_server_reaps_and_hands_on_signals(tmp_path: Path) -> None:
    server = Server(tmp_path / "data")
    server.prefix = as_first_process()
    with server, Native(server) as http:
        (first,) = children(server.pid)
        (itself,) = children(first)
        left = "env -u CREWLOG_JOB_ID setsid sleep 0.4 > /dev/null 2>&1 &"
        for job_id in [http.shell(script) for script in ("true", left, left) for _ in range(5)]:
            assert http.ended(job_id)["exitCode"] == 0
        until(lambda: children(first) == [itself], "all that was left is reaped")
        os.kill(first, signal.SIGTERM)
        until(lambda: not is_alive(itself) and not is_alive(first), "both have gone")
        assert server.stop() == 128 + signal.SIGTERM
        assert "Traceback" not in server.output.read_text()
