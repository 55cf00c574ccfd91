"""Options that many commands share, and the server and data directory that they mean."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from domain.errors import CrewlogError

if TYPE_CHECKING:
    from api.commands.client import Client
    from api.settings import Settings

API = "/crewlog/v1"
"""The native API: commands use no other one."""

_SERVER = "Which server"


def _url(context: typer.Context, url: str | None) -> str | None:
    """None if the environment names a server, but a more specific source names the directory: the
    command line, or the server whose job runs this program.
    """
    if _source(context, "url") != "ENVIRONMENT":
        return url
    nearer = {"COMMANDLINE"}
    if "CREWLOG_WORKER_TOKEN" in os.environ:
        nearer.add("ENVIRONMENT")
    return None if _source(context, "data") in nearer else url


def _source(context: typer.Context, name: str) -> str:
    source = context.get_parameter_source(name)
    return "" if source is None else source.name


Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="CREWLOG_URL",
        metavar="URL",
        help="The server's address. Default: the server of the data directory, "
        "otherwise http://127.0.0.1:8080.",
        callback=_url,
        show_default=False,
        rich_help_panel=_SERVER,
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar="CREWLOG_TOKEN",
        metavar="TOKEN",
        help="The server's token. Default: the one in the data directory.",
        show_default=False,
        rich_help_panel=_SERVER,
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        envvar="CREWLOG_DATA",
        metavar="DIR",
        help="The server's data directory.",
        is_eager=True,
        show_default=False,
        rich_help_panel=_SERVER,
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON to stdout, and nothing else.", show_default=False)
]


class BadSettings(CrewlogError):
    """The settings are not valid. The text says which one and why."""

    exit_code = 2


def connect(url: str | None, token: str | None, data: Path | None) -> "Client":
    """A client of the server that these options mean."""
    from api.commands.client import Client, find
    from api.commands.terminal import notice

    return Client(lambda: find(url, token, lambda: data_directory(data)), notice=notice)


def data_directory(given: Path | None) -> Path:
    """The data directory to use: the given one, or that of the settings."""
    if given is not None:
        return given.expanduser().absolute()
    return load_settings().data


def load_settings(**given: Any) -> "Settings":
    """The settings. Given values override the environment and the file. Raises BadSettings."""
    import tomllib

    from pydantic import ValidationError

    from api.settings import Settings

    file = os.environ.get("CREWLOG_CONFIG")
    if file is not None and not Path(file).is_file():
        raise BadSettings(f"The settings file {file}, named by CREWLOG_CONFIG, does not exist.")
    try:
        return Settings(**given)
    except ValidationError as error:
        problem = error.errors()[0]
        name = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            raise BadSettings(f"There is no setting called {name!r}.") from error
        reason = problem["msg"].removeprefix("Value error, ").rstrip(".")
        # A setting with a second variable goes by its own name.
        name = name.removeprefix("crewlog_")
        raise BadSettings(f"The setting {name!r} is not valid: {reason}.") from error
    except (tomllib.TOMLDecodeError, OSError, UnicodeError) as error:
        raise BadSettings(f"The settings file {file} cannot be read: {error}.") from error
