"""The edge: the layers around every route, for requests and responses."""

import asyncio
import gzip
import logging
import socket
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI, Request, WebSocket
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.dialects.gitoma import UNCOMPRESSED
from api.edge.middleware import (
    BodyLimit,
    RequestContext,
    SecurityHeaders,
    SelectiveGZip,
    TrustedHosts,
    cors,
    install,
    request_id_var,
)

Pairs = Iterable[tuple[str, str]]
LOCAL = ("host", "localhost")


class Answer(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]

    def __getattr__(self, name: str) -> str | None:
        values = self.all(name.replace("_", "-"))
        assert len(values) <= 1, f"{name} is repeated"
        return values[0] if values else None


async def drive(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


def ask(
    app: ASGIApp,
    path: str = "/",
    *headers: tuple[str, str],
    method: str = "GET",
    body: Sequence[bytes] = (b"",),
) -> Answer:
    """Send one HTTP request through `app`, with its body in the given chunks."""
    chunks = list(body)
    sent: list[Message] = []
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path.partition("?")[0],
        "query_string": path.partition("?")[2].encode(),
        "headers": [(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers],
        "server": ("localhost", 80),
    }

    async def receive() -> Message:
        if not chunks:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(drive(app, scope, receive, send))
    starts = [message for message in sent if message["type"] == "http.response.start"]
    assert len(starts) == 1, "exactly one response"
    assert not sent[-1].get("more_body", False), "the response is complete"
    return Answer(
        starts[0]["status"],
        [(k.decode(), v.decode("latin-1")) for k, v in starts[0]["headers"]],
        b"".join(m.get("body", b"") for m in sent if m["type"] == "http.response.body"),
    )


def handshake(app: ASGIApp, headers: Pairs, *, denial: bool) -> list[Message]:
    """The answer to a WebSocket handshake."""
    sent: list[Message] = []
    scope: Scope = {
        "type": "websocket",
        "path": "/ws",
        "query_string": b"",
        "headers": [(k.encode(), v.encode()) for k, v in headers],
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}} if denial else {},
    }

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(drive(app, scope, receive, send))
    return sent


def a_service() -> FastAPI:
    app = FastAPI()

    @app.get("/id")
    async def seen_id(request: Request) -> dict[str, str | None]:
        return {"state": request.state.request_id, "var": request_id_var.get()}

    @app.get("/crash")
    async def crash() -> None:
        raise RuntimeError("the secret is hunter2")

    @app.post("/size")
    async def size(document: dict[str, str]) -> dict[str, int]:
        return {"fields": len(document)}

    @app.get("/large")
    async def large() -> Response:
        return PlainTextResponse("x" * 5000)

    @app.websocket("/ws")
    async def socket_id(ws: WebSocket) -> None:
        await ws.accept()
        await ws.send_text(f"{ws.state.request_id} {request_id_var.get()}")
        await ws.close()

    return app


def installed(app: FastAPI | None = None) -> ASGIApp:
    return install(app or a_service(), cors_origins=["https://board.example"], body_limit=1000)


PREFLIGHT = (
    ("origin", "https://board.example"),
    ("access-control-request-method", "POST"),
)


# Requests that each layer answers itself, and the status of that answer.
EVERY_LAYER = pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/id", [LOCAL], 200),
        ("GET", "/nowhere", [LOCAL], 404),
        ("PUT", "/id", [LOCAL], 405),
        ("POST", "/size", [LOCAL, ("content-type", "application/json")], 422),
        ("GET", "/id", [("host", "evil.example")], 400),
        ("GET", "/id", [], 400),
        ("POST", "/size", [LOCAL, ("content-length", "1001")], 413),
        ("OPTIONS", "/id", [LOCAL, *PREFLIGHT], 200),
        ("OPTIONS", "/id", [LOCAL, ("origin", "https://evil.example"), PREFLIGHT[1]], 400),
        ("GET", "/crash", [LOCAL], 500),
    ],
)


@EVERY_LAYER
def test_every_response_carries_the_request_id(
    method: str, path: str, headers: list[tuple[str, str]], status: int
) -> None:
    answer = ask(installed(), path, *headers, ("x-request-id", "mine"), method=method)
    assert answer.status == status
    assert answer.all("x-request-id") == ["mine"]


@EVERY_LAYER
def test_every_response_carries_the_security_headers(
    method: str, path: str, headers: list[tuple[str, str]], status: int
) -> None:
    answer = ask(installed(), path, *headers, method=method)
    assert answer.status == status
    assert answer.x_content_type_options == "nosniff"
    assert answer.referrer_policy == "no-referrer"
    assert answer.x_frame_options == "DENY"
    assert answer.cache_control == "no-store"


def test_the_last_resort_500_carries_the_security_headers_too() -> None:
    answer = ask(install(crashing), "/", LOCAL)
    assert (answer.status, answer.x_content_type_options) == (500, "nosniff")
    assert answer.cache_control == "no-store"


@pytest.mark.parametrize("given", ["x" * 300, 'a "b" \\ c', "0", "~ !"])
def test_the_client_s_request_id_is_echoed_verbatim(given: str) -> None:
    answer = ask(installed(), "/id", LOCAL, ("x-request-id", given))
    assert answer.x_request_id == given
    assert httpx2.Response(200, content=answer.body).json() == {"state": given, "var": given}


@pytest.mark.parametrize("given", [None, "", "tab\tbed", "new\nline", "caf\xe9", "\x7f", "a\x00"])
def test_an_id_that_is_not_printable_ascii_is_replaced(given: str | None) -> None:
    headers = [LOCAL] if given is None else [LOCAL, ("x-request-id", given)]
    minted = {ask(installed(), "/id", *headers).x_request_id for _ in range(3)}
    assert len(minted) == 3
    for rid in minted:
        assert rid is not None
        assert len(rid) == 16
        assert int(rid, 16) >= 0


def test_the_id_is_gone_after_the_request() -> None:
    async def scenario() -> str | None:
        app = RequestContext(PlainTextResponse("hi"))
        scope: Scope = {"type": "http", "method": "GET", "path": "/", "headers": []}

        async def receive() -> Message:
            return {"type": "http.request"}

        async def send(message: Message) -> None:
            assert request_id_var.get() is not None

        await app(scope, receive, send)
        return request_id_var.get()

    assert asyncio.run(scenario()) is None


def test_an_app_s_own_request_id_header_gives_way() -> None:
    app = RequestContext(PlainTextResponse("hi", headers={"X-Request-ID": "theirs"}))
    assert ask(app, "/", ("x-request-id", "mine")).all("x-request-id") == ["mine"]


async def crashing(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("the secret is hunter2")


@pytest.mark.parametrize("app", [installed(), install(crashing)], ids=["fastapi", "plain asgi"])
def test_an_unhandled_error_is_opaque_outside_and_whole_in_the_log(
    app: ASGIApp, caplog: pytest.LogCaptureFixture
) -> None:
    answer = ask(app, "/crash", LOCAL, ("x-request-id", 'odd "id"'))
    assert answer.status == 500
    assert httpx2.Response(500, content=answer.body).json() == {
        "detail": "Internal server error.",
        "error_id": 'odd "id"',
    }
    assert b"hunter2" not in answer.body
    (record,) = [entry for entry in caplog.records if entry.levelno >= logging.ERROR]
    assert record.name == "crewlog.http"
    assert 'odd "id"' in record.getMessage()
    assert "hunter2" in caplog.text


def test_an_app_keeps_its_own_handler_of_unhandled_errors() -> None:
    app = a_service()

    @app.exception_handler(Exception)
    async def teapot(request: Request, exc: Exception) -> Response:
        return PlainTextResponse("teapot", status_code=418)

    assert ask(installed(app), "/crash", LOCAL).status == 418


async def half_an_answer(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    raise RuntimeError("broke in the middle")


def test_an_error_in_the_middle_of_a_response_is_logged_and_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(RuntimeError, match="in the middle"):
        ask(install(half_an_answer), "/", LOCAL, ("x-request-id", "mine"))
    assert "error_id mine" in caplog.text


def test_the_access_log_has_one_line_without_the_query(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "crewlog.http")
    ask(installed(), "/nowhere?token=hunter2", LOCAL, ("x-request-id", "mine"))
    (line,) = [r.getMessage() for r in caplog.records if r.name == "crewlog.http"]
    assert line.startswith("GET /nowhere 404 ")
    assert line.endswith(" ms mine")
    assert "hunter2" not in line


def test_a_path_cannot_forge_a_line_of_the_access_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "crewlog.http")
    ask(installed(), "/a\nGET /admin 200", LOCAL)
    (line,) = [r.getMessage() for r in caplog.records if r.name == "crewlog.http"]
    assert "\n" not in line


def test_a_websocket_knows_its_id_and_gets_no_header() -> None:
    accept, text, _ = handshake(installed(), [LOCAL, ("x-request-id", "mine")], denial=True)
    assert accept["type"] == "websocket.accept"
    assert dict(accept["headers"]) == {}
    assert text["text"] == "mine mine"


def test_a_body_up_to_the_limit_passes() -> None:
    body = b'{"a": "%s"}' % (b"x" * 991)
    assert len(body) == 1000
    json_type = ("content-type", "application/json")
    assert ask(installed(), "/size", LOCAL, json_type, method="POST", body=[body]).status == 200
    chunks = [body[:400], body[400:]]
    assert ask(installed(), "/size", LOCAL, json_type, method="POST", body=chunks).status == 200


@pytest.mark.parametrize("length", ["1048577", "9" * 30, "9" * 5000, "00001048577"])
def test_a_declared_length_over_the_limit_is_refused_before_a_byte_is_read(length: str) -> None:
    async def unreached(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("the app was called")

    answer = ask(BodyLimit(unreached), "/", ("content-length", length), method="POST")
    assert answer.status == 413
    assert answer.body == b'{"detail":"Request body is larger than 1048576 bytes."}'
    assert answer.content_type == "application/json"


async def reads_to_the_end(scope: Scope, receive: Receive, send: Send) -> None:
    size = len(await Request(scope, receive).body())
    await PlainTextResponse(str(size))(scope, receive, send)


async def swallows_errors(scope: Scope, receive: Receive, send: Send) -> None:
    try:
        await Request(scope, receive).body()
    except Exception:
        await PlainTextResponse("bad", status_code=400)(scope, receive, send)


async def wraps_errors(scope: Scope, receive: Receive, send: Send) -> None:
    try:
        await Request(scope, receive).body()
    except Exception as error:
        raise RuntimeError("could not read") from error


@pytest.mark.parametrize("app", [reads_to_the_end, swallows_errors, wraps_errors, a_service()])
def test_a_chunked_body_over_the_limit_is_refused_whatever_the_app_does(app: ASGIApp) -> None:
    chunks = [b'{"a": "', b"x" * 600, b"x" * 600, b'"}']
    answer = ask(
        BodyLimit(app, 1000), "/size", ("transfer-encoding", "chunked"), method="POST", body=chunks
    )
    assert answer.status == 413
    assert answer.body == b'{"detail":"Request body is larger than 1000 bytes."}'


def test_no_one_acts_on_the_part_of_a_body_that_arrived() -> None:
    acted: list[bytes] = []

    async def stubborn(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(5):
            try:
                message = await receive()
            except Exception:
                continue
            acted.append(message.get("body", b"gone"))

    answer = ask(BodyLimit(stubborn, 10), method="POST", body=[b"x" * 8, b"x" * 8, b"tail"])
    assert answer.status == 413
    assert acted == [b"x" * 8]


def test_a_body_found_too_large_after_the_response_began_cuts_the_connection() -> None:
    async def early(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await receive()

    with pytest.raises(Exception, match="larger than 10 bytes"):
        ask(BodyLimit(early, 10), method="POST", body=[b"x" * 11])


def hosts_answer(allowed: Iterable[str] | None, *hosts: str) -> int:
    app = PlainTextResponse("in")
    guard = TrustedHosts(app) if allowed is None else TrustedHosts(app, allowed)
    answer = ask(guard, "/", *(("host", host) for host in hosts))
    if answer.status == 400:
        assert answer.body == b"Invalid host header"
        assert answer.content_type == "text/plain; charset=utf-8"
    return answer.status


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:8080",
        "127.0.0.1:8000",
        "0.0.0.0",
        "testserver",
        "[::1]",
        "[::1]:8080",
        "[0:0:0:0:0:0:0:1]:8080",
    ],
)
def test_the_default_hosts_are_let_in(host: str) -> None:
    assert hosts_answer(None, host) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "evillocal",
        "nas.local",
        "a.b.local:80",
        "local",
        ".local",
        "localhost/",
        "localhost@evil.example",
        "evil.example#.local",
        "evil.example/.local",
        "[::2]",
        "[::1",
        "::1",
        "[::1]x",
        "localhost:80:80",
        "localhost\n",
        "*.local",
        "",
    ],
)
def test_other_hosts_are_refused(host: str) -> None:
    assert hosts_answer(None, host) == 400


def test_a_missing_or_repeated_host_is_refused_even_if_any_is_allowed() -> None:
    assert hosts_answer(["*"]) == 400
    assert hosts_answer(["*"], "localhost", "evil.example") == 400
    assert hosts_answer(["*"], "anything.example:1") == 200


@pytest.mark.parametrize(
    ("entry", "host"),
    [
        (" crew.example ", "crew.example"),
        ("Crew.Example", "crew.example:443"),
        ("crew.example:8080", "crew.example"),
        ("::1", "[::1]:8080"),
        ("[::1]", "[::1]"),
        ("2001:DB8::1", "[2001:db8:0::1]"),
        (" *.crew.example", "a.crew.example"),
    ],
)
def test_entries_are_trimmed_and_compared_by_meaning(entry: str, host: str) -> None:
    assert hosts_answer([entry, ""], host) == 200
    assert hosts_answer([entry, ""], "evil.example") == 400


@pytest.mark.parametrize("entry", ["*foo", "*.", "a.*.b", "http://localhost", "*.*", "a b"])
def test_an_entry_that_cannot_match_is_refused_at_once(entry: str) -> None:
    with pytest.raises(ValueError, match="is not a host name"):
        TrustedHosts(PlainTextResponse("in"), [entry])


@pytest.mark.parametrize(("denial", "refusal"), [(True, 400), (False, 1008)])
def test_a_websocket_of_a_foreign_host_is_refused_before_it_opens(
    denial: bool, refusal: int
) -> None:
    first, *_ = handshake(installed(), [("host", "evil.example")], denial=denial)
    assert first["type"] == ("websocket.http.response.start" if denial else "websocket.close")
    assert first["status" if denial else "code"] == refusal


def test_a_response_s_own_security_headers_are_kept() -> None:
    own = {"Cache-Control": "no-cache", "X-Frame-Options": "SAMEORIGIN"}
    answer = ask(SecurityHeaders(PlainTextResponse("page", headers=own)))
    assert answer.cache_control == "no-cache"
    assert answer.x_frame_options == "SAMEORIGIN"


def test_a_304_does_not_change_how_the_stored_response_is_cached() -> None:
    assert ask(SecurityHeaders(Response(status_code=304))).cache_control is None


GZIP = ("accept-encoding", "br, gzip")


def test_a_large_response_is_compressed_for_who_can_read_it() -> None:
    app = SelectiveGZip(PlainTextResponse("x" * 1024))
    answer = ask(app, "/", GZIP)
    assert answer.content_encoding == "gzip"
    assert gzip.decompress(answer.body) == b"x" * 1024
    assert answer.content_length == str(len(answer.body))
    assert answer.vary == "Accept-Encoding"


@pytest.mark.parametrize(
    "headers", [[], [("accept-encoding", "br")], [("accept-encoding", "gzip;q=0, br")]]
)
def test_a_large_response_says_that_it_varies_even_uncompressed(
    headers: list[tuple[str, str]],
) -> None:
    answer = ask(SelectiveGZip(PlainTextResponse("x" * 1024)), "/", *headers)
    assert answer.content_encoding is None
    assert answer.body == b"x" * 1024
    assert answer.vary == "Accept-Encoding"


def test_a_small_response_stays_as_it_is() -> None:
    answer = ask(SelectiveGZip(PlainTextResponse("x" * 1023)), "/", GZIP)
    assert (answer.content_encoding, answer.vary) == (None, None)


def test_a_response_object_that_is_kept_can_be_sent_to_both_kinds_of_client() -> None:
    app = SelectiveGZip(PlainTextResponse("x" * 2000))
    for _ in range(2):
        assert gzip.decompress(ask(app, "/", GZIP).body) == b"x" * 2000
        plain = ask(app, "/")
        assert (plain.body, plain.content_encoding) == (b"x" * 2000, None)
        assert plain.content_length == "2000"


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/stream", "text/event-stream; charset=utf-8"),
        ("/export", "application/x-ndjson"),
        ("/export", "Application/X-NDJSON"),
        ("/api/v1/stream/1", "application/json"),
        ("/ws/x", "application/json"),
    ],
)
def test_a_stream_passes_untouched_and_at_once(path: str, media_type: str) -> None:
    passed: list[Message] = []

    async def chunks() -> AsyncIterator[bytes]:
        for number in range(3):
            # The head and every chunk so far were sent before the next chunk is made.
            assert len(passed) == number + 1
            yield b"x" * 2000

    async def noting(scope: Scope, receive: Receive, send: Send) -> None:
        async def note(message: Message) -> None:
            passed.append(message)
            await send(message)

        app = StreamingResponse(chunks(), media_type=media_type)
        await SelectiveGZip(app, except_prefixes=UNCOMPRESSED)(scope, receive, note)

    answer = ask(noting, path, GZIP)
    assert answer.content_encoding is None
    assert answer.vary is None
    assert answer.body == b"x" * 6000


def test_cors_lets_the_named_origin_use_what_the_api_speaks() -> None:
    wanted = "authorization, last-event-id, idempotency-key, if-match, content-type, x-request-id"
    answer = ask(
        cors(PlainTextResponse("in"), [" https://board.example/ "]),
        "/",
        *PREFLIGHT,
        ("access-control-request-headers", wanted),
        method="OPTIONS",
    )
    assert answer.status == 200
    assert answer.access_control_allow_origin == "https://board.example"
    assert answer.access_control_allow_credentials == "true"
    assert answer.access_control_allow_methods == "GET, POST, PATCH, DELETE"
    assert answer.access_control_max_age == "600"


def test_cors_shows_the_named_origin_the_headers_it_needs() -> None:
    app = cors(PlainTextResponse("in"), ["https://board.example"])
    answer = ask(app, "/", ("origin", "https://board.example"))
    assert answer.access_control_expose_headers == "x-request-id, x-event-position, ETag"
    foreign = ask(app, "/", ("origin", "https://evil.example"))
    assert foreign.access_control_allow_origin is None


def test_a_wildcard_switches_cors_off_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    app = PlainTextResponse("in")
    assert cors(app, ["https://board.example", " *"]) is app
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_without_origins_there_is_no_cors(caplog: pytest.LogCaptureFixture) -> None:
    app = PlainTextResponse("in")
    assert cors(app, []) is app
    assert cors(app, ["", " "]) is app
    assert not caplog.records


def test_other_scopes_pass_through_the_whole_edge() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        raise AssertionError("nothing to say")

    edge = install(app, cors_origins=["https://board.example"])
    asyncio.run(drive(edge, {"type": "lifespan"}, receive, send))
    assert seen == ["lifespan"]


@contextmanager
def serving(app: ASGIApp) -> Iterator[int]:
    """The loopback port of a real server that runs `app` in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def test_a_real_server_refuses_chunked_excess_and_serves_on() -> None:
    def excess() -> Iterator[bytes]:
        for _ in range(20):
            yield b"x" * 100

    with serving(installed()) as port, httpx2.Client(trust_env=False) as client:
        base = f"http://localhost:{port}"
        refused = client.post(f"{base}/size", content=excess())
        assert (refused.status_code, "larger than 1000" in refused.text) == (413, True)
        assert client.post(f"{base}/size", content=b"x" * 5000).status_code == 413
        assert client.post(f"{base}/size", json={"a": "b"}).json() == {"fields": 1}
        crashed = client.get(f"{base}/crash")
        assert crashed.json()["error_id"] == crashed.headers["x-request-id"]
        assert client.get(f"{base}/large").headers["content-encoding"] == "gzip"


def test_json_refusals_have_the_content_type_of_json() -> None:
    answer = ask(installed(), "/size", LOCAL, ("content-length", "1001"), method="POST")
    assert answer.content_type == JSONResponse({}).headers["content-type"]
