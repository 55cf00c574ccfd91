"""`crewlog worker`: how the program of a job talks to its server.

Works only inside an attempt, with the environment that the server gave it. See docs/worker-api.md.
"""

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.commands import terminal
from api.commands.options import AsJson
from domain.errors import CrewlogError
from domain.numbers import Inexact, parse_json

if TYPE_CHECKING:
    from api.commands.worker_client import WorkerClient

app = typer.Typer(no_args_is_help=True, help="For programs of jobs: talk to the server.")

REJECTED = 3
"""Exit code of `ask` after a no."""
UNANSWERED = 4
"""Exit code of `ask` if nobody answered in time, or the question was withdrawn."""

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)", re.ASCII)


class BadResult(CrewlogError):
    """The result on the command line is not valid."""

    exit_code = 2


@app.command()
def show(as_json: AsJson = False) -> None:
    """Show the work: the job, the results of its parents, comments and feedback."""
    shown = _client().get()
    if as_json:
        terminal.print_json(shown)
        return
    job = shown["job"]
    terminal.write_line(
        f"{terminal.plain(job['title'])}  (job {job['id']}, attempt {job['attempt']})"
    )
    if job["body"]:
        terminal.write_line(f"\n{job['body']}")
    if shown["feedback"]:
        terminal.write_line(f"\nFeedback: {terminal.plain(shown['feedback'])}")
    for parent in shown["parentResults"]:
        title, metadata = terminal.plain(parent["title"]), json.dumps(parent["metadata"])
        terminal.write_line(f"\n{parent['key']}, {title}: {metadata}")
    if shown["olderComments"]:
        terminal.write_line(f"\n{shown['olderComments']} older comments are left out.")
    for comment in shown["comments"]:
        author = terminal.plain(comment["author"])
        terminal.write_line(f"\n{author}, {comment['createdAt']}: {comment['body']}")
    if job["resultSchema"] is not None:
        terminal.write_line(f"\nThe result must match: {json.dumps(job['resultSchema'])}")


@app.command()
def result(
    parent: Annotated[
        str | None, typer.Argument(metavar="[KEY]", help="A parent, by its key in the template.")
    ] = None,
) -> None:
    """Print the result of a parent as JSON; without KEY the results of all, by key."""
    results = {found["key"]: found["metadata"] for found in _client().get()["parentResults"]}
    if parent is None:
        terminal.print_json(results)
    elif parent in results:
        terminal.print_json(results[parent])
    else:
        known = ", ".join(sorted(results)) or "none"
        raise BadResult(f"The job has no parent {parent!r}. Known: {known}.")


@app.command()
def heartbeat(
    text: Annotated[str | None, typer.Argument(help="What the job is doing, for people.")] = None,
    progress: Annotated[
        float | None, typer.Option(min=0, max=1, help="Progress, from 0 to 1.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send a sign of life, so that the lease does not expire."""
    _say("/heartbeat", {"progress": progress, "text": text}, as_json)


@app.command()
def comment(
    text: Annotated[str, typer.Argument(help="The comment.")], as_json: AsJson = False
) -> None:
    """Write a comment on the job."""
    _say("/comments", {"body": text}, as_json)


@app.command()
def complete(
    pairs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=TEXT | KEY:=JSON]...", help="Members of the result, one by one."
        ),
    ] = None,
    given: Annotated[
        str | None,
        typer.Option(
            "--result", metavar="JSON", help="The result; @FILE reads a file, - standard input."
        ),
    ] = None,
    summary: Annotated[str | None, typer.Option(help="A comment beside the result.")] = None,
    as_json: AsJson = False,
) -> None:
    """Hand in the result. The job is done when the program has ended; do nothing more after this.

    If the result does not match the schema of the template, it is refused (exit code 1). Correct it
    and hand it in again.
    """
    whole = _read(given) if given is not None else {}
    if not isinstance(whole, dict):
        raise BadResult("The result must be a JSON object.")
    result = {**whole, **dict(_member(pair) for pair in pairs or [])}
    _say("/complete", {"result": result, "summary": summary}, as_json)


@app.command()
def block(
    reason: Annotated[str, typer.Argument(help="What a person must do or decide.")],
    as_json: AsJson = False,
) -> None:
    """Say that the job needs a person to go on. It is blocked when the program has ended."""
    _say("/block", {"reason": reason}, as_json)


@app.command()
def ask(
    text: Annotated[str, typer.Argument(help="The question.")],
    action: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What will be done if it is approved.")
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Wait no longer than this: 90s, 30m, 1h, 2d."),
    ] = None,
    explicit: Annotated[
        bool, typer.Option("--explicit", help="A person must answer, even if the job is trusted.")
    ] = False,
    approver: Annotated[
        list[str] | None,
        typer.Option(metavar="WHO", help="Who may answer: owner or an e-mail address. Repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask a person and wait for the answer, also through restarts of the server.

    Prints the comment of the answer. The exit code is 0 if it was approved, 3 if rejected, 4 if
    nobody answered in time or the question was withdrawn.
    """
    question: dict[str, Any] = {"description": text, "explicit": explicit}
    if action is not None:
        question["proposedAction"] = action
    if expires is not None:
        question["expiresInS"] = seconds(expires)
    if approver:
        question["approvers"] = approver
    approval = _client().ask(question)
    if as_json:
        terminal.print_json(approval)
    elif approval["comment"]:
        terminal.write_line(approval["comment"])
    if approval["state"] != "approved":
        terminal.notice(f"The question was {approval['state']}.")
        raise typer.Exit(REJECTED if approval["state"] == "rejected" else UNANSWERED)


def seconds(text: str) -> float:
    """A time span: ``90s``, ``30m``, ``1.5h``, ``2d``; a number alone is seconds."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is not a time span such as 90s, 30m, 1h or 2d.")
    return float(found[1]) * _SECONDS[found[2] or "s"]


def _client() -> "WorkerClient":
    from api.commands.worker_client import connect

    return connect(terminal.notice)


def _say(path: str, body: dict[str, Any], as_json: bool) -> None:
    given = {name: value for name, value in body.items() if value is not None}
    answer = _client().post(path, given)
    if as_json:
        terminal.print_json(answer)
    if answer["cancelRequested"]:
        terminal.notice("The job is being cancelled: end the program.")


def _member(pair: str) -> tuple[str, Any]:
    name, equals, value = pair.partition("=")
    if not equals or not name.rstrip(":"):
        raise BadResult(f"{terminal.plain(pair)!r} must be KEY=TEXT or KEY:=JSON.")
    if not name.endswith(":"):
        return name, value
    return name[:-1], _parse(value, f"The value of {name[:-1]!r}")


def _read(given: str) -> Any:
    if given == "-":
        return _parse(sys.stdin.read(), "Standard input")
    if given.startswith("@"):
        try:
            return _parse(Path(given[1:]).read_text(encoding="utf-8"), f"The file {given[1:]!r}")
        except (OSError, UnicodeError) as error:
            raise BadResult(f"The file {given[1:]!r} cannot be read: {error}.") from error
    return _parse(given, "The result")


def _parse(text: str, what: str) -> Any:
    try:
        return parse_json(text)
    except Inexact as error:
        raise BadResult(f"{what} holds a number that would be rounded: {error}") from error
    except ValueError as error:
        raise BadResult(f"{what} is not JSON: {error}.") from error
