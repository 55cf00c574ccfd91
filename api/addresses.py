"""The main address: which dialect answers which method and path.

Each address that a dialect publishes is here once. If several dialects publish it, its line names
the rule that picks one of them by the request, so the answer is that of one dialect. Or, if one
object satisfies both contracts word for word, the line says so. A dialect that is switched off
counts as if it had no line.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import orjson
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.dialects import BOARD, CODEPLANE, DIALECTS, GITOMA
from api.edge.errors import ALLOWED
from api.edge.request_body import given_again, whole_body
from api.native import PREFIX
from projections.reading import one_moment

_BELOW = f"{PREFIX}/"

SOCKET = "WS"
"""The method of WebSockets in the table."""


@dataclass(frozen=True)
class Rule:
    """How one of several dialects is picked. `owners` are the dialects that publish the address.
    `pick` gets the application of each, and returns the one that picks.
    """

    name: str
    owners: tuple[str, ...]
    pick: Callable[[Mapping[str, ASGIApp]], ASGIApp]

    def among(self, apps: Mapping[str, ASGIApp]) -> ASGIApp | None:
        """The application that answers, if only `apps` are switched on."""
        found = [apps[owner] for owner in self.owners if owner in apps]
        if len(found) < len(self.owners):
            return found[0] if found else None
        return self.pick(apps)


def first_of(*owners: str) -> Rule:
    """The first of them that is switched on: no part of a request tells them apart."""
    return Rule("first", owners, lambda apps: apps[owners[0]])


_TEMPLATE = ("templateId", "template_id")
_SIGNS = (b"templateId", b"template_id", rb"\u")
"""Every spelling of a template's key in a body contains one of these."""


def names_a_template(body: bytes) -> bool:
    """Whether a JSON body names a template, and so asks for a crew."""
    if not any(sign in body for sign in _SIGNS):
        return False
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        # The application that answers accepts NaN, lone surrogates and the like, to name their
        # place.
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            return False
    return isinstance(value, dict) and any(value.get(name) is not None for name in _TEMPLATE)


def asks_the_board(query: bytes) -> bool:
    """Whether a query has a parameter of the board: `status` or `mine`."""
    if b"status" not in query and b"mine" not in query and b"%" not in query:
        return False
    parameters = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    return any(name in ("status", "mine") for name, _ in parameters)


def _by_body(apps: Mapping[str, ASGIApp]) -> ASGIApp:
    board, codeplane = apps[BOARD], apps[CODEPLANE]

    async def picked(scope: Scope, receive: Receive, send: Send) -> None:
        body = await whole_body(receive)
        if body is not None:
            app = board if names_a_template(body) else codeplane
            await app(scope, given_again(body, receive), send)

    return picked


def _by_query(apps: Mapping[str, ASGIApp]) -> ASGIApp:
    board, codeplane, joined = apps[BOARD], apps[CODEPLANE], _joined(apps)

    async def picked(scope: Scope, receive: Receive, send: Send) -> None:
        query = scope["query_string"]
        app = joined if not query else board if asks_the_board(query) else codeplane
        await app(scope, receive, send)

    return picked


def _joined(apps: Mapping[str, ASGIApp]) -> ASGIApp:
    """One object that satisfies both contracts word for word: CodePlane's fields, and those that
    only the board has. It is refused if one of the two refuses it.
    """
    board, codeplane = apps[BOARD], apps[CODEPLANE]

    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        # What changes between the two answers is in neither, or in both.
        with one_moment():
            # A copy of the scope for each, because an application writes into its scope.
            theirs = await _answer(codeplane, dict(scope), receive)
            beside = theirs
            if theirs.status == 200:
                beside = await _answer(board, dict(scope), receive)
        if beside is not theirs and beside.status == 200:
            fields = orjson.loads(beside.body)
            # What the board says of the job itself, CodePlane's clients look for in the object.
            fields = {**fields.get("job", {}), **fields, **orjson.loads(theirs.body)}
            beside = theirs.with_body(orjson.dumps(fields))
        await beside.give(send)

    return both


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def with_body(self, body: bytes) -> "_Answer":
        kept = [pair for pair in self.headers if pair[0] != b"content-length"]
        length = (b"content-length", str(len(body)).encode())
        return _Answer(self.status, [*kept, length], body)

    async def give(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status, "headers": self.headers}
        await send(start)
        await send({"type": "http.response.body", "body": self.body})


async def _answer(app: ASGIApp, scope: Scope, receive: Receive) -> _Answer:
    """The whole answer of an application to a request without a body."""
    status, headers, body = 500, [], b""

    async def keep(message: Message) -> None:
        nonlocal status, headers, body
        if message["type"] == "http.response.start":
            status, headers = message["status"], list(message.get("headers", ()))
        else:
            body += message.get("body", b"")

    await app(scope, receive, keep)
    return _Answer(status, headers, body)


BY_BODY = Rule("a body with templateId: board; else codeplane", (CODEPLANE, BOARD), _by_body)
BY_QUERY = Rule(
    "status or mine in the query: board; no query: both in one; else codeplane",
    (CODEPLANE, BOARD),
    _by_query,
)
JOINED = Rule("both in one", (CODEPLANE, BOARD), _joined)

ADDRESSES: Mapping[str, str | Rule] = {
    # gitoma
    "GET /api/v1/health": GITOMA,
    "POST /api/v1/run": GITOMA,
    "POST /api/v1/fix-ci": GITOMA,
    "POST /api/v1/analyze": GITOMA,
    "POST /api/v1/review": GITOMA,
    "GET /api/v1/status/{job_id}": GITOMA,
    "GET /api/v1/jobs": GITOMA,
    "POST /api/v1/jobs/{job_id}/cancel": GITOMA,
    "GET /api/v1/stream/{job_id}": GITOMA,
    "DELETE /api/v1/state/{owner}/{name}": GITOMA,
    "WS /ws/state": GITOMA,
    # Jobs, of CodePlane and the board
    "POST /api/jobs": BY_BODY,
    "GET /api/jobs": BY_QUERY,
    "GET /api/jobs/{job_id}": JOINED,
    "POST /api/jobs/{job_id}/archive": first_of(CODEPLANE, BOARD),
    # CodePlane
    "POST /api/jobs/{job_id}/cancel": CODEPLANE,
    "GET /api/jobs/{job_id}/timeline": CODEPLANE,
    "GET /api/jobs/{job_id}/approvals": CODEPLANE,
    "POST /api/jobs/{job_id}/approvals/trust": CODEPLANE,
    "POST /api/jobs/{job_id}/trust": CODEPLANE,
    "GET /api/jobs/{job_id}/artifacts": CODEPLANE,
    "GET /api/artifacts/{artifact_id}": CODEPLANE,
    "GET /api/approvals": CODEPLANE,
    "GET /api/approvals/{approval_id}": CODEPLANE,
    "POST /api/approvals/{approval_id}/resolve": CODEPLANE,
    "GET /api/events": CODEPLANE,
    # The board
    "POST /api/jobs/clear": BOARD,
    "DELETE /api/jobs/{job_id}": BOARD,
    "GET /api/jobs/{job_id}/artifact": BOARD,
    "POST /api/jobs/{job_id}/comments": BOARD,
    "GET /api/jobs/{job_id}/graph": BOARD,
    "POST /api/jobs/{job_id}/redo": BOARD,
    "GET /api/jobs/{job_id}/stream": BOARD,
    "POST /api/jobs/{job_id}/unblock": BOARD,
    "GET /api/dispatcher/status": BOARD,
    "GET /api/templates": BOARD,
    "POST /api/templates/render": BOARD,
    "GET /api/templates/{template_id:path}": BOARD,
    "GET /api/schedules": BOARD,
    "POST /api/schedules": BOARD,
    "POST /api/schedules/preview": BOARD,
    "GET /api/schedules/{schedule_id}": BOARD,
    "PATCH /api/schedules/{schedule_id}": BOARD,
    "DELETE /api/schedules/{schedule_id}": BOARD,
    "POST /api/schedules/{schedule_id}/enable": BOARD,
    "POST /api/schedules/{schedule_id}/disable": BOARD,
    "POST /api/schedules/{schedule_id}/run-now": BOARD,
    "GET /api/schedules/{schedule_id}/preview": BOARD,
    "GET /api/schedules/{schedule_id}/firings": BOARD,
    "GET /api/schedules/{schedule_id}/jobs": BOARD,
    "POST /auth/login": BOARD,
    "POST /auth/token": BOARD,
    "POST /auth/link": BOARD,
    "GET /auth/logout": BOARD,
    "POST /auth/logout": BOARD,
    "GET /auth/me": BOARD,
    "GET /auth/google-enabled": BOARD,
    "GET /auth/providers": BOARD,
    "GET /auth/google": BOARD,
    "GET /auth/google/callback": BOARD,
    "GET /auth/oidc/{name}": BOARD,
    "GET /auth/oidc/{name}/callback": BOARD,
    "POST /auth/password": BOARD,
    # The documents: gitoma's clients look for theirs at /openapi.json; each also has its own path
    "GET /openapi.json": first_of(GITOMA, CODEPLANE, BOARD),
    "GET /openapi/gitoma.json": GITOMA,
    "GET /openapi/codeplane.json": CODEPLANE,
    "GET /openapi/board.json": BOARD,
}


def owners_of(line: str | Rule) -> tuple[str, ...]:
    """The dialects that a line of the table names."""
    return line.owners if isinstance(line, Rule) else (line,)


class _Place:
    """A segment of paths, and the segments below it."""

    __slots__ = ("answers", "any", "below", "refuser", "rest")

    def __init__(self) -> None:
        self.below: dict[str, _Place] = {}
        self.any: _Place | None = None
        """Below any segment: a parameter."""
        self.rest: _Place | None = None
        """Everything below, slashes included."""
        self.answers: dict[str, ASGIApp] = {}
        self.refuser: ASGIApp | None = None
        """The application that refuses methods that no dialect answers here."""

    def step(self, segment: str) -> "_Place":
        """The place below for a segment of the table. It is made if there is none."""
        if not segment.startswith("{"):
            return self.below.setdefault(segment, _Place())
        if segment.endswith(":path}"):
            self.rest = self.rest or _Place()
            return self.rest
        self.any = self.any or _Place()
        return self.any

    def find(self, segments: Sequence[str], at: int = 0) -> Iterator["_Place"]:
        """The places that match a path, the most specific first."""
        if at == len(segments):
            if self.answers:
                yield self
            return
        segment = segments[at]
        if (below := self.below.get(segment)) is not None:
            yield from below.find(segments, at + 1)
        if self.any is not None and segment:
            yield from self.any.find(segments, at + 1)
        if self.rest is not None:
            yield self.rest


class Addresses:
    """The application of the main address. It gives each request to the dialect that owns its
    address, those below its `PREFIX` to the native API, and other requests to `others`.
    `main` are the dialects that are switched on.
    """

    def __init__(
        self,
        dialects: Mapping[str, ASGIApp],
        native: ASGIApp,
        others: FastAPI,
        table: Mapping[str, str | Rule] = ADDRESSES,
        *,
        main: Iterable[str] = DIALECTS,
    ) -> None:
        self.dialects = dialects
        """Every dialect that is served, including those with only an address of their own."""
        self._main = {name: app for name, app in dialects.items() if name in main}
        self.native = native
        self.others = others
        self._exact: dict[tuple[str, str], ASGIApp] = {}
        """Paths without a parameter: most requests need one look-up."""
        self._root = _Place()
        for address, line in table.items():
            self._add(address, line)

    def lifespan(self) -> AbstractAsyncContextManager[Any]:
        """The server's lifespan, which is that of `others`."""
        return self.others.router.lifespan_context(self.others)

    def _add(self, address: str, line: str | Rule) -> None:
        rule = line if isinstance(line, Rule) else first_of(line)
        app = rule.among(self._main)
        if app is None:
            return
        method, path = address.split(" ")
        place = self._root
        for segment in path.split("/"):
            place = place.step(segment)
        place.answers[method] = app
        place.refuser = place.refuser or first_of(*rule.owners).among(self._main)
        if "{" not in path:
            self._exact[method, path] = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.others(scope, receive, send)
            return
        app = self.owner(scope)
        if app is self.native:
            scope = {**scope, "root_path": PREFIX}
        await app(scope, receive, send)

    def owner(self, scope: Scope) -> ASGIApp:
        """The application that answers or refuses a request."""
        path: str = scope["path"]
        if path.startswith(_BELOW) or path == PREFIX:
            return self.native
        method = scope["method"] if scope["type"] == "http" else SOCKET
        return self._exact.get((method, path)) or self._found(method, scope)

    def _found(self, method: str, scope: Scope) -> ASGIApp:
        path: str = scope["path"]
        places = tuple(self._root.find(path.split("/")))
        for place in places:
            if method in place.answers:
                return place.answers[method]
        if not places:
            # The path may match with or without a slash at its end: its owner redirects to the
            # right one.
            near = path.removesuffix("/") if path.endswith("/") else path + "/"
            places = tuple(self._root.find(near.split("/")))
        elif method != SOCKET:
            scope[ALLOWED] = sorted(places[0].answers.keys() - {SOCKET})
        refuser = places[0].refuser if places else None
        return refuser or self.others
