"""`crewlog approvals`: the questions of jobs, and their answers."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, unquote

import typer

from api.commands import jobs, terminal
from api.commands.crew_ids import resolve_crew
from api.commands.options import API, AsJson, Data, Token, Url, connect
from api.commands.states import ENDED, state_of
from domain.errors import CrewlogError

if TYPE_CHECKING:
    from api.commands.client import Client

app = typer.Typer(no_args_is_help=True, help="Approvals: the questions of jobs, and their answers.")

_STATES = {
    "pending": "cyan",
    "approved": "green",
    "rejected": "red",
    "expired": "magenta",
    "withdrawn": "yellow",
}
_PAGE = 100
_WHOLE_ID = 36

_LOOK_S = 0.3

ApprovalId = Annotated[
    str | None,
    typer.Argument(
        metavar="[ID]",
        help="Id of the approval, or its beginning. Optional if --job or --crew has only one "
        "waiting approval.",
    ),
]
OfJob = Annotated[
    str | None,
    typer.Option("--job", metavar="ID", help="Only of this job: its id, or the beginning."),
]
OfCrew = Annotated[
    str | None,
    typer.Option("--crew", metavar="ID", help="Only of this crew: its id, or the beginning."),
]
Comment = Annotated[str | None, typer.Option(metavar="TEXT", help="A comment with the answer.")]


class NoSuchApproval(CrewlogError):
    """An id, or the beginning of one, does not name exactly one approval."""


@app.command("list")
def list_approvals(
    state: Annotated[
        str, typer.Option(help=f"Only in this state: {', '.join(_STATES)}; or all.")
    ] = "pending",
    limit: Annotated[int, typer.Option(min=1, max=_PAGE, help="At most this many.")] = 50,
    job: OfJob = None,
    crew: OfCrew = None,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait", help="Wait until there is one, or until the job or crew cannot ask any more."
        ),
    ] = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """List approvals, newest first: those that wait for an answer, unless --state says
    otherwise.
    """
    if state not in (*_STATES, "all"):
        there = f"{terminal.unknown('state', state, _STATES)} Known: {', '.join(_STATES)}, all."
        raise typer.BadParameter(there, param_hint="--state")
    with connect(url, token, data) as client:
        about = _about(client, job, crew)
        approvals = _asked(client, state, limit, about)
        while wait and not approvals and (about is None or not about.over(client)):
            time.sleep(_LOOK_S)
            approvals = _asked(client, state, limit, about)
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
                terminal.short_id(approval["id"]),
                (approval["state"], _STATES.get(approval["state"], "")),
                terminal.ago(approval["requestedAt"]),
                terminal.short_id(approval["jobId"]),
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
    approval_id: ApprovalId = None,
    job: OfJob = None,
    crew: OfCrew = None,
    comment: Comment = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Approve: the job goes on."""
    with connect(url, token, data) as client:
        _told(_answer(client, approval_id, job, crew, "approved", comment), as_json)


@app.command()
def reject(
    approval_id: ApprovalId = None,
    job: OfJob = None,
    crew: OfCrew = None,
    comment: Comment = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Reject: the job is told, or it ends, as its template says."""
    with connect(url, token, data) as client:
        _told(_answer(client, approval_id, job, crew, "rejected", comment), as_json)


@dataclass(frozen=True, slots=True)
class _About:
    """The job or crew whose approvals are wanted."""

    path: str
    filter: dict[str, str]

    def over(self, client: "Client") -> bool:
        """Whether it will ask nothing more by itself."""
        shown = client.get(self.path)
        state = shown["state"] if "jobIds" in shown else state_of(shown)
        return state in (*ENDED, "blocked", "stranded", "deleted")


def _about(client: "Client", job: str | None, crew: str | None) -> _About | None:
    if job is not None and crew is not None:
        raise typer.BadParameter("Give a job or a crew, not both.", param_hint="--job, --crew")
    if job is not None:
        found = jobs.resolve(client, job)
        return _About(f"{API}/jobs/{found}", {"job": unquote(found)})
    if crew is not None:
        found = resolve_crew(client, crew)
        return _About(f"{API}/crews/{found}", {"crew": unquote(found)})
    return None


def _asked(client: "Client", state: str, limit: int, about: _About | None) -> list[dict[str, Any]]:
    """The newest `limit` approvals, from as many pages as needed."""
    found: list[dict[str, Any]] = []
    cursor = None
    wanted = None if state == "all" else state
    of = about.filter if about is not None else {}
    while True:
        page = client.get(f"{API}/approvals", state=wanted, limit=_PAGE, cursor=cursor, **of)
        found += page["items"]
        cursor = page["cursor"]
        if len(found) >= limit or cursor is None:
            return found[:limit]


def _answer(
    client: "Client",
    given: str | None,
    job: str | None,
    crew: str | None,
    resolution: str,
    comment: str | None,
) -> dict[str, Any]:
    about = _about(client, job, crew)
    if (given is None) == (about is None):
        raise typer.BadParameter("Name the approval: by its ID, or by --job or --crew.")
    approval_id = _resolve(client, given) if given is not None else _only(client, about)
    answered: dict[str, Any] = client.post(
        f"{API}/approvals/{approval_id}/resolve", {"resolution": resolution, "comment": comment}
    )
    return answered


def _only(client: "Client", about: _About | None) -> str:
    waiting = _asked(client, "pending", _PAGE, about)
    if len(waiting) != 1:
        ids = ", ".join(approval["id"] for approval in waiting)
        raise NoSuchApproval(
            f"{len(waiting)} approvals wait, name one: {ids}."
            if ids
            else "No approval waits there."
        )
    return str(waiting[0]["id"])


def _told(approval: dict[str, Any], as_json: bool) -> None:
    if as_json:
        terminal.print_json(approval)
    else:
        question = terminal.plain(approval["description"])
        terminal.write_line(f"{approval['state'].capitalize()}: {question}")


def _resolve(client: "Client", given: str) -> str:
    """The full id of `given`. A short one is looked for among the approvals that wait."""
    if len(given) >= _WHOLE_ID:
        return quote(given, safe="")
    waiting = client.get(f"{API}/approvals", state="pending", limit=_PAGE)["items"]
    found = [one["id"] for one in waiting if one["id"].startswith(given.lower())]
    if len(found) != 1:
        count = len(found) or "None"
        raise NoSuchApproval(
            f"{count} of the waiting approvals begin with {given!r}. "
            "List them: crewlog approvals list"
        )
    return str(found[0])
