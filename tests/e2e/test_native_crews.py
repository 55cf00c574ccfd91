"""``/crewlog/v1/crews``: crews as objects, with numbers, filters and commands."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.crews import job, write_template
from tests.kit.client import ROOT, Json, Native
from tests.kit.server import Server
from tests.kit.waiting import until

CREWS = f"{ROOT}/crews"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("native-crews") / "data"
    with Server.start(data, "--stop-jobs", "--log-level=warning") as started:
        inputs = {"who": {"type": "string", "default": "Ada"}}
        greet = {**job("say"), "argv": ["echo", "{{ who }}"], "labels": ["polite"]}
        write_template(data, "greet", greet, inputs=inputs)
        write_template(data, "other", job("only"))
        yield started


def listed(http: Native, **query: Any) -> list[str]:
    answer = http.get(CREWS, params=query)
    assert answer.status_code == 200, answer.text
    return [crew["id"] for crew in answer.json()["items"]]


def test_crews_of_a_template_are_numbered_as_they_are_made(http: Native) -> None:
    made = [http.commit(name) for name in ("greet", "other", "greet", "greet", "other")]
    numbers = [(crew["template"], crew["number"]) for crew in made]
    assert numbers == [("greet", 1), ("other", 1), ("greet", 2), ("greet", 3), ("other", 2)]
    assert listed(http, template="greet", number=2) == [made[2]["id"]]
    key = {"Idempotency-Key": "crew-once"}
    first = http.post(CREWS, json={"template": "other"}, headers=key)
    again = http.post(CREWS, json={"template": "other"}, headers=key)
    assert (first.json()["id"], first.json()["number"]) == (again.json()["id"], 3)
    assert again.headers["idempotency-replayed"] == "true"


def test_filters_select_by_state_template_label_owner_and_time(http: Native) -> None:
    waits = http.commit("other", notBefore="2100-01-01T00:00:00Z")
    done = http.commit("greet", inputs={"who": "Grace"})
    http.stands(done["id"], "completed")
    assert listed(http, state="held") == [waits["id"]]
    assert done["id"] in listed(http, state="completed,failed", label="polite")
    assert waits["id"] not in listed(http, label="polite")
    assert waits["id"] in listed(http, owner="me", text="OTH")
    assert listed(http, owner="nobody@example.org") == []
    assert listed(http, created_after=done["createdAt"]) == [done["id"]]
    pages = http.items("/crews", template="greet", state="completed", limit=2)
    seen = [crew["id"] for crew in pages]
    assert len(seen) == len(set(seen)) == 4
    for wrong in ({"state": "done"}, {"created_after": "now"}, {"cursor": "none"}):
        assert http.get(CREWS, params=wrong).status_code == 400


def test_cancel_ends_what_has_not_ended_and_retry_sets_it_going_again(http: Native) -> None:
    crew = http.commit("other", notBefore="2100-01-01T00:00:00Z")
    assert http.post(f"{CREWS}/{crew['id']}/retry").status_code == 409
    cancelled = http.post(f"{CREWS}/{crew['id']}/cancel")
    assert (cancelled.status_code, cancelled.json()["counts"]) == (200, {"cancelled": 1})
    assert http.post(f"{CREWS}/{crew['id']}/cancel").status_code == 409
    again = http.post(f"{CREWS}/{crew['id']}/retry").json()
    assert again["counts"] == {"held": 1}


def test_retry_does_what_failed_again_and_what_waits_for_it_follows(
    server: Server, http: Native
) -> None:
    marker = server.data.parent / "open"
    write_template(
        server.data,
        "gate",
        job("first", f"test -e {marker}", maxRetries=0),
        job("second", "true", "first"),
        job("third"),
    )
    crew = http.commit("gate")
    failed = until(
        lambda: next((c for c in [http.crew(crew["id"])] if _still(c)), None),
        "the crew stands still",
    )
    first, second, third = failed["jobs"]
    assert (first["gaveUp"], second["strandedBy"], third["outcome"]) == (
        True,
        first["id"],
        "completed",
    )
    assert failed["counts"] == {"blocked": 1, "stranded": 1, "completed": 1}
    listed = http.get(CREWS, params={"template": "gate"}).json()["items"]
    assert [one["counts"] for one in listed if one["id"] == crew["id"]] == [failed["counts"]]
    marker.touch()
    assert http.post(f"{CREWS}/{crew['id']}/retry").status_code == 200
    done = http.stands(crew["id"], "completed")
    assert [one["attempt"] for one in done["jobs"]] == [2, 1, 1]


def _still(crew: Json) -> bool:
    """The crew is at rest: the job that waits for the one that gave up is stranded too."""
    first, second, third = crew["jobs"]
    return bool(first["gaveUp"] and second["strandedBy"] and third["outcome"])


def test_rerun_takes_the_inputs_that_it_had_or_others(http: Native) -> None:
    first = http.commit("greet", inputs={"who": "Grace"})
    same = http.post(f"{CREWS}/{first['id']}/rerun").json()
    assert (same["inputs"], same["number"]) == (first["inputs"], first["number"] + 1)
    other = http.post(f"{CREWS}/{first['id']}/rerun", json={"inputs": {"who": "Alan"}}).json()
    assert other["inputs"] == {"who": "Alan"}
    wrong = http.post(f"{CREWS}/{first['id']}/rerun", json={"inputs": {"whom": "Alan"}})
    assert (wrong.status_code, wrong.json()["errors"][0]["path"]) == (400, "inputs.whom")

    secret = http.commit("greet", inputs={"who": "ghp_0123456789abcdefghijABCDEFGHIJ012345"})
    refused = http.post(f"{CREWS}/{secret['id']}/rerun")
    assert (refused.status_code, refused.json()["errors"][0]["path"]) == (400, "inputs.who")


def test_the_answer_to_a_new_crew_is_the_crew_as_it_is_shown(server: Server, http: Native) -> None:
    asks = {**job("asks"), "approval": "required", "labels": ["careful"]}
    long = {**job("long", "true", "asks"), "argv": ["echo", "x" * 5_000]}
    write_template(server.data, "careful", asks, long, job("other", "true", "asks", "long"))
    for body in ({}, {"notBefore": "2100-01-01T00:00:00Z"}):
        made = http.commit("careful", **body)
        assert made == http.crew(made["id"])
        assert len(made["jobs"]) == 3


def test_crews_made_at_once_have_the_numbers_that_the_view_gives_them(
    server: Server, http: Native
) -> None:
    for name in ("many", "others"):
        write_template(server.data, name, job("one"))

    def ten(_: int) -> list[Json]:
        with Native(server) as client:
            return [client.commit(name) for name in ("many", "others") * 5]

    with ThreadPoolExecutor(6) as pool:
        made = [crew for crews in pool.map(ten, range(6)) for crew in crews]
    for name in ("many", "others"):
        numbers = {crew["id"]: crew["number"] for crew in made if crew["template"] == name}
        assert sorted(numbers.values()) == list(range(1, 31))
        shown = http.get(CREWS, params={"template": name, "limit": 100}).json()["items"]
        assert {crew["id"]: crew["number"] for crew in shown} == numbers


ODD = [
    f'{{"template": "any", "inputs": {{"value": {value}}}}}'
    for value in (
        "1",
        "9007199254740993",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775809",
        "1e22",
        "1e400",
        "9007199254740993.0",
        "0.1",
        "-0.0",
        "NaN",
        '"\\ud83d\\ude00"',
        '"\\ud800"',
        '"\\u0000"',
        '{"a": 1, "a": 2}',
        "[" * 150 + "]" * 150,
        "[" * 900 + "]" * 900,
    )
] + [
    '{"template": "any", "inputs": {"value": 1}, "timezone": "Nowhere/Here"}',
    '{"template": "any", "inputs": {"value": 1}, "notBefore": "soon"}',
    '{"template": "any", "inputs": {"value": 1}, "not_before": "2100-01-01T00:00:00Z"}',
    '{"template": "none", "inputs": {}}',
    '{"template": "any", "inputs": []}',
    '{"template": "any"}',
    '{"template": "any", "inputs": {"value": 1}',
    "[]",
    "",
]


@pytest.mark.parametrize("body", ODD)
def test_a_crew_is_made_and_refused_the_same_way_on_both_ways(
    server: Server, http: Native, body: str
) -> None:
    """A plain request takes the short cut, one that names its charset the framework's way."""
    write_template(server.data, "any", job("a"), inputs={"value": {}})
    answers = [
        http.post(CREWS, content=body, headers={"Content-Type": f"application/json{more}"})
        for more in ("", "; charset=utf-8")
    ]
    short, long = [
        (answer.status_code, without(answer.json(), "id", "number", "createdAt", "jobs", "jobIds"))
        for answer in answers
    ]
    assert short == long
    assert short[0] in (201, 400, 404, 422)


def without(shown: Json, *names: str) -> Json:
    """The object without what differs each time."""
    names = (*names, "updatedAt", "error_id", "errorId", "position", "instance")
    return {name: value for name, value in shown.items() if name not in names}
