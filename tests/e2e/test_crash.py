"""kill -9, again and again, over a server under load: nothing acknowledged is lost, nothing happens
twice.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from domain.catalogue import CATALOGUE
from domain.log import open_sqlite_log
from domain.redaction import Redactor
from tests.kit.server import Server

ROUNDS = 50
LINES = 12

JOB = """
echo "$CREWLOG_JOB_ID" >> "$RAN"
i=1
while [ $i -le {lines} ]; do echo "line $i"; i=$((i+1)); {pause} done
"""


@dataclass
class Seen:
    """The answers that clients got, on which they may rely."""

    accepted: dict[str, str] = field(default_factory=dict)
    """Job id by idempotency key."""
    cancelled: set[str] = field(default_factory=set)
    """Jobs with a requested cancel."""
    positions: list[int] = field(default_factory=list)
    """Seen by a reader of the whole log that resumes after each crash."""
    lines: dict[str, list[str]] = field(default_factory=dict)
    """Seen by readers of single jobs that resume after each crash."""


class Load:
    """Clients that go on through every crash: they retry, resume, and record their answers."""

    def __init__(self, server: Server, ran: Path, seed: int) -> None:
        self.server = server
        self.ran = ran
        self.seen = Seen()
        self.dice = random.Random(seed)
        self.over = False
        self.up = asyncio.Event()
        self.client = httpx2.AsyncClient(timeout=90.0, trust_env=False)

    async def persistently(
        self, request: Callable[[], Awaitable[httpx2.Response]]
    ) -> httpx2.Response:
        """Repeat until there is an answer other than 503: after a connection error the server is
        down.
        """
        while True:
            await self.up.wait()
            try:
                response = await request()
            except httpx2.TransportError:
                await asyncio.sleep(0.02)
                continue
            if response.status_code != 503:
                return response
            await asyncio.sleep(0.02)

    async def submit_many(self, name: str) -> None:
        number = 0
        while not self.over:
            number += 1
            key = f"{name}-{number}"
            pause = self.dice.choice(["", "", "sleep 0.02;", "sleep 0.1;"])
            body = {
                "argv": ["sh", "-c", JOB.format(lines=LINES, pause=pause)],
                "env": {"RAN": str(self.ran)},
            }
            headers = {**self.server.headers, "Idempotency-Key": key}
            answer = await self.persistently(
                lambda body=body, headers=headers: self.client.post(  # type: ignore[misc]
                    f"{self.server.url}/api/jobs", json=body, headers=headers
                )
            )
            assert answer.status_code == 201, answer.text
            job_id = answer.json()["id"]
            self.seen.accepted[key] = job_id
            if self.dice.random() < 0.15:
                await self.cancel(job_id)
            await asyncio.sleep(0.05)

    async def cancel(self, job_id: str) -> None:
        # Recorded before the request: the server may obey and crash before its answer.
        self.seen.cancelled.add(job_id)
        url = f"/api/jobs/{job_id}/cancel"
        answer = await self.persistently(
            lambda: self.client.post(f"{self.server.url}{url}", headers=self.server.headers)
        )
        assert answer.status_code in (200, 409), answer.text

    async def follow_log(self) -> None:
        """Reads the log for ever, resuming at the last id it saw."""
        last = "0"
        while True:
            await self.up.wait()
            async for position, _ in self.frames("/crewlog/v1/log/stream", last):
                last = position
                self.seen.positions.append(int(position))

    async def follow_job(self, job_id: str) -> None:
        """Reads one job's stream to its end, resuming at the last id it saw."""
        last = ""
        lines = self.seen.lines.setdefault(job_id, [])
        while True:
            await self.up.wait()
            async for position, data in self.frames(f"/api/v1/stream/{job_id}", last):
                last = position
                lines.append(data["line"])
                if data["line"].startswith("__END__"):
                    return

    async def frames(self, path: str, last: str) -> AsyncIterator[tuple[str, Any]]:
        """Frames after the id `last`, until the connection ends in any way."""
        headers = {**self.server.headers, **({"Last-Event-ID": last} if last else {})}
        try:
            async with self.client.stream(
                "GET", f"{self.server.url}{path}", headers=headers, timeout=30
            ) as response:
                frame: dict[str, str] = {}
                async for line in response.aiter_lines():
                    if line:
                        name, _, value = line.partition(": ")
                        frame[name] = value
                    else:
                        if "data" in frame:
                            yield frame["id"], json.loads(frame["data"])
                        frame = {}
        except httpx2.TransportError:
            await asyncio.sleep(0.02)


async def crash_often(server: Server, load: Load) -> None:
    for number in range(ROUNDS):
        load.up.set()
        await asyncio.sleep(load.dice.uniform(0.0, 0.35))
        while len(load.seen.accepted) < number:  # a slow machine does less in that time
            await asyncio.sleep(0.02)
        load.up.clear()
        server.kill()
        await asyncio.to_thread(server.restart)
    load.up.set()


async def until_all_ended(load: Load) -> dict[str, dict[str, Any]]:
    """Every job, once all have ended."""
    server = load.server
    while True:
        answer = await load.client.get(
            f"{server.url}/api/v1/jobs?limit=5000", headers=server.headers
        )
        jobs: dict[str, dict[str, Any]] = answer.json()
        if all(job["finished_at"] for job in jobs.values()):
            return jobs
        await asyncio.sleep(0.1)


async def scenario(server: Server, ran: Path, seed: int) -> tuple[Seen, dict[str, dict[str, Any]]]:
    load = Load(server, ran, seed)
    async with load.client:
        log_reader = asyncio.create_task(load.follow_log())
        writers = [asyncio.create_task(load.submit_many(f"client-{n}")) for n in range(3)]
        readers: dict[str, asyncio.Task[None]] = {}

        async def follow_some() -> None:
            while not load.over:
                for job_id in list(load.seen.accepted.values()):
                    if job_id not in readers and len(readers) < 40:
                        readers[job_id] = asyncio.create_task(load.follow_job(job_id))
                await asyncio.sleep(0.05)

        following = asyncio.create_task(follow_some())
        await crash_often(server, load)
        load.over = True
        await asyncio.gather(*writers, following)
        jobs = await until_all_ended(load)
        await asyncio.gather(*readers.values())
        head = (
            await load.client.get(f"{server.url}/crewlog/v1/log", headers=server.headers)
        ).json()["head"]
        while not load.seen.positions or load.seen.positions[-1] < head:
            await asyncio.sleep(0.05)
        log_reader.cancel()
        await asyncio.wait([log_reader])
        assert load.seen.positions == list(range(1, head + 1))
    return load.seen, jobs


@pytest.mark.timeout(600)
def test_fifty_kills_under_load_lose_and_double_nothing(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    server = Server.start(tmp_path / "data", "--capacity", "6", "--log-level", "warning")
    try:
        seen, jobs = asyncio.run(scenario(server, ran, seed=7))
        digests = views(server)
    finally:
        server.stop()

    assert len(seen.accepted) >= ROUNDS, "There was hardly any load."
    assert set(jobs) == set(seen.accepted.values()), "A job was lost, or made twice."
    executions = Counter(ran.read_text().split())
    log = open_sqlite_log(tmp_path / "data", redactor=Redactor(), catalogue=CATALOGUE)
    written: dict[str, list[str]] = {}
    try:
        for job_id, job in jobs.items():
            events = [
                event for page in log.blocking.pages(subject=f"job-{job_id}") for event in page
            ]
            ends = [event for event in events if event.type == "job.finished"]
            lines = [line for e in events if e.type == "job.output" for line in e.data["lines"]]
            written[job_id] = lines
            expected = [f"line {n}" for n in range(1, LINES + 1)]
            assert len(ends) == 1, f"{job_id} ended {len(ends)} times"
            if job["status"] == "cancelled":
                assert job_id in seen.cancelled
                assert executions[job_id] <= 1
                assert lines == expected[: len(lines)]
            else:
                assert job["status"] == "completed", job
                assert executions[job_id] == 1, f"{job_id} ran {executions[job_id]} times"
                assert lines == expected
        for job_id, shown in seen.lines.items():
            assert shown[-1] == f"__END__:{jobs[job_id]['status']}"
            told = [line for line in shown[1:-1] if line.startswith("line ")]
            assert told == written[job_id]
    finally:
        log.close()
    for file in (tmp_path / "data").glob("views.db*"):
        file.unlink()
    with Server(tmp_path / "data", "--capacity", "0") as again:
        assert views(again) == digests


def views(server: Server) -> dict[str, str]:
    """The digest of every view, once all of them have caught up."""
    while True:
        answer = httpx2.get(
            f"{server.url}/crewlog/v1/projections", headers=server.headers, trust_env=False
        ).json()
        shown = answer["items"]
        if all(p["position"] == answer["head"] and p["status"] == "live" for p in shown):
            return {p["name"]: p["digest"] for p in shown}
