"""Worker tokens: valid for one attempt of one server, and never in the log."""

import stat
from pathlib import Path

import pytest

from api.edge.worker_tokens import WorkerTokens, load_key
from domain.errors import CrewlogError
from domain.redaction import HIDDEN, Redactor

KEY = bytes(range(32))


def test_a_token_names_its_job_and_attempt() -> None:
    tokens = WorkerTokens(KEY)
    for job_id in ("crew-writer-0a1b", "01a20115-5d0d-7f74-83fd-cc4246b9a665", "a.b.2"):
        assert tokens.check(tokens.issue(job_id, 12)) == (job_id, 12)
    assert WorkerTokens(KEY).check(tokens.issue("j", 1)) == ("j", 1)


def test_any_other_token_is_none() -> None:
    tokens = WorkerTokens(KEY)
    good = tokens.issue("job-a", 1)
    mac = good.rpartition(".")[2]
    for bad in (
        "",
        "crewlog_w_",
        good[:-1],
        good + "=",
        good.replace("job-a", "job-b"),
        good.replace(".1.", ".2."),
        good.replace(".1.", ".01."),
        good.replace(".1.", ".\u0661."),
        f"crewlog_w_job-a.1.{'A' * 43}",
        f"crewlog_w_job-a.1.{mac[:-1]}é",
        f"crewlog_u_job-a.1.{mac}",
        good.upper(),
        WorkerTokens(bytes(32)).issue("job-a", 1),
    ):
        assert tokens.check(bad) is None, bad
        assert tokens.principal(bad) is None


def test_the_parts_of_a_token_cannot_be_shifted() -> None:
    """``a.1`` attempt 2 and ``a`` attempt 12 have different tokens."""
    tokens = WorkerTokens(KEY)
    assert tokens.issue("a.1", 2) != tokens.issue("a", 12)
    assert tokens.check(tokens.issue("a.1", 2)) == ("a.1", 2)


def test_a_worker_owns_nothing_and_is_no_administrator() -> None:
    worker = WorkerTokens(KEY).principal(WorkerTokens(KEY).issue("j", 3))
    assert worker is not None
    assert (worker.actor, worker.job_id, worker.attempt) == ("worker:j", "j", 3)
    assert not worker.admin
    assert not worker.sees("operator")
    assert worker.user_id is None


def test_a_token_that_a_job_prints_is_hidden() -> None:
    token = WorkerTokens(KEY).issue("crew-writer-0a1b2c3d4e5f6071", 1)
    for line in (token, f"CREWLOG_WORKER_TOKEN={token}", f'{{"t":"{token}"}}', f"<{token}>"):
        shown = Redactor().text(line)
        assert HIDDEN in shown
        assert token.rpartition(".")[2] not in shown


def test_the_key_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "worker.key"
    key = load_key(path)
    assert len(key) == 32
    assert load_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_key(tmp_path / "other.key") != key
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other.key", "worker.key"]


def test_a_damaged_key_is_refused_and_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "worker.key"
    path.write_bytes(b"short")
    with pytest.raises(CrewlogError, match="damaged"):
        load_key(path)
    assert path.read_bytes() == b"short"
    with pytest.raises(ValueError, match="32 bytes"):
        WorkerTokens(b"")
