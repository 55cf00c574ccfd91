"""The other nouns of ``/crewlog/v1``: approvals, artifacts, templates, schedules, the board,
events, the dispatcher and health.
"""

import json
from collections.abc import Iterator

import pytest

from tests.e2e.crews import job, write_template
from tests.e2e.people import add_user, sign_in
from tests.kit.client import ROOT, Json, Native
from tests.kit.server import Server

YEARLY = {"cron": "0 0 1 1 *"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("native") / "data"
    with Server.start(data, "--stop-jobs", "--log-level=warning") as started:
        leaves = job("leaves", 'echo "# Hi" > "$CREWLOG_ARTIFACTS/report.md"')
        write_template(data, "asks", leaves, job("asked", "true", "leaves", approval="required"))
        yield started


@pytest.fixture(scope="module")
def crew(server: Server) -> Json:
    """A crew whose first job has left a file, and whose second one waits for a person."""
    with Native(server) as http:
        return http.stands(http.commit("asks")["id"], "waiting_for_approval")


def test_an_approval_is_found_by_its_crew_and_answered_once(http: Native, crew: Json) -> None:
    page = http.shown("/approvals", crew=crew["id"], state="pending")
    assert (page["count"], page["cursor"]) == (1, None)
    (asked,) = page["items"]
    of_job = http.shown(f"/jobs/{asked['jobId']}/approvals")
    assert of_job["items"] == [asked] == [http.shown(f"/approvals/{asked['id']}")]
    assert http.shown("/approvals", crew="none")["items"] == []
    assert http.shown("/approvals", state="rejected,expired")["items"] == []
    assert http.get(f"{ROOT}/approvals", params={"state": "open"}).status_code == 400
    assert asked.keys().isdisjoint({"requiresExplicitApproval", "hasMore"})

    path = f"{ROOT}/approvals/{asked['id']}/resolve"
    assert http.post(path, json={"decision": "approve"}).status_code == 422
    answered = http.post(path, json={"resolution": "approved", "comment": "Go."})
    assert (answered.json()["state"], answered.json()["comment"]) == ("approved", "Go.")
    assert int(answered.headers["x-event-position"]) > asked["position"]
    assert http.post(path, json={"resolution": "approved"}).status_code == 409
    trusted = http.post(f"{ROOT}/jobs/{asked['jobId']}/trust")
    assert trusted.json() == {"approved": 0}


def test_a_file_has_a_description_of_its_own_beside_its_bytes(http: Native, crew: Json) -> None:
    (file,) = http.shown(f"/jobs/{crew['jobIds'][0]}/artifacts")["items"]
    assert (file["name"], file["mime"], file["size"]) == ("report.md", "text/markdown", 5)
    assert http.shown(f"/artifacts/{file['id']}") == file
    content = http.get(f"{ROOT}/artifacts/{file['id']}/content")
    assert (content.content, content.headers["etag"]) == (b"# Hi\n", f'"{file["sha256"]}"')
    assert "sandbox" in content.headers["content-security-policy"]
    page = http.get(f"{ROOT}/artifacts/{file['id']}/content", params={"format": "html"})
    assert "<h1>Hi</h1>" in page.text
    assert http.get(f"{ROOT}/jobs/nowhere/artifacts").status_code == 404


def test_templates_are_listed_shown_and_rendered(http: Native) -> None:
    assert "asks" in [template["id"] for template in http.shown("/templates")["items"]]
    assert [one["id"] for one in http.shown("/templates/asks")["jobs"]] == ["leaves", "asked"]
    rendered = http.post(f"{ROOT}/templates/render", json={"template": "asks"}).json()
    assert (rendered["template"], len(rendered["jobs"])) == ("asks", 2)
    wrong = http.post(f"{ROOT}/templates/render", json={"template": "asks", "inputs": {"x": 1}})
    assert wrong.json()["errors"][0]["path"] == "inputs.x"


def test_a_schedule_is_made_changed_fired_and_deleted(http: Native) -> None:
    made = http.post(
        f"{ROOT}/schedules", json={"template": "asks", "name": "yearly", "rule": YEARLY}
    )
    assert made.status_code == 201, made.text
    schedule = made.json()
    path = f"/schedules/{schedule['id']}"
    assert made.headers["location"] == ROOT + path
    assert (schedule["state"], schedule["template"]) == ("active", "asks")
    assert http.shown("/schedules") == {"items": [http.shown(path)], "cursor": None}

    stale = {"If-Match": made.headers["etag"]}
    changed = http.patch(f"{ROOT}{path}", json={"name": "every year"}, headers=stale)
    assert (changed.status_code, changed.json()["name"]) == (200, "every year")
    assert http.post(f"{ROOT}{path}/disable", headers=stale).status_code == 412
    off = http.post(f"{ROOT}{path}/disable").json()
    assert (off["state"], off["nextRunAt"]) == ("disabled", None)
    assert http.post(f"{ROOT}{path}/enable").json()["state"] == "active"
    fired = http.post(f"{ROOT}{path}/run-now").json()
    assert [crew["id"] for crew in http.shown("/crews", schedule=schedule["id"])["items"]] == [
        fired["crewId"]
    ]
    firing, *others = http.shown(f"{path}/firings")["items"]
    assert (firing["crewId"], firing["manual"], others) == (fired["crewId"], True, [])
    assert len(http.shown(f"{path}/preview", n=3)["times"]) == 3
    asked = http.post(f"{ROOT}/schedules/preview", json={"rule": YEARLY, "n": 2}).json()
    assert len(asked["times"]) == 2
    assert http.delete(f"{ROOT}{path}").json() == {"ok": True}
    assert http.get(f"{ROOT}{path}").status_code == 404


def test_every_list_answers_as_its_description_says(http: Native, crew: Json) -> None:
    schedule = http.post(
        f"{ROOT}/schedules",
        json={"template": "asks", "name": "listed", "rule": YEARLY, "enabled": False},
    ).json()
    user = http.post(f"{ROOT}/users", json={"email": "listed@example.org"}).json()
    things = {"job_id": crew["jobIds"][0], "schedule_id": schedule["id"], "user_id": user["id"]}
    document = http.shown("/openapi.json")
    schemas = document["components"]["schemas"]
    asked = []
    for path, operations in document["paths"].items():
        answers = operations.get("get", {}).get("responses", {}).get("200", {})
        described = answers.get("content", {}).get("application/json", {}).get("schema", {})
        schema = schemas.get(described.get("$ref", "").rpartition("/")[2], {})
        if "cursor" in schema.get("properties", {}) and not path.startswith("/worker"):
            page = http.shown(path.format(**things))
            assert page.keys() == schema["properties"].keys(), path
            assert isinstance(page["items"], list), path
            assert page["cursor"] is None or isinstance(page["cursor"], str), path
            asked.append(path)
    assert len(asked) > 15
    http.delete(f"{ROOT}/schedules/{schedule['id']}")


def test_the_board_shows_columns_of_short_jobs(http: Native, crew: Json) -> None:
    board = http.shown("/board", crew=crew["id"])
    columns = {column["name"]: column for column in board["columns"]}
    shown = [one for column in board["columns"] for one in column["jobs"]]
    assert {one["id"] for one in shown} == set(crew["jobIds"])
    for column in board["columns"]:
        assert {one["column"] for one in column["jobs"]} <= {column["name"]}
        assert column["count"] == len(column["jobs"])
    assert columns["done"]["jobs"]
    assert board["crews"][0]["number"] >= 1


def test_events_are_those_of_what_one_may_see(server: Server, http: Native) -> None:
    add_user(server, "watcher@example.org")
    head = http.shown("/health")["head"]
    with sign_in(server, "watcher@example.org") as watcher:
        http.post(f"{ROOT}/jobs", json={"argv": ["true"], "title": "Foreign"})
        mine = watcher.post(f"{ROOT}/jobs", json={"argv": ["true"], "title": "Mine"}).json()["id"]
        with watcher.stream("GET", f"{ROOT}/events/stream", params={"after": head}) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    event = json.loads(line.removeprefix("data: "))
                    if event["type"] == "user.signed_in":
                        continue  # events of the person's own account are visible too
                    assert event["stream"] == f"job-{mine}", event
                    if event["type"] == "job.finished":
                        break
    assert http.get(f"{ROOT}/events/stream", headers={"Last-Event-ID": "1:2"}).status_code == 400


def test_the_dispatcher_and_the_server_say_how_they_are(http: Native) -> None:
    assert http.shown("/dispatcher")["running"] is True
    health = http.shown("/health")
    assert health["status"] == "ready"
    assert {"dispatcher", "jobs"} <= {reader["name"] for reader in health["readers"]}
