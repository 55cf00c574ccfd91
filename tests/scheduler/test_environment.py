"""The part of the server's environment that jobs get (contracts/gitoma.md §5)."""

import pytest

from scheduler.workspaces.environment import KEPT_SECRETS, child_environment, valid_name


@pytest.mark.parametrize(
    "name",
    [
        "GITOMA_DIARY_TOKEN",
        "LAYER0_API_KEY",
        "X_SECRET",
        "DB_PASSWORD",
        "DB_PASS",
        "X_CREDENTIAL",
        "X_CREDENTIALS",
        "X_PRIVATE_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "NPM_AUTH",
        "db_password",
        "Github_Token",
        "CREWLOG_DATA",
        "crewlog_token",
        "GITOMA_API_TOKEN",
    ],
)
def test_secrets_of_the_server_stay_with_it(name: str) -> None:
    assert child_environment({name: "x", "HOME": "/h"}, {}) == {"HOME": "/h"}


@pytest.mark.parametrize("name", ["PATH", "TOKENS", "KEYBOARD", "PASSAGE", "AUTH_URL", "BASH_X%%"])
def test_ordinary_variables_reach_the_job(name: str) -> None:
    assert child_environment({name: "x"}, {}) == {name: "x"}


@pytest.mark.parametrize("name", sorted(KEPT_SECRETS))
def test_the_exceptions_reach_the_job(name: str) -> None:
    assert child_environment({name: "x"}, {}) == {name: "x"}
    assert child_environment({name: "x"}, {}, keep=()) == {}


def test_nothing_excepts_what_is_the_servers_own() -> None:
    base = {"GITOMA_API_TOKEN": "x", "CREWLOG_TOKEN": "x", "Vault_Url": "x"}
    assert child_environment(base, {}, keep=list(base), secret_names=["VAULT_URL"]) == {}


def test_variables_of_the_job_come_on_top() -> None:
    given = {"PATH": "/mine", "MY_TOKEN": "mine"}
    assert child_environment({"PATH": "/bin", "A": "1"}, given) == {"A": "1", **given}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CREWLOG_TOKEN", "s3cr3t"),
        ("crewlog_x", "s3cr3t"),
        ("vault_url", "s3cr3t"),
        ("", "s3cr3t"),
        ("A=B", "s3cr3t"),
        ("A B", "s3cr3t"),
        ("A\n", "s3cr3t"),
        ("LD-X", "s3cr3t"),
        ("A", "s3cr3t\0"),
        ("A", "s3cr3t\ud800"),
    ],
)
def test_what_a_job_may_not_set_is_refused_without_its_value(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="environment variable") as refused:
        child_environment({}, {name: value}, secret_names=["VAULT_URL"])
    assert "s3cr3t" not in str(refused.value)


def test_valid_names() -> None:
    assert valid_name("_a1")
    assert valid_name("a" * 255)
    assert not valid_name("a" * 256)
    assert not valid_name("1a")
    assert not valid_name("é")
