"""The short cut to creating jobs and the framework's way give the same answers."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.kit.client import Native
from tests.kit.server import Server

SHORT = {"content-type": "application/json"}
LONG = {"content-type": "application/json; charset=utf-8"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("short") / "data"
    with Server.start(data, "--capacity=0", "--log-level=warning") as started:
        yield started


@pytest.fixture(params=["/api/jobs", "/crewlog/v1/jobs"])
def address(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def both(http: Native, address: str, content: bytes, **headers: str) -> tuple[httpx2.Response, ...]:
    return tuple(
        http.post(address, content=content, headers={**way, **headers}) for way in (SHORT, LONG)
    )


def without_identity(job: dict[str, Any]) -> dict[str, Any]:
    own = {"id", "createdAt", "updatedAt", "queuedAt", "requestId", "position"}
    return {name: value for name, value in job.items() if name not in own}


@pytest.mark.parametrize(
    "body",
    [
        {"argv": ["true"]},
        {"argv": ["make", "-C", "src"], "cwd": "sub", "title": "Ünïcödé ✓", "timeoutS": 1.5},
        {"argv": ["x"], "labels": ["a", "b"], "env": {"A": "1"}, "unknown": [1, {"x": None}]},
    ],
)
def test_what_is_in_order_gets_the_same_answer(
    http: Native, address: str, body: dict[str, Any]
) -> None:
    short, long = both(http, address, json.dumps(body).encode())
    assert short.status_code == long.status_code == 201
    assert without_identity(short.json()) == without_identity(long.json())
    assert short.json()["requestId"] == short.headers["x-request-id"]
    assert short.headers.keys() == long.headers.keys()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'{"argv":[]}',
        b'{"argv":"ls"}',
        b'{"argv":["a\\u0000"]}',
        b'{"argv":["\\ud800"]}',
        b'{"argv":["x"],"timeout_s":-1}',
        b'{"argv":["x"],"kind":"other"}',
        b"\xff\xfe",
        b'{"argv":["x"],"env":{"CREWLOG_TOKEN":"x"}}',
    ],
)
def test_what_is_not_valid_is_refused_in_the_same_words(
    http: Native, address: str, content: bytes
) -> None:
    short, long = both(http, address, content)
    assert short.status_code == long.status_code
    assert short.status_code in (400, 422)
    assert short.json().get("detail") == long.json().get("detail")


@pytest.mark.parametrize("authorization", ["Bearer wrong", "Basic abc", "Bearer", ""])
def test_strangers_are_refused_in_the_same_words(
    http: Native, address: str, authorization: str
) -> None:
    short, long = both(http, address, b'{"argv":["true"]}', authorization=authorization)
    assert short.status_code == long.status_code
    assert short.status_code in (401, 403)
    assert short.json() == long.json()


def test_a_body_in_pieces_is_read_whole(http: Native, address: str) -> None:
    pieces = [b'{"argv":', b'["echo",', b'"hello"]}']
    answer = http.post(address, content=iter(pieces), headers=SHORT)
    assert answer.status_code == 201
    assert answer.json()["argv"] == ["echo", "hello"]


def test_other_methods_and_paths_go_their_ordinary_way(http: Native, address: str) -> None:
    assert http.put(address, content=b"{}", headers=SHORT).status_code == 405
    assert http.post(f"{address}/", content=b'{"argv":["true"]}', headers=SHORT).status_code == 307
