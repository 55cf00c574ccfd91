"""`crewlog crews`: make one of a template and follow it, list them, look at one."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from api.commands import terminal
from api.commands.crew_following import CrewFollowing, crew_jobs
from api.commands.options import AsJson, Data, Token, Url, connect, data_directory
from api.commands.states import rests, state_of
from domain.errors import CrewlogError
from domain.numbers import parse_json

if TYPE_CHECKING:
    from api.commands.client import Client

app = typer.Typer(no_args_is_help=True, help="Crews: the jobs that a template becomes.")

_RECENT = 100
_WHOLE_ID = 36

CrewId = Annotated[str, typer.Argument(metavar="ID", help="Id of the crew, or how only it begins.")]


class NoSuchCrew(CrewlogError):
    """An id, or the beginning of one, that does not name exactly one crew."""


class BadInputs(CrewlogError):
    """What was given on the command line cannot be inputs."""

    exit_code = 2


@app.command()
def run(
    template: Annotated[str, typer.Argument(metavar="TEMPLATE", help="Id of the template.")],
    pairs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=TEXT | NAME:=JSON]...", help="Inputs, one by one."),
    ] = None,
    inputs: Annotated[
        str | None,
        typer.Option(
            metavar="JSON", help="Inputs as one object; @FILE reads a file, - standard input."
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Nothing starts before this ISO 8601 time."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="See the crew through to its end.")
    ] = True,
    idempotency_key: Annotated[
        str | None,
        typer.Option(metavar="K", help="The same key again means the same crew, not a second one."),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Make a crew of a template and follow it until nothing in it moves any more.

    What the jobs write goes to stdout, each line behind the job's key; what becomes of them, and
    what is asked, to stderr. The exit code is 0 when every job is done, else 1. Ctrl-C leaves the
    crew alone. With --json the crew is printed at its end instead, and with --no-follow its id at
    once.
    """
    body = {"templateId": template, "inputs": inputs_of(inputs, pairs or []), "scheduledAt": at}
    headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
    with connect(url, token, data) as client:
        made = client.post("/api/jobs", body, headers)
        if not follow:
            terminal.print_json(made) if as_json else terminal.write_line(made["crewId"])
            return
        terminal.notice(f"Crew {made['crewId']}")
        following = CrewFollowing(
            client, lambda: _silent(url, token, data), made["crewId"], quiet=as_json
        )
        try:
            crew = following.run()
        except KeyboardInterrupt:
            terminal.notice(f"Left; the crew goes on: crewlog crews show {made['crewId']}")
            following.leave(130)
    if as_json:
        terminal.print_json(crew)
    terminal.notice(f"The crew is {_words(crew['state'])}.")
    following.leave(0 if crew["state"] == "completed" else 1)


def _silent(url: str | None, token: str | None, data: Path | None) -> "Client":
    """A client that says nothing of lost connections: one of many that lose the same one."""
    from api.commands.client import Client, find

    return Client(lambda: find(url, token, lambda: data_directory(data)))


def inputs_of(whole: str | None, pairs: list[str]) -> dict[str, Any]:
    """Inputs from an object as JSON and from pairs, of which the latter count more. BadInputs."""
    given = {} if whole is None else _parse(_read(whole), "What --inputs gives")
    if not isinstance(given, dict):
        raise BadInputs("The inputs must be a JSON object.")
    return {**given, **dict(_member(pair) for pair in pairs)}


def _member(pair: str) -> tuple[str, Any]:
    name, equals, value = pair.partition("=")
    if not equals or not name.rstrip(":"):
        raise BadInputs(f"{terminal.plain(pair)!r} is neither NAME=TEXT nor NAME:=JSON.")
    if not name.endswith(":"):
        return name, value
    return name[:-1], _parse(value, f"The value of {name[:-1]!r}")


def _read(given: str) -> str:
    if given == "-":
        return sys.stdin.read()
    if not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise BadInputs(f"The file {given[1:]!r} cannot be read: {error}.") from error


def _parse(text: str, what: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        raise BadInputs(f"{what} is not JSON: {error}.") from error


@app.command("list")
def list_crews(
    limit: Annotated[int, typer.Option(min=1, max=100, help="The newest so many.")] = 20,
    mine: Annotated[bool, typer.Option("--mine", help="Only my own.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """List crews, newest first."""
    with connect(url, token, data) as client:
        crews = client.get("/api/crews", limit=limit, mine=True if mine else None)["items"]
    if as_json:
        terminal.print_json(crews)
        return
    if not crews:
        terminal.notice("No crews.")
        return
    terminal.print_table(
        ("ID", "STATE", "CREATED", "DONE", "TEMPLATE", "NAME"),
        (
            (
                crew["id"],
                terminal.state_cell(crew["state"]),
                terminal.ago(crew["createdAt"]),
                f"{crew['counts'].get('completed', 0)}/{sum(crew['counts'].values())}",
                crew["templateId"],
                crew["name"],
            )
            for crew in crews
        ),
        flexible=("TEMPLATE", "NAME"),
        optional=("DONE", "CREATED"),
    )


@app.command()
def show(
    crew_id: CrewId,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Show a crew and its jobs, each behind those that it waits for."""
    with connect(url, token, data) as client:
        crew = client.get(f"/api/crews/{resolve(client, crew_id)}")
        jobs = [] if as_json else crew_jobs(client, crew)
    if as_json:
        terminal.print_json(crew)
        return
    terminal.print_fields(_details(crew))
    terminal.console().print()
    keys = {job["id"]: job["key"] for job in jobs}
    terminal.print_table(
        ("JOB", "STATE", "AFTER", "TRIES", "RAN", "ID", "TITLE"),
        (
            (
                job["key"],
                terminal.state_cell(state_of(job)),
                ", ".join(keys.get(parent, parent) for parent in job["parents"]) or "-",
                str(job["attempts"]),
                terminal.duration(job["runMs"] if rests(job) else None),
                job["id"],
                job["title"],
            )
            for job in jobs
        ),
        flexible=("AFTER", "TITLE"),
        optional=("RAN", "TRIES"),
    )
    for job in jobs:
        for sentence in _needs(job):
            terminal.notice(f"{job['key']}: {sentence}")


def resolve(client: "Client", given: str) -> str:
    """The id that `given` is or begins."""
    if len(given) >= _WHOLE_ID:
        return quote(given, safe="")
    crews = client.get("/api/crews", limit=_RECENT)["items"]
    found = [crew["id"] for crew in crews if crew["id"].startswith(given.lower())]
    if len(found) != 1:
        count = len(found) or "None"
        raise NoSuchCrew(f"{count} of the newest {_RECENT} crews begin with {given!r}.")
    return str(found[0])


def _details(crew: dict[str, Any]) -> Iterator[tuple[str, terminal.Cell]]:
    yield "Crew", crew["id"]
    yield "Name", crew["name"]
    yield "State", terminal.state_cell(crew["state"])
    yield "Template", crew["templateId"]
    yield "Inputs", json.dumps(crew["inputs"], ensure_ascii=False)
    yield "Owner", crew["owner"]
    yield "Created", terminal.moment(crew["createdAt"])
    if crew["scheduledAt"]:
        yield "Not before", terminal.moment(crew["scheduledAt"])
    if crew["scheduleId"]:
        yield "Schedule", f"{crew['scheduleId']}, for {terminal.moment(crew['nominalAt'])}"


def _needs(job: dict[str, Any]) -> Iterator[str]:
    """What a person can do for a job, or read about it."""
    for approval in job["pendingApprovals"]:
        yield f"waits for an answer: crewlog approvals approve {approval}"
    if job["failureReason"]:
        yield terminal.plain(job["failureReason"])
    if job["blockReason"]:
        how = "gave up" if job["gaveUp"] else "blocked"
        yield f"{how}: {terminal.plain(job['blockReason'])}"


def _words(state: str) -> str:
    return state.replace("_", " ")
