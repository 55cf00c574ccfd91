"""Jobs, cancels, disconnects and restarts in any order, compared with a model of the result."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from projections.views import PROJECTIONS
from tests.kit.server import Server

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


def request(server: Server, method: str, path: str, **more: Any) -> httpx2.Response:
    return httpx2.request(
        method, server.url + path, headers=server.headers, trust_env=False, timeout=30, **more
    )


def submit(server: Server, job: Modelled) -> None:
    script = SCRIPT.format(lines=job.lines, then=ENDINGS[job.ending])
    answer = request(server, "POST", "/api/jobs", json={"argv": ["sh", "-c", script]})
    assert answer.status_code == 201
    job.id = answer.json()["id"]


def cancel(server: Server, job: Modelled) -> None:
    answer = request(server, "POST", f"/api/jobs/{job.id}/cancel")
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
    status = request(server, "GET", f"/api/v1/status/{job.id}").json()["status"]
    assert status in job.possible_ends(), (status, job)
    assert job.read[-1] == f"__END__:{status}"
    assert job.read[0].startswith("$ sh -c ")
    shown = [line for line in job.read[1:-1] if not line.startswith("[")]
    assert shown == [f"line {n}" for n in range(1, len(shown) + 1)]
    if not job.cancelled:
        assert len(shown) == job.lines
    events = request(server, "GET", f"/crewlog/v1/log?subject=job-{job.id}&limit=1000").json()[
        "items"
    ]
    types = [event["type"] for event in events]
    assert types.count("job.finished") == 1
    assert types.count("job.started") <= 1
    assert all(event["actor"] for event in events)
    native = request(server, "GET", f"/api/jobs/{job.id}").json()
    assert native["outcome"] == status
    assert native["lines"] == len(shown)


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

    async def rebuilt() -> list[dict[str, Any]]:
        names = [
            p["name"] for p in request(server, "GET", "/crewlog/v1/projections").json()["items"]
        ]
        for name in names:
            assert (
                request(server, "POST", f"/crewlog/v1/projections/{name}/rebuild").status_code
                == 202
            )
        while True:
            shown = request(server, "GET", "/crewlog/v1/projections").json()["items"]
            if all(p["status"] == "live" for p in shown):
                return list(shown)
            await asyncio.sleep(0.02)

    assert [p["rebuildMatched"] for p in asyncio.run(rebuilt())] == [True] * len(PROJECTIONS)
