"""Commands that need the native API: rerun, retry, numbers of crews, filters, figures."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from api.commands.finding import moment_given
from tests.api.test_cli import crewlog, crewlog_process
from tests.e2e.crews import job, write_template
from tests.kit.server import Server
from tests.kit.waiting import until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("cli-native") / "data"
    with Server.start(data, "--stop-jobs", "--log-level=warning") as started:
        marker = data.parent / "open"
        write_template(
            data,
            "gate",
            job("first", f"test -e {marker}", maxRetries=0, labels=["careful"]),
            job("second", "echo through", "first"),
        )
        says = {**job("say"), "argv": ["echo", "{{ who }}"]}
        write_template(data, "greet", says, inputs={"who": {"type": "string", "default": "Ada"}})
        yield started


def made(server: Server, *argv: str) -> str:
    return crewlog("jobs", "run", "-d", *argv, data=server.data).stdout.strip()


def test_rerun_prints_the_id_of_a_new_job(server: Server) -> None:
    old = made(server, "--label", "again", "--", "echo", "hello")
    crewlog("jobs", "logs", "-f", old, data=server.data)
    new = crewlog("jobs", "rerun", old, data=server.data).stdout.strip()
    assert new != old
    assert crewlog("jobs", "logs", "-f", new, data=server.data).stdout == "hello\n"


def test_archive_and_delete_take_several_and_say_which_was_refused(server: Server) -> None:
    one, two = made(server, "true"), made(server, "true")
    runs = made(server, "sleep", "60")
    for done in (one, two):
        crewlog("jobs", "logs", "-f", done, data=server.data)
    archived = crewlog("jobs", "archive", one, two[:13], runs, data=server.data)
    assert archived.returncode == 1
    assert archived.stdout == f"Archived {one}.\nArchived {two}.\n"
    assert archived.stderr.startswith(f"{runs}: Job is ")
    assert crewlog("jobs", "delete", one, data=server.data).stdout == f"Deleted {one}.\n"
    assert crewlog("jobs", "show", one, data=server.data).stderr == "Job not found\n"
    crewlog("jobs", "cancel", runs, data=server.data)


def test_a_crew_has_a_number_by_which_it_is_retried_run_again_and_cancelled(
    server: Server,
) -> None:
    failed = crewlog_process("crews", "run", "gate", data=server.data)
    assert failed.returncode == 1
    listed = crewlog("crews", "list", "--label", "careful", data=server.data).stdout
    assert "gate #1" in listed
    (server.data.parent / "open").touch()
    retried = crewlog("crews", "retry", "gate#1", data=server.data)
    assert (retried.returncode, retried.stdout) == (0, "gate #1 goes on; it is running.\n")

    def state() -> bool:
        shown = crewlog("crews", "show", "gate #1", "--json", data=server.data)
        return bool(json.loads(shown.stdout)["state"] == "completed")

    assert until(state)
    again = crewlog_process("crews", "rerun", "gate#1", data=server.data)
    assert (again.returncode, again.stdout) == (0, "second | through\n")
    other = crewlog("crews", "run", "--no-follow", "greet", data=server.data).stdout.strip()
    changed = crewlog_process("crews", "rerun", other, "who=Grace", data=server.data)
    assert changed.stdout == "say | Grace\n"
    write_template(server.data, "gone", job("a"))
    gone = crewlog("crews", "run", "--no-follow", "gone", data=server.data).stdout.strip()
    (server.data / "templates/gone.job_workflow.yaml").unlink()
    refused = crewlog("crews", "rerun", gone, data=server.data)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "There is no template 'gone' any more\n"
    waits = crewlog(
        "crews", "run", "--no-follow", "--at", "2100-01-01T00:00:00Z", "greet", data=server.data
    ).stdout.strip()
    cancelled = crewlog("crews", "cancel", waits, data=server.data).stdout
    assert cancelled == "greet #3 is being cancelled: its jobs are told to end.\n"
    assert crewlog("crews", "show", "gate#99", data=server.data).returncode == 1


def test_lists_are_of_an_owner_a_crew_and_a_time(server: Server) -> None:
    crew = crewlog("crews", "run", "--no-follow", "greet", data=server.data).stdout.strip()

    def listed(*options: str) -> int:
        ran = crewlog("jobs", "list", "--json", *options, data=server.data)
        assert ran.returncode == 0, ran.stderr
        return len(json.loads(ran.stdout))

    assert listed("--crew", crew, "--owner", "me", "--since", "1h") == 1
    assert listed("--crew", crew, "--owner", "nobody@example.org") == 0
    assert listed("--crew", crew, "--until", "2001-01-01") == 0
    assert crewlog("jobs", "list", "--since", "soon", data=server.data).returncode == 2
    assert crew in crewlog("crews", "list", "--template", "greet", data=server.data).stdout
    none = crewlog("crews", "list", "--until", "2001-01-01", data=server.data)
    assert none.stderr == "No crews.\n"
    wrong = crewlog("crews", "list", "--state", "asleep", data=server.data)
    assert (wrong.returncode, wrong.stderr[:8]) == (1, "--state:")


def test_a_file_that_a_job_left_is_listed_and_taken(server: Server, tmp_path: Path) -> None:
    done = made(server, "sh", "-c", 'echo kept > "$CREWLOG_ARTIFACTS/kept.txt"')
    crewlog("jobs", "logs", "-f", done, data=server.data)
    assert "kept.txt" in crewlog("artifacts", "list", done, data=server.data).stdout
    assert crewlog("artifacts", "get", done, data=server.data).stdout == "kept\n"
    crewlog("artifacts", "get", done, "kept.txt", "-o", tmp_path, data=server.data)
    assert (tmp_path / "kept.txt").read_text() == "kept\n"
    missing = crewlog("artifacts", "get", done, "lost.txt", data=server.data)
    assert (missing.returncode, missing.stdout) == (1, "")


def test_figures_the_page_the_version_and_completion(server: Server) -> None:
    made(server, "true")
    shown = crewlog("stats", data=server.data).stdout
    assert re.search(r"^Jobs +\d+ \(", shown, re.MULTILINE)
    assert json.loads(crewlog("stats", "--json", data=server.data).stdout)["period"] == 7
    page = crewlog("jobs", "list", "--web", data=server.data, BROWSER="true")
    assert page.stdout == f"{server.url}/#/jobs\n"
    assert crewlog("--version", data=server.data).stdout.startswith("crewlog ")
    completed = crewlog_process(
        data=server.data,
        _CREWLOG_COMPLETE="complete_bash",
        COMP_WORDS="crewlog crews re",
        COMP_CWORD="2",
    )
    assert completed.stdout.split() == ["rerun", "retry"]


def test_a_time_is_iso_or_how_long_ago() -> None:
    assert moment_given("2026-01-01T00:00:00Z", "--since") == "2026-01-01T00:00:00+00:00"
    assert moment_given("90m", "--since")
    assert moment_given(None, "--since") is None
    with pytest.raises(typer.BadParameter):
        moment_given("yesterday", "--since")
