"""Applications that are made at their first request."""

import asyncio
import subprocess
import sys
import threading

import httpx2
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from api.edge.on_demand import OnDemand


async def ask(app: ASGIApp) -> httpx2.Response:
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
        return await http.get("/")


def test_it_is_made_once_and_beside_the_event_loop() -> None:
    makers: list[threading.Thread] = []
    told: list[str] = []
    may_go_on = threading.Event()

    def make() -> ASGIApp:
        makers.append(threading.current_thread())
        may_go_on.wait()
        return PlainTextResponse("made")

    async def two() -> list[str]:
        app = OnDemand(make, lambda: told.append("made"))
        asked = [asyncio.create_task(ask(app)) for _ in range(2)]
        while not makers:
            await asyncio.sleep(0)  # the loop is not blocked while it is made
        may_go_on.set()
        return [(await answer).text for answer in asked]

    assert asyncio.run(two()) == ["made", "made"]
    assert (len(makers), told) == (1, ["made"])
    assert makers[0] is not threading.main_thread()


def test_one_that_could_not_be_made_is_made_by_the_next_request() -> None:
    failures = [OSError("no room")]

    def make() -> ASGIApp:
        if failures:
            raise failures.pop()
        return PlainTextResponse("made")

    app = OnDemand(make)
    with pytest.raises(OSError, match="no room"):
        _ = app.app
    assert asyncio.run(ask(app)).text == "made"


NOT_AT_START = (
    "api.assembly.native", "api.dialects.board.app", "api.dialects.codeplane.app",
    "api.dialects.gitoma.app", "apscheduler", "httpx2", "jinja2", "jsonschema", "regex", "yaml",
)  # fmt: skip
"""Modules that only some requests, jobs or settings need."""


def test_a_start_imports_nothing_that_only_some_request_needs() -> None:
    """Each of them would cost a start a tenth of a second, some megabytes, or both."""
    look = (
        "import sys; import api.commands.main, api.server;"
        f"print(*[name for name in {NOT_AT_START!r} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)

    assert found.stdout.split() == []
