"""Lists stay small even if jobs are large, and search all jobs; states have one set of names."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.crews import commit, job, write_template
from tests.kit.client import Native
from tests.kit.server import Server, crewlog
from tests.kit.waiting import until

Json = dict[str, Any]
NATIVE = "/crewlog/v1"
LONG = "x" * 60_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("lists") / "data"
    with Server.start(data, "--stop-jobs", "--log-level=warning") as started:
        yield started


def listed(http: Native, **asked: Any) -> list[Json]:
    answer = http.get("/api/jobs", params=asked)
    assert answer.status_code == 200, answer.text
    items: list[Json] = answer.json()["items"]
    return items


@pytest.fixture(scope="module")
def heavy(server: Server) -> list[str]:
    """Jobs with nearly a megabyte of arguments each."""
    with Native(server) as http:
        return [http.submit("true", *[LONG] * 15, labels=["heavy"]) for _ in range(12)]


@pytest.fixture(scope="module")
def crew(server: Server) -> Iterator[dict[str, str]]:
    """A job in each state that only jobs of crews have, and one that waits for a person."""
    with Native(server) as http:
        crew = commit(
            server,
            http,
            job("fails", "exit 3", max_retries=0),
            job("after", "true", "fails"),
            job("asks", approval="required"),
            job("waits", "true", "asks"),
            job("stuck", "crewlog worker block 'Which one?'"),
        )

        def settled() -> bool:
            found = {item["id"]: item for item in listed(http, crew=crew.id)}
            return (
                found[crew["fails"]]["gaveUp"]
                and found[crew["stuck"]]["blockReason"]
                and bool(found[crew["asks"]]["pendingApprovals"])
            )

        until(settled, "the crew stands still")
        yield crew.ids


EXPECTED = {
    "fails": "failed",
    "after": "held",
    "asks": "waiting_for_approval",
    "waits": "held",
    "stuck": "blocked",
}


class TestPagesAreBounded:
    @pytest.mark.parametrize(
        "path", ["/api/jobs?limit=100", "/api/jobs", "/crewlog/v1/board?limit=200"]
    )
    def test_a_page_of_jobs_with_long_commands_is_small(
        self, http: Native, heavy: list[str], path: str
    ) -> None:
        answer = http.get(path)
        assert answer.status_code == 200
        assert len(answer.content) < 500_000

    def test_what_is_shortened_is_named_and_whole_in_the_job(
        self, http: Native, heavy: list[str]
    ) -> None:
        [short, *_] = listed(http, label="heavy")
        assert set(short["shortened"]) == {"argv", "prompt"}
        assert short["prompt"].endswith("…")
        whole = http.get(f"/api/jobs/{short['id']}").json()
        assert whole["argv"] == ["true", *[LONG] * 15]
        assert whole["shortened"] == []

    def test_results_bodies_and_environments_are_shortened_too(
        self, server: Server, http: Native
    ) -> None:
        script = (
            "printf '{\"text\": \"%s\"}' $(head -c 40000 /dev/zero | tr '\\0' x) > $CREWLOG_RESULT"
        )
        env = {f"VARIABLE_{n:03}_{'v' * 100}": "1" for n in range(60)}
        crew = commit(server, http, job("large", script, body="b" * 9_000, env=env))

        def done() -> Json | None:
            jobs: list[Json] = http.get("/api/jobs", params={"status": "done"}).json()["jobs"]
            return next((shown for shown in jobs if shown["id"] == crew["large"]), None)

        shown = until(done, "the job ends")
        assert set(shown["shortened"]) == {"body", "env", "resultSchema", "result"}
        assert shown["result"] is None
        assert len(json.dumps(shown)) < 10_000
        whole = http.get(f"/api/jobs/{crew['large']}").json()
        assert len(whole["body"]) == 9_000
        assert len(whole["result"]["text"]) == 40_000
        assert len(whole["env"]) == 60

    def test_crews_and_schedules_with_large_inputs_make_small_lists(
        self, server: Server, http: Native
    ) -> None:
        declared = {"text": {"type": "string"}}
        path = server.data / "templates" / "large-input.job_workflow.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"inputs": declared, "jobs": [job("a")]}))
        for _ in range(5):
            body = {"templateId": "large-input", "inputs": {"text": LONG}}
            assert http.post("/api/jobs", json=body).status_code == 201
        page = http.get("/crewlog/v1/crews")
        assert len(page.content) < 100_000
        [crew, *_] = page.json()["items"]
        assert crew["shortened"] == ["inputs"]
        assert http.crew(crew["id"])["inputs"] == {"text": LONG}

        for _ in range(5):
            rule = {"cron": "0 7 * * *"}
            body = {
                "name": "n",
                "templateId": "large-input",
                "inputs": {"text": LONG},
                "rule": rule,
            }
            assert http.post("/api/schedules", json=body).status_code == 201
        page = http.get("/api/schedules")
        assert len(page.content) < 100_000
        [schedule, *_] = page.json()["schedules"]
        assert schedule["shortened"] == ["inputs"]
        whole = http.get(f"/api/schedules/{schedule['id']}").json()["schedule"]
        assert whole["inputs"] == {"text": LONG}
        assert whole["shortened"] == []

    def test_the_newest_comments_are_shown(self, http: Native) -> None:
        one = http.submit("true")
        for n in range(203):
            answer = http.post(f"/api/jobs/{one}/comments", json={"body": f"comment {n}"})
            assert answer.json()["comment"]["body"] == f"comment {n}"
        shown = http.get(f"/api/jobs/{one}").json()
        assert [c["body"] for c in shown["comments"]] == [f"comment {n}" for n in range(3, 203)]
        assert shown["earlierComments"] is True

    def test_every_list_has_pages(self, server: Server, http: Native) -> None:
        """Schedules, templates, attempts, and the results of many parents."""
        for n in range(5):
            wanted = {"name": f"{n}", "template": "paged", "rule": {"cron": "0 7 * * *"}}
            write_template(server.data, "paged", job("a"))
            assert http.post(f"{NATIVE}/schedules", json=wanted).status_code == 201
        every = http.items("/schedules")
        assert [one["name"] for one in every[:5]] == ["4", "3", "2", "1", "0"]
        assert http.items("/schedules", limit=2) == every
        assert http.get(f"{NATIVE}/schedules", params={"limit": 2}).json()["items"] == every[:2]
        board = http.get("/api/schedules", params={"limit": 2}).json()
        assert [one["id"] for one in board["schedules"]] == [one["id"] for one in every[:2]]
        rest = http.get("/api/schedules", params={"cursor": board["cursor"]}).json()
        assert [one["id"] for one in rest["schedules"]] == [one["id"] for one in every[2:]]
        assert rest["cursor"] is None
        http.delete(f"{NATIVE}/schedules/{every[1]['id']}")
        following = {"cursor": every[1]["id"]}  # it was deleted since
        assert http.get(f"{NATIVE}/schedules", params=following).json()["items"] == every[2:]
        assert http.get(f"{NATIVE}/schedules", params={"cursor": "none"}).status_code == 400

        one = http.submit("true")
        for n in range(1, 6):
            until(lambda n=n: len(ended(http, one)) == n, "the attempt ends")  # type: ignore[misc]
            http.post(f"{NATIVE}/jobs/{one}/redo")
        until(lambda: len(ended(http, one)) == 6, "the last attempt ends")
        attempts = http.items(f"/jobs/{one}/attempts")
        assert [attempt["attempt"] for attempt in attempts] == [1, 2, 3, 4, 5, 6]
        assert http.items(f"/jobs/{one}/attempts", limit=2) == attempts
        newest = {"limit": 2, "newest": True}
        page = http.get(f"{NATIVE}/jobs/{one}/attempts", params=newest).json()
        assert page == {"items": attempts[-2:], "cursor": None}

    def test_no_page_is_larger_than_two_megabytes(self, server: Server, http: Native) -> None:
        script = (
            "printf '{\"text\": \"%s\"}' $(head -c 60000 /dev/zero | tr '\\0' x) > $CREWLOG_RESULT"
        )
        keys = [f"p{n}" for n in range(40)]
        crew = commit(
            server, http, *(job(key, script) for key in keys), job("child", "true", *keys)
        )
        until(lambda: ended(http, crew["child"]), "the child ends")
        path = f"{NATIVE}/jobs/{crew['child']}/parents"
        first = http.get(path)
        assert 2_000_000 < len(first.content) < 2_300_000
        parents = http.items(f"/jobs/{crew['child']}/parents")
        assert [parent["jobId"] for parent in parents] == [crew[key] for key in keys]
        assert {len(parent["result"]["text"]) for parent in parents} == {60_000}
        assert http.get(path, params={"cursor": crew["child"]}).status_code == 400

        wordy = {"text": {"type": "string", "default": "d" * 490_000}}
        for n in range(6):
            write_template(server.data, f"wordy{n}", job("a"), inputs=wordy)
        first = http.get(f"{NATIVE}/templates")
        assert 2_000_000 < len(first.content) < 2_700_000
        templates = [template["id"] for template in http.items("/templates")]
        assert templates == sorted(set(templates))
        assert {f"wordy{n}" for n in range(6)} < set(templates)
        shown = crewlog("templates", "list", "--json", "--data", server.data).stdout
        assert [template["id"] for template in json.loads(shown)["templates"]] == templates
        for n in range(6):
            (server.data / f"templates/wordy{n}.job_workflow.yaml").unlink()

    def test_a_column_says_whether_it_waits_for_a_person(
        self, http: Native, crew: dict[str, str]
    ) -> None:
        """A phone opens the board there, also where the job is not among the newest."""
        columns = http.get(f"{NATIVE}/board", params={"limit": 1}).json()["columns"]
        waits = {column["name"]: column["waitsForPerson"] for column in columns}
        newest = {one["id"] for column in columns for one in column["jobs"]}
        assert crew["asks"] not in newest
        assert waits["todo"]
        assert waits["blocked"]
        assert not waits["done"]


def ended(http: Native, job_id: str) -> list[Json]:
    attempts: list[Json] = http.get(f"{NATIVE}/jobs/{job_id}/attempts").json()["items"]
    return [attempt for attempt in attempts if attempt["endedAt"]]


class TestSearch:
    @pytest.mark.parametrize(
        "text", ["quarterly", "QUARTERLY", "second-label", "--needle", 'say "it"', "%_odd"]
    )
    def test_a_text_is_found_in_titles_labels_and_commands(self, http: Native, text: str) -> None:
        one = http.submit(
            *("echo", "--needle", 'say "it"', "%_odd"),
            title="The quarterly report",
            labels=["first-label", "second-label"],
        )
        http.submit("true")
        assert one in [item["id"] for item in listed(http, text=text)]
        columns = http.get("/crewlog/v1/board", params={"text": text}).json()["columns"]
        assert one in [item["id"] for column in columns for item in column["jobs"]]
        assert sum(column["count"] for column in columns) == len(listed(http, text=text))

    def test_every_label_counts(self, http: Native) -> None:
        one = http.submit("true", labels=["counted-first", "counted-second"])
        for label in ("counted-first", "counted-second"):
            assert [item["id"] for item in listed(http, label=label)] == [one]

    def test_a_job_beyond_the_first_page_is_found(self, http: Native) -> None:
        old = http.submit("true", title="An old needle of its own")
        for _ in range(120):
            http.submit("true")
        assert [item["id"] for item in listed(http, text="old needle")] == [old]
        columns = http.get("/crewlog/v1/board", params={"text": "old needle", "limit": 50}).json()[
            "columns"
        ]
        assert [item["id"] for column in columns for item in column["jobs"]] == [old]

    def test_jobs_are_found_by_their_crew_and_their_id(self, server: Server, http: Native) -> None:
        crew = commit(server, http, job("wake", title="Wake"), job("up", "true", "wake"))
        name = http.crew(crew.id)["name"]
        assert {item["id"] for item in listed(http, text=name)} == set(crew.ids.values())
        assert [item["id"] for item in listed(http, text=crew["up"][:8])] == [crew["up"]]

    def test_nothing_is_found_for_a_text_that_is_nowhere(self, http: Native) -> None:
        assert listed(http, text="nowhere-at-all") == []


class TestStates:
    def test_json_and_filters_use_the_same_words(self, http: Native, crew: dict[str, str]) -> None:
        for key, state in EXPECTED.items():
            shown = http.get(f"/api/jobs/{crew[key]}").json()
            assert shown["state"] == state, key
            for asked in ("held", "queued", "waiting_for_approval", "blocked", "failed"):
                ids = [item["id"] for item in listed(http, state=asked, limit=100)]
                assert (crew[key] in ids) == (asked == state), (key, asked)

    def test_only_what_waits_for_a_person_waits_for_approval(
        self, http: Native, crew: dict[str, str]
    ) -> None:
        waiting = listed(http, state="waiting_for_approval", limit=100)
        assert all(item["pendingApprovals"] for item in waiting)
        assert [item["id"] for item in waiting] == [crew["asks"]]

    def test_a_filter_of_both_spellings_of_cancelled(self, http: Native) -> None:
        one = http.submit("sleep", "60")
        http.post(f"/api/jobs/{one}/cancel")
        http.ended(one)
        for spelling in ("cancelled", "canceled"):
            assert one in [item["id"] for item in listed(http, state=spelling)]
