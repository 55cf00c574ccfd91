"""Eight characters identify one object: ids are random from their first character."""

from collections.abc import Iterator

import pytest

from tests.e2e.crews import commit, job
from tests.e2e.gitoma import dispatch
from tests.kit.client import Native
from tests.kit.server import Server

SHOWN = 8


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("ids") / "data"
    with Server.start(data, "--capacity=0", "--log-level=warning") as started:
        yield started


def beginnings(ids: list[str]) -> set[str]:
    return {one[:SHOWN] for one in ids}


def test_eight_characters_name_one_job(http: Native) -> None:
    made = [http.submit("true") for _ in range(20)]
    assert len(beginnings(made)) == 20


def test_eight_characters_name_one_job_in_gitomas_cockpit(http: Native) -> None:
    made = [dispatch(http, "analyze") for _ in range(3)]
    shown = list(http.get("/api/v1/jobs").json())
    assert set(made) <= set(shown)
    assert len(beginnings(shown)) == len(shown)


def test_eight_characters_name_one_job_of_one_crew(server: Server, http: Native) -> None:
    keys = [f"step-{n}" for n in range(9)]
    crews = [commit(server, http, *(job(key) for key in keys)) for _ in range(2)]
    made = [crew[key] for crew in crews for key in keys]
    assert len(beginnings(made)) == 18
    assert all(key in crews[0][key] for key in keys), "The id still has the key, for people."
    assert len(beginnings([crew.id for crew in crews])) == 2


def test_eight_characters_name_one_schedule_and_one_question(server: Server, http: Native) -> None:
    crew = commit(server, http, *(job(f"ask-{n}", approval="required") for n in range(9)))
    asked = [http.get(f"/api/jobs/{crew[f'ask-{n}']}/approvals").json()[0]["id"] for n in range(9)]
    assert len(beginnings(asked)) == 9
    body = {
        "name": "each morning",
        "templateId": "nightly-tests",
        "inputs": {"directory": "/"},
        "rule": {"cron": "0 7 * * *"},
    }
    schedules = []
    for _ in range(9):
        answer = http.post("/api/schedules", json=body)
        assert answer.status_code == 201, answer.text
        schedules.append(answer.json()["schedule"]["id"])
    assert len(beginnings(schedules)) == 9
