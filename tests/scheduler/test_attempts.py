"""The folder of an attempt: made as promised, read without trust, removed after use."""

import math
import os
import stat
from pathlib import Path
from typing import Any

import orjson
import pytest

from domain.errors import BadInput
from domain.job.aggregate import Job
from domain.job.events import JobArtifactsDropped, JobArtifactStored
from domain.job.result import LARGEST_RESULT, ParentResult, check_result
from domain.numbers import NOT_EXACT
from scheduler.workspaces.artifacts import ArtifactStore
from scheduler.workspaces.attempt_folder import NO_RESULT, AttemptFolders, artifact_id
from scheduler.workspaces.contract import Leavings
from tests.kit.jobs import plan

SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}


class House:
    def __init__(self, path: Path) -> None:
        self.root = path / "attempts"
        self.folders = AttemptFolders(self.root)
        self.store = ArtifactStore(path / "artifacts", limit_bytes=1_000)

    def begin(self, job: Job, attempt: int = 1) -> Path:
        self.folders.prepare(job, attempt)
        return self.folders.folder(job.id, attempt)

    def gather(self, job: Job, attempt: int = 1) -> Leavings:
        return self.folders.gather(job, attempt, self.store)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def job(cwd: str = "", given: dict[str, Any] | None = None, **changes: Any) -> Job:
    told = plan(**{"body": "Do it — all.", "max_retries": 2} | changes)
    return Job("crew-a-1", cwd=cwd, given=given, plan=told)


PARENT = ParentResult("crew-p-1", "p", "Parent", {"x": [1]}, "2026-01-01T00:00:00.000000Z", 2)


def test_an_attempt_finds_what_it_is_promised(house: House) -> None:
    prepared = house.folders.prepare(job(), 2, [PARENT])

    folder = house.root / "crew-a-1-2"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert prepared.cwd == str(folder / "scratch")
    assert os.listdir(prepared.cwd) == []
    env = prepared.env
    assert (env["CREWLOG_JOB_ID"], env["CREWLOG_ATTEMPT"]) == ("crew-a-1", "2")
    assert Path(env["CREWLOG_BODY"]).read_text() == "Do it — all."
    assert os.listdir(env["CREWLOG_ARTIFACTS"]) == []
    assert not Path(env["CREWLOG_RESULT"]).exists()
    assert orjson.loads(Path(env["CREWLOG_PARENTS"]).read_bytes()) == [
        {
            "jobId": "crew-p-1",
            "key": "p",
            "title": "Parent",
            "metadata": {"x": [1]},
            "completedAt": "2026-01-01T00:00:00.000000Z",
            "attempt": 2,
        }
    ]


def test_preparing_again_leaves_what_the_attempt_has_made(house: House) -> None:
    prepared = house.folders.prepare(job(), 1)
    Path(prepared.env["CREWLOG_RESULT"]).write_text('{"n": 1}')
    (Path(prepared.cwd) / "work").write_text("half")

    assert AttemptFolders(house.root).prepare(job(), 1) == prepared

    assert (Path(prepared.cwd) / "work").read_text() == "half"
    assert house.gather(job()).result == {"n": 1}


def test_a_kept_directory_is_the_working_directory(house: House) -> None:
    assert house.folders.prepare(job(workspace="/srv/kept"), 1).cwd == "/srv/kept"
    assert house.folders.prepare(job(cwd="/srv/named"), 2).cwd == "/srv/named"
    assert not (house.root / "crew-a-1-1" / "scratch").exists()


def test_a_job_of_its_own_gets_a_place_for_what_it_leaves_and_no_more(house: House) -> None:
    alone = Job("0a-1", cwd="/tmp")
    prepared = house.folders.prepare(alone, 3)

    folder = house.root / "0a-1-3"
    assert prepared.cwd == "/tmp"
    assert prepared.env == {
        "CREWLOG_JOB_ID": "0a-1",
        "CREWLOG_ATTEMPT": "3",
        "CREWLOG_ARTIFACTS": str(folder / "artifacts"),
        "CREWLOG_RESULT": str(folder / "result.json"),
    }
    assert os.listdir(folder) == ["artifacts"]
    assert house.folders.left_nothing(alone, 3)
    assert house.folders.discard_empty("0a-1", 3)
    assert not folder.exists()


@pytest.mark.parametrize("left", ["file", "result", "link", "gone", "no folder"])
def test_whatever_is_left_or_odd_is_looked_at(house: House, left: str) -> None:
    alone = Job("0a-1")
    folder = house.begin(alone)
    artifacts = folder / "artifacts"
    if left == "file":
        (artifacts / ".hidden").touch()
    elif left == "result":
        (folder / "result.json").symlink_to("/nowhere")
    else:
        artifacts.rmdir()
    if left == "link":
        artifacts.symlink_to(house.root.parent / "artifacts")
    elif left == "no folder":
        folder.rmdir()

    assert not house.folders.left_nothing(alone, 1)
    assert not house.folders.discard_empty("0a-1", 1)
    house.folders.discard("0a-1", 1)
    assert not folder.exists()
    assert (house.root.parent / "artifacts").exists()


def test_where_a_result_must_be_left_it_is_always_looked_for(house: House) -> None:
    for wanted in (job(result_schema={}), job(assignee="a")):
        house.begin(wanted)
        assert not house.folders.left_nothing(wanted, 1)
    house.begin(job())
    assert house.folders.left_nothing(job(), 1)


def test_the_artifacts_become_events_with_ids_that_stay_the_same(house: House) -> None:
    folder = house.begin(job())
    (folder / "artifacts" / "report.md").write_text("# r")
    (folder / "artifacts" / "link").symlink_to("/etc/passwd")

    first, again = house.gather(job()), house.gather(job())

    assert first == again
    stored, dropped = first.events
    assert isinstance(stored, JobArtifactStored)
    assert (stored.attempt, stored.name, stored.size) == (1, "report.md", 3)
    assert stored.artifact == artifact_id("crew-a-1", 1, "report.md")
    assert stored.artifact != artifact_id("crew-a-1", 2, "report.md")
    assert len(stored.artifact) == len("art-") + 12
    assert isinstance(dropped, JobArtifactsDropped)
    assert dropped.names == ["link"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "It is not JSON in UTF-8."),
        (b"{", "It is not JSON in UTF-8."),
        (b'{"n": NaN}', "It is not JSON in UTF-8."),
        (b'{"n": 9007199254740993.0}', NOT_EXACT),
        (b'{"n": [{"m": 12345678901234567890.0}]}', NOT_EXACT),
        (b'{"n": -1e22}', NOT_EXACT),
        (b'{"n": [{"m": 4.9999999999999999999}]}', "result.n[0].m: 4.9999999999999999999 cannot"),
        (b'{"n": 1e-400}', "result.n: 1e-400 cannot be kept exactly"),
        (b'{"n": "\xff"}', "It is not JSON in UTF-8."),
        (b"[1]", "It must be a JSON object."),
        (b'{"n": "x"}', "result.n: 'x' is not of type 'integer'"),
        (b"{}", "'n' is a required property"),
        (b"[" * 50_000, "It is not JSON in UTF-8."),
    ],
)
def test_a_result_file_that_is_none_is_a_problem(
    house: House, content: bytes, problem: str
) -> None:
    wanted = job(result_schema=SCHEMA)
    (house.begin(wanted) / "result.json").write_bytes(content)

    gathered = house.gather(wanted)

    assert gathered.result is None
    assert gathered.problem is not None
    assert gathered.problem.startswith("Its result file is not valid. result")
    assert problem in gathered.problem


def test_64_kib_are_taken_and_one_byte_more_is_not(house: House) -> None:
    path = house.begin(job()) / "result.json"
    path.write_bytes(b'{"n": "' + b"x" * (LARGEST_RESULT - 9) + b'"}')
    assert path.stat().st_size == LARGEST_RESULT
    assert house.gather(job()).problem is None

    with path.open("ab") as file:
        file.write(b" ")
    assert house.gather(job()).problem is not None


def test_a_result_file_is_never_followed_or_waited_for(house: House, tmp_path: Path) -> None:
    (tmp_path / "other").write_text('{"n": 1}')
    path = house.begin(job()) / "result.json"

    path.symlink_to(tmp_path / "other")
    assert "not a regular file" in (house.gather(job()).problem or "")
    path.unlink()
    os.mkfifo(path)
    assert "not a regular file" in (house.gather(job()).problem or "")
    path.unlink()
    path.mkdir()
    assert "not a regular file" in (house.gather(job()).problem or "")


def test_a_folder_swapped_for_a_link_is_not_read(house: House, tmp_path: Path) -> None:
    folder = house.begin(job())
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "result.json").write_text('{"n": 1}')
    folder.rename(tmp_path / "aside")
    folder.symlink_to(tmp_path / "else", target_is_directory=True)

    gathered = house.gather(job())
    assert (gathered.result, gathered.problem) == (None, None)
    why = "the folder could not be read (Not a directory)"
    assert gathered.events == [JobArtifactsDropped(attempt=1, names=["crew-a-1-1/"], reason=why)]
    wanted = house.gather(job(result_schema=SCHEMA))
    assert wanted.problem == f"It may have left a result, but {why}."


def test_a_folder_that_cannot_be_removed_ends_nothing(house: House) -> None:
    house.root.write_text("somebody put a file here")

    house.folders.discard("crew-a-1", 1)
    house.folders.sweep([])


@pytest.mark.parametrize(
    ("plan", "given", "problem"),
    [
        ({}, None, None),
        ({"result_schema": SCHEMA}, None, NO_RESULT),
        ({"result_schema": SCHEMA}, {"n": 1}, None),
        ({"assignee": "writer"}, None, NO_RESULT),
        ({"assignee": "writer"}, {}, None),
    ],
)
def test_who_must_leave_a_result(
    house: House, plan: dict[str, Any], given: dict[str, Any] | None, problem: str | None
) -> None:
    worker = job(given=given, **plan)
    house.begin(worker)
    assert house.gather(worker).problem == problem


def test_a_discarded_folder_is_gone_whatever_is_in_it(house: House, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("x")
    scratch = house.begin(job()) / "scratch"
    (scratch / "link").symlink_to(tmp_path / "precious", target_is_directory=True)
    (scratch / "locked").mkdir()
    (scratch / "locked" / "file").write_text("x")
    (scratch / "locked").chmod(0o500)
    other = house.begin(job(), 2)

    house.folders.discard("crew-a-1", 1)
    house.folders.discard("crew-a-1", 1)

    assert os.listdir(house.root) == [other.name]
    assert (tmp_path / "precious" / "file").exists()


def test_a_sweep_keeps_what_it_is_told_to(house: House) -> None:
    for attempt in (1, 2, 12):
        house.begin(job(), attempt)
    (house.root / "~left").mkdir()

    house.folders.sweep([("crew-a-1", 2), ("gone", 1)])

    assert os.listdir(house.root) == ["crew-a-1-2"]


@pytest.mark.parametrize(
    ("result", "path"),
    [
        (None, "result"),
        ([], "result"),
        ({"n": 2**70}, "result.n"),
        ({"n": 1, "list": [{"k": 2**63}]}, "result.list[0].k"),
        ({"n": 1, "x": math.nan}, "result.x"),
        ({"n": 1, "x": [math.inf]}, "result.x[0]"),
        ({"n": 1, "\ud800": 2**70}, "result.\\ud800"),
        ({"n": 1, "\ud800": 1}, "result"),
        ({"n": 1, "a\0b": {"c": 2**70}}, "result.a\\u0000b.c"),
        ({"n": 1, "k" * 30_000: 2**70}, f"result.{'k' * 64}…"),
        ({"n": 1, "x": [0.1, 9007199254740993.0]}, "result.x[1]"),
        ({"n": 1, "x": {"y": -1e22}}, "result.x.y"),
        ({"n": "x" * LARGEST_RESULT}, "result"),
        ({"n": 1.5}, "result.n"),
        ({"n": 1, "list": [{"k": 0}]}, "result.list[0].k"),
    ],
)
def test_a_result_that_does_not_fit_names_the_place(result: Any, path: str) -> None:
    items = {"type": "object", "properties": {"k": {"type": "string"}}}
    properties = {**SCHEMA["properties"], "list": {"type": "array", "items": items}}  # type: ignore[dict-item]
    with pytest.raises(BadInput) as refused:
        check_result(result, {**SCHEMA, "properties": properties})
    assert refused.value.path == path


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"$ref": "#/nowhere"},
        {"type": "nonsense"},
        {"properties": {"n": {"pattern": "("}}},
        {"$ref": "#"},
    ],
)
def test_a_schema_that_cannot_be_used_fetches_nothing_and_refuses(schema: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=r"result: .*schema"):
        check_result({"n": "x"}, schema)
