"""A log from another machine shows what happened there; no job runs again."""

import sqlite3
import stat
from pathlib import Path

from domain.catalogue import CATALOGUE
from domain.log import open_sqlite_log
from domain.log.archive import import_export
from domain.redaction import Redactor
from tests.kit.client import Native
from tests.kit.server import Server
from tests.kit.waiting import until


def test_a_restored_log_runs_no_job_again(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    with Server.start(tmp_path / "first") as first, Native(first) as http:
        job = http.shell(f"echo began >> {ran}; echo began; sleep 600")
        http.running(job)
        until(lambda: ran.exists() and len(http.events(job)) >= 4, "the first line is in the log")
        exported = http.get("/crewlog/v1/log/export").content
        http.cancel(job)
        http.ended(job)
    log = open_sqlite_log(tmp_path / "second", redactor=Redactor(), catalogue=CATALOGUE)
    import_export(log, exported.splitlines(keepends=True))
    log.close()
    with Server.start(tmp_path / "second") as second, Native(second) as http:
        shown = http.ended(job)
        happened = [event["type"] for event in http.events(job)]
        reason = http.get(f"/api/jobs/{job}").json()["failureReason"]
    assert shown["state"] == "failed"
    assert shown["errorId"]
    assert happened[-2:] == ["job.attempt_lost", "job.finished"]
    assert "which this server cannot reach" in reason
    assert ran.read_text() == "began\n"


def test_nobody_else_reads_what_the_server_writes(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    with Server.start(data) as server, Native(server) as http:
        http.ended(http.shell("umask > mask; cat mask", cwd=str(tmp_path)))
        files = [path for path in data.rglob("*") if path.is_file()]
        open_to_others = [p.name for p in files if stat.S_IMODE(p.stat().st_mode) & 0o077]
    assert open_to_others == []
    assert {"log.db", "views.db", "token", "server.json"} <= {path.name for path in files}
    assert (tmp_path / "mask").read_text().strip() != "0077", "Jobs keep the umask they were given."


def test_a_request_id_is_redacted_too(tmp_path: Path) -> None:
    secret = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
    with Server.start(tmp_path / "data") as server, Native(server) as http:
        answer = http.post("/api/jobs", json={"argv": ["true"]}, headers={"x-request-id": secret})
        assert answer.headers["x-request-id"] == secret
        http.ended(answer.json()["id"])
    raw = sqlite3.connect(tmp_path / "data" / "log.db")
    stored = b"".join(row[0] for row in raw.execute("SELECT state FROM events"))
    raw.close()
    assert secret.encode() not in stored
