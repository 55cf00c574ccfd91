"""`crewlog projections`: the state of the views, and rebuilding them."""

import time
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from api.commands import terminal
from api.commands.options import AsJson, Data, Token, Url, connect

if TYPE_CHECKING:
    from api.commands.client import Client

app = typer.Typer(no_args_is_help=True, help="The views: their state, and rebuilding them.")

_LOOK_S = 0.1


@app.command()
def status(
    as_json: AsJson = False, url: Url = None, token: Token = None, data: Data = None
) -> None:
    """Show position, lag and digest of every view."""
    with connect(url, token, data) as client:
        answer = client.get("/crewlog/v1/projections")
    if as_json:
        terminal.print_json({"head": answer["head"], "projections": answer["items"]})
        return
    terminal.print_table(
        ("NAME", "VERSION", "POSITION", "LAG", "STATUS", "PROGRESS", "DIGEST"),
        (
            (
                view["name"],
                str(view["version"]),
                str(view["position"]),
                (str(view["lag"]), "yellow" if view["lag"] else ""),
                (view["status"], {"live": "green", "failed": "red"}.get(view["status"], "cyan")),
                f"{view['progress']:.0%}",
                view["digest"],
            )
            for view in answer["items"]
        ),
        optional=("PROGRESS", "VERSION"),
    )


@app.command()
def rebuild(
    name: Annotated[str | None, typer.Argument(help="The view.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every view.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Rebuild a view from the log, beside the live one, and compare the two.

    Exit code 1 if a digest differs, or a view cannot be built.
    """
    if (name is None) is not every:
        raise typer.BadParameter("Name a view, or give --all.")
    with connect(url, token, data) as client:
        names = (
            [name] if name else [v["name"] for v in client.get("/crewlog/v1/projections")["items"]]
        )
        for wanted in names:
            client.post(f"/crewlog/v1/projections/{quote(wanted, safe='')}/rebuild")
        views = _rebuilt(client, names)
    if as_json:
        terminal.print_json({"projections": [views[wanted] for wanted in names]})
    else:
        for wanted in names:
            terminal.write_line(_verdict(views[wanted]))
    if any(is_bad(view) for view in views.values()):
        raise typer.Exit(1)


def _rebuilt(client: "Client", names: list[str]) -> dict[str, dict[str, Any]]:
    """Wait until none of these is being rebuilt. At a terminal each has a progress bar."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    screen = terminal.console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=screen,
        disable=not screen.is_terminal,
    ) as progress:
        bars = {name: progress.add_task(name, total=1.0) for name in names}
        while True:
            answer = client.get("/crewlog/v1/projections")["items"]
            views = {view["name"]: view for view in answer if view["name"] in bars}
            for name, view in views.items():
                progress.update(bars[name], completed=view["progress"])
            if all(view["status"] != "rebuilding" for view in views.values()):
                return views
            time.sleep(_LOOK_S)


def is_bad(view: dict[str, Any]) -> bool:
    return view["failure"] is not None or view["rebuildMatched"] is False


def _verdict(view: dict[str, Any]) -> str:
    name, digest, position = view["name"], view["digest"], view["position"]
    if view["failure"] is not None:
        return f"{name}: the rebuild failed {view['failure']}."
    if view["rebuildMatched"] is False:
        return f"{name}: the rebuilt view DIFFERS from the old one, digest {digest}."
    if view["rebuildMatched"] is None:
        return f"{name}: rebuilt to position {position}, digest {digest}."
    return f"{name}: rebuilt to position {position}, the same digest {digest}."
