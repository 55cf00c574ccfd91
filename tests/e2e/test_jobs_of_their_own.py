"""Inputs, artifacts, comments and questions of jobs without a crew. Their programs can do all that
those of a crew can, but the exit code decides how the job ends.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.crews import Json, pending
from tests.e2e.gitoma import output
from tests.kit.client import Native
from tests.kit.server import CREWLOG, Server
from tests.kit.waiting import until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("own") / "data"
    with Server.start(data, "--stop-jobs", "--log-level=warning", "--capacity=8") as started:
        yield started


def shown(http: Native, job_id: str) -> Json:
    found: Json = http.get(f"/api/jobs/{job_id}").json()
    return found


def timeline(http: Native, job_id: str) -> list[str]:
    return [e["sentence"] for e in http.items(f"/jobs/{job_id}/timeline")]


def kinds(http: Native, job_id: str) -> list[str]:
    return [event["type"] for event in http.events(job_id)]


def answer(http: Native, approval: Json, decision: str, comment: str = "") -> None:
    body = {"decision": decision, "comment": comment}
    assert http.post(f"/api/approvals/{approval['id']}/resolve", json=body).status_code == 200


def test_files_and_a_result_are_kept(http: Native) -> None:
    job_id = http.shell(
        'echo "# r" > "$CREWLOG_ARTIFACTS/report.md"; echo \'{"n": 3}\' > "$CREWLOG_RESULT"'
    )
    assert http.ended(job_id)["state"] == "completed"
    [kept] = http.get(f"/api/jobs/{job_id}/artifacts").json()["items"]
    assert (kept["name"], kept["mimeType"]) == ("report.md", "text/markdown")
    assert http.get(f"/api/artifacts/{kept['id']}").text == "# r\n"
    assert http.get(f"/api/jobs/{job_id}/artifact").text == "# r\n"
    assert shown(http, job_id)["result"] == {"n": 3}


def test_files_of_one_that_fails_or_is_cancelled_are_kept_too(http: Native) -> None:
    failed = http.shell('echo why > "$CREWLOG_ARTIFACTS/why.txt"; exit 3')
    assert http.ended(failed)["exitCode"] == 3
    cut = http.shell('echo half > "$CREWLOG_ARTIFACTS/why.txt"; echo made; sleep 600')
    until(lambda: "job.output" in kinds(http, cut), "it has written")
    http.cancel(cut)
    assert http.ended(cut)["state"] == "cancelled"
    for job_id in (failed, cut):
        items = http.get(f"/api/jobs/{job_id}/artifacts").json()["items"]
        assert [item["name"] for item in items] == ["why.txt"]


def test_the_command_line_says_all_of_it(http: Native) -> None:
    script = """
        crewlog worker show --json > show.json; grep -c '"title": "Alone"' show.json; rm show.json
        crewlog worker result
        crewlog worker heartbeat --progress 0.5 half; echo "beat $?"
        crewlog worker comment 'I was here'; echo "comment $?"
        crewlog worker complete n:=1; echo "complete $?"
        crewlog worker block 'No.'; echo "block $?"
    """
    job_id = http.shell(script, title="Alone")
    assert http.ended(job_id)["state"] == "completed"
    printed = output(http, job_id)
    refused = "Only a job of a crew can be blocked; this one ends with its process."
    assert printed == ["1", "{}", "beat 0", "comment 0", "complete 0", refused, "block 1"]
    assert {"job.progressed", "job.commented", "job.result_given"} <= set(kinds(http, job_id))
    assert shown(http, job_id)["result"] == {"n": 1}


def test_the_exit_code_says_how_it_ended_whatever_it_handed_in(http: Native) -> None:
    job_id = http.shell("crewlog worker complete n:=1; exit 4")
    job = http.ended(job_id)
    assert (job["state"], job["exitCode"]) == ("failed", 4)
    assert shown(http, job_id)["result"] == {"n": 1}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("no json", "result: It is not JSON in UTF-8."),
        ("[1]", "result: It must be a JSON object."),
        (
            r'{"\ud800": 99999999999999999999999}',
            r"result.\ud800: This number is too large for 64 bits: write it as text.",
        ),
    ],
)
def test_a_result_file_that_is_none_is_told_and_changes_nothing(
    http: Native, content: str, why: str
) -> None:
    job_id = http.submit("sh", "-c", 'printf %s "$1" > "$CREWLOG_RESULT"', "sh", content)
    assert http.ended(job_id)["state"] == "completed"
    assert shown(http, job_id)["result"] is None
    [told] = [line for line in timeline(http, job_id) if "result" in line]
    assert told == f"Artifacts not kept: result.json. Its result file is not valid. {why}"


def test_it_waits_for_a_person_and_holds_no_place(tmp_path: Path) -> None:
    script = 'printed=$(crewlog worker ask "May I?" --action "rm -r"); echo "$? $printed"'
    with Server.start(tmp_path / "data", "--capacity=1") as server:
        with Native(server) as http:
            asking = http.shell(script, timeoutS=30)
            asked = pending(http, asking)
            assert (asked["description"], asked["proposedAction"]) == ("May I?", "rm -r")
            assert shown(http, asking)["state"] == "waiting_for_approval"
            assert http.ended(http.submit("true"))["state"] == "completed"
        for stopped in (server.kill, server.stop):
            stopped()
            server.restart()
            with Native(server) as http:
                assert pending(http, asking) == asked
        with Native(server) as http:
            answer(http, asked, "approve", "Go on.")
            assert http.ended(asking)["state"] == "completed"
            printed = output(http, asking)
            assert "0 Go on." in printed
            told = kinds(http, asking)
            assert told.count("job.started") == told.count("job.approval_requested") == 1


def test_a_no_is_for_the_program_and_a_cancel_withdraws_the_question(http: Native) -> None:
    rejected = http.shell('crewlog worker ask "May I?"; code=$?; exit $((code + 40))')
    answer(http, pending(http, rejected), "reject")
    assert http.ended(rejected)["exitCode"] == 43

    cancelled = http.shell('crewlog worker ask "May I?"')
    asked = pending(http, cancelled)
    http.cancel(cancelled)
    assert http.ended(cancelled)["state"] == "cancelled"
    found = http.get(f"/api/approvals/{asked['id']}").json()
    assert found["state"] == "withdrawn"


def test_one_that_is_done_again_has_a_folder_and_a_result_of_its_own_attempt(
    http: Native, tmp_path: Path
) -> None:
    script = """
        ls -A "$CREWLOG_ARTIFACTS"
        echo "$CREWLOG_ATTEMPT" > "$CREWLOG_ARTIFACTS/attempt.txt"
        [ "$CREWLOG_ATTEMPT" = 2 ] && exit 0
        crewlog worker complete attempt:=1
    """
    job_id = http.shell(script)
    http.ended(job_id)
    assert http.post(f"/api/jobs/{job_id}/redo", json={"feedback": "Anew."}).status_code == 200
    until(lambda: kinds(http, job_id).count("job.finished") == 2, "it has ended again")
    items = http.items(f"/jobs/{job_id}/artifacts")
    assert sorted(item["attempt"] for item in items) == [1, 2]
    assert output(http, job_id) == ["[info] ended as completed; the job was done again"]
    assert shown(http, job_id)["result"] is None


def test_nothing_of_it_stays_on_the_disk(tmp_path: Path) -> None:
    with (
        Server.start(tmp_path / "data", "--log-level=warning") as server,
        Native(server) as http,
    ):
        for script in (
            "true",
            "exit 1",
            'touch "$CREWLOG_ARTIFACTS/a"',
            'rm -r "$CREWLOG_ARTIFACTS"',
        ):
            http.ended(http.shell(script))
        folders = server.data / "attempts"
        until(lambda: not list(folders.iterdir()), "the folders are removed")


def test_a_server_within_a_job_gives_its_jobs_its_own_surroundings(
    http: Native, tmp_path: Path
) -> None:
    """A command that names a data directory uses the server there."""
    script = f"""
        outer=$CREWLOG_WORKER_TOKEN
        {CREWLOG} serve --port 0 --data '{tmp_path}/inner' --stop-jobs 2> '{tmp_path}/err' &
        until [ -e '{tmp_path}/inner/server.json' ]; do sleep 0.05; done
        {CREWLOG} jobs run --data '{tmp_path}/inner' -- sh -c '
            env | grep ^CREWLOG_ | sed s/=.*// | sort
            [ "$CREWLOG_WORKER_TOKEN" != "$1" ] && echo another token
            crewlog worker complete where=inside' sh "$outer"
        echo "inner job: $?"
        crewlog worker complete where=outside
        kill $!
        wait
    """
    job_id = http.submit("bash", "-c", script)
    assert http.ended(job_id, 120)["state"] == "completed"
    printed = output(http, job_id)
    given = [line for line in printed if line.startswith("CREWLOG_")]
    assert given == [
        "CREWLOG_ARTIFACTS",
        "CREWLOG_ATTEMPT",
        "CREWLOG_JOB_ID",
        "CREWLOG_RESULT",
        "CREWLOG_SERVER_FILE",
        "CREWLOG_URL",
        "CREWLOG_WORKER_TOKEN",
    ]
    assert "another token" in printed
    assert "inner job: 0" in printed
    assert shown(http, job_id)["result"] == {"where": "outside"}
