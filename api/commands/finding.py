"""Options that lists share: owner, time, and opening the page instead."""

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from api.commands.client import Client

Owner = Annotated[
    str | None,
    typer.Option(metavar="WHO", help="Only of this owner: me, an e-mail address or an id."),
]
Since = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="Only made since: an ISO 8601 time, or an age such as 90m, 24h, 7d."
    ),
]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Only made until; as --since.")]
Web = Annotated[
    bool, typer.Option("--web", help="Open it on the page instead.", show_default=False)
]

_AGO = re.compile(r"([0-9]{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def moment_given(given: str | None, option: str) -> str | None:
    """A time in the form of the server. A time without an offset is in this machine's zone. Raises
    BadParameter for text that is not a time.
    """
    if given is None:
        return None
    ago = _AGO.fullmatch(given)
    try:
        if ago is not None:
            moment = datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        else:
            moment = datetime.fromisoformat(given)
        return moment.astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        sentence = "It must be an ISO 8601 time, or an age such as 90m, 24h or 7d."
        raise typer.BadParameter(sentence, param_hint=option) from None


def open_page(client: "Client", place: str) -> None:
    """Open a place of the page in the browser, and print its address, in case there is no
    browser.
    """
    import webbrowser

    from api.commands import terminal

    address = f"{client.endpoint.url}/#{place}"
    terminal.write_line(address)
    webbrowser.open(address)
