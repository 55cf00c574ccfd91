"""`crewlog users`: accounts, their roles, passwords and tokens."""

import secrets
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from api.commands import terminal
from api.commands.options import AsJson, Data, Url, connect
from api.commands.options import Token as ServerToken
from domain.account.email import folded
from domain.errors import CrewlogError

if TYPE_CHECKING:
    from api.commands.client import Client

app = typer.Typer(no_args_is_help=True, help="People: accounts, roles, passwords, API tokens.")


class RoleName(StrEnum):
    USER = "user"
    ADMIN = "admin"


class Scope(StrEnum):
    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


class NoSuchUser(CrewlogError):
    def __init__(self, given: str) -> None:
        super().__init__(
            f"There is no account with the e-mail address or id {given!r}. "
            "List accounts: crewlog users list"
        )


Who = Annotated[str, typer.Argument(metavar="EMAIL", help="The e-mail address, or the id.")]
FromStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from the first line of stdin.")
]
Generate = Annotated[bool, typer.Option("--generate", help="Generate a password, and print it.")]


@app.command()
def add(
    email: Annotated[str, typer.Argument(help="The e-mail address.")],
    name: Annotated[str, typer.Option(help="The person's name.")] = "",
    admin: Annotated[bool, typer.Option("--admin", help="Make an administrator.")] = False,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="The person signs in with a provider only.")
    ] = False,
    password_stdin: FromStdin = False,
    generate: Generate = False,
    as_json: AsJson = False,
    url: Url = None,
    token: ServerToken = None,
    data: Data = None,
) -> None:
    """Make an account. Asks for the password unless an option says where it comes from."""
    password = None if no_password else _password(password_stdin, generate)
    body = {
        "email": email,
        "name": name,
        "role": RoleName.ADMIN if admin else RoleName.USER,
        "password": password,
    }
    with connect(url, token, data) as client:
        user = client.post("/crewlog/v1/users", body)
    _told(user, as_json, f"{user['email']} has an account now, as {user['role']}.")
    if generate and not as_json:
        terminal.write_line(f"Password: {password}")


@app.command(name="list")
def list_users(
    as_json: AsJson = False, url: Url = None, token: ServerToken = None, data: Data = None
) -> None:
    """List all accounts."""
    with connect(url, token, data) as client:
        users = client.get("/crewlog/v1/users")["items"]
    if as_json:
        terminal.print_json({"users": users})
        return
    if not users:
        terminal.notice("There are no accounts.")
        return
    terminal.print_table(
        ("EMAIL", "NAME", "ROLE", "STATE", "SIGNED IN", "ID"),
        (
            (
                user["email"],
                user["displayName"],
                (user["role"], "cyan" if user["isAdmin"] else ""),
                ("disabled", "red") if user["disabled"] else ("enabled", "green"),
                terminal.ago(user["signedInAt"]),
                user["id"],
            )
            for user in users
        ),
        flexible=("NAME",),
        optional=("ID",),
    )


@app.command()
def show(
    who: Who,
    as_json: AsJson = False,
    url: Url = None,
    token: ServerToken = None,
    data: Data = None,
) -> None:
    """Show one account, with its API tokens."""
    with connect(url, token, data) as client:
        user = _find(client, who)
        tokens = client.get(f"/crewlog/v1/users/{user['id']}/tokens")["items"]
    if as_json:
        terminal.print_json({**user, "tokens": tokens})
        return
    terminal.print_fields(
        [
            ("e-mail", user["email"]),
            ("name", user["displayName"]),
            ("id", user["id"]),
            ("role", user["role"]),
            ("state", "disabled" if user["disabled"] else "enabled"),
            ("signs in with", _ways(user)),
            ("signed in", f"{terminal.ago(user['signedInAt'])}, {user['sessions']} open sessions"),
        ]
    )
    for issued in tokens:
        until = terminal.moment(issued["expiresAt"]) if issued["expiresAt"] else "for ever"
        scopes = ", ".join(issued["scopes"])
        terminal.print_fields([(f"token {issued['name']}", f"{scopes}; {until}; {issued['id']}")])


@app.command()
def disable(
    who: Who, as_json: AsJson = False, url: Url = None, token: ServerToken = None, data: Data = None
) -> None:
    """Disable an account at once: its sessions end, and its tokens stop working."""
    with connect(url, token, data) as client:
        user = client.post(f"{_path(client, who)}/disable")
    _told(user, as_json, f"{user['email']} is disabled.")


@app.command()
def enable(
    who: Who, as_json: AsJson = False, url: Url = None, token: ServerToken = None, data: Data = None
) -> None:
    """Enable an account again. The person must sign in again; the tokens work again."""
    with connect(url, token, data) as client:
        user = client.post(f"{_path(client, who)}/enable")
    _told(user, as_json, f"{user['email']} is enabled.")


@app.command()
def role(
    who: Who,
    to: Annotated[RoleName, typer.Argument(metavar="ROLE", help="user or admin.")],
    as_json: AsJson = False,
    url: Url = None,
    token: ServerToken = None,
    data: Data = None,
) -> None:
    """Make a person an administrator, or a user again."""
    with connect(url, token, data) as client:
        user = client.patch(_path(client, who), {"role": to})
    _told(user, as_json, f"{user['email']} is {user['role']} now.")


@app.command()
def passwd(
    who: Who,
    password_stdin: FromStdin = False,
    generate: Generate = False,
    as_json: AsJson = False,
    url: Url = None,
    token: ServerToken = None,
    data: Data = None,
) -> None:
    """Set a password. Ends all sessions of the account."""
    with connect(url, token, data) as client:
        path = _path(client, who)
        password = _password(password_stdin, generate)
        user = client.post(f"{path}/password", {"password": password})
    _told(user, as_json, f"{user['email']} has a new password.")
    if generate and not as_json:
        terminal.write_line(f"Password: {password}")


@app.command(name="token")
def issue_token(
    who: Who,
    name: Annotated[str, typer.Option(help="What it is for.")],
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="What it may do. Repeatable.", show_default="read"),
    ] = None,
    days: Annotated[
        int, typer.Option(min=0, max=3_650, help="Days until it expires; 0 is never.")
    ] = 90,
    revoke: Annotated[
        bool, typer.Option("--revoke", help="Revoke the tokens of that name instead.")
    ] = False,
    as_json: AsJson = False,
    url: Url = None,
    token: ServerToken = None,
    data: Data = None,
) -> None:
    """Issue an API token for a person, and print it. It is not shown again."""
    with connect(url, token, data) as client:
        path = f"{_path(client, who)}/tokens"
        if revoke:
            _revoke(client, path, name)
            return
        body = {"name": name, "scopes": scope or [Scope.READ], "expiresInDays": days or None}
        issued = client.post(path, body)
    if as_json:
        terminal.print_json(issued)
    else:
        terminal.write_line(issued["token"])


def _revoke(client: "Client", path: str, name: str) -> None:
    meant = [issued["id"] for issued in client.get(path)["items"] if issued["name"] == name]
    if not meant:
        raise CrewlogError(f"This account has no token with the name {name!r}.")
    for token_id in meant:
        client.delete(f"{path}/{token_id}")
    terminal.notice(f"{len(meant)} revoked.")


def _password(from_stdin: bool, generate: bool) -> str:
    if generate:
        return secrets.token_urlsafe(15)
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return password


def _find(client: "Client", who: str) -> dict[str, Any]:
    for user in client.get("/crewlog/v1/users")["items"]:
        if user["id"] == who or folded(user["email"]) == folded(who):
            found: dict[str, Any] = user
            return found
    raise NoSuchUser(who)


def _path(client: "Client", who: str) -> str:
    return f"/crewlog/v1/users/{quote(_find(client, who)['id'], safe='')}"


def _ways(user: dict[str, Any]) -> str:
    ways = ["password"] if user["hasPassword"] else []
    return ", ".join([*ways, *(identity["issuer"] for identity in user["identities"])]) or "nothing"


def _told(user: dict[str, Any], as_json: bool, sentence: str) -> None:
    if as_json:
        terminal.print_json(user)
    else:
        terminal.notice(sentence)
