"""Dialects at their own addresses, and the dialects of the main address."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.kit.client import Native
from tests.kit.server import Server, crewlog


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """gitoma at the main address; the two others have one each."""
    with Server.start(
        tmp_path_factory.mktemp("listen") / "data",
        "--capacity=0",
        "--dialects=gitoma",
        "--listen=board=127.0.0.1:0",
        "--listen=codeplane=localhost:0",
    ) as running:
        yield running


@pytest.fixture(scope="module")
def alone(server: Server) -> Iterator[dict[str, httpx2.Client]]:
    """A client for each dialect's own address."""
    listening = json.loads((server.data / "server.json").read_text())["listen"]
    clients = {
        one["dialect"]: httpx2.Client(
            base_url=one["url"], headers=server.headers, trust_env=False, timeout=90
        )
        for one in listening
    }
    yield clients
    for client in clients.values():
        client.close()


def submitted(codeplane: httpx2.Client) -> str:
    answer = codeplane.post("/api/jobs", json={"argv": ["true"]})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_the_main_address_has_the_dialects_that_are_switched_on(server: Server) -> None:
    with Native(server) as http:
        assert http.get("/api/v1/jobs").status_code == 200
        assert http.get("/crewlog/v1/log").status_code == 200
        for path in ("/api/jobs", "/api/schedules", "/api/events"):
            answer = http.get(path)
            assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})


def test_who_has_an_account_signs_in_also_where_the_board_is_not(server: Server) -> None:
    with httpx2.Client(base_url=server.url, trust_env=False, timeout=90) as browser:
        assert browser.post("/auth/token", json={"token": server.token}).status_code == 200
        assert browser.get("/auth/me").json()["isAdmin"]
        assert browser.get("/crewlog/v1/log").status_code == 200


def test_an_address_of_its_own_has_one_dialect_and_nothing_else(
    alone: dict[str, httpx2.Client],
) -> None:
    assert alone.keys() == {"board", "codeplane"}
    board, codeplane = alone["board"], alone["codeplane"]
    assert board.get("/openapi.json").json()["info"]["title"] == "The job board"
    assert codeplane.get("/openapi.json").json()["info"]["title"] == "CodePlane"
    assert board.get("/api/schedules").status_code == 200
    assert codeplane.get("/api/approvals").status_code == 200
    for http, path in (
        (board, "/api/approvals"),
        (codeplane, "/api/schedules"),
        (board, "/api/v1/jobs"),
        (codeplane, "/crewlog/v1/log"),
        (board, "/"),
    ):
        assert http.get(path).status_code == 404


def test_all_addresses_show_one_log_to_the_same_people(
    server: Server, alone: dict[str, httpx2.Client]
) -> None:
    job_id = submitted(alone["codeplane"])

    with Native(server) as main:
        assert main.get(f"/api/v1/status/{job_id}").json()["status"] == "queued"
    assert job_id in {job["id"] for job in alone["board"].get("/api/jobs").json()["jobs"]}
    for http in alone.values():
        nobody = httpx2.get(http.base_url.join("/api/jobs"), trust_env=False)
        assert nobody.status_code == 401
        foreign = http.get("/api/jobs", headers={"Host": "elsewhere.example"})
        assert (foreign.status_code, foreign.text) == (400, "Invalid host header")


def test_at_its_own_address_each_answers_as_its_own_clients_read_it(
    alone: dict[str, httpx2.Client],
) -> None:
    board, codeplane = alone["board"], alone["codeplane"]
    job_id = submitted(codeplane)
    assert "job" not in codeplane.get(f"/api/jobs/{job_id}").json()
    detail = board.get(f"/api/jobs/{job_id}").json()
    assert detail["job"]["id"] == job_id
    assert board.get("/api/jobs").json()["jobs"][0]["id"] == job_id
    assert "jobs" not in codeplane.get("/api/jobs").json()
    codeplane.post(f"/api/jobs/{job_id}/cancel")
    put_away = board.post(f"/api/jobs/{job_id}/archive")
    assert (put_away.status_code, put_away.json()["job"]["status"]) == (200, "archived")
    assert codeplane.post(f"/api/jobs/{job_id}/archive").status_code == 204


def refused(data: Path, *options: str) -> str:
    """The message of a server that must not start, and that has made nothing."""
    ran = crewlog("serve", "--port=0", f"--data={data}", *options)
    assert ran.returncode == 2, ran.stderr
    assert not data.exists()
    return " ".join(ran.stderr.split())


def test_a_port_in_use_is_named_before_anything_is_made(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sentence = refused(tmp_path / "data", f"--listen=board=127.0.0.1:{port}")

    assert f"Cannot listen on 127.0.0.1:{port}: Address already in use." in sentence
    assert "--listen" in sentence


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ("--listen=bord=127.0.0.1:1",),
            "'bord' is not a dialect. Known: gitoma, codeplane, board.",
        ),
        (("--dialects=gitoma,bord",), "'bord' is not a dialect"),
        (("--listen=board",), "'board' must be written as NAME=HOST:PORT."),
        (("--listen=board=127.0.0.1:65536",), "65536 in"),
        (("--listen=board=0.0.0.0:0",), "Listening on 0.0.0.0 needs a token"),
    ],
)
def test_what_cannot_be_meant_is_said_so(
    tmp_path: Path, options: tuple[str, ...], sentence: str
) -> None:
    assert sentence in refused(tmp_path / "data", *options)
