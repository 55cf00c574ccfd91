"""The table of addresses: it has every route of every dialect once. If several dialects publish an
address, its line names the rule that picks one.
"""

import asyncio
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from api.addresses import (
    ADDRESSES,
    BY_QUERY,
    JOINED,
    Addresses,
    Rule,
    asks_the_board,
    names_a_template,
    owners_of,
)
from api.app import create_app, edge
from api.dialects import BOARD, CODEPLANE, DIALECTS, GITOMA
from api.native.job_requests import NewJob, work_of
from api.parts import Parts, build
from api.settings import Settings
from domain.job.commands import Submission
from domain.log import Context
from tests.routes import applications, every_route

TOKEN = "the-token-of-this-test"


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    built = build(Settings(data=tmp_path_factory.mktemp("addresses") / "data", token=TOKEN))
    yield built
    built.close()


@pytest.fixture(scope="module")
def main(parts: Parts) -> Addresses:
    return create_app(parts)


def plain(address: str) -> str:
    """An address without the names of its parameters."""
    return re.sub(r"\{\w+(:path)?\}", "{}", address)


@pytest.fixture(scope="module")
def published(main: Addresses) -> dict[str, set[str]]:
    """The dialects that publish each address."""
    found: dict[str, set[str]] = defaultdict(set)
    for dialect, app in main.dialects.items():
        for one in applications(app):
            for route in every_route(one):
                found[plain(f"{route.method} {route.path}")].add(dialect)
    return found


def test_the_table_has_every_route_of_every_dialect_and_no_other(
    published: dict[str, set[str]],
) -> None:
    table = {plain(address): set(owners_of(line)) for address, line in ADDRESSES.items()}

    assert len(table) == len(ADDRESSES)
    assert table == published


def test_an_address_that_several_dialects_publish_names_its_rule(
    published: dict[str, set[str]],
) -> None:
    doubled = {address for address, owners in published.items() if len(owners) > 1}
    ruled = {plain(address) for address, line in ADDRESSES.items() if isinstance(line, Rule)}

    assert doubled == ruled
    assert doubled == {
        "GET /api/jobs",
        "GET /api/jobs/{}",
        "GET /openapi.json",
        "POST /api/jobs",
        "POST /api/jobs/{}/archive",
    }


def test_no_dialect_publishes_an_address_of_the_native_api_or_the_page(main: Addresses) -> None:
    others = {plain(f"{route.method} {route.path}") for route in every_route(main.others)}

    assert not others & {plain(address) for address in ADDRESSES}


@pytest.mark.parametrize("address", [a for a, s in ADDRESSES.items() if isinstance(s, str)])
def test_each_address_leads_to_its_owner_and_not_to_one_that_fits_too(
    main: Addresses, address: str
) -> None:
    method, path = address.split(" ")
    asked = re.sub(r"\{\w+(:path)?\}", "some-thing", path)
    scope = {"type": "websocket" if method == "WS" else "http", "method": method, "path": asked}

    assert main.owner(scope) is main.dialects[str(ADDRESSES[address])]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'{"templateId": "t"}', True),
        (b'{"template_id": "t", "argv": ["true"]}', True),
        (rb'{"\u0074emplateId": "t"}', True),
        (b'{"templateId": 7}', True),
        (b'{"templateId": null, "argv": ["true"]}', False),
        (b'{"argv": ["templateId"]}', False),
        (b'{"inputs": {"templateId": "t"}}', False),
        (b'["templateId"]', False),
        (b'{"templateId"', False),
        (b"", False),
    ],
)
def test_a_body_is_the_boards_when_it_names_a_template(body: bytes, named: bool) -> None:
    assert names_a_template(body) is named


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        (b"status=done", True),
        (b"mine=true", True),
        (b"limit=1&status=", True),
        (b"%73tatus=done", True),
        (b"", False),
        (b"text=status", False),
        (b"state=running&limit=5", False),
    ],
)
def test_a_query_is_the_boards_when_it_has_one_of_its_words(query: bytes, asked: bool) -> None:
    assert asks_the_board(query) is asked


def ask(parts: Parts, app: ASGIApp, method: str, path: str) -> httpx2.Response:
    async def asked() -> httpx2.Response:
        transport = httpx2.ASGITransport(edge(app, parts))
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://localhost", headers=headers
        ) as http:
            return await http.request(method, path)

    return asyncio.run(asked())


def test_a_method_that_nobody_answers_is_told_of_those_that_any_dialect_does(
    parts: Parts, main: Addresses
) -> None:
    for path, allowed in (
        ("/api/jobs", "GET, POST"),
        ("/api/jobs/1", "DELETE, GET"),
        ("/api/jobs/clear", "POST"),
        ("/api/v1/run", "POST"),
    ):
        refused = ask(parts, main, "PUT", path)
        assert (refused.status_code, refused.headers["allow"]) == (405, allowed)
        assert refused.json()["detail"] == "Method Not Allowed"


def test_a_slash_too_many_leads_to_the_address_without_it(parts: Parts, main: Addresses) -> None:
    for path in ("/api/v1/jobs", "/api/jobs", "/api/schedules"):
        led = ask(parts, main, "GET", path + "/")
        assert (led.status_code, led.headers["location"]) == (307, f"http://localhost{path}")


def test_a_line_break_at_the_end_makes_another_path(parts: Parts, main: Addresses) -> None:
    """A path has one spelling, at the main address and at each dialect's own."""
    board, codeplane, gitoma = (main.dialects[name] for name in (BOARD, CODEPLANE, GITOMA))
    for app, path in (
        (main, "/crewlog/v1/openapi.json"),
        (main, "/healthz"),
        (main, "/api/worker"),
        (main, "/api/jobs"),
        (board, "/api/templates"),
        (codeplane, "/api/events"),
        (gitoma, "/api/v1/health"),
    ):
        for more in ("%0A", "%0A%0A", "%0D%0A"):
            assert ask(parts, app, "GET", path + more).status_code == 404, path
    assert ask(parts, main, "GET", "/healthz").status_code == 200


@pytest.mark.parametrize("kept", [(), (GITOMA,), (BOARD,), (CODEPLANE,)], ids=str)
def test_a_dialect_that_is_switched_off_is_not_there(
    parts: Parts, main: Addresses, kept: tuple[str, ...]
) -> None:
    app = Addresses(main.dialects, main.native, main.others, main=kept)

    for address, line in ADDRESSES.items():
        method, path = address.split(" ")
        scope = {
            "type": "websocket" if method == "WS" else "http",
            "method": method,
            "path": re.sub(r"\{\w+(:path)?\}", "some-thing", path),
        }
        owners = [main.dialects[owner] for owner in owners_of(line) if owner in kept]
        if owners:
            assert app.owner(scope) is owners[0], address
        else:  # it may match a path of another dialect, which then refuses the method
            refuser = app.owner(scope)
            assert refuser is main.others or "crewlog.allowed" in scope, address
    gone = {"/api/v1/jobs": GITOMA, "/api/events": CODEPLANE, "/api/schedules": BOARD}
    for path, dialect in gone.items():
        if dialect not in kept:
            assert (ask(parts, app, "GET", path)).status_code == 404
    assert (ask(parts, app, "GET", "/healthz")).status_code == 200
    assert set(kept) <= set(DIALECTS)


class Meanwhile:
    """An application that first does something else at each request."""

    def __init__(self, app: ASGIApp, what: Callable[[], Awaitable[None]]) -> None:
        self._app = app
        self._what = what

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._what()
        await self._app(scope, receive, send)


@pytest.mark.parametrize("rule", [JOINED, BY_QUERY], ids=["job", "jobs"])
def test_what_is_made_of_two_dialects_is_of_one_moment(tmp_path: Path, rule: Rule) -> None:
    """Even if a job is archived and another one is made after the first answer."""

    async def run() -> None:
        parts = build(Settings(data=tmp_path / "data", token=TOKEN, capacity=0))
        apps = create_app(parts).dialects
        parts.views.start()
        headers = {"Authorization": f"Bearer {TOKEN}"}
        try:
            job_id = (await _submitted(parts)).job_id

            async def change() -> None:
                await parts.jobs.execute(job_id, lambda job: job.comment("Hurry."), Context("me"))
                await _submitted(parts)

            late: dict[str, ASGIApp] = {
                CODEPLANE: apps[CODEPLANE],
                BOARD: Meanwhile(apps[BOARD], change),
            }
            transport = httpx2.ASGITransport(edge(rule.pick(late), parts))
            async with httpx2.AsyncClient(
                transport=transport, base_url="http://localhost", headers=headers
            ) as http:
                if rule is JOINED:
                    job = (await http.get(f"/api/jobs/{job_id}")).json()
                    assert (job["job"]["version"], job["comments"]) == (job["version"], [])
                    again = (await http.get(f"/api/jobs/{job_id}")).json()
                    assert (len(again["comments"]), again["version"]) == (1, job["version"] + 1)
                else:
                    page = (await http.get("/api/jobs")).json()
                    assert [one["id"] for one in page["items"]] == [job_id]
                    assert [one["id"] for one in page["jobs"]] == [job_id]
                    assert page["jobs"][0]["version"] == page["items"][0]["version"]
                    assert len((await http.get("/api/jobs")).json()["jobs"]) == 2
        finally:
            parts.close()

    asyncio.run(run())


async def _submitted(parts: Parts) -> Submission:
    work = work_of(NewJob(argv=["true"]), "/", 60, "operator")
    return await parts.intake.submit(work, Context("me"), None)
