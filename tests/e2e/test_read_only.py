"""A data directory that becomes read-only, and one that is read-only from the start."""

import os
import resource
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.crews import all_done, commit, job
from tests.e2e.gitoma import output
from tests.kit.client import Native
from tests.kit.processes import is_alive
from tests.kit.server import CREWLOG, Server, environment
from tests.kit.waiting import DEADLINE_S, until


def bound_by_modes() -> tuple[str, ...]:
    """The prefix that makes file modes apply to a command: nothing, or setpriv for root."""
    if os.geteuid() != 0:
        return ()
    setpriv = shutil.which("setpriv")
    assert setpriv is not None, "As root this test needs setpriv (util-linux)."
    return (setpriv, "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")


@contextmanager
def read_only(data: Path) -> Iterator[None]:
    folders = [data, *(path for path in data.rglob("*") if path.is_dir())]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in folders}
    for path in folders:
        path.chmod(0o500)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "data")
    made.data.mkdir(mode=0o700)
    made.prefix = bound_by_modes()
    with made:
        yield made


def test_what_cannot_be_written_is_503_and_the_server_stays_up(server: Server) -> None:
    with Native(server) as http:
        before = http.shell("echo before")
        http.ended(before)
        with read_only(server.data):
            refused = http.post("/api/jobs", json={"argv": ["true"], "env": {"A": "sealed"}})
            assert refused.status_code == 503, refused.text
            assert refused.json()["error_id"] == refused.headers["x-request-id"]
            # The log is open already: the job is durable, but cannot start.
            accepted = http.submit("true")
            shown = http.ended(accepted)
            assert (shown["state"], bool(shown["errorId"])) == ("failed", True)
            assert http.get("/healthz").text == "ok"
            assert output(http, before) == ["before"]
        after = http.shell("echo after")
        assert http.ended(after)["state"] == "completed"
        known = list(http.get("/api/v1/jobs").json())
        assert known == [before, accepted, after]
        kept = {job: http.events(job) for job in known}
    server.kill()
    server.restart()
    with Native(server) as http:
        assert {job: http.events(job) for job in known} == kept
    assert "Traceback" not in server.output.read_text()


FOLDERS_SPOILED = {
    "artifacts unreadable": "echo x > $CREWLOG_ARTIFACTS/a; chmod 000 $CREWLOG_ARTIFACTS",
    "artifacts a file": "rmdir $CREWLOG_ARTIFACTS; echo x > $CREWLOG_ARTIFACTS",
    "artifacts a link": "rmdir $CREWLOG_ARTIFACTS; ln -s / $CREWLOG_ARTIFACTS",
    "folder unreadable": "chmod 000 $(dirname $CREWLOG_ARTIFACTS)",
    "folder a file": "d=$(dirname $CREWLOG_ARTIFACTS); mv $d $d.aside; echo x > $d",
    "folder a link": "d=$(dirname $CREWLOG_ARTIFACTS); mv $d $d.aside; ln -s / $d",
    "folder gone": "d=$(dirname $CREWLOG_ARTIFACTS); mv $d $d.aside",
}


def test_folders_that_cannot_be_read_end_their_attempts_with_a_sentence(server: Server) -> None:
    with Native(server) as http:
        planned = [
            job(f"j{number}", script) for number, script in enumerate(FOLDERS_SPOILED.values())
        ]
        crew = commit(server, http, *planned)
        for node, what in zip(all_done(http, crew), FOLDERS_SPOILED, strict=True):
            told = str(http.get(f"/crewlog/v1/jobs/{node['id']}/timeline").json())
            assert "the folder could not be read" in told, (what, told)
        assert "Traceback" not in server.output.read_text()
    for folder in (server.data / "attempts").iterdir():
        folder.chmod(0o700)


@pytest.mark.parametrize("spoil", ["mv {d} {d}.aside; mkdir {d}", "mv {d} {d}.aside; > {d}"])
def test_a_running_job_whose_files_are_swapped_ends(server: Server, spoil: str) -> None:
    with Native(server) as http:
        job_id = http.shell("echo $$; setsid sleep 600 & wait")
        pid = int(until(lambda: (http.printed(job_id) or [""])[0], "its first line"))
        spools = server.data / "spool" / job_id
        subprocess.run(["sh", "-c", spoil.format(d=spools)], check=True)
        http.cancel(job_id)
        shown = http.ended(job_id)
        assert shown["errorId"]
        assert not is_alive(pid)


def test_a_state_that_cannot_be_removed_is_503(tmp_path: Path) -> None:
    states = tmp_path / "states"
    states.mkdir()
    kept = states / "crew__log.json"
    kept.write_text('{"phase": "DONE"}')
    server = Server(tmp_path / "data", CREWLOG_GITOMA_STATE_DIR=str(states))
    server.data.mkdir()
    server.prefix = bound_by_modes()
    with server, Native(server) as http:
        with read_only(states):
            refused = http.delete("/api/v1/state/crew/log")
            assert refused.status_code == 503, refused.text
            assert refused.json()["error_id"] == refused.headers["x-request-id"]
            assert "cannot be removed" in refused.json()["detail"]
            assert kept.exists()
        assert http.delete("/api/v1/state/crew/log").json()["result"] == "deleted"


def test_a_first_start_on_a_full_disk_bars_no_second_one(tmp_path: Path) -> None:
    data = tmp_path / "data"
    refused = subprocess.run(
        [CREWLOG, "serve", "--port", "0", "--data", str(data)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    )
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1), refused.stderr
    assert "cannot be made" in refused.stderr
    assert list(data.iterdir()) == []
    with Server(data) as server, Native(server) as http:
        assert http.get("/api/v1/jobs").status_code == 200


def test_a_token_in_the_file_that_could_not_be_redacted_is_refused(tmp_path: Path) -> None:
    server = Server(tmp_path / "data")
    server.data.mkdir()
    (server.data / "token").write_text("seven77\n")
    with pytest.raises(RuntimeError, match="has fewer than 8 characters"), server:
        pass


def test_a_server_does_not_start_where_it_cannot_write(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    server = Server(data)
    server.prefix = bound_by_modes()
    with (
        read_only(data),
        pytest.raises(RuntimeError, match=r"cannot be (used|made)") as failure,
        server,
    ):
        pass
    assert "Traceback" not in str(failure.value)
