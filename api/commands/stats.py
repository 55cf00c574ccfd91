"""`crewlog stats`: figures about the jobs of the last days."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from api.commands import terminal
from api.commands.finding import Web, open_page
from api.commands.options import API, AsJson, Data, Token, Url, connect


def stats(
    days: Annotated[int, typer.Option(min=1, max=365, help="Jobs made in this many days.")] = 7,
    mine: Annotated[bool, typer.Option("--mine", help="Only my own.")] = False,
    web: Web = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Sum up the jobs of the last days: outcomes, waits and run times."""
    with connect(url, token, data) as client:
        if web:
            open_page(client, "/system")
            return
        figures = client.get(f"{API}/analytics/overview", period=days, mine=True if mine else None)
    if as_json:
        terminal.print_json(figures)
        return
    terminal.print_fields(_fields(figures))
    if figures["byLabel"]:
        terminal.console().print()
        terminal.print_table(
            ("LABEL", "JOBS", "COMPLETED", "FAILED", "LINES"),
            (
                (
                    group["label"],
                    str(group["total"]),
                    str(group["byOutcome"].get("completed", 0)),
                    str(_failed(group["byOutcome"])),
                    str(group["outputLines"]),
                )
                for group in figures["byLabel"]
            ),
            flexible=("LABEL",),
        )


def _failed(by_outcome: dict[str, int]) -> int:
    return by_outcome.get("failed", 0) + by_outcome.get("timed_out", 0)


def _fields(figures: dict[str, Any]) -> Iterator[tuple[str, terminal.Cell]]:
    yield "Days", str(figures["period"])
    outcomes = ", ".join(
        f"{count} {outcome.replace('_', ' ')}" for outcome, count in figures["byOutcome"].items()
    )
    yield "Jobs", f"{figures['totalJobs']} ({outcomes})" if outcomes else "0"
    rate = figures["successRate"]
    yield (
        "Success",
        "-" if rate is None else f"{rate:.0%} of the ended jobs that were not cancelled",
    )
    for name, measured in (("Waited", figures["queueWaitMs"]), ("Ran", figures["runTimeMs"])):
        middle, most = terminal.duration(measured["p50"]), terminal.duration(measured["p95"])
        yield name, f"median {middle}; 95 of 100 take at most {most}"
    yield "Crews", str(figures["crews"]["total"])
    yield "Firings", str(figures["schedules"]["firings"])
    yield (
        "Approvals",
        f"{figures['approvals']['total']}, {figures['approvals']['pending']} of them wait",
    )
