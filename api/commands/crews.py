"""`crewlog crews`: run a template as a crew and follow it, list crews, show one."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.commands import terminal
from api.commands.crew_following import CrewFollowing
from api.commands.crew_ids import resolve_crew as resolve
from api.commands.finding import Owner, Since, Until, Web, moment_given, open_page
from api.commands.options import API, AsJson, Data, Token, Url, connect, data_directory
from api.commands.states import rests, state_of
from api.commands.template_names import naming
from domain.errors import CrewlogError
from domain.numbers import Inexact, parse_json

if TYPE_CHECKING:
    from api.commands.client import Client

app = typer.Typer(no_args_is_help=True, help="Crews: the jobs that a template becomes.")

_STATES = ("held", "running", "waiting_for_approval", "blocked", "failed", "completed", "deleted")

CrewId = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="Id of the crew, or its beginning; or its number, such as deploy#42."
    ),
]


class BadInputs(CrewlogError):
    """The inputs on the command line are not valid."""

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
        typer.Option(metavar="TIME", help="No job starts before this ISO 8601 time."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Follow the crew to its end.")
    ] = True,
    idempotency_key: Annotated[
        str | None,
        typer.Option(metavar="K", help="Repeating a key gives the same crew, not a second one."),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Run a template as a crew, and follow it until nothing in it can go on by itself.

    The jobs' output goes to stdout, each line behind the job's key. Changes of state and questions
    go to stderr. The exit code is 0 if every job is done, else 1. Ctrl-C leaves the crew running.
    With --json the crew is printed at its end instead; with --no-follow its id is printed at once.
    """
    body = {"template": template, "inputs": inputs_of(inputs, pairs or []), "notBefore": at}
    headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
    with connect(url, token, data) as client:
        with naming(template):
            made = client.post(f"{API}/crews", body, headers)
        _see_through(client, made, lambda: _silent(url, token, data), follow, as_json)


def _see_through(
    client: "Client",
    made: dict[str, Any],
    connect_anew: "Callable[[], Client]",
    follow: bool,
    as_json: bool,
) -> None:
    """Follow a new crew to its end, and exit with its exit code."""
    if not follow:
        ids = {"jobIds": made["jobIds"], "crewId": made["id"], "number": made["number"]}
        terminal.print_json(ids) if as_json else terminal.write_line(made["id"])
        return
    terminal.notice(f"Crew {made['id']}")
    following = CrewFollowing(client, connect_anew, made["id"], quiet=as_json)
    try:
        crew = following.run()
    except KeyboardInterrupt:
        terminal.notice(f"You left; the crew goes on. See it: crewlog crews show {made['id']}")
        following.leave(130)
    if as_json:
        terminal.print_json(crew)
    terminal.notice(f"The crew is {_words(crew['state'])}.")
    following.leave(0 if crew["state"] == "completed" else 1)


@app.command()
def rerun(
    crew_id: CrewId,
    pairs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=TEXT | NAME:=JSON]...", help="Inputs to change."),
    ] = None,
    inputs: Annotated[
        str | None,
        typer.Option(
            metavar="JSON", help="The same as one object; @FILE reads a file, - standard input."
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Follow the crew to its end.")
    ] = True,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Run the template of a crew again, with the same or changed inputs, and follow the new
    crew.
    """
    body = {"inputs": inputs_of(inputs, pairs or [])}
    with connect(url, token, data) as client:
        made = client.post(f"{API}/crews/{resolve(client, crew_id)}/rerun", body)
        _see_through(client, made, lambda: _silent(url, token, data), follow, as_json)


@app.command()
def cancel(
    crew_id: CrewId,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Ask for the end of every job of a crew that has not ended."""
    with connect(url, token, data) as client:
        crew = client.post(f"{API}/crews/{resolve(client, crew_id)}/cancel")
    _told(crew, as_json, "is being cancelled: its jobs are told to end")


@app.command()
def retry(
    crew_id: CrewId,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Set failed, cancelled and blocked jobs going again, and the jobs that wait for them."""
    with connect(url, token, data) as client:
        crew = client.post(f"{API}/crews/{resolve(client, crew_id)}/retry")
    _told(crew, as_json, f"goes on; it is {_words(crew['state'])}")


def _told(crew: dict[str, Any], as_json: bool, sentence: str) -> None:
    if as_json:
        terminal.print_json(crew)
    else:
        terminal.write_line(f"{called(crew)} {sentence}.")


def called(crew: dict[str, Any]) -> str:
    """The name that people use: ``deploy #42``."""
    return f"{terminal.plain(crew['template'])} #{crew['number']}"


def _silent(url: str | None, token: str | None, data: Path | None) -> "Client":
    """A client that reports no lost connection: it is one of many that lose the same one."""
    from api.commands.client import Client, find

    return Client(lambda: find(url, token, lambda: data_directory(data)))


def inputs_of(whole: str | None, pairs: list[str]) -> dict[str, Any]:
    """Inputs from a JSON object and from pairs; pairs win. Raises BadInputs."""
    given = {} if whole is None else _parse(_read(whole), "The value of --inputs")
    if not isinstance(given, dict):
        raise BadInputs("The inputs must be a JSON object.")
    return {**given, **dict(_member(pair) for pair in pairs)}


def _member(pair: str) -> tuple[str, Any]:
    name, equals, value = pair.partition("=")
    if not equals or not name.rstrip(":"):
        raise BadInputs(f"{terminal.plain(pair)!r} must be NAME=TEXT or NAME:=JSON.")
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
    except Inexact as error:
        raise BadInputs(f"{what} holds a number that would be rounded: {error}") from error
    except ValueError as error:
        raise BadInputs(f"{what} is not JSON: {error}.") from error


@app.command("list")
def list_crews(
    limit: Annotated[int, typer.Option(min=1, max=100, help="At most this many.")] = 20,
    mine: Annotated[bool, typer.Option("--mine", help="Only my own.")] = False,
    state: Annotated[
        str | None,
        typer.Option(metavar="STATES", help=f"Only in these states: {', '.join(_STATES)}."),
    ] = None,
    owner: Owner = None,
    template: Annotated[
        str | None, typer.Option(metavar="ID", help="Only of this template.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="L", help="Only with a job that has this label.")
    ] = None,
    since: Since = None,
    until: Until = None,
    web: Web = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """List crews, newest first."""
    with connect(url, token, data) as client:
        if web:
            open_page(client, "/")
            return
        crews = client.get(
            f"{API}/crews",
            limit=limit,
            state=state,
            owner="me" if mine else owner,
            template=template,
            label=label,
            created_after=moment_given(since, "--since"),
            created_before=moment_given(until, "--until"),
        )["items"]
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
                terminal.short_id(crew["id"]),
                terminal.state_cell(crew["state"]),
                terminal.ago(crew["createdAt"]),
                f"{crew['counts'].get('completed', 0)}/{sum(crew['counts'].values())}",
                f"{crew['template']} #{crew['number']}",
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
    web: Web = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Show a crew and its jobs, each below the jobs that it waits for."""
    with connect(url, token, data) as client:
        found = resolve(client, crew_id)
        if web:
            open_page(client, f"/crews/{found}")
            return
        crew = client.get(f"{API}/crews/{found}")
    jobs = crew["jobs"]
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
                str(job["attempt"]),
                terminal.duration(job["runMs"] if rests(job) else None),
                terminal.short_id(job["id"]),
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


def _details(crew: dict[str, Any]) -> Iterator[tuple[str, terminal.Cell]]:
    yield "Crew", crew["id"]
    yield "Name", crew["name"]
    yield "State", terminal.state_cell(crew["state"])
    yield "Template", called(crew)
    yield "Inputs", json.dumps(crew["inputs"], ensure_ascii=False)
    yield "Owner", crew["owner"]
    yield "Created", terminal.moment(crew["createdAt"])
    if crew["notBefore"]:
        yield "Not before", terminal.moment(crew["notBefore"])
    if crew["scheduleId"]:
        yield "Schedule", f"{crew['scheduleId']}, for {terminal.moment(crew['nominalAt'])}"


def _needs(job: dict[str, Any]) -> Iterator[str]:
    """What a person can do for a job, or read about it."""
    for approval in job["pendingApprovals"]:
        yield f"waits for an answer: crewlog approvals approve {approval}"
    if job["reason"]:
        yield terminal.plain(job["reason"])
    if job["blockReason"]:
        how = "gave up" if job["gaveUp"] else "blocked"
        yield f"{how}: {terminal.plain(job['blockReason'])}"


def _words(state: str) -> str:
    return state.replace("_", " ")
