"""The health ladder of LM Studio, each rung against a real server on loopback."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from api.native.lmstudio import LMStudioHealth, probe
from tests.kit.client import Native
from tests.kit.server import Server

Reply = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def lm_studio(reply: Reply) -> Iterator[str]:
    """The base URL of a server that answers every GET with `reply`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reply(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            server.shutdown()
            thread.join()


def answering(body: bytes, status: int = 200) -> Reply:
    def reply(request: BaseHTTPRequestHandler) -> None:
        assert request.path == "/v1/models"
        request.send_response(status)
        request.send_header("content-length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return reply


def listing(*models: str) -> Reply:
    return answering(json.dumps({"object": "list", "data": [{"id": m} for m in models]}).encode())


def health(
    base_url: str, model: str = "qwen3-8b", *, timeout_s: float = 2.5, budget_s: float = 3.0
) -> LMStudioHealth:
    async def bounded() -> LMStudioHealth:
        async with asyncio.timeout(20):
            return await probe(base_url, model, timeout_s=timeout_s, budget_s=budget_s)

    return asyncio.run(bounded())


@pytest.mark.parametrize(
    ("loaded", "wanted"),
    [
        ("qwen3-8b", "qwen3-8b"),
        ("QWEN3-8B", "qwen3-8b"),
        ("qwen/qwen3-8b", "Qwen3-8B"),
        ("qwen3-8b", "qwen/qwen3-8b"),
        ("qwen/qwen3-8b", "qwen/qwen3-8b"),
    ],
)
def test_a_loaded_model_is_ok_with_or_without_publisher(loaded: str, wanted: str) -> None:
    with lm_studio(listing("other", loaded)) as url:
        found = health(url, wanted)
    assert found.level == "ok"
    assert found.target_model_loaded
    assert found.available_models == ["other", loaded]
    assert wanted in found.message


def test_a_trailing_slash_of_the_address_does_not_matter() -> None:
    with lm_studio(listing("qwen3-8b")) as url:
        assert health(url + "/").level == "ok"


@pytest.mark.parametrize("wanted", ["llama", "meta/qwen3-8b", "", "qwen/"])
def test_another_model_is_an_error_that_lists_what_there_is(wanted: str) -> None:
    with lm_studio(listing("qwen/qwen3-8b")) as url:
        found = health(url, wanted)
    assert found.level == "error"
    assert not found.target_model_loaded
    assert found.available_models == ["qwen/qwen3-8b"]
    assert "not loaded" in found.message


@pytest.mark.parametrize(("wanted", "level"), [("qwen3-8b", "ok"), ("llama", "error")])
def test_the_server_asks_for_the_model_of_its_settings(
    wanted: str, level: str, tmp_path: Path
) -> None:
    with (
        lm_studio(listing("qwen3-8b")) as url,
        Server.start(
            tmp_path / "data", "--capacity=0", LM_STUDIO_BASE_URL=url, LM_STUDIO_MODEL=wanted
        ) as server,
        Native(server) as http,
    ):
        studio = http.get("/api/v1/health").json()["lm_studio"]
    assert studio["level"] == level
    assert wanted in studio["message"]


def test_a_model_without_a_name_is_nobody_s_target() -> None:
    with lm_studio(listing("")) as url:
        assert health(url, "").level == "error"


def test_an_empty_list_is_an_error() -> None:
    with lm_studio(listing()) as url:
        found = health(url)
    assert (found.level, found.available_models) == ("error", [])
    assert "no model" in found.message


@pytest.mark.parametrize("status", [204, 302, 401, 404, 500])
def test_anything_but_200_is_an_error(status: int) -> None:
    with lm_studio(answering(b"", status)) as url:
        found = health(url)
    assert found.level == "error"
    assert str(status) in found.message


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b'{"data": 1}', b'{"data": [{"id": 1}]}', b'{"models": []}', b"\xff"],
)
def test_what_is_no_model_list_is_an_error(body: bytes) -> None:
    with lm_studio(answering(body)) as url:
        found = health(url)
    assert found.level == "error"
    assert "not a list of models" in found.message


def test_an_answer_without_end_is_given_up() -> None:
    with lm_studio(answering(b" " * (1024 * 1024 + 1))) as url:
        found = health(url)
    assert found.level == "error"
    assert "too long" in found.message


def test_a_server_that_hangs_times_out_within_the_budget() -> None:
    release = threading.Event()

    def hang(request: BaseHTTPRequestHandler) -> None:
        release.wait(30)

    with lm_studio(hang) as url:
        try:
            found = health(url, timeout_s=3600, budget_s=0.1)
        finally:
            release.set()
    assert found.level == "error"
    assert "timed out" in found.message


def test_a_server_that_is_silent_longer_than_one_operation_may_take_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        found = health(url, timeout_s=0.1, budget_s=3600)
    assert "timed out" in found.message


def test_a_closed_port_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    found = health(f"http://127.0.0.1:{port}/v1")
    assert found.level == "error"
    assert "unreachable" in found.message


def test_a_server_that_does_not_speak_http_is_unreachable() -> None:
    def gibberish(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"220 smtp ready\r\n\r\n")

    with lm_studio(gibberish) as url:
        assert health(url).level == "error"


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "localhost:1234",
        "http://",
        "ftp://localhost/v1",
        "http://[::1",
        "http://localhost:99999",
        "http://\x00",
        "/v1",
    ],
)
def test_an_address_that_cannot_be_is_an_error_not_an_exception(base_url: str) -> None:
    found = health(base_url)
    assert found.level == "error"
    assert "not valid" in found.message


def test_credentials_of_the_address_are_used_but_never_repeated() -> None:
    seen: list[str | None] = []

    def refuse(request: BaseHTTPRequestHandler) -> None:
        seen.append(request.headers["authorization"])
        answering(b"", 500)(request)

    with lm_studio(refuse) as url:
        secret = url.replace("//", "//ada:hunter2@")
        texts = [health(secret).model_dump_json(), health("http://ada:hunter2@").model_dump_json()]
    texts.append(health(secret).model_dump_json())
    texts.append(health("ftp://ada:hunter2@localhost").model_dump_json())
    assert seen[0] is not None
    assert seen[0].startswith("Basic ")
    assert not any("hunter2" in text or "ada" in text for text in texts)


def test_the_health_object_has_every_key() -> None:
    assert set(health("").model_dump()) == {
        "level",
        "message",
        "detail",
        "available_models",
        "target_model_loaded",
    }


def test_the_environment_s_proxy_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = taken.getsockname()[1]
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed}")
    with lm_studio(listing("qwen3-8b")) as url:
        assert health(url).level == "ok"
