"""A data directory that nobody may write to any more, and one that nobody may write to at first."""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.client import connect, ended, events, output, shell, submit
from tests.server import Server


def bound_by_modes() -> tuple[str, ...]:
    """What a command is run through so that file modes bind it: nothing, or for root setpriv."""
    if os.geteuid() != 0:
        return ()
    setpriv = shutil.which("setpriv")
    assert setpriv is not None, "As root this test needs setpriv, of the package util-linux."
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
    with connect(server) as http:
        before = shell(http, "echo before")
        ended(http, before)
        with read_only(server.data):
            refused = http.post("/api/jobs", json={"argv": ["true"], "env": {"A": "sealed"}})
            assert refused.status_code == 503, refused.text
            assert refused.json()["error_id"] == refused.headers["x-request-id"]
            # The log itself is open already: what it takes is durable, and its job cannot begin.
            accepted = submit(http, "true")
            shown = ended(http, accepted)
            assert (shown["status"], bool(shown["error_id"])) == ("failed", True)
            assert http.get("/healthz").text == "ok"
            assert output(http, before) == ["before"]
        after = shell(http, "echo after")
        assert ended(http, after)["status"] == "completed"
        known = list(http.get("/api/v1/jobs").json())
        assert known == [before, accepted, after]
        kept = {job: events(http, job) for job in known}
    server.kill()
    server.restart()
    with connect(server) as http:
        assert {job: events(http, job) for job in known} == kept
    assert "Traceback" not in server.output.read_text()


def test_a_server_does_not_start_where_it_cannot_write(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    server = Server(data)
    server.prefix = bound_by_modes()
    with (
        read_only(data),
        pytest.raises(RuntimeError, match=r"cannot be (used|made)") as said,
        server,
    ):
        pass
    assert "Traceback" not in str(said.value)
