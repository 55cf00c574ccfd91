"""The parts of a command that the log gets, and those that are sealed."""

import asyncio
from pathlib import Path

import pytest

from domain.catalogue import CATALOGUE
from domain.job.commands import Jobs
from domain.log import Context, open_sqlite_log
from domain.redaction import HIDDEN, Redactor
from scheduler.dispatch.sealed import Sealed, SealedSpecs
from scheduler.intake import Intake, Sealing, WorkRequest


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["make", "test"], ["make", "test"]),
        (["deploy", "--token", "a1b2c3d4e5f6"], ["deploy", "--token", HIDDEN]),
        (["deploy", "--token=a1b2c3d4e5f6"], ["deploy", f"--token={HIDDEN}"]),
        (["deploy", "--token", "--dry-run"], ["deploy", "--token", "--dry-run"]),
        (["git", "clone", "https://u:p@h/r"], ["git", "clone", "https://REDACTED@h/r"]),
    ],
)
def test_the_log_sees_no_credential_and_the_process_all(
    tmp_path: Path, argv: list[str], shown: list[str]
) -> None:
    redactor = Redactor()
    log = open_sqlite_log(tmp_path / "log", redactor=redactor, catalogue=CATALOGUE)
    sealed = SealedSpecs(tmp_path / "sealed")
    intake = Intake(Jobs(log), Sealing(sealed, redactor))
    work = WorkRequest(kind="command", label="l", argv=tuple(argv), cwd="/", timeout_ms=0, title="")
    submission = asyncio.run(intake.submit(work, Context(actor="tester")))
    stored = log.blocking.read(0)[0].data
    log.close()
    assert stored["argv"] == shown
    assert stored["sealed"] == (shown != argv)
    private = sealed.open(submission.job_id)
    assert private == (Sealed(tuple(argv), {}) if shown != argv else None)


@pytest.mark.parametrize("argv", [("true",), ("deploy", "--token=a1b2c3d4e5f6")])
@pytest.mark.parametrize(
    ("cwd", "shown"),
    [
        ("/srv/work", "/srv/work"),
        ("/srv/postgres", f"/srv/{HIDDEN}"),
        ("/srv/token=abcdefgh12345678901", f"/srv/token={HIDDEN}"),
    ],
)
def test_a_directory_that_looks_secret_is_hidden_and_still_where_the_job_runs(
    tmp_path: Path, argv: tuple[str, ...], cwd: str, shown: str
) -> None:
    redactor = Redactor(["postgres"])
    log = open_sqlite_log(tmp_path / "log", redactor=redactor, catalogue=CATALOGUE)
    sealed = SealedSpecs(tmp_path / "sealed")
    intake = Intake(Jobs(log), Sealing(sealed, redactor))
    work = WorkRequest(kind="command", label="l", argv=argv, cwd=cwd, timeout_ms=0)
    submission = asyncio.run(intake.submit(work, Context(actor="tester")))
    stored = log.blocking.read(0)[0].data
    log.close()
    private = sealed.open(submission.job_id)
    assert stored["cwd"] == shown
    assert stored["sealed"] == (private is not None)
    assert (private.cwd if private else None) == (cwd if shown != cwd else None)
