"""The command line against a real server: its output and its exit codes."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from api.commands.client import Client, Endpoint, Rejected, Unreachable, find
from api.commands.doctor import readers_check, sqlite_check
from api.commands.jobs import exit_code
from api.commands.main import main
from domain.account.aggregate import UserIdentityLinked, UserRegistered
from domain.catalogue import CATALOGUE
from domain.log import Context, new_events, open_sqlite_log
from domain.redaction import Redactor
from projections.views import PROJECTIONS
from tests.kit import server as kit_server
from tests.kit.client import Native
from tests.kit.server import CREWLOG, Server, environment
from tests.kit.waiting import until

_DEADLINE_S = 90.0


@dataclass(frozen=True)
class Ran:
    """Output and exit code of a command."""

    returncode: int
    stdout: str
    stderr: str


def crewlog(*arguments: str | Path, data: Path, **env: str) -> Ran:
    """Run the command on a data directory to its end, in this process because that is faster."""
    out, err = BytesIO(), BytesIO()
    code = 0
    with (
        mock.patch.dict(os.environ, environment(CREWLOG_DATA=str(data), **env), clear=True),
        mock.patch.object(sys, "argv", ["crewlog", *map(str, arguments)]),
        redirect_stdout(TextIOWrapper(out, encoding="utf-8", write_through=True)),
        redirect_stderr(TextIOWrapper(err, encoding="utf-8", write_through=True)),
    ):
        try:
            main()
        except SystemExit as left:
            code = int(left.code or 0)
        printed = out.getvalue().decode(), err.getvalue().decode()
    return Ran(code, *printed)


def crewlog_process(*arguments: str | Path, data: Path, **env: str) -> Ran:
    """The installed command in a pipe."""
    ran = kit_server.crewlog(*arguments, given="", cwd=None, CREWLOG_DATA=str(data), **env)
    return Ran(ran.returncode, ran.stdout, ran.stderr)


def begin(*arguments: str, data: Path) -> subprocess.Popen[str]:
    """The command in the background."""
    return subprocess.Popen(
        [CREWLOG, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(CREWLOG_DATA=str(data)),
        # If the suite runs in the background, its children inherit an ignored SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=_DEADLINE_S)
    finally:
        process.kill()
        process.wait()
    return process.returncode, out, err


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server.start(tmp_path_factory.mktemp("cli") / "data", "--stop-jobs") as running:
        yield running


@pytest.fixture(scope="module")
def job(server: Server) -> str:
    """A job that has written nine lines and completed."""
    made = crewlog(
        "jobs",
        "run",
        "--title",
        "Count [bold]to[/] nine\x1b[31m",
        "--json",
        "--",
        "seq",
        "9",
        data=server.data,
    )
    assert made.returncode == 0, made.stderr
    return str(json.loads(made.stdout)["id"])


# jobs run


ENDINGS = {
    "completed": (["true"], 0),
    "its process's exit code": (["sh", "-c", "exit 7"], 7),
    "killed by a signal": (["sh", "-c", "kill -9 $$"], 137),
    "timed out": (["--timeout", "0.2", "--", "sleep", "60"], 124),
    "no such program": (["no-such-program-anywhere"], 1),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_the_job_s_result_is_the_exit_code(name: str, server: Server) -> None:
    arguments, code = ENDINGS[name]
    assert crewlog("jobs", "run", *arguments, data=server.data).returncode == code


def test_a_job_that_failed_without_a_code_is_1() -> None:
    assert exit_code({"outcome": "failed", "exitCode": None}) == 1
    assert exit_code({"outcome": "failed", "exitCode": 0}) == 1
    assert exit_code({"outcome": "cancelled", "exitCode": -15}) == 130


def test_run_prints_the_lines_and_nothing_else_on_stdout(server: Server) -> None:
    script = r"echo one; printf 'two \303\274\n' >&2; printf 'three \377'; echo $NAME"
    ran = crewlog(
        "jobs", "run", "--env", "NAME=value=x", "--", "sh", "-c", script, data=server.data
    )
    assert ran.stdout == "one\ntwo ü\nthree \\xffvalue=x\n"
    assert ran.returncode == 0


def test_run_passes_the_options_of_the_program_on(server: Server) -> None:
    assert crewlog("jobs", "run", "echo", "-n", "--json", data=server.data).stdout == "--json\n"


def test_detached_it_prints_the_id_and_the_key_makes_one_job(server: Server) -> None:
    arguments = ("jobs", "run", "--detach", "--idempotency-key", "once", "--", "true")
    first = crewlog(*arguments, data=server.data)
    second = crewlog(*arguments, data=server.data)
    assert re.fullmatch(r"[0-9a-f-]{36}\n", first.stdout)
    assert first.stdout == second.stdout
    other = crewlog(*arguments, "other", data=server.data)
    assert other.returncode == 1
    assert "used before with a different request" in other.stderr


def test_ctrl_c_cancels_the_job_and_waits_for_its_end(server: Server) -> None:
    running = begin("jobs", "run", "--", "sh", "-c", "echo begun; sleep 60", data=server.data)
    assert running.stdout is not None
    assert running.stdout.readline() == "begun\n"
    running.send_signal(signal.SIGINT)
    code, _, err = ended(running)
    assert code == 130
    assert "Cancelling the job" in err
    assert "Cancelled after" in err


def test_a_second_ctrl_c_leaves_the_job(server: Server) -> None:
    stubborn = "trap 'echo told' TERM; echo begun; while :; do sleep 0.1; done"
    running = begin("jobs", "run", "--", "sh", "-c", stubborn, data=server.data)
    assert running.stdout is not None
    assert running.stdout.readline() == "begun\n"
    running.send_signal(signal.SIGINT)
    assert "told\n" in iter(running.stdout.readline, "")
    running.send_signal(signal.SIGINT)
    code, _, err = ended(running)
    assert code == 130
    assert "crewlog jobs show" in err
    assert "Cancelled after" not in err


def test_run_goes_on_where_it_was_when_the_server_is_killed(tmp_path: Path) -> None:
    goes_on = tmp_path / "goes on"
    script = f"seq 1 50; while ! test -e '{goes_on}'; do sleep 0.05; done; seq 51 100"
    with Server.start(tmp_path / "data") as server:
        running = begin("jobs", "run", "--", "sh", "-c", script, data=server.data)
        assert running.stdout is not None
        before = [running.stdout.readline() for _ in range(50)]
        server.kill()
        server.restart()
        goes_on.touch()
        code, after, err = ended(running)
        sound = crewlog("log", "verify", data=server.data)
    assert "".join(before) + after == "".join(f"{n}\n" for n in range(1, 101))
    assert code == 0
    assert "Connected again" in err
    assert sound.returncode == 0


# jobs list, show, cancel, logs


def test_list_shows_jobs_newest_first_without_colours_in_a_pipe(server: Server, job: str) -> None:
    shown = crewlog("jobs", "list", "--all", data=server.data).stdout
    assert shown.splitlines()[0].split() == [
        "ID", "STATE", "CREATED", "RAN", "LINES", "TITLE",
    ]  # fmt: skip
    [line] = [line for line in shown.splitlines() if line.startswith(job)]
    assert line.split()[1] == "completed"
    assert line.rstrip().endswith(r"Count [bold]to[/] nine\x1b[31m")
    assert "\x1b" not in shown


def test_list_filters_and_limits(server: Server, job: str) -> None:
    made = crewlog("jobs", "run", "-d", "--label", "rare", "--", "true", data=server.data)
    rare = json.loads(crewlog("jobs", "list", "--label", "rare", "--json", data=server.data).stdout)
    assert [job["id"] for job in rare] == [made.stdout.strip()]
    one = json.loads(crewlog("jobs", "list", "--limit", "1", "--json", data=server.data).stdout)
    assert len(one) == 1
    wrong = crewlog("jobs", "list", "--state", "sleeping", data=server.data)
    assert wrong.returncode == 2
    assert "There is no state" in wrong.stderr


def test_the_beginning_of_an_id_is_enough(server: Server, job: str) -> None:
    shown = crewlog("jobs", "show", job[:-2], "--json", data=server.data)
    job_shown = json.loads(shown.stdout)
    assert job_shown["id"] == job
    assert [entry["type"] for entry in job_shown["timeline"]] == [
        "job.submitted", "job.queued", "job.started", "job.finished",
    ]  # fmt: skip
    assert crewlog("jobs", "show", "fff-", data=server.data).returncode == 1
    # Of seventeen ids, two begin with the same hex digit.
    for _ in range(17):
        crewlog("jobs", "run", "-d", "--label", "many", "--", "true", data=server.data)
    many = json.loads(crewlog("jobs", "list", "--label", "many", "--json", data=server.data).stdout)
    [(digit, _)] = Counter(job["id"][0] for job in many).most_common(1)
    several = crewlog("jobs", "show", digit, data=server.data)
    assert several.returncode == 1
    assert f"jobs have ids that begin with '{digit}'" in several.stderr


def test_show_tells_what_happened(server: Server, job: str) -> None:
    shown = crewlog("jobs", "show", job, data=server.data).stdout
    assert "Output     9 lines, 18 bytes" in re.sub(r" {2,}", "     ", shown)
    assert "Attempt 1 started on" in shown
    missing = crewlog("jobs", "show", "0" * 36, data=server.data)
    assert (missing.returncode, missing.stderr) == (1, "Job not found\n")


def test_cancel_and_cancel_again(server: Server) -> None:
    job = crewlog("jobs", "run", "-d", "--", "sleep", "60", data=server.data).stdout.strip()
    assert crewlog("jobs", "cancel", job, data=server.data).returncode == 0

    def outcome() -> Any:
        shown = crewlog("jobs", "show", job, "--json", data=server.data)
        return json.loads(shown.stdout)["outcome"]

    assert until(outcome) == "cancelled"
    again = crewlog("jobs", "cancel", job, data=server.data)
    assert (again.returncode, again.stderr) == (1, "Job is already cancelled\n")


def test_logs_whole_tailed_and_as_json(server: Server, job: str) -> None:
    assert crewlog("jobs", "logs", job, data=server.data).stdout.split() == list("123456789")
    assert crewlog("jobs", "logs", job, "-n", "2", data=server.data).stdout == "8\n9\n"
    assert crewlog("jobs", "logs", job, "-n", "0", data=server.data).stdout == ""
    lines = crewlog("jobs", "logs", job, "--follow", "--json", data=server.data).stdout
    assert [json.loads(line)["line"] for line in lines.splitlines()] == list("123456789")


def test_logs_follow_to_the_end(server: Server, tmp_path: Path) -> None:
    goes_on = tmp_path / "goes on"
    script = f"echo one; while ! test -e '{goes_on}'; do sleep 0.05; done; echo two"
    started = crewlog("jobs", "run", "-d", "--", "sh", "-c", script, data=server.data)
    following = begin("jobs", "logs", "-f", started.stdout.strip(), data=server.data)
    assert following.stdout is not None
    assert following.stdout.readline() == "one\n"
    goes_on.touch()
    code, rest, errors = ended(following)
    assert (code, rest, errors) == (0, "two\n", "")


def test_a_job_that_is_done_again_is_followed_to_its_last_end(
    server: Server, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    script = f"echo begun; until [ -e '{gate}' ]; do sleep 0.05; done; echo over"
    asked = ("jobs", "run", "--idempotency-key", "again", "--", "sh", "-c", script)
    gate.touch()
    assert crewlog(*asked, data=server.data).stdout.split() == ["begun", "over"]
    job_id = json.loads(crewlog("jobs", "list", "--json", data=server.data).stdout)[0]["id"]

    gate.unlink()
    with Native(server) as http:
        assert http.post(f"/api/jobs/{job_id}/redo", json={"feedback": ""}).status_code == 200
    followers = [
        begin("jobs", "logs", "--follow", job_id, data=server.data),
        begin(*asked, data=server.data),
    ]
    for follower in followers:
        assert follower.stdout is not None
        assert [follower.stdout.readline() for _ in range(3)] == ["begun\n", "over\n", "begun\n"]
    gate.touch()
    for follower in followers:
        code, rest, errors = ended(follower)
        assert (code, rest) == (0, "over\n"), errors
        assert "lost" not in errors


# log


def test_log_show_pages_and_filters(server: Server, job: str) -> None:
    arguments = ("log", "show", "--subject", f"job-{job}", "--json")
    page = json.loads(crewlog(*arguments, data=server.data).stdout)
    types = [event["type"] for event in page["events"]]
    assert types[0] == "job.submitted"
    assert types[-1] == "job.finished"
    queued = json.loads(crewlog(*arguments, "--type", "job.queued", data=server.data).stdout)
    assert [event["type"] for event in queued["events"]] == ["job.queued"]
    some = crewlog("log", "show", "--after", "1", "--before", "4", data=server.data)
    assert [line.split()[0] for line in some.stdout.splitlines()] == ["POSITION", "2", "3"]


def test_log_tail_shows_each_event_once_through_a_restart(tmp_path: Path) -> None:
    with Server.start(tmp_path / "data") as server:
        tailing = begin("log", "tail", "--after", "0", "--json", data=server.data)
        assert tailing.stdout is not None
        crewlog("jobs", "run", "--", "true", data=server.data)
        before = [json.loads(tailing.stdout.readline())["position"] for _ in range(4)]
        server.restart()
        crewlog("jobs", "run", "--", "true", data=server.data)
        after = [json.loads(tailing.stdout.readline())["position"] for _ in range(4)]
        tailing.send_signal(signal.SIGINT)
        code, _, err = ended(tailing)
    assert [*before, *after] == list(range(1, 9))
    assert code == 130
    assert "Traceback" not in err


def test_export_import_export_is_the_same_file(server: Server, job: str, tmp_path: Path) -> None:
    first, second = tmp_path / "first.ndjson", tmp_path / "second.ndjson"
    assert crewlog("log", "export", first, data=server.data).returncode == 0
    assert first.stat().st_mode & 0o777 == 0o600
    imported = crewlog("log", "import", first, "--json", data=tmp_path / "copy")
    events = len(first.read_bytes().splitlines()) - 1
    assert json.loads(imported.stdout)["events"] == events
    with Server.start(tmp_path / "copy") as copy:
        exported = crewlog("log", "export", data=copy.data)
        second.write_text(exported.stdout)
        shown = crewlog("jobs", "logs", job, data=copy.data)
        owned = crewlog("log", "import", first, data=copy.data)
    # A copy of a log goes on with its running jobs, so only the exported events are compared.
    assert second.read_bytes().splitlines()[:events] == first.read_bytes().splitlines()[:-1]
    assert shown.stdout.split() == list("123456789")
    assert owned.returncode == 2
    assert "belongs to another process" in owned.stderr


def test_a_bad_export_is_refused_by_line(tmp_path: Path) -> None:
    bad = tmp_path / "bad.ndjson"
    bad.write_text("{}\n")
    refused = crewlog("log", "import", bad, data=tmp_path / "data")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "Line 1: the envelope has no position. Nothing was imported.\n"
    missing = crewlog("log", "import", tmp_path / "none", data=tmp_path / "data")
    assert missing.returncode == 1
    assert "No such file" in missing.stderr


def test_verify_beside_a_running_server(server: Server, job: str) -> None:
    verified = json.loads(crewlog("log", "verify", "--json", data=server.data).stdout)
    assert verified["sound"]
    assert verified["events"] > 0


def test_verify_without_a_log(tmp_path: Path) -> None:
    refused = crewlog("log", "verify", data=tmp_path)
    assert (refused.returncode, refused.stderr) == (2, f"There is no log in {tmp_path}.\n")


# projections


def test_views_are_rebuilt_with_equal_digests(server: Server, job: str) -> None:
    rebuilt = crewlog("projections", "rebuild", "--all", data=server.data)
    assert rebuilt.returncode == 0
    assert len(rebuilt.stdout.splitlines()) == len(PROJECTIONS)
    assert all("the same digest" in line for line in rebuilt.stdout.splitlines())
    one = json.loads(crewlog("projections", "rebuild", "jobs", "--json", data=server.data).stdout)
    assert [view["rebuildMatched"] for view in one["projections"]] == [True]
    status = json.loads(crewlog("projections", "status", "--json", data=server.data).stdout)
    assert {view["status"] for view in status["projections"]} == {"live"}
    unknown = crewlog("projections", "rebuild", "a/b?c", data=server.data)
    assert unknown.returncode == 1
    assert crewlog("projections", "rebuild", data=server.data).returncode == 2


# doctor, version, serve


def test_doctor_on_a_running_server(server: Server) -> None:
    doctor = crewlog("doctor", "--json", data=server.data)
    checks = {check["name"]: check for check in json.loads(doctor.stdout)["checks"]}
    failed = [check for check in checks.values() if check["status"] == "fail"]
    assert (doctor.returncode, failed) == (0, [])
    assert {"python", "sqlite", "data", "server", "token", "ready", "lag"} <= set(checks)


def test_doctor_says_which_reader_waits_left_events_out_or_is_behind() -> None:
    view = {"kind": "view", "name": "jobs", "lag": 3}
    policy = {"kind": "policy", "name": "crews", "lag": 0, "problem": None, "passedOver": 0}
    assert readers_check([view, policy]).status == "ok"
    for wrong, text in (
        ({**policy, "problem": "The log cannot be read: x"}, "crews waits: The log cannot be read"),
        ({**policy, "passedOver": 2}, "The policy crews passed over 2 events after errors."),
        ({**policy, "lag": 1_000_000}, "The policy crews is 1000000 events behind."),
    ):
        found = readers_check([view, wrong])
        assert found.status == "warn"
        assert text in found.sentence


def test_doctor_names_accounts_that_were_opened_to_a_look_alike(tmp_path: Path) -> None:
    """Versions up to 0.2 did so, because they compared addresses by Unicode case folding."""
    other = "mi\u212ae@example.org"
    mike = UserRegistered(email="mike@example.org", name="Mike", role="admin", provider="local")
    linked = UserIdentityLinked(issuer="i", subject="s", email=other, provider="corp")
    (tmp_path / "data").mkdir(mode=0o700)
    log = open_sqlite_log(tmp_path / "data", redactor=Redactor(), catalogue=CATALOGUE)
    events = new_events("user-u", [mike, linked], Context(actor="operator"))
    asyncio.run(log.append(events, {"user-u": 0}))
    log.close()
    with Server.start(tmp_path / "data", "--capacity=0") as old:
        doctor = crewlog("doctor", "--json", data=old.data)
    checks = [c for c in json.loads(doctor.stdout)["checks"] if c["name"] == "accounts"]
    assert [check["status"] for check in checks] == ["warn"]
    assert other in checks[0]["sentence"]
    assert "mike@example.org (u)" in checks[0]["sentence"]


def test_doctor_finds_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    (tmp_path / "token").chmod(0o644)
    url = f"http://127.0.0.1:{free_port()}"
    doctor = crewlog("doctor", "--json", data=tmp_path, CREWLOG_URL=url)
    failed = {c["name"]: c for c in json.loads(doctor.stdout)["checks"] if c["status"] == "fail"}
    assert doctor.returncode == 1
    assert set(failed) == {"token mode", "server"}
    assert failed["token mode"]["remedy"] == f"chmod 600 {tmp_path / 'token'}"
    shown = crewlog("doctor", data=tmp_path, CREWLOG_URL=url).stdout
    assert f"No server answers at {url}" in shown
    assert "secret" not in shown


@pytest.mark.parametrize(
    ("version", "status"),
    [("3.6.23", "ok"), ("3.7.0", "warn"), ("3.51.2", "warn"), ("3.51.3", "ok"), ("4.0", "ok")],
)
def test_the_wal_reset_bug_is_named(version: str, status: str) -> None:
    assert sqlite_check(version).status == status


def test_version(tmp_path: Path) -> None:
    version = crewlog("version", "--json", data=tmp_path)
    assert re.fullmatch(r"\d+\.\d+\.\d+", json.loads(version.stdout)["version"])


def test_a_second_server_is_refused_in_one_sentence(server: Server) -> None:
    refused = crewlog_process("serve", "--port", "0", data=server.data)
    assert refused.returncode == 2
    assert f"pid {server.pid}" in refused.stderr
    assert "Traceback" not in refused.stderr


REFUSED_SETTINGS = {
    "a port that is none": ({"CREWLOG_PORT": "many"}, "The setting 'port' is not valid"),
    "a level that is none": ({"CREWLOG_LOG_LEVEL": "loud"}, "'log_level' must be one of"),
    "a command that is cut": (
        {"CREWLOG_GITOMA_COMMAND": 'a "b'},
        "The setting 'gitoma_command' is not valid: No closing quotation.",
    ),
    "an agent's that is cut": (
        {"CREWLOG_AGENT_COMMAND": "a b\\"},
        "The setting 'agent_command' is not valid: No escaped character.",
    ),
    "a host that is none": (
        {"GITOMA_ALLOWED_HOSTS": "localhost, a/b"},
        "The setting 'allowed_hosts' is not valid: 'a/b' is not a host name",
    ),
    "a token that cannot be redacted": (
        {"CREWLOG_TOKEN": "seven77"},
        "The setting 'token' is not valid: A token must have at least 8 characters.",
    ),
    **{
        f"the zone {zone}": (
            {"CREWLOG_TIMEZONE": zone},
            f"The setting 'timezone' is not valid: {zone!r} is not an IANA time zone.",
        )
        for zone in ("Factory", "localtime", "right/UTC", "Europe", "../UTC")
    },
    "a file that is not there": ({"CREWLOG_CONFIG": "/no/such/file"}, "does not exist"),
    "off loopback without a token": ({"CREWLOG_HOST": "0.0.0.0"}, "needs a token"),
}


@pytest.mark.parametrize("name", REFUSED_SETTINGS)
def test_wrong_settings_are_one_sentence(name: str, tmp_path: Path) -> None:
    env, sentence = REFUSED_SETTINGS[name]
    refused = crewlog_process("serve", data=tmp_path / "data", **env)
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert sentence in refused.stderr
    assert not (tmp_path / "data").exists()


def test_a_settings_file_is_weaker_than_the_options(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('capacity = 7\nlog_level = "error"\nnonsense = 1\n')
    refused = crewlog_process("serve", "--config", file, data=tmp_path / "data")
    assert (refused.returncode, refused.stderr) == (2, "There is no setting called 'nonsense'.\n")
    file.write_text('capacity = 7\nlog_level = "error"\n')
    options = ("--config", str(file), "--log-level", "info")
    with Server.start(tmp_path / "data", *options) as server:
        with Client(lambda: Endpoint(server.url, None)) as client:
            assert client.get("/readyz")["capacity"] == 7
        assert "INFO" in server.output.read_text()


def test_client_commands_do_not_import_the_server() -> None:
    program = "import sys, api.commands.main; print(*sys.modules)"
    loaded = subprocess.run(
        [Path(CREWLOG).with_name("python"), "-c", program],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    heavy = {"fastapi", "starlette", "uvicorn", "sqlalchemy", "eventsourcing", "pydantic", "httpx2"}
    assert heavy.isdisjoint(loaded)


# the client


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_without_a_server_it_says_how_to_start_one(tmp_path: Path) -> None:
    refused = crewlog("jobs", "list", "--url", f"http://127.0.0.1:{free_port()}", data=tmp_path)
    assert refused.returncode == 2
    assert "Start one with 'crewlog serve'" in refused.stderr


def test_a_wrong_token_is_said(server: Server) -> None:
    refused = crewlog("jobs", "list", "--token", "wröng", data=server.data)
    assert refused.returncode == 1
    assert "Invalid authentication token" in refused.stderr


def test_the_token_of_this_directory_is_for_its_own_server_only(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "server.json").write_text('{"url": "http://10.0.0.1:8080", "pid": 1}')

    def found(url: str | None, token: str | None = None) -> Endpoint:
        return find(url, token, lambda: tmp_path)

    assert found(None) == Endpoint("http://10.0.0.1:8080", "secret")
    assert found("http://127.0.0.1:9999/") == Endpoint("http://127.0.0.1:9999", "secret")
    assert found("http://elsewhere.example").token is None
    assert found("http://elsewhere.example", "given").token == "given"


class Scripted:
    """A server that gives each connection the next answer, and closes it."""

    def __init__(self, *answers: bytes) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._port = self._listener.getsockname()[1]
        self._answers = answers
        self.requests: list[str] = []
        self._thread = threading.Thread(target=self._serve)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def _serve(self) -> None:
        for answer in self._answers:
            connection, _ = self._listener.accept()
            with connection:
                if len(self.requests) + 1 == len(self._answers):
                    self._listener.close()
                asked = b""
                while b"\r\n\r\n" not in asked:
                    asked += connection.recv(65_536)
                self.requests.append(asked.decode())
                connection.sendall(answer)

    def __enter__(self) -> "Scripted":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(_DEADLINE_S)


def stream_of(*frames: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"
    body = b"".join(frames)
    # Longer than the body: the connection is cut before the end.
    return head + b"Content-Length: %d\r\n\r\n%s" % (len(body) + 100, body)


def test_a_stream_goes_on_after_the_last_whole_frame() -> None:
    first = stream_of(b"retry: 10\n\n", b"id: 1\ndata: a\n\nid: 2\ndata: b\n\nid: 3\nda")
    busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    second = stream_of(b"retry: 10\n\n: heartbeat\n\n", b"id: 3\ndata: c\n\n")
    over = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
    with Scripted(first, busy, second, over) as server:
        notices: list[str] = []
        with Client(lambda: Endpoint(server.url, None), notice=notices.append) as client:
            assert [event.data for event in client.follow("/stream")] == ["a", "b", "c"]
    cursors = [re.findall(r"(?i)last-event-id: (.*)\r", request) for request in server.requests]
    assert cursors == [[], ["2"], ["2"], ["3"]]
    assert notices[:2] == ["The connection was lost; trying to resume…", "Connected again."]


def test_a_stream_gives_up_when_nobody_comes_back() -> None:
    with Scripted(stream_of(b"retry: 1\n\nid: 1\ndata: a\n\n")) as server:
        client = Client(lambda: Endpoint(server.url, None), patience_s=0.0)
        with client, pytest.raises(Unreachable, match="Gave up after"):
            list(client.follow("/stream"))


def test_a_stream_that_is_refused_is_not_asked_again() -> None:
    head = b"HTTP/1.1 404 No\r\nContent-Length: 26\r\nConnection: close\r\n\r\n"
    with Scripted(head + b'{"detail":"Job not found"}') as server:
        client = Client(lambda: Endpoint(server.url, None))
        with client, pytest.raises(Rejected, match="Job not found"):
            list(client.follow("/stream"))


def test_what_is_no_crewlog_is_said() -> None:
    page = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>"
    with Scripted(page) as server:
        client = Client(lambda: Endpoint(server.url, None))
        with client, pytest.raises(Rejected, match="is not a crewlog server"):
            client.get("/crewlog/v1/jobs")


def until_closed(reading: int) -> bytes:
    """All output of a terminal or pipe, until its other end is closed."""
    shown = b""
    # Linux raises an error when the other end of a terminal is closed.
    with suppress(OSError):
        while piece := os.read(reading, 65_536):
            shown += piece
    os.close(reading)
    return shown


@pytest.mark.parametrize("at_a_terminal", [True, False])
def test_a_rebuild_at_a_terminal_shows_how_far_it_is(
    at_a_terminal: bool, server: Server, job: str
) -> None:
    """On standard error, so that standard output has only the result."""
    reading, writing = os.openpty() if at_a_terminal else os.pipe()
    env = environment(TERM="xterm", COLUMNS="80", CREWLOG_DATA=str(server.data))
    ran = subprocess.Popen(
        [CREWLOG, "projections", "rebuild", "timeline"],
        stdout=subprocess.PIPE,
        stderr=writing,
        env=env,
    )
    os.close(writing)
    shown = until_closed(reading).decode()
    printed, _ = ran.communicate(timeout=_DEADLINE_S)
    assert ran.returncode == 0
    assert re.fullmatch(rb"timeline: rebuilt to position \d+, the same digest \w+\.\n", printed)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert bool(re.search(r"timeline ━+ +100%", text)) is at_a_terminal
    assert bool(text) is at_a_terminal


@pytest.mark.parametrize("colours", [True, False])
def test_at_a_terminal_ids_are_shortened_and_no_color_is_heeded(
    colours: bool, server: Server, job: str
) -> None:
    reading, terminal = os.openpty()
    env = environment(TERM="xterm", COLUMNS="80", CREWLOG_DATA=str(server.data))
    env.pop("NO_COLOR", None)
    ran = subprocess.Popen(
        [CREWLOG, "jobs", "list", "--all"],
        stdout=terminal,
        env=env if colours else {**env, "NO_COLOR": "1"},
    )
    os.close(terminal)
    shown = until_closed(reading)
    assert ran.wait(_DEADLINE_S) == 0
    assert (b"\x1b[32m" in shown) is colours
    text = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode())
    [line] = [line for line in text.splitlines() if job[:8] in line]
    assert "completed" in line
    assert job not in text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_output_into_a_pipe_that_closes_is_no_crash(server: Server, job: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    logs = subprocess.run(
        [CREWLOG, "jobs", "logs", job],
        stdout=writing, stderr=subprocess.PIPE, text=True,
        env=environment(CREWLOG_DATA=str(server.data)),
    )  # fmt: skip
    os.close(writing)
    assert "Traceback" not in logs.stderr
