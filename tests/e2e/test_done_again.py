"""Jobs that are redone after an end: for late readers, a dialect's end frame comes only once, at
the very end of the stream.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.crews import frames as board_frames
from tests.e2e.crews import only_after, post, until_there
from tests.e2e.gitoma import following, frames, status
from tests.kit.client import Native
from tests.kit.server import Server
from tests.kit.waiting import until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server.start(tmp_path_factory.mktemp("again") / "data", "--stop-jobs") as running:
        yield running


def done_twice(http: Native, tmp_path: Path) -> str:
    """A job whose first attempt failed and that was redone."""
    flag = tmp_path / "flag"
    job = http.shell(f"echo tried; {only_after(flag)}")
    assert http.ended(job)["state"] == "failed"
    flag.touch()
    post(http, f"/api/jobs/{job}/redo", {"feedback": "Once more."})
    until(lambda: http.state(job) == "completed", "the second end")
    return job


def test_a_late_reader_of_lines_sees_one_sentinel_and_it_is_the_last(
    http: Native, tmp_path: Path
) -> None:
    whole = frames(http, done_twice(http, tmp_path))
    lines = [frame.line for frame in whole]
    assert lines[1:] == [
        "tried",
        "[info] ended as failed; the job was done again",
        "tried",
        "__END__:completed",
    ]


def test_a_reader_of_lines_resumes_at_every_id_also_at_the_first_end(
    http: Native, tmp_path: Path
) -> None:
    job = done_twice(http, tmp_path)
    whole = frames(http, job)
    for at, frame in enumerate(whole[:-1]):
        assert frames(http, job, frame.id) == whole[at + 1 :]


def test_who_read_the_first_end_live_reads_on_behind_it(http: Native, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    job = http.shell(f"echo tried; {only_after(flag)}")
    first = frames(http, job)
    assert first[-1].line == "__END__:failed"
    flag.touch()
    post(http, f"/api/jobs/{job}/redo", {"feedback": ""})
    assert [frame.line for frame in frames(http, job, first[-1].id)] == [
        "tried",
        "__END__:completed",
    ]


def test_the_boards_stream_has_one_result_and_it_is_the_last(http: Native, tmp_path: Path) -> None:
    whole = board_frames(http, done_twice(http, tmp_path))
    assert [frame.kind for frame in whole].count("final_result") == 1
    assert whole[-1].kind == "final_result"
    assert whole[-1].data["finalResult"]["outcome"] == "completed"
    assert "Ended: failed\n" in [frame.text for frame in whole if frame.kind == "text"]


def test_while_it_is_done_again_the_stream_is_open(http: Native, tmp_path: Path) -> None:
    flag, gate = tmp_path / "flag", tmp_path / "gate"
    job = http.shell(f"if {only_after(flag)}; then {until_there(gate)}; echo more; else exit 1; fi")
    http.ended(job)
    flag.touch()
    post(http, f"/api/jobs/{job}/redo", {"feedback": ""})
    until(lambda: http.state(job) == "running", "the second attempt")
    gate.touch()
    assert [frame.line for frame in frames(http, job)][-2:] == ["more", "__END__:completed"]


def test_a_job_that_waits_to_be_done_again_tells_no_exit_code_and_counts_every_line(
    tmp_path: Path,
) -> None:
    with (
        Server.start(tmp_path / "data", "--capacity=1", "--stop-jobs") as narrow,
        Native(narrow) as http,
    ):
        job = http.shell("echo tried; exit 7")
        assert http.ended(job)["exitCode"] == 7
        http.running(http.shell("sleep 300"))
        post(http, f"/api/jobs/{job}/redo", {"feedback": "Once more."})
        waiting = status(http, job)
        assert (waiting["status"], waiting["exit_code"]) == ("queued", None)
        assert http.get(f"/api/jobs/{job}").json()["exitCode"] is None
        with following(http, job) as stream:
            lines = [next(stream).line for _ in range(waiting["lines_buffered"])]
        assert lines[1:] == ["tried", "[info] ended as failed; the job was done again"]
