"""The docs are complete, and name nothing that does not exist.

Settings, routes, commands, events, states and dependencies are compared with the code in both
directions, so an addition or removal that the docs lack fails here.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from email.message import Message
from importlib.metadata import files, metadata
from pathlib import Path
from typing import Any, cast

import pytest
import typer

from api.addresses import ADDRESSES, Addresses, Rule
from api.app import create_app
from api.commands.main import app as commands
from api.dialects.codeplane.job_json import SHOWN_STATES
from api.dialects.gitoma.job_json import STATUSES
from api.parts import build
from api.settings import Settings
from domain.catalogue import CATALOGUE
from domain.job.events import (
    JobState,
)
from tests.kit.server import environment
from tests.routes import answers, documented, every_route

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
ROOMS = ("domain", "projections", "scheduler", "api", "tests")

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_ROUTE = re.compile(r"`(GET|POST|PUT|PATCH|DELETE|WS) (/[^`\s?]*)")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_VARIABLE = re.compile(r"CREWLOG_[A-Z][A-Z_]*[A-Z]")


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def blocks(page: Path, language: str = "sh") -> Iterator[str]:
    """The fenced blocks of a language, with continued lines joined."""
    for given, text in _FENCE.findall(page.read_text()):
        if given == language:
            yield text.replace("\\\n", " ")


def rows(page: Path, *, under: str = "") -> Iterator[list[str]]:
    """The cells of every table row, of the whole page or of the section with a heading."""
    text = prose(page)
    if under:
        text = re.split(r"^#+ ", text.partition(f"# {under}\n")[2], maxsplit=1, flags=re.M)[0]
    for line in text.splitlines():
        if line.startswith("| ") and not line.startswith("|---"):
            yield [cell.strip().strip("`") for cell in line.strip("|").split("|")]


@pytest.fixture(scope="module", autouse=True)
def no_settings_from_outside() -> Iterator[None]:
    """An environment in which every setting has its default."""
    read = {name.upper() for setting in Settings.model_fields for name in aliases(setting)}
    with pytest.MonkeyPatch.context() as environment:
        for name in os.environ:
            if name.startswith("CREWLOG_") or name in read or name == "XDG_DATA_HOME":
                environment.delenv(name)
        yield


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Addresses:
    parts = build(Settings(data=tmp_path_factory.mktemp("docs") / "data"))
    app = create_app(parts)
    parts.close()
    return app


@pytest.fixture(scope="module")
def routes(api: Addresses) -> set[tuple[str, str]]:
    """Method and path of every route, WS for the method of a socket."""
    return {(found.method, found.path) for found in every_route(api)}


# Routes


def test_every_route_is_in_the_api_page_and_no_other(routes: set[tuple[str, str]]) -> None:
    assert set(_ROUTE.findall(prose(ROOT / "docs/api.md"))) == routes


def test_the_routes_found_here_are_those_of_the_document(
    api: Addresses, routes: set[tuple[str, str]]
) -> None:
    described = {(method, path) for method, path, _ in documented(api)}
    # The document leaves out the type of a path parameter.
    assert described <= {(method, path.replace(":path}", "}")) for method, path in routes}
    for method, path in routes:
        assert answers(api, method, re.sub(r"\{\w+(:path)?\}", "1", path)), path


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_no_page_names_a_route_that_is_not_there(
    page: Path, api: Addresses, routes: set[tuple[str, str]]
) -> None:
    for method, path in _ROUTE.findall(prose(page)):
        known = (method, path) in routes or answers(api, method, path)
        assert known, f"{named(page)} names {method} {path}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_curl_asks_a_route_that_is_there(page: Path, api: Addresses) -> None:
    for block in blocks(page):
        for line in re.findall(r"curl (.*?)(?=\n\w|\n\n|\Z)", block, re.DOTALL):
            asked = re.search(r"\$U(/[^\s\"'?|)]*)", line)
            assert asked, f"{named(page)}: where does this go? curl {line}"
            option = re.search(r"-X (\w+)", line)
            method = option[1] if option else "POST" if re.search(r"\s-d\b", line) else "GET"
            assert answers(api, method, asked[1].replace("$", "")), f"{method} {asked[1]}"


def test_readme_shows_curl() -> None:
    assert sum(block.count("curl ") for block in blocks(ROOT / "README.md")) >= 10


# Settings


def settings_table() -> dict[str, list[str]]:
    table = list(rows(ROOT / "docs/operations.md", under="Settings"))
    assert table[0] == ["key", "variable", "also", "default", "meaning"]
    return {row[0]: row[1:] for row in table[1:]}


def aliases(name: str) -> list[str]:
    alias = Settings.model_fields[name].validation_alias
    given = [str(choice).upper() for choice in getattr(alias, "choices", ())]
    return [choice for choice in given if choice != f"CREWLOG_{name.upper()}"]


def test_every_setting_is_documented_and_no_other() -> None:
    documented = {name: row[:2] for name, row in settings_table().items()}
    assert documented == {
        name: [f"CREWLOG_{name.upper()}", " ".join(aliases(name))] for name in Settings.model_fields
    }


VALUES = {
    "host": "::1",
    "allowed_hosts": "elsewhere",
    "port": "81",
    "dialects": "board",
    "listen": "board=127.0.0.1:81",
    "capacity": "77",
    "owner_capacity": "77",
    "timezone": "Europe/Berlin",
    "artifact_limit_bytes": "77",
    "job_timeout_s": "77",
    "output_limit_bytes": "77",
    "stop_jobs": "true",
    "gitoma_timeout_s": "77",
    "gitoma_rate_limit": "77",
    "session_secret": "0123456789abcdef",
    "session_cookie_secure": "always",
    "public_url": "https://elsewhere",
    "oidc": '{"corp": {"issuer": "https://i", "client_id": "c", "client_secret": "s"}}',
}


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_each_documented_variable_and_key_sets_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = [variable for variable in settings_table()[name][:2] if variable]
    default = getattr(Settings(), name)
    value = VALUES.get(name, "/elsewhere")
    for variable in variables:
        with monkeypatch.context() as environment:
            environment.setenv(variable, value)
            assert getattr(Settings(), name) != default, variable
    file = tmp_path / "crewlog.toml"
    literal = f'["{value}"]' if isinstance(default, tuple) else as_toml(value)
    file.write_text(f"{name} = {literal}\n")
    monkeypatch.setenv("CREWLOG_CONFIG", str(file))
    assert getattr(Settings(), name) != default


def as_toml(text: str) -> str:
    """The value of a variable in the form of the settings file: JSON if it is JSON, else text."""
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    return inline(value)


def inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {inline(inner)}" for key, inner in value.items()) + "}"
    return json.dumps(value)


def test_defaults_are_those_of_the_settings() -> None:
    in_words = {"capacity", "workdir"}
    settings = Settings()
    for name, row in settings_table().items():
        if name not in in_words:
            assert row[2] == shown(getattr(settings, name)), name


@pytest.mark.parametrize(("cores", "capacity"), [(1, 4), (4, 4), (64, 64)])
def test_the_default_capacity_is_the_number_of_cores_but_at_least_4(
    cores: int, capacity: int
) -> None:
    script = (
        f"import os; os.cpu_count = lambda: {cores}\n"
        "from api.settings import Settings; print(Settings().capacity)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment(), capture_output=True, check=True
    )
    assert int(ran.stdout) == capacity


def shown(value: Any) -> str:
    """A default in the form of the table."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value).replace(str(Path.home()), "~", 1)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_no_page_names_a_variable_that_nobody_reads(page: Path) -> None:
    known = {f"CREWLOG_{name.upper()}" for name in Settings.model_fields}
    beside = set(_VARIABLE.findall(page.read_text())) - known
    sources = [path.read_text() for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    for variable in beside:
        assert any(f'"{variable}"' in source for source in sources), variable


def test_the_settings_file_in_the_docs_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "crewlog.toml"
    file.write_text("\n".join(blocks(ROOT / "docs/operations.md", "toml")))
    monkeypatch.setenv("CREWLOG_CONFIG", str(file))
    assert Settings().port == tomllib.loads(file.read_text())["port"]


# Commands


def leaves(command: Any, name: str = "crewlog") -> Iterator[tuple[str, Any]]:
    """Every command by its full name; typed loosely, because typer has its own click."""
    inner = getattr(command, "commands", None)
    if not inner:
        yield name, command
    for word, child in (inner or {}).items():
        yield from leaves(child, f"{name} {word}")


COMMANDS: dict[str, Any] = dict(leaves(typer.main.get_command(commands)))


def options(command: Any) -> set[str]:
    given = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
    return {option for option in given if option.startswith("-")} | {"--help", "-h"}


def test_every_command_is_in_the_readme_and_no_other() -> None:
    table = list(rows(ROOT / "README.md", under="The command line"))
    assert {row[0] for row in table[1:]} == set(COMMANDS)


def command_lines(page: Path) -> Iterator[list[str]]:
    """Every call of crewlog in a block of a page, as words."""
    for block in blocks(page):
        for line in block.splitlines():
            for call in re.findall(r"(?:^|[\s/(])crewlog ((?:[a-z]+ ?).*?)(?:\)?$)", line):
                yield ["crewlog", *shlex.split(call, comments=True)]


def spans(page: Path) -> Iterator[list[str]]:
    """The same from `inline code`."""
    for call in re.findall(r"`crewlog ([^`]+)`", prose(page)):
        yield ["crewlog", *shlex.split(call)]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_line_in_the_docs_can_be_called(page: Path) -> None:
    for words in (*command_lines(page), *spans(page)):
        name = next((n for n in (" ".join(words[:k]) for k in (3, 2)) if n in COMMANDS), None)
        assert name, f"{named(page)}: {' '.join(words)}"
        own = words[: words.index("--")] if "--" in words else words
        for word in own:
            if word.startswith("-") and word != "-":
                assert word.partition("=")[0] in options(COMMANDS[name]), " ".join(words)


def test_the_docs_do_call_commands() -> None:
    assert sum(1 for page in PAGES for _ in command_lines(page)) >= 5


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_make_target_in_the_docs_is_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    calls = re.findall(r"`make ([a-z]+)`", prose(page)) + [
        target for block in blocks(page) for target in re.findall(r"^make ([a-z]+)", block, re.M)
    ]
    assert set(calls) <= targets | {"help"}
    if page.name == "README.md":
        assert set(calls) >= targets - {"help"}


# Events and states


def test_every_event_is_documented_with_its_fields_and_schema() -> None:
    text = prose(ROOT / "docs/events.md")
    sections = dict(re.findall(r"^### `([a-z_.]+)`\n(.*?)(?=^##|\Z)", text, re.M | re.S))
    documented = {
        name: (
            int(re.search(r"Schema (\d+)\.", section)[1]),  # type: ignore[index]
            re.findall(r"^\| `(\w+)` \|", section, re.M),
        )
        for name, section in sections.items()
    }
    assert documented == {
        name: (event.schema_number, list(event.model_fields)) for name, event in CATALOGUE.items()
    }


def test_an_event_is_said_to_be_reserved_exactly_where_nothing_appends_it() -> None:
    text = prose(ROOT / "docs/events.md")
    sections = dict(re.findall(r"^### `([a-z_.]+)`\n(.*?)(?=^##|\Z)", text, re.M | re.S))
    reserved = {name for name, section in sections.items() if "Reserved:" in section}
    called = {
        "job.progressed": r"\bJobProgressed\(",
        "job.messaged": r"\bjob\.message\(",
        "job.paused": r"\bJobPaused\(",
        "job.resumed": r"\bJobResumed\(",
        "job.unarchived": r"\bunarchive\b",
    }
    sources = "\n".join(
        path.read_text() for room in ("scheduler", "api") for path in (ROOT / room).rglob("*.py")
    )
    assert reserved == {name for name, call in called.items() if not re.search(call, sources)}


def test_the_states_are_documented_and_translated_as_the_code_does() -> None:
    page = ROOT / "docs/job-states.md"
    assert [row[0] for row in rows(page, under="Ours")][1:] == [state.value for state in JobState]
    translated = {row[0]: row[1:] for row in rows(page, under="What the dialects show")}
    del translated["state"]
    assert translated == {state.value: [SHOWN_STATES[state], STATUSES[state]] for state in JobState}


# Dependencies, links, files


def test_every_dependency_is_explained_with_its_licence() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[\[<>=~]", requirement)[0] for requirement in declared}
    table = [row for row in rows(ROOT / "docs/dependencies.md") if row[0] != "package"]
    assert {row[0] for row in table} == names
    for name, purpose, _, licence in table:
        assert purpose, name
        assert licence == licence_of(name), name


def licence_of(package: str) -> str:
    stated = cast(Message, metadata(package))
    classified = " ".join(stated.get_all("Classifier") or [])
    fallback = {"MIT License": "MIT", "BSD License": "BSD License"}
    named = next((short for name, short in fallback.items() if name in classified), "")
    return str(
        stated.get("License-Expression") or stated.get("License") or named or _enclosed(package)
    )


def _enclosed(package: str) -> str:
    """By the licence that comes with a package whose metadata states none."""
    texts = (file.read_text() for file in files(package) or () if file.name == "LICENSE")
    apache = re.compile(r"\s*Apache License\s+Version 2\.0")
    return "Apache-2.0" if any(apache.match(text) for text in texts) else ""


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as code forges make them."""
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(prose(page)))
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in _LINK.findall(prose(page)):
        assert "://" not in link, f"{named(page)} links to another place: {link}"
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{named(page)}: {link}"
        assert not anchor or anchor in anchors(target), f"{named(page)}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_file_that_is_named_is_there(page: Path) -> None:
    for path in re.findall(rf"`((?:{'|'.join(ROOMS)})/[\w./-]*)`", prose(page)):
        assert (ROOT / path).exists(), f"{named(page)}: {path}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        for link in _LINK.findall(prose(page)):
            target = (page.parent / link.partition("#")[0]).resolve()
            if target.suffix == ".md" and target.exists() and target not in reached:
                waiting.append(target)
    assert set(PAGES) <= reached


def test_every_promise_names_tests() -> None:
    table = list(rows(ROOT / "README.md", under="What it promises"))[1:]
    assert len(table) >= 10
    assert all(_LINK.search(row[1]) for row in table)


DEVIATIONS = {
    "gitoma": {
        "more dispatches than there is room for",
        "readers of a stream",
        "the end of a line",
        "lines_buffered`, `lines",
        "Host headers",
        "the socket",
    },
    "CodePlane": {
        "POST /api/jobs",
        "the job object",
        "states",
        "a cancelled job",
        "a list of states that are all unknown",
        "the timeline of a job that is not there",
    },
    "The job board": {
        "errors",
        "a body that is malformed",
        "the lists of jobs and of schedules",
        "GET /api/jobs/{job_id}/stream",
        "costSpent`, `costSaved",
    },
}


@pytest.mark.parametrize("dialect", DEVIATIONS)
def test_what_differs_from_a_contract_on_purpose_is_listed(dialect: str) -> None:
    listed = {row[0] for row in rows(ROOT / "docs/dialects.md", under=dialect)}
    assert DEVIATIONS[dialect] <= listed


def test_every_address_that_two_dialects_publish_is_in_the_page_with_its_rule() -> None:
    listed = {row[0] for row in rows(ROOT / "docs/dialects.md", under="The main address")}
    assert listed - {"address"} == {a for a, line in ADDRESSES.items() if isinstance(line, Rule)}
