"""Messages of the command line: the nearest name, the nearest option, the whole help, and no output
for empty lists.
"""

import io
import json
import re
from collections.abc import Iterator

import pytest
import typer
from rich.console import Console

from api.commands import terminal
from api.commands.jobs import print_timeline
from api.commands.main import app
from api.commands.states import STATES, reason_of
from projections.jobs import STATES as SERVED
from tests.api.test_cli import crewlog
from tests.kit.server import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("messages") / "data"
    with Server.start(data, "--stop-jobs", "--log-level=warning") as running:
        yield running


def test_a_template_that_is_not_there_is_named_with_its_neighbours(server: Server) -> None:
    for command in (
        ("crews", "run", "repositry-health"),
        ("templates", "show", "repositry-health"),
        ("schedules", "create", "repositry-health", "--daily", "07:00"),
    ):
        refused = crewlog(*command, data=server.data)
        assert refused.returncode == 1
        assert refused.stderr == (
            "There is no template 'repositry-health'. Did you mean repository-health?\n"
        )
    far = crewlog("crews", "run", "zzz", data=server.data)
    assert far.stderr == "There is no template 'zzz'.\n"


def test_an_event_type_that_is_none_is_refused_with_its_neighbours(server: Server) -> None:
    for command in ("show", "tail"):
        refused = crewlog("log", command, "--type", "job.queued,job.finishd", data=server.data)
        assert refused.returncode == 2
        assert "There is no event type 'job.finishd'." in _plain(refused.stderr)
        assert "job.finished" in refused.stderr


def test_an_empty_list_says_so(server: Server) -> None:
    nothing = crewlog("log", "show", "--type", "job.paused", data=server.data)
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert nothing.stderr == "No event matches.\n"
    none = crewlog("jobs", "list", "--label", "nobody", data=server.data)
    assert none.stderr == "No job matches.\n"
    nobody = crewlog("users", "list", data=server.data)
    assert (nobody.stdout, nobody.stderr) == ("", "There are no accounts.\n")
    assert json.loads(
        crewlog("log", "show", "--type=job.paused", "--json", data=server.data).stdout
    )


@pytest.mark.parametrize(
    ("command", "beginning"),
    [
        (("jobs", "run", "--timeout=-1", "true"), "--timeout: Input should be greater than 0"),
        (("jobs", "run", "--label", "x" * 65, "true"), "--label: String should have at most 64"),
        (("jobs", "run", "--idempotency-key=\u00e9", "true"), "--idempotency-key: It has"),
        (("jobs", "run", "--env=A-B=1", "true"), "--env: The name of an environment variable"),
        (("crews", "run", "repository-health"), "input repo: This input is required."),
        (("crews", "run", "repository-health", "repo=/", "--at=x"), "--at: This is not an ISO"),
        (
            ("schedules", "create", "repository-health", "--cron=x", "--input=repo=/"),
            "--cron: It needs five fields",
        ),
        (("log", "show", "--subject=a/b"), "--subject: It has a character"),
        (("log", "tail", "--after=99999"), "--after is a position"),
    ],
)
def test_an_error_names_the_option_and_no_field(
    server: Server, command: tuple[str, ...], beginning: str
) -> None:
    refused = crewlog(*command, data=server.data)
    assert refused.returncode == 1
    assert refused.stderr.startswith(beginning)


def test_a_key_that_was_used_before_is_said_without_the_name_of_a_header(server: Server) -> None:
    first = crewlog("jobs", "run", "-d", "--idempotency-key=k", "true", data=server.data)
    assert first.returncode == 0
    again = crewlog("jobs", "run", "-d", "--idempotency-key=k", "false", data=server.data)
    assert again.stderr == "This --idempotency-key was used before with a different request.\n"


def test_jobs_are_searched_and_chosen_by_the_states_that_are_shown(server: Server) -> None:
    for title, program in (("Needle one", "true"), ("Hay", "true"), ("Needle two", "false")):
        crewlog("jobs", "run", "--title", title, program, data=server.data)

    def titles(*options: str) -> list[str]:
        listed = crewlog("jobs", "list", "--json", *options, data=server.data)
        assert listed.returncode == 0, listed.stderr
        return [job["title"] for job in json.loads(listed.stdout)]

    assert titles("--search", "needle") == ["Needle two", "Needle one"]
    assert titles("--text", "NEEDLE", "--state", "failed") == ["Needle two"]
    assert titles("--state", "waiting_for_approval") == []
    table = crewlog("jobs", "list", "--state", "failed", data=server.data).stdout
    assert re.search(r"^\S+ +failed .*Needle two", table, re.MULTILINE)

    wrong = crewlog("jobs", "list", "--state", "completed,complete", data=server.data)
    assert wrong.returncode == 2
    assert "There is no state 'complete'. Did you mean completed" in _plain(wrong.stderr)


def test_the_states_are_those_of_the_server() -> None:
    assert set(STATES) == set(SERVED)


def test_a_job_that_waits_for_its_next_attempt_does_not_show_how_the_last_one_ended(
    server: Server,
) -> None:
    folder = server.data / "templates"
    folder.mkdir(exist_ok=True)
    (folder / "again.job_workflow.yaml").write_text(
        """
name: Again
jobs:
  - {id: first, title: First, argv: ["true"]}
  - id: second
    title: Second
    parents: [first]
    argv: [sh, -c, exit 7]
    max_retries: 0
    approval: required
"""
    )
    crew = crewlog("crews", "run", "--no-follow", "again", data=server.data).stdout.strip()
    waiting = ("approvals", "list", "--crew", crew, "--wait", "--json")
    [asked] = json.loads(crewlog(*waiting, data=server.data).stdout)
    job = asked["jobId"]
    assert crewlog("approvals", "approve", "--crew", crew, data=server.data).returncode == 0
    ended = crewlog("approvals", "list", "--job", job, "--wait", data=server.data)
    assert ended.stderr == "Nobody asks.\n"
    gave_up = crewlog("jobs", "show", job, data=server.data).stdout
    assert re.search(r"^State +failed$", gave_up, re.MULTILINE)
    assert re.search(r"^Exit code +7$", gave_up, re.MULTILINE)
    assert re.search(r"^Reason +Gave up: Exit code 7\.$", gave_up, re.MULTILINE)
    crew_of_it = crewlog("crews", "show", crew, data=server.data)
    assert "second: gave up: Exit code 7." in crew_of_it.stderr

    again = crewlog("jobs", "redo", job, data=server.data)
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("Second is to be done again; it is ")
    [anew] = json.loads(crewlog(*waiting, data=server.data).stdout)
    assert anew["id"] != asked["id"]
    held = crewlog("jobs", "show", job, data=server.data).stdout
    assert re.search(r"^State +waiting_for_approval$", held, re.MULTILINE)
    assert "Exit code " not in held.partition("POSITION")[0]
    listed = crewlog("jobs", "list", "--state", "waiting_for_approval", data=server.data).stdout
    assert re.search(r" ago +- +0 +Second$", listed, re.MULTILINE)
    assert crewlog("approvals", "reject", "--job", job, data=server.data).returncode == 0
    assert crewlog("jobs", "unblock", job, data=server.data).returncode == 0
    assert json.loads(crewlog(*waiting, data=server.data).stdout)


def test_what_stands_still_says_why() -> None:
    job = {"outcome": None, "strandedBy": None, "gaveUp": False, "failures": 0}
    job |= {"blockReason": None, "reason": None}
    assert reason_of(job) == ""
    assert reason_of(job | {"outcome": "failed", "reason": "No such file."}) == ("No such file.")
    gave_up = job | {"gaveUp": True, "failures": 3, "blockReason": "Exit code 1."}
    assert reason_of(gave_up) == "Gave up after 3 attempts: Exit code 1."
    assert reason_of(job | {"strandedBy": "a"}) == "A job that it waits for will not be done."


def test_on_a_narrow_terminal_what_happened_has_more_room_than_who_did_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = Console(width=80, file=io.StringIO(), force_terminal=True, color_system=None)
    monkeypatch.setattr(terminal, "console", lambda: screen)
    worker = "worker:9cf6b246-2a7a-4bc6-8609-22a729f4bb37"
    at = "2026-11-28T07:08:00.541189Z"
    entry = {"position": 1, "at": at, "actorId": worker, "sentence": "Attempt 1 asks."}
    print_timeline([entry])
    assert isinstance(screen.file, io.StringIO)
    assert "Attempt 1 asks." in screen.file.getvalue()


def test_a_job_is_done_again_with_feedback_and_its_files_are_printed(server: Server) -> None:
    script = 'echo "$CREWLOG_ATTEMPT" > "$CREWLOG_ARTIFACTS/n.txt"'
    job = json.loads(crewlog("jobs", "run", "--json", "sh", "-c", script, data=server.data).stdout)
    again = crewlog("jobs", "redo", job["id"], "-m", "Once more.", data=server.data)
    assert again.returncode == 0, again.stderr
    crewlog("jobs", "logs", "--follow", job["id"], data=server.data)
    assert "Once more." in crewlog("jobs", "show", job["id"], data=server.data).stdout

    kept = crewlog("jobs", "artifacts", job["id"], data=server.data).stdout
    assert re.search(r"^n\.txt +2 +2 +text/plain", kept, re.MULTILINE)
    last = crewlog("jobs", "artifacts", job["id"], "--name", "n.txt", data=server.data)
    assert (last.returncode, last.stdout) == (0, "2\n")
    wrong = crewlog("jobs", "artifacts", job["id"], "--name", "m.txt", data=server.data)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr == "There is no file 'm.txt'. Did you mean n.txt?\n"


def test_a_question_of_a_job_of_its_own_is_told_to_who_follows_it(server: Server) -> None:
    script = "crewlog worker ask 'May I?'"
    job = crewlog("jobs", "run", "-d", "sh", "-c", script, data=server.data).stdout.strip()
    crewlog("approvals", "list", "--job", job, "--wait", data=server.data)
    both = crewlog("approvals", "approve", "1234", "--job", job, data=server.data)
    assert both.returncode == 2
    assert crewlog("approvals", "approve", "--job", job, data=server.data).stdout == (
        "Approved: May I?\n"
    )
    none = crewlog("approvals", "approve", "--job", job, data=server.data)
    assert (none.returncode, none.stderr) == (1, "No approval waits there.\n")


def _plain(text: str) -> str:
    """The text without the frame around it."""
    return " ".join(re.sub(r"[╭╮╰╯│─•]", " ", text).split())


def _commands() -> Iterator[tuple[tuple[str, ...], object]]:
    whole = typer.main.get_command(app)
    for name, found in whole.commands.items():  # type: ignore[attr-defined]
        below = getattr(found, "commands", None)
        if below is None:
            yield (name,), found
        for inner, command in (below or {}).items():
            yield (name, inner), command


COMMANDS = dict(_commands())


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_help_of_a_command_is_whole(path: tuple[str, ...], server: Server) -> None:
    shown = _plain(crewlog(*path, "--help", data=server.data, COLUMNS="200").stdout)
    command = COMMANDS[path]
    texts = [command.help, *(p.help for p in command.params if getattr(p, "help", None))]  # type: ignore[attr-defined]
    for text in filter(None, texts):
        for sentence in filter(None, map(str.strip, re.split(r"(?<=[.:;])\s", text))):
            assert "".join(sentence.split()) in "".join(shown.split()), sentence
