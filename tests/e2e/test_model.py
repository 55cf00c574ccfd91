"""Jobs, cancels, disconnects and restarts in any order, compared with a model of the result."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from projections.views import PROJECTIONS
from tests.e2e import gitoma
from tests.kit.client import ROOT, Json, Native
from tests.kit.server import Server
from tests.kit.waiting import until

SCRIPT = 'i=1; while [ $i -le {lines} ]; do echo "line $i"; i=$((i+1)); done; {then}'
ENDINGS = {"completed": "exit 0", "failed": "exit 3", "waiting": "sleep 600"}


@dataclass
class Modelled:
    """One job as the model knows it."""

    lines: int
    ending: str
    id: str = ""
    cancelled: bool = False
    cursor: str = ""
    read: list[str] = field(default_factory=list)

    def possible_ends(self) -> set[str]:
        if not self.cancelled:
            return {self.ending}
        # A cancel can come too late, but not for a job that would wait for ever.
        return {"cancelled"} if self.ending == "waiting" else {"cancelled", self.ending}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("model") / "data"
    with Server(data, "--capacity", "4", "--log-level", "warning") as running:
        yield running


def submit(server: Server, job: Modelled) -> None:
    with Native(server) as http:
        job.id = http.shell(SCRIPT.format(lines=job.lines, then=ENDINGS[job.ending]))


def cancel(server: Server, job: Modelled) -> None:
    with Native(server) as http:
        answer = http.cancel(job.id)
    assert answer.status_code in (200, 409), answer.text
    if answer.status_code == 409:
        assert job.ending != "waiting" or job.cancelled
    else:
        job.cancelled = True


def read_some(server: Server, job: Modelled, frames: int) -> None:
    """Take up to `frames` frames from where this reader stopped, then drop the connection."""
    if job.read and job.read[-1].startswith("__END__"):
        return
    headers = server.headers | ({"Last-Event-ID": job.cursor} if job.cursor else {})
    with (
        contextlib.suppress(httpx2.ReadTimeout),
        httpx2.stream(
            "GET",
            f"{server.url}/api/v1/stream/{job.id}",
            headers=headers,
            trust_env=False,
            timeout=httpx2.Timeout(10, read=0.3),
        ) as response,
    ):
        assert response.status_code == 200
        frame: dict[str, str] = {}
        for line in response.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                frame[name] = value
                continue
            if "data" in frame:
                job.cursor = frame["id"]
                job.read.append(json.loads(frame["data"])["line"])
                frames -= 1
            frame = {}
            if frames <= 0:
                return


def settle(server: Server, jobs: list[Modelled]) -> None:
    """Cancel jobs that would wait for ever, let all jobs end, and read every stream to its end."""
    for job in jobs:
        if job.ending == "waiting":
            cancel(server, job)
    for job in jobs:
        while not (job.read and job.read[-1].startswith("__END__")):
            read_some(server, job, 1_000)


def check(server: Server, job: Modelled) -> None:
    with Native(server) as http:
        status = gitoma.status(http, job.id)["status"]
        events = http.events(job.id)
        native, codeplanes = http.job(job.id), http.get(f"/api/jobs/{job.id}").json()
    assert status in job.possible_ends(), (status, job)
    assert job.read[-1] == f"__END__:{status}"
    assert job.read[0].startswith("$ sh -c ")
    shown = [line for line in job.read[1:-1] if not line.startswith("[")]
    assert shown == [f"line {n}" for n in range(1, len(shown) + 1)]
    if not job.cancelled:
        assert len(shown) == job.lines
    types = [event["type"] for event in events]
    assert types.count("job.finished") == 1
    assert types.count("job.started") <= 1
    assert all(event["actor"] for event in events)
    for job_object in (native, codeplanes):
        assert job_object["outcome"] == status
        assert job_object["lines"] == len(shown)


STEP = st.one_of(
    st.tuples(st.just("submit"), st.integers(0, 40), st.sampled_from(sorted(ENDINGS))),
    st.tuples(st.just("cancel"), st.integers(0, 20), st.just("")),
    st.tuples(st.just("read"), st.integers(0, 20), st.sampled_from(["1", "3", "20"])),
    st.tuples(st.just("restart"), st.just(0), st.sampled_from(["kill", "stop"])),
)


@pytest.mark.timeout(300)
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(STEP, min_size=3, max_size=14))
def test_any_walk_ends_as_the_model_says(server: Server, steps: list[tuple[str, int, str]]) -> None:
    jobs: list[Modelled] = []
    for what, number, how in steps:
        if what == "submit":
            jobs.append(Modelled(lines=number, ending=how))
            submit(server, jobs[-1])
        elif what == "restart":
            if how == "kill":
                server.kill()
            server.restart()
        elif jobs:
            job = jobs[number % len(jobs)]
            if what == "cancel":
                cancel(server, job)
            else:
                read_some(server, job, int(how))
    settle(server, jobs)
    for job in jobs:
        check(server, job)


def test_no_view_has_drifted_from_the_log(server: Server) -> None:
    """After all walks, each rebuilt view equals the live one."""

    with Native(server) as http:
        for view in http.shown("/projections")["items"]:
            answer = http.post(f"{ROOT}/projections/{view['name']}/rebuild")
            assert answer.status_code == 202

        def rebuilt() -> list[Json] | None:
            views: list[Json] = http.shown("/projections")["items"]
            return views if all(view["status"] == "live" for view in views) else None

        views = until(rebuilt, "every view is rebuilt")
    assert [view["rebuildMatched"] for view in views] == [True] * len(PROJECTIONS)
