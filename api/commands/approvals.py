"""`crewlog approvals`: what jobs ask, and the answers."""

from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from api.commands import terminal
from api.commands.options import AsJson, Data, Token, Url, connect
from domain.errors import CrewlogError

if TYPE_CHECKING:
    from api.client import Client

app = typer.Typer(no_args_is_help=True, help="Approvals: what jobs ask, and the answers.")

_STATES = {
    "pending": "cyan",
    "approved": "green",
    "rejected": "red",
    "expired": "magenta",
    "withdrawn": "yellow",
}
_PAGE = 100
_WHOLE_ID = 36

ApprovalId = Annotated[
    str, typer.Argument(metavar="ID", help="Id of the approval, or how only it begins.")
]
Comment = Annotated[str | None, typer.Option(metavar="TEXT", help="What to say with the answer.")]


class NoSuchApproval(CrewlogError):
    """An id, or the beginning of one, that does not name exactly one approval."""


@app.command("list")
def list_approvals(
    state: Annotated[
        str, typer.Option(help=f"Those that are {', '.join(_STATES)}; or all.")
    ] = "pending",
    limit: Annotated[int, typer.Option(min=1, max=_PAGE, help="The newest so many.")] = 50,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """List what was asked, newest first: what waits for an answer, unless --state says more."""
    if state not in (*_STATES, "all"):
        raise typer.BadParameter(f"There are {', '.join(_STATES)} and all.", param_hint="--state")
    wanted = None if state == "all" else state
    with connect(url, token, data) as client:
        approvals = client.get("/api/approvals", state=wanted, limit=limit)["items"]
    if as_json:
        terminal.print_json(approvals)
        return
    if not approvals:
        terminal.notice("Nobody asks." if state == "pending" else "No approvals.")
        return
    terminal.print_table(
        ("ID", "STATE", "ASKED", "JOB", "QUESTION", "ACTION"),
        (
            (
                approval["id"],
                (approval["state"], _STATES.get(approval["state"], "")),
                terminal.ago(approval["requestedAt"]),
                approval["jobId"],
                approval["description"],
                approval["proposedAction"] or "-",
            )
            for approval in approvals
        ),
        flexible=("QUESTION", "ACTION"),
        optional=("ASKED", "JOB"),
    )


@app.command()
def approve(
    approval_id: ApprovalId,
    comment: Comment = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Say yes: the job goes on."""
    with connect(url, token, data) as client:
        _told(_answer(client, approval_id, "approved", comment), as_json)


@app.command()
def reject(
    approval_id: ApprovalId,
    comment: Comment = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Say no: whoever asked is told so, or the job ends, as its template says."""
    with connect(url, token, data) as client:
        _told(_answer(client, approval_id, "rejected", comment), as_json)


def _answer(client: "Client", given: str, resolution: str, comment: str | None) -> dict[str, Any]:
    body = {"resolution": resolution, "comment": comment}
    answered: dict[str, Any] = client.post(
        f"/api/approvals/{_resolve(client, given)}/resolve", body
    )
    return answered


def _told(approval: dict[str, Any], as_json: bool) -> None:
    if as_json:
        terminal.print_json(approval)
    else:
        said = terminal.plain(approval["description"])
        terminal.write_line(f"{approval['state'].capitalize()}: {said}")


def _resolve(client: "Client", given: str) -> str:
    """The id that `given` is or begins; a short one is looked for among those that wait."""
    if len(given) >= _WHOLE_ID:
        return quote(given, safe="")
    waiting = client.get("/api/approvals", state="pending", limit=_PAGE)["items"]
    found = [one["id"] for one in waiting if one["id"].startswith(given.lower())]
    if len(found) != 1:
        count = len(found) or "None"
        raise NoSuchApproval(f"{count} of the approvals that wait begin with {given!r}.")
    return str(found[0])
