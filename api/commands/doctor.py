"""`crewlog doctor`: checks everything that a server needs, and says how to fix problems."""

import os
import shutil
import sqlite3
import stat
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from api.commands import terminal
from api.commands.options import API, AsJson, Data, Token, Url, connect, data_directory
from api.process.data_directory import Misplaced, check_kinds
from domain.errors import CrewlogError

if TYPE_CHECKING:
    from api.commands.client import Client

_OLDEST_PYTHON = (3, 11)
_WAL_RESET_BUG = ((3, 7, 0), (3, 51, 2))
_LITTLE_SPACE = 1024**3
_NO_SPACE = 100 * 1024**2
_MUCH_LAG = 10_000

_MARKS = {"ok": ("✓ ok  ", "green"), "warn": ("! warn", "yellow"), "fail": ("✗ fail", "red")}


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its result, and what to do about it (empty: nothing)."""

    name: str
    status: Literal["ok", "warn", "fail"]
    sentence: str
    remedy: str = ""


def doctor(
    as_json: AsJson = False, url: Url = None, token: Token = None, data: Data = None
) -> None:
    """Check this machine, the data directory and the server. Exit code 1 if a check fails."""
    directory = data_directory(data)
    with connect(url, token, data) as client:
        checks = [*_machine(), *_directory(directory), *_server(client)]
    if as_json:
        terminal.print_json({"checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            _print(check)
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(1)


def _print(check: Check) -> None:
    from rich.text import Text

    line = Text.assemble(
        _MARKS[check.status], f"  {check.name:<16}{terminal.plain(check.sentence)}"
    )
    terminal.console().print(line, soft_wrap=True)
    if check.remedy:
        terminal.console().print(f"{'':24}→ {terminal.plain(check.remedy)}", soft_wrap=True)


def _machine() -> Iterator[Check]:
    yield _python()
    yield sqlite_check(sqlite3.sqlite_version)
    yield _program("git", "jobs on repositories need it", "Install git.")
    yield _program(
        "gitoma",
        "the dispatches of /api/v1 cannot run without it",
        "Install gitoma, or set CREWLOG_GITOMA_COMMAND to the command that runs it.",
    )


def _python() -> Check:
    running = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < _OLDEST_PYTHON:
        return Check("python", "fail", f"Python {running} is too old.", "Install 3.11 or newer.")
    return Check("python", "ok", f"Python {running}.")


def sqlite_check(version: str) -> Check:
    """SQLite 3.7.0 to 3.51.2 can corrupt a WAL database if two connections write at once."""
    first, last = _WAL_RESET_BUG
    number = tuple(int(part) for part in version.split("."))
    if first <= number <= last:
        return Check(
            "sqlite",
            "warn",
            f"SQLite {version} has the WAL-reset bug of 3.7.0 to 3.51.2. crewlog avoids it: one "
            "connection alone writes and checkpoints.",
            "Let no other program write to log.db. SQLite 3.51.3 or newer has the fix.",
        )
    return Check("sqlite", "ok", f"SQLite {version}.")


def _program(name: str, why: str, remedy: str) -> Check:
    found = shutil.which(name)
    if found is None:
        return Check(name, "warn", f"{name} is not on PATH: {why}.", remedy)
    return Check(name, "ok", f"{name} is {found}.")


def _directory(directory: Path) -> Iterator[Check]:
    try:
        mode = directory.stat().st_mode
    except FileNotFoundError:
        yield Check(
            "data",
            "warn",
            f"{directory} does not exist yet.",
            "The first start of a server makes it.",
        )
        return
    except OSError as error:
        yield Check(
            "data",
            "fail",
            f"{directory} cannot be read: {error.strerror}.",
            "Change its permissions, or choose another directory with --data.",
        )
        return
    yield _usable(directory, mode)
    yield _kinds(directory)
    yield _privacy("data mode", directory, mode, 0o700)
    yield _space(directory)
    token = directory / "token"
    try:
        yield _privacy("token mode", token, token.stat().st_mode, 0o600)
    except OSError:
        yield Check(
            "token mode",
            "ok",
            f"{directory} has no token file: the token comes from the settings, or is made "
            "at the first start.",
        )


def _usable(directory: Path, mode: int) -> Check:
    if not stat.S_ISDIR(mode):
        return Check(
            "data", "fail", f"{directory} is not a directory.", "Choose another with --data."
        )
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        return Check(
            "data",
            "fail",
            f"{directory} cannot be written.",
            "Run as its owner, mount it for writing, or choose another directory with --data.",
        )
    return Check("data", "ok", f"{directory} can be written.")


def _kinds(directory: Path) -> Check:
    try:
        check_kinds(directory)
    except (Misplaced, OSError) as error:
        return Check("layout", "fail", str(error), "A server cannot start until this is fixed.")
    return Check("layout", "ok", "Its files and directories are what they should be.")


def _privacy(name: str, path: Path, mode: int, private: int) -> Check:
    actual = stat.S_IMODE(mode)
    if actual & ~private:
        return Check(
            name,
            "warn" if stat.S_ISDIR(mode) else "fail",
            f"{path} has mode {actual:04o}: other users can read it.",
            f"chmod {private:o} {path}",
        )
    return Check(name, "ok", f"{path} has mode {actual:04o}.")


def _space(directory: Path) -> Check:
    free = shutil.disk_usage(directory).free
    sentence = f"{free / 1024**3:.1f} GiB are free."
    if free < _NO_SPACE:
        return Check("space", "fail", sentence, "Free some space: the log can hardly be written.")
    if free < _LITTLE_SPACE:
        return Check("space", "warn", sentence, "Free some space before the log fills the disk.")
    return Check("space", "ok", sentence)


def _server(client: "Client") -> Iterator[Check]:
    from api.commands.client import Rejected, Unreachable

    try:
        url = client.endpoint.url
        with client.download("/healthz") as chunks:
            alive = b"".join(chunks) == b"ok"
    except Unreachable as error:
        yield Check("server", "fail", str(error).partition(". ")[0] + ".", "crewlog serve")
        return
    except CrewlogError as error:
        yield Check("server", "fail", f"{url} answered: {error}", "Check --url and allowed_hosts.")
        return
    if not alive:
        yield Check("server", "fail", f"The program at {url} is not crewlog.", "Check --url.")
        return
    yield Check("server", "ok", f"The server answers at {url}.")
    try:
        client.get(f"{API}/jobs", limit=1)
        yield Check("token", "ok", "The server accepts the token.")
    except Rejected as error:
        yield Check("token", "fail", str(error), "The server's token is in its data directory.")
    yield from _accounts(client)
    yield from _readiness(client)


def _accounts(client: "Client") -> Iterator[Check]:
    """Accounts that versions up to 0.2 opened to others, because they compared addresses
    more loosely.
    """
    from api.commands.client import Rejected

    try:
        users = client.get(f"{API}/users")["items"]
    except Rejected:
        return  # only administrators may see accounts
    separated = [user for user in users if user.get("separatedAddresses")]
    for user in separated:
        others = ", ".join(user["separatedAddresses"])
        yield Check(
            "accounts",
            "warn",
            f"{user['email']} ({user['id']}) was also open to {others}, which is another "
            "address. It is closed to that address now.",
            f"Check what was done with it: crewlog log show --subject user-{user['id']}. The "
            "owner of the other address needs an account of their own.",
        )
    if not separated:
        yield Check("accounts", "ok", "No account was ever open to another address.")


def _readiness(client: "Client") -> Iterator[Check]:
    from api.commands.client import Rejected

    try:
        state = client.get("/readyz")
    except Rejected as error:
        yield Check(
            "ready",
            "fail",
            f"The server is not ready: {error}",
            "See 'crewlog projections status'.",
        )
        return
    yield Check("ready", "ok", "The server is ready.")
    if "readers" in state:
        yield readers_check(state["readers"])
        storage = state["storage"]
        yield Check("storage", "ok", " ".join(f"{name} {storage[name]}" for name in storage) + ".")


def readers_check(readers: list[dict[str, Any]]) -> Check:
    """The worst problem of a reader of the log: it waits, it passed over events, or it lags."""
    look = "The server's log names each event and the reason."
    for reader in readers:
        if problem := reader.get("problem"):
            return Check("lag", "warn", f"{_named(reader)} waits: {problem}", look)
        if passed := reader.get("passedOver"):
            sentence = f"{_named(reader)} passed over {passed} events after errors."
            return Check("lag", "warn", sentence, look)
    slowest = max(readers, key=lambda reader: int(reader["lag"]))
    if slowest["lag"] > _MUCH_LAG:
        return Check(
            "lag",
            "warn",
            f"{_named(slowest)} is {slowest['lag']} events behind.",
            "Check again in a moment. If it grows, look at the server's log.",
        )
    return Check("lag", "ok", f"No reader of the log is more than {slowest['lag']} events behind.")


def _named(reader: dict[str, Any]) -> str:
    return f"The {reader['kind']} {reader['name']}"
