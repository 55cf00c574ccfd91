"""The command line: `crewlog`. Commands for jobs, the log and the views are in `api/commands`.

Only `serve` imports the server's parts. The other commands are clients and start fast.
"""

import gc
import os
import sys
from enum import StrEnum
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated

import typer

from api.commands import (
    approvals,
    artifacts,
    crews,
    doctor,
    jobs,
    log,
    projections,
    schedules,
    stats,
    templates,
    terminal,
    users,
    worker,
)
from api.commands.options import AsJson, BadSettings, load_settings
from api.process import stdio
from api.process.own_process import (
    keep_to_itself,
    let_another_serve,
    take_secrets_out_of_environment,
)
from domain.errors import CrewlogError, LogRefused

app = typer.Typer(
    name="crewlog",
    help="A control plane for jobs, over one log of immutable events.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(jobs.app, name="jobs")
app.add_typer(crews.app, name="crews")
app.add_typer(approvals.app, name="approvals")
app.add_typer(artifacts.app, name="artifacts")
app.add_typer(log.app, name="log")
app.add_typer(projections.app, name="projections")
app.add_typer(schedules.app, name="schedules")
app.add_typer(templates.app, name="templates")
app.add_typer(users.app, name="users")
app.add_typer(worker.app, name="worker")
app.command()(doctor.doctor)
app.command()(stats.stats)

CANNOT = 2
"""Exit code if nothing was done: no server, wrong settings, a log that must not be opened."""
FAILED = 1
"""Exit code if the request was refused, or a check failed."""


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@app.command()
def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65_535, help="Port to listen on; 0 takes a free one.", show_default="8080"
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Data directory: the log, the views, the jobs' output. One server each.",
            show_default="~/.local/share/crewlog",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Settings file (TOML).", exists=True, dir_okay=False),
    ] = None,
    dialects: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,…",
            help="APIs that this address serves beside crewlog's own, by comma; '' is none.",
            show_default="gitoma,codeplane,board",
        ),
    ] = None,
    listen: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=HOST:PORT",
            help="Another address, which serves only one of them: NAME=HOST:PORT. Repeatable.",
            show_default=False,
        ),
    ] = None,
    capacity: Annotated[
        int | None,
        typer.Option(
            min=0, max=1024, help="Jobs that run at a time.", show_default="cores, at least 4"
        ),
    ] = None,
    stop_jobs: Annotated[
        bool | None,
        typer.Option(
            "--stop-jobs",
            help="Cancel running jobs when the server stops. Without it they go on, and the "
            "next server takes them over.",
            show_default=False,
        ),
    ] = None,
    log_level: Annotated[
        LogLevel | None,
        typer.Option(help="How much the server logs on stderr.", show_default="info"),
    ] = None,
) -> None:
    """Run the server until SIGTERM or Ctrl-C.

    Every setting can also be given as CREWLOG_NAME in the environment, or as name in the settings
    file. Options override the environment, and the environment overrides the file.
    """
    if config is not None:
        os.environ["CREWLOG_CONFIG"] = str(config)
    options = {
        "host": host,
        "port": port,
        "data": data,
        "dialects": dialects,
        "listen": listen or None,
        "capacity": capacity,
        "stop_jobs": stop_jobs,
        "log_level": None if log_level is None else log_level.value,
    }
    settings = load_settings(**{k: given for k, given in options.items() if given is not None})
    if settings.log_level.lower() not in set(LogLevel):
        raise BadSettings(f"The setting 'log_level' must be one of {', '.join(LogLevel)}.")

    keep_to_itself()
    environ = take_secrets_out_of_environment()
    let_another_serve()
    # Garbage collection among the modules would take a tenth of the start. `collector.begin` turns
    # the collector on again.
    gc.disable()
    from api.server import CannotServe
    from api.server import serve as run

    try:
        run(settings, environ)
    except CannotServe as error:
        terminal.notice(str(error))
        raise typer.Exit(CANNOT) from error


def _version(wanted: bool) -> None:
    if wanted:
        terminal.write_line(f"crewlog {version_of('crewlog')}")
        raise typer.Exit


@app.callback()
def everything(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version, and leave."
        ),
    ] = False,
) -> None:
    """A control plane for jobs, over one log of immutable events."""


@app.command()
def version(as_json: AsJson = False) -> None:
    """Print the version."""
    number = version_of("crewlog")
    if as_json:
        terminal.print_json({"version": number})
    else:
        terminal.write_line(f"crewlog {number}")


def main() -> None:
    """Run a command. An error becomes one sentence on stderr and an exit code."""
    stdio.guard()
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except stdio.CannotWrite as error:
        stdio.give_up_stdout()
        terminal.notice(str(error))
        sys.exit(FAILED)
    except CrewlogError as error:
        terminal.notice(str(error))
        sys.exit(_code(error))
    except UnicodeEncodeError:
        terminal.notice("An argument is not text: its bytes are not valid UTF-8.")
        sys.exit(CANNOT)


def _code(error: CrewlogError) -> int:
    if isinstance(error, LogRefused):
        return CANNOT
    return int(getattr(error, "exit_code", FAILED))
