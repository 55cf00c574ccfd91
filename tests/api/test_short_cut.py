"""The short cut answers errors as the framework does, in the form of its application."""

import asyncio
import errno

import httpx2
import pytest
from fastapi import APIRouter, Request, Response
from starlette.types import ASGIApp

from api.edge.answers import json_bytes
from api.edge.applications import application
from api.edge.middleware import RequestContext
from api.edge.security import Authenticated, Security
from api.edge.short_cut import ShortCut, endpoint_named
from api.edge.texts import Body
from api.native.problems import MEDIA_TYPE, Problem, problem
from domain.errors import BadInput, CrewlogError, LogUnavailable, NotFound

TOKEN = "t" * 40
ERRORS = {
    "none": None,
    "missing": NotFound("There is no such thing."),
    "bad": BadInput("thing", "It is no thing."),
    "closed": LogUnavailable("It is closed."),
    "full": OSError(errno.ENOSPC, "No space left"),
    "system": OSError(errno.EBADF, "Bad descriptor"),
    "unforeseen": RuntimeError("secret words"),
}


class Thing(Body):
    error: str


def things() -> ASGIApp:
    router = APIRouter()

    @router.post("/things", status_code=201)
    async def make(
        body: Thing, request: Request, principal: Authenticated, key: str | None = None
    ) -> Response:
        error = ERRORS[body.error]
        if error is not None:
            raise error
        return json_bytes({"actor": principal.actor}, 201)

    security = Security(lambda: TOKEN)
    app = application("things", "Things.", "1", security, (router,), problem, Problem)
    short = ShortCut(app, {"/things": (Thing, endpoint_named("make", router))}, security)
    return RequestContext(short)


def asked(app: ASGIApp, error: str, content_type: str) -> httpx2.Response:
    async def ask() -> httpx2.Response:
        transport = httpx2.ASGITransport(app)
        headers = {
            "Authorization": f"Bearer {TOKEN}",
            "Content-Type": content_type,
            "x-request-id": "the-request",
        }
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
            return await http.post("/things", json={"error": error}, headers=headers)

    return asyncio.run(ask())


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_has_the_same_answer_both_ways(
    error: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = things()
    short = asked(app, error, "application/json")
    noted = [record.getMessage() for record in caplog.records]
    caplog.clear()
    long = asked(app, error, "application/json; charset=utf-8")

    assert (short.status_code, short.content) == (long.status_code, long.content)
    assert short.headers == long.headers
    assert noted == [record.getMessage() for record in caplog.records]
    known = isinstance(ERRORS[error], CrewlogError) or error in ("none", "full")
    assert (short.status_code == 500) is not known
    if error != "none":
        assert short.headers["content-type"] == MEDIA_TYPE
        assert "secret" not in short.text
