"""`crewlog log`: show, export, import and verify the log."""

import json
import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sized
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from api.commands import terminal
from api.commands.export_file import STDIO, FileTrouble, written
from api.commands.options import AsJson, Data, Token, Url, connect, data_directory
from domain.errors import CrewlogError, LogDamaged

if TYPE_CHECKING:
    from api.commands.client import Client

app = typer.Typer(no_args_is_help=True, help="The log of all events.")

_PAGE = 1_000
_SUMMARY = 200
_LONGEST_END = 4_096
"""Most bytes of the last line of an export."""

Subject = Annotated[
    str | None, typer.Option(metavar="NAME", help="Only about this thing, such as job-ID.")
]
Types = Annotated[
    str | None, typer.Option("--type", metavar="TYPES", help="Only of these types, by comma.")
]
Actor = Annotated[str | None, typer.Option(metavar="NAME", help="Only by this actor.")]


class Cut(CrewlogError):
    """The server did not send the whole export."""


@app.command()
def show(
    after: Annotated[int, typer.Option(min=0, help="Only after this position.")] = 0,
    before: Annotated[int | None, typer.Option(min=0, help="Only before this position.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = 100,
    subject: Subject = None,
    types: Types = None,
    actor: Actor = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Show events in the order of the log."""
    _check_types(types)
    filters = {"before": before, "subject": subject, "type": types, "actor": actor}
    with connect(url, token, data) as client:
        page = _page(client, after, limit, filters)
    if as_json:
        terminal.print_json(page)
        return
    if not page["events"]:
        chosen = after or any(given is not None for given in filters.values())
        terminal.notice("No event matches." if chosen else "There are no events.")
        return
    terminal.print_table(
        ("POSITION", "TIME", "TYPE", "STREAM", "WHO", "DATA"),
        (
            (
                str(event["position"]),
                terminal.moment(event["at"]),
                event["type"],
                event["stream"],
                event["actor"],
                _summary(event["data"]),
            )
            for event in page["events"]
        ),
        flexible=("STREAM", "DATA"),
        optional=("WHO",),
    )
    if page["next"] is not None:
        terminal.notice(f"There are more: --after {page['next']}")


def _check_types(given: str | None) -> None:
    """Raises BadParameter for an unknown type: it would never select anything."""
    if given is None:
        return
    from domain.catalogue import CATALOGUE

    for name in filter(None, map(str.strip, given.split(","))):
        if name not in CATALOGUE:
            there = terminal.unknown("event type", name, CATALOGUE)
            raise typer.BadParameter(there, param_hint="--type")


def _page(client: "Client", after: int, limit: int, filters: dict[str, Any]) -> dict[str, Any]:
    """Up to `limit` events, from as many of the server's pages as needed."""
    events: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        size = min(_PAGE, limit - len(events))
        page = client.get("/crewlog/v1/log", after=after, cursor=cursor, limit=size, **filters)
        events += page["items"]
        cursor = page["cursor"]
        if cursor is None or len(events) >= limit:
            following = int(cursor) if cursor is not None else None
            return {"events": events, "next": following, "head": page["head"]}


def _summary(data: Any) -> str:
    text = json.dumps(data, ensure_ascii=False)
    return text if len(text) <= _SUMMARY else text[: _SUMMARY - 1] + "…"


@app.command()
def tail(
    after: Annotated[
        int | None, typer.Option(min=0, help="Start after this position. Default: now.")
    ] = None,
    subject: Subject = None,
    types: Types = None,
    actor: Actor = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Show new events as they come, each once, through restarts of the server.

    For one job it ends with the job. With --json each event is a line of JSON.
    """
    _check_types(types)
    with connect(url, token, data) as client:
        start = client.get("/crewlog/v1/log", limit=1)["head"] if after is None else after
        stream = client.follow(
            "/crewlog/v1/log/stream", after=start, subject=subject, type=types, actor=actor
        )
        for frame in stream:
            if as_json:
                terminal.write_line(frame.data)
                continue
            event = json.loads(frame.data)
            terminal.write_line(
                f"{event['position']:>8}  {terminal.moment(event['at'])}  {event['type']:<20}  "
                f"{event['stream']}  {event['actor']}  {terminal.plain(_summary(event['data']))}"
            )


@app.command()
def export(
    file: Annotated[
        str,  # a Path loses the slash at the end
        typer.Argument(metavar="[FILE|-]", help="The file to write. Default: stdout, also as -."),
    ] = str(STDIO),
    subject: Subject = None,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Write the log as NDJSON: one event per line up to the present head, and a last line with
    their number. A pipe or device is written as the events come; a file gets its name only when it
    is complete.
    """
    from domain.log.archive import end_of_export

    with (
        connect(url, token, data) as client,
        client.download("/crewlog/v1/log/export", subject=subject) as chunks,
        written(file) as output,
    ):
        last = b""
        for chunk in chunks:
            output.write(chunk)
            last = (last + chunk)[-_LONGEST_END:]
        end = end_of_export(last.rstrip(b"\n").rpartition(b"\n")[2])
        if end is None:
            raise Cut("The export is not complete: its last line is missing. Export again.")
    if file != str(STDIO):
        terminal.notice(f"Exported {end['events']} events to {file}.")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An export; - is stdin.")],
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Import the export of a whole log into a data directory without events, all or nothing.

    No server may be running there. Positions, ids and all else stay the same. A job that was queued
    when the log was exported starts once a server runs on the directory.
    """
    from domain.catalogue import CATALOGUE
    from domain.log import open_sqlite_log
    from domain.log.archive import import_export
    from domain.redaction import Redactor

    directory = data_directory(data)
    with _lines(file) as lines:
        log = open_sqlite_log(
            directory, redactor=Redactor([]), catalogue=CATALOGUE, purpose="crewlog log import"
        )
        try:
            imported = import_export(log, lines)
        finally:
            log.close()
    if as_json:
        terminal.print_json(
            {"events": imported.events, "hashed": imported.hashed, "data": str(directory)}
        )
    else:
        terminal.write_line(f"Imported {imported.events} events into {directory}.")
    if not imported.hashed:
        terminal.notice(
            "This export has format 1, without hashes and last line, so crewlog cannot tell "
            "whether it is complete and unchanged. Compare the number of events."
        )


@contextmanager
def _lines(path: Path) -> Iterator[Iterable[bytes]]:
    if path == STDIO:
        yield sys.stdin.buffer
        return
    try:
        file = path.open("rb")
    except OSError as error:
        raise FileTrouble(f"{path} cannot be read: {error.strerror}.") from error
    with file:
        yield file


@app.command()
def verify(as_json: AsJson = False, data: Data = None) -> None:
    """Check the whole log, and name the first broken position or the broken index.

    Reads the files in the data directory, with or without a running server. Exit code 1 if
    something is broken.
    """
    from domain.catalogue import CATALOGUE
    from domain.log.archive import verify as walk
    from domain.log.sqlite.stored import stored_log

    directory = data_directory(data)
    with stored_log(directory, CATALOGUE) as stored:
        try:
            with closing(_shown(stored.pages(), stored.head)) as pages:
                verified = walk(pages, written=stored.written)
            events = verified.events
            lookups = stored.lookups(events)
            with closing(_shown(lookups, events * len(stored.indexes))) as stretches:
                deque(stretches, 0)
        except LogDamaged as damage:
            if not as_json:
                raise
            broken = {"position": damage.position, "reason": damage.reason}
            terminal.print_json({"sound": False, "broken": broken})
            raise typer.Exit(1) from None
    if as_json:
        terminal.print_json(
            {
                "sound": True,
                "broken": None,
                "events": verified.events,
                "streams": verified.streams,
                "unknown": verified.unknown,
                "unhashed": verified.unhashed,
            }
        )
        return
    terminal.write_line(f"Sound: {verified.events} events in {verified.streams} streams.")
    for name, count in verified.unknown.items():
        terminal.write_line(f"  {count} events of the type {name}, unknown to this version.")
    if verified.unhashed:
        terminal.write_line(
            f"  {verified.unhashed} events have no hashes yet: a server of this version adds them "
            "at its start."
        )


S = TypeVar("S", bound=Sized)


def _shown(pages: Iterable[S], total: int) -> Generator[S, None, None]:
    """The pages, with a progress bar at a terminal of how many of `total` things were in them."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    screen = terminal.console(stderr=True)
    with Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=screen,
        transient=True,
        disable=not screen.is_terminal,
    ) as progress:
        bar = progress.add_task("verify", total=total)
        for page in pages:
            yield page
            progress.advance(bar, len(page))
