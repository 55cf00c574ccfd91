"""The pump, the runner and the dispatcher over a real log, real views and real processes.

A job that must not go on yet waits for a file that the test makes.
"""

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from domain.approval.commands import Approvals
from domain.catalogue import CATALOGUE
from domain.clock import system_clock
from domain.crew.commands import Crews
from domain.errors import VersionConflict
from domain.job.commands import Jobs, Submission
from domain.job.events import (
    JobMessaged,
    JobQueued,
    job_stream,
)
from domain.log import SYSTEM, Context, Recorded, new_events, open_sqlite_log
from domain.redaction import Redactor
from projections.engine import Views
from projections.views import PROJECTIONS
from scheduler.dispatch.assignments import Assignments
from scheduler.dispatch.attempt import Attempt
from scheduler.dispatch.dispatcher import Dispatcher
from scheduler.dispatch.runner import Runner
from scheduler.dispatch.sealed import SealedSpecs
from scheduler.drivers.command import BATCH_S, CommandDriver
from scheduler.drivers.contract import Driver, Fenced, Followed
from scheduler.drivers.lines import Lines, LineSplitter
from scheduler.drivers.output import BATCH_BYTES, LINE_COST, OutputPump, Pending
from scheduler.drivers.unfinished import Unfinished
from scheduler.executors.local import LocalExecutor
from scheduler.intake import Intake, Sealing, WorkRequest
from scheduler.policies.lease import Leases
from scheduler.workspaces.artifacts import ArtifactStore
from scheduler.workspaces.attempt_folder import AttemptFolders
from scheduler.workspaces.local import LocalWorkspaces
from tests.kit.jobs import started, submitted
from tests.kit.processes import parent_of
from tests.kit.waiting import soon

ROOM_S = 90.0
WHO = Context(actor="tester")
WAIT_FOR_GATE = "until [ -e gate ]; do sleep 0.01; done; "


class House:
    """The parts of a server without its API, over one directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = open_sqlite_log(folder / "data", redactor=Redactor(), catalogue=CATALOGUE)
        self.views = Views(folder / "data" / "views.db", self.log, PROJECTIONS)
        self.views.start()
        self.jobs = Jobs(self.log)
        self.sealed = SealedSpecs(folder / "sealed")
        self.intake = Intake(self.jobs, Sealing(self.sealed, Redactor()))
        self.approvals = Approvals(self.log, self.jobs)
        self.crews = Crews(self.log, self.jobs, self.approvals)
        self.hints: dict[str, str] = {"absent-program": "Install it first."}
        self.output_limit = 1_000_000
        self.drivers: dict[str, Driver] = {
            "command": CommandDriver(self.log, self.jobs, Unfinished())
        }

    @property
    def assignments(self) -> Assignments:
        return Assignments(
            self.sealed, self.output_limit, self.crews.parents, lambda job_id, attempt: {}
        )

    @property
    def workspaces(self) -> LocalWorkspaces:
        return self.workspaces_on("here")

    def workspaces_on(self, node: str) -> LocalWorkspaces:
        return LocalWorkspaces(
            node,
            AttemptFolders(self.folder / "attempts"),
            ArtifactStore(self.folder / "artifacts", limit_bytes=1_000_000),
            env={"PATH": os.environ["PATH"]},
            keep_env=(),
            default_cwd=str(self.folder),
            hints=self.hints,
        )

    def close(self) -> None:
        self.views.close()
        self.log.close()

    def run(self, scenario: Callable[[LocalExecutor], Coroutine[Any, Any, None]]) -> None:
        """One life of a server: its own loop and its own executor."""

        async def life() -> None:
            executor = LocalExecutor(self.folder / "spool")
            try:
                async with asyncio.timeout(ROOM_S):
                    await scenario(executor)
            finally:
                await executor.close()

        asyncio.run(life())

    def dispatcher(
        self, executor: LocalExecutor, capacity: int = 4, *, node: str = "here", **more: Any
    ) -> Dispatcher:
        return Dispatcher(
            self.log,
            self.views,
            self.jobs,
            executor,
            self.workspaces_on(node),
            self.assignments,
            self.drivers,
            capacity=capacity,
            **more,
        )

    async def submit(self, *argv: str, **fields: Any) -> str:
        """Queue a job. Returns its id."""
        work = WorkRequest(
            kind=fields.pop("kind", "command"),
            label="command",
            argv=argv,
            cwd=str(self.folder),
            timeout_ms=fields.pop("timeout_ms", 0),
            **fields,
        )
        submission: Submission = await self.intake.submit(work, WHO)
        return submission.job_id

    async def shell(self, script: str, **fields: Any) -> str:
        return await self.submit("sh", "-c", script, **fields)

    async def claim(self, job_id: str) -> None:
        """Append the start of the job's first attempt."""
        await self.jobs.execute(job_id, lambda job: job.start("here"), WHO)

    def pump(self, job_id: str, attempt: int = 1) -> OutputPump:
        return OutputPump(self.log, self.jobs, job_id, attempt, WHO, system_clock)

    def about(self, job_id: str, *types: str) -> list[Recorded]:
        found = [e for page in self.log.blocking.pages(subject=job_stream(job_id)) for e in page]
        return [event for event in found if not types or event.type in types]

    def types(self, job_id: str) -> list[str]:
        return [event.type for event in self.about(job_id)]

    def lines(self, job_id: str) -> list[str]:
        """The lines in the log; their numbers must leave no gap."""
        lines: list[str] = []
        for event in self.about(job_id, "job.output"):
            assert event.data["first_line"] == len(lines) + 1
            lines += event.data["lines"]
        return lines

    def end(self, job_id: str) -> dict[str, Any]:
        (end,) = self.about(job_id, "job.finished")
        return end.data

    async def ended(self, *job_ids: str) -> None:
        for job_id in job_ids:
            await soon(lambda job_id=job_id: self.jobs.load(job_id).ended)  # type: ignore[misc]

    def open_gate(self) -> None:
        (self.folder / "gate").touch()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.close()


@contextlib.asynccontextmanager
async def working(*dispatchers: Dispatcher) -> Any:
    """Dispatchers at work. When they stop, running jobs go on."""
    tasks = [asyncio.create_task(dispatcher.run()) for dispatcher in dispatchers]
    try:
        yield
    finally:
        for dispatcher in dispatchers:
            await dispatcher.stop(cancel_jobs=False)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def batch(*texts: str, start: int = 0) -> list[Lines]:
    """Lines for one event, each with its LF."""
    return [Lines([*texts], start + sum(len(text) + 1 for text in texts))]


# The pump


def test_lines_are_numbered_through_and_an_event_a_batch(house: House) -> None:
    async def scenario(_: LocalExecutor) -> None:
        job_id = await house.submit("true")
        await house.claim(job_id)
        pump = house.pump(job_id)
        await pump.resume()
        await pump.append(batch("one", "two"))
        await pump.append(batch("three", start=8) + batch("four", "five", start=14))

        events = house.about(job_id, "job.output")
        assert house.lines(job_id) == ["one", "two", "three", "four", "five"]
        assert [event.data["end_offset"] for event in events] == [8, 14, 24]
        assert (pump.lines, pump.offset) == (5, 24)
        assert {event.stream for event in events} == {f"job-{job_id}/output"}

    house.run(scenario)


def test_lines_share_an_event_up_to_its_size_where_also_an_empty_one_counts() -> None:
    def batches(*given: Lines) -> list[Lines]:
        pending = Pending(0)
        for lines in given:
            pending.add(lines)
        return pending.take()

    long = [Lines(["y" * 999], 1_000 * number) for number in range(1, 201)]
    sizes = [1_064 * len(texts) for texts, _ in batches(*long)]
    assert sum(sizes) == 1_064 * 200
    assert all(BATCH_BYTES <= size < BATCH_BYTES + 1_064 for size in sizes[:-1])
    empty = [Lines([""], number) for number in range(1, 3_001)]
    full = -(-BATCH_BYTES // (LINE_COST + 1))
    assert [len(texts) for texts, _ in batches(*empty)] == [full, full, 3_000 - 2 * full]
    assert [end for _, end in batches(*empty)] == [full, 2 * full, 3_000]
    huge = Lines(["z" * 5 * BATCH_BYTES], 5 * BATCH_BYTES + 7)
    mixed = batches(Lines(["short"], 6), huge, Lines(["short"], huge.end + 6))
    assert [len(texts) for texts, _ in mixed] == [2, 1]


def test_another_pump_goes_on_where_the_log_stops(house: House) -> None:
    async def scenario(_: LocalExecutor) -> None:
        job_id = await house.submit("true")
        await house.claim(job_id)
        first = house.pump(job_id)
        await first.resume()
        assert (first.lines, first.offset) == (0, 0)
        await first.append(batch("one", "two"))
        second = house.pump(job_id)
        await second.resume()
        assert (second.lines, second.offset) == (2, 8)
        await second.append(batch("three", start=8))
        # The first runner does not know of it, and must not write the same lines again.
        with pytest.raises(VersionConflict):
            await first.append(batch("three", start=8))

        assert house.lines(job_id) == ["one", "two", "three"]

    house.run(scenario)


def test_a_pump_goes_on_when_something_else_happens_to_the_job(house: House) -> None:
    async def scenario(_: LocalExecutor) -> None:
        job_id = await house.submit("true")
        await house.claim(job_id)
        pump = house.pump(job_id)
        await pump.resume()
        for number in range(3):
            await house.jobs.execute(job_id, lambda _: [JobMessaged(text="well?")], WHO)
            await pump.append(batch(str(number), start=2 * number))

        assert house.lines(job_id) == ["0", "1", "2"]

    house.run(scenario)


async def next_attempt(house: House, job_id: str) -> None:
    """The job is given to a second attempt."""
    job = house.jobs.load(job_id)
    taken = [
        JobQueued(attempt=job.attempt + 1),
        started(job.attempt + 1, "elsewhere"),
    ]
    await house.log.append(new_events(job.stream, taken, SYSTEM), {job.stream: job.version})


async def end_it(house: House, job_id: str) -> None:
    await house.jobs.execute(job_id, lambda job: job.lose_attempt(1, "gone", "e"), WHO)


async def delete_it(house: House, job_id: str) -> None:
    await end_it(house, job_id)
    await house.jobs.execute(job_id, lambda job: job.delete(), WHO)


@pytest.mark.parametrize("happens", [next_attempt, end_it, delete_it])
def test_an_attempt_that_is_not_current_writes_nothing(
    house: House, happens: Callable[[House, str], Awaitable[None]]
) -> None:
    async def scenario(_: LocalExecutor) -> None:
        job_id = await house.submit("true")
        await house.claim(job_id)
        pump = house.pump(job_id)
        await pump.resume()
        await pump.append(batch("in time"))
        await happens(house, job_id)
        before = house.types(job_id)
        with pytest.raises(Fenced):
            await pump.append(batch("too late", start=8))
        with pytest.raises(Fenced):
            await house.pump(job_id).resume()

        assert house.types(job_id) == before
        assert house.lines(job_id) == ["in time"]

    house.run(scenario)


def test_a_second_attempt_counts_lines_on_and_bytes_anew(house: House) -> None:
    async def scenario(_: LocalExecutor) -> None:
        job_id = await house.submit("true")
        await house.claim(job_id)
        first = house.pump(job_id)
        await first.resume()
        await first.append(batch("one", "two"))
        await next_attempt(house, job_id)
        second = house.pump(job_id, attempt=2)
        await second.resume()
        assert (second.lines, second.offset) == (2, 0)
        await second.append(batch("three"))

        assert house.lines(job_id) == ["one", "two", "three"]

    house.run(scenario)


# The runner


async def begin(house: House, executor: LocalExecutor, job_id: str) -> "asyncio.Task[None]":
    """Start the first attempt, and follow it with a runner."""
    await house.claim(job_id)
    return await watch(house, executor, job_id)


async def watch(house: House, executor: LocalExecutor, job_id: str) -> "asyncio.Task[None]":
    job = house.jobs.load(job_id)
    running = await executor.adopt(job_id, 1)
    if running is None:
        assignment = await house.assignments.of(job, 1)
        running = await executor.start(await house.workspaces.prepare(assignment))
    runner = Runner(house.jobs, house.drivers, house.workspaces)
    followed = Followed(job, 1, running, WHO, lambda: None)
    return asyncio.create_task(runner.see_through(followed))


def test_output_and_end_reach_the_log_and_nothing_stays_on_disk(
    house: House, tmp_path: Path
) -> None:
    async def scenario(executor: LocalExecutor) -> None:
        job_id = await house.shell("printf 'one\\r\\ntwo'; exit 3")
        await (await begin(house, executor, job_id))

        assert house.lines(job_id) == ["one", "two"]
        end = house.end(job_id)
        assert (end["outcome"], end["exit_code"], end["lines"]) == ("failed", 3, 2)
        assert (end["output_bytes"], end["attempt"], end["error_id"]) == (8, 1, None)
        await soon(lambda: not attempts_in(tmp_path))

    house.run(scenario)


def test_a_line_is_in_the_log_while_the_job_runs(house: House) -> None:
    async def scenario(executor: LocalExecutor) -> None:
        job_id = await house.shell(f"echo on; {WAIT_FOR_GATE} echo off")
        seen_through = await begin(house, executor, job_id)
        await soon(lambda: house.lines(job_id) == ["on"])
        assert not house.jobs.load(job_id).ended
        house.open_gate()
        await seen_through
        assert house.lines(job_id) == ["on", "off"]

    house.run(scenario)


GITHUB = "ghp_" + "aB3dE5gH7jK9mN1pQ3rS5tU7vW9xY1zA2bC4"
KEY = ["-----BEGIN PRIVATE KEY-----", "MIIEpAIBAAKCAQEA", "c2VjcmV0", "-----END PRIVATE KEY-----"]


@pytest.mark.parametrize("kept", range(1, 40, 3))
@pytest.mark.parametrize("secret", [GITHUB, "a-known-secret-of-the-server-0123456789"])
def test_no_part_of_a_secret_is_kept_at_the_limit_of_a_line(
    house: House, secret: str, kept: int
) -> None:
    redactor = Redactor(["a-known-secret-of-the-server-0123456789"])
    splitter = LineSplitter(limit=100, clip=redactor.cut)
    line = "x" * (99 - kept) + " " + secret + " and more\n"
    (text,) = splitter.feed(line.encode()).texts
    assert secret[:8] not in redactor.text(text)
    assert "line cut" in text


@pytest.mark.parametrize("kept", [5, 20, 39])
def test_no_part_of_a_secret_is_kept_at_the_limit_of_the_output(house: House, kept: int) -> None:
    house.output_limit = len("first\nthe ") + kept

    async def scenario(executor: LocalExecutor) -> None:
        job_id = await house.shell(f"echo first; echo the {GITHUB} is long; echo more")
        await (await begin(house, executor, job_id))
        first, last = house.lines(job_id)
        assert (first, last) == ("first", "the [REDACTED]")

    house.run(scenario)


def test_a_private_key_is_hidden_also_where_its_lines_come_one_by_one(house: House) -> None:
    script = f"set -- '{KEY[0]}' {KEY[1]} {KEY[2]} '{KEY[3]}'; i=0; for line; do echo \"$line\"; "
    script += "i=$((i+1)); until [ -e gate$i ]; do sleep 0.01; done; done; echo after"

    async def scenario(executor: LocalExecutor) -> None:
        job_id = await house.shell(script)
        watching = await begin(house, executor, job_id)
        for number in range(1, len(KEY) + 1):
            await soon(lambda number=number: len(house.lines(job_id)) == number)  # type: ignore[misc]
            if number == 2:  # another server takes over in the middle
                watching.cancel()
                await asyncio.wait({watching})
                watching = await watch(house, executor, job_id)
            (house.folder / f"gate{number}").touch()
        await watching
        assert house.lines(job_id) == [KEY[0], *["[REDACTED]"] * 3, "after"]

    house.run(scenario)


def test_lines_that_come_one_by_one_share_events(house: House) -> None:
    async def scenario(executor: LocalExecutor) -> None:
        job_id = await house.shell("for i in $(seq 300); do echo $i; sleep 0.002; done")
        await (await begin(house, executor, job_id))

        assert len(house.lines(job_id)) == 300
        assert BATCH_S > 0.01
        # Each event but the last waits the whole batch time.
        most = house.end(job_id)["run_ms"] / (BATCH_S * 1000) + 3
        assert len(house.about(job_id, "job.output")) <= most

    house.run(scenario)


def test_a_line_does_not_wait_for_the_next(house: House) -> None:
    """Thirty times the job waits until its line is in the log. If lines waited for more lines, the
    job would never end.
    """
    script = "for i in $(seq 30); do echo $i; until [ -e gate$i ]; do sleep 0.01; done; done"

    async def scenario(executor: LocalExecutor) -> None:
        job_id = await house.shell(script)
        seen_through = await begin(house, executor, job_id)
        for number in range(1, 31):
            await soon(lambda number=number: len(house.lines(job_id)) == number)  # type: ignore[misc]
            (house.folder / f"gate{number}").touch()
        await seen_through

    house.run(scenario)


def test_a_flood_of_short_lines_comes_in_small_events_and_a_few_at_a_time(house: House) -> None:
    """The number of lines, not of bytes, costs time on the event loop and memory."""

    async def scenario(executor: LocalExecutor) -> None:
        job_id = await house.shell("yes '' | head -c 600000")
        await (await begin(house, executor, job_id))

        events = house.about(job_id, "job.output")
        assert sum(len(event.data["lines"]) for event in events) == 600_000
        assert max(len(event.data["lines"]) for event in events) <= 2 * BATCH_BYTES // LINE_COST
        appended_together = Counter(event.at for event in events)
        assert max(appended_together.values()) < 100

    house.run(scenario)


def test_whoever_is_interrupted_is_followed_by_another_without_loss_or_repeat(
    house: House,
) -> None:
    """Runners are stopped again and again; each next one learns from the log where to resume."""
    known: list[str] = []

    async def first_life(executor: LocalExecutor) -> None:
        script = 'i=0; while [ $i -lt 300 ]; do i=$((i+1)); printf "line $i\\n"; sleep 0.002; done'
        known.append(await house.shell(script))
        await house.claim(known[0])
        await another_life(executor)

    async def another_life(executor: LocalExecutor) -> None:
        before = len(house.lines(known[0]))
        task = await watch(house, executor, known[0])
        await soon(lambda: task.done() or len(house.lines(known[0])) > before)
        task.cancel()
        await asyncio.wait([task])

    async def last_life(executor: LocalExecutor) -> None:
        await (await watch(house, executor, known[0]))

    house.run(first_life)
    for _ in range(4):
        house.run(another_life)
    assert not house.jobs.load(known[0]).ended
    house.run(last_life)
    assert house.lines(known[0]) == [f"line {number}" for number in range(1, 301)]
    assert house.end(known[0])["outcome"] == "completed"
    assert house.end(known[0])["lines"] == 300


def test_a_runner_whose_attempt_was_taken_over_ends_its_process(
    house: House, tmp_path: Path
) -> None:
    async def scenario(executor: LocalExecutor) -> None:
        job_id = await house.shell("echo $$; while :; do sleep 0.01; echo more; done")
        seen_through = await begin(house, executor, job_id)
        await soon(lambda: house.lines(job_id))
        await next_attempt(house, job_id)
        before = house.types(job_id)
        await seen_through

        assert house.types(job_id) == before
        with pytest.raises(ProcessLookupError):
            os.kill(int(house.lines(job_id)[0]), 0)

    house.run(scenario)


# The dispatcher


def starts(house: House) -> list[str]:
    """The ids of jobs in the order in which attempts took them."""
    found = [e for page in house.log.blocking.pages() for e in page if e.type == "job.started"]
    return [event.stream.removeprefix("job-") for event in found]


def test_jobs_are_started_in_their_order_and_within_capacity(house: House) -> None:
    async def scenario(executor: LocalExecutor) -> None:
        before = [await house.shell(WAIT_FOR_GATE) for _ in range(3)]
        dispatcher = house.dispatcher(executor, capacity=2)
        async with working(dispatcher):
            await soon(lambda: len(starts(house)) == 2)
            after = [await house.submit("true") for _ in range(3)]
            await soon(lambda: dispatcher.queued == 4)
            assert (starts(house), dispatcher.active) == (before[:2], 2)
            house.open_gate()
            await house.ended(*before, *after)
        assert starts(house) == before + after

    house.run(scenario)


def test_with_no_room_all_is_held(house: House) -> None:
    async def scenario(executor: LocalExecutor) -> None:
        async with working(dispatcher := house.dispatcher(executor, capacity=0)):
            known = [await house.submit("true") for _ in range(3)]
            await soon(lambda: dispatcher.queued == 3)
            await house.jobs.execute(known[1], lambda job: job.request_cancel("no"), WHO)
            await soon(lambda: dispatcher.queued == 2)
            assert starts(house) == []
        async with working(house.dispatcher(executor, capacity=1)):
            await house.ended(*known)
        assert starts(house) == [known[0], known[2]]

    house.run(scenario)


def test_of_two_dispatchers_one_gets_the_job(house: House, tmp_path: Path) -> None:
    async def scenario(executor: LocalExecutor) -> None:
        other = LocalExecutor(tmp_path / "other spool")
        async with working(house.dispatcher(executor), house.dispatcher(other, node="there")):
            known = [await house.shell('echo "$CREWLOG_JOB_ID" >> ran') for _ in range(20)]
            await house.ended(*known)
        await other.close()
        assert sorted((tmp_path / "ran").read_text().split()) == sorted(known)
        assert sorted(starts(house)) == sorted(known)
        assert all(house.types(job_id).count("job.finished") == 1 for job_id in known)

    house.run(scenario)


def test_what_runs_is_left_alone_by_a_stop_and_adopted_by_the_next(house: House) -> None:
    known: list[str] = []

    async def first_life(executor: LocalExecutor) -> None:
        async with working(house.dispatcher(executor, capacity=1)):
            known.append(await house.shell(f"echo on; {WAIT_FOR_GATE} echo off"))
            known.append(await house.submit("echo", "later"))
            await soon(lambda: house.lines(known[0]))

    async def second_life(executor: LocalExecutor) -> None:
        house.open_gate()
        async with working(house.dispatcher(executor, capacity=1)):
            await house.ended(*known)

    house.run(first_life)
    assert starts(house) == known[:1]
    house.run(second_life)
    assert house.lines(known[0]) == ["on", "off"]
    assert house.lines(known[1]) == ["later"]
    assert starts(house) == known


def test_a_stop_that_cancels_waits_until_it_is_on_record(house: House) -> None:
    async def scenario(executor: LocalExecutor) -> None:
        dispatcher = house.dispatcher(executor)
        async with working(dispatcher):
            known = [await house.shell("sleep 300") for _ in range(3)]
            await soon(lambda: len(starts(house)) == 3)
            await dispatcher.stop(cancel_jobs=True)
            assert [house.end(job_id)["outcome"] for job_id in known] == ["cancelled"] * 3
            asked = [house.about(job_id, "job.cancel_requested")[0] for job_id in known]
            assert {event.actor for event in asked} == {"system:shutdown"}

    house.run(scenario)


def test_an_attempt_that_was_claimed_and_never_began_begins_now(house: House) -> None:
    """The server died between the claim and the process."""

    async def scenario(executor: LocalExecutor) -> None:
        job_id = await house.shell('echo "attempt $CREWLOG_ATTEMPT"')
        await house.claim(job_id)
        async with working(house.dispatcher(executor)):
            await house.ended(job_id)
        assert house.lines(job_id) == ["attempt 1"]
        assert house.types(job_id).count("job.started") == 1
        assert house.end(job_id)["outcome"] == "completed"

    house.run(scenario)


def test_a_cancel_that_was_asked_while_no_dispatcher_ran_is_obeyed(house: House) -> None:
    known: list[str] = []

    async def first_life(executor: LocalExecutor) -> None:
        async with working(house.dispatcher(executor)):
            known.append(await house.shell("sleep 300"))
            await soon(lambda: (house.folder / "spool" / known[0] / "1" / "started").exists())

    async def second_life(executor: LocalExecutor) -> None:
        await house.jobs.execute(known[0], lambda job: job.request_cancel("meanwhile"), WHO)
        async with working(house.dispatcher(executor)):
            await house.ended(known[0])

    house.run(first_life)
    house.run(second_life)
    assert (house.end(known[0])["outcome"], house.end(known[0])["exit_code"]) == ("cancelled", -15)


def attempts_in(folder: Path) -> list[Path]:
    """The folders of attempts on the disk, without the files of the fork server."""
    return [path for path in (folder / "spool").iterdir() if path.is_dir()]


def test_an_attempt_whose_watcher_is_killed_is_lost_and_says_so(house: House) -> None:
    async def scenario(executor: LocalExecutor) -> None:
        async with working(house.dispatcher(executor)):
            job_id = await house.shell("echo $$; sleep 300")
            await soon(lambda: house.lines(job_id))
            os.kill(parent_of(int(house.lines(job_id)[0])), signal.SIGKILL)
            await house.ended(job_id)
        assert house.types(job_id)[-2:] == ["job.attempt_lost", "job.finished"]
        end = house.end(job_id)
        assert (end["outcome"], end["exit_code"]) == ("failed", None)
        assert end["reason"].endswith(".")
        assert len(end["error_id"]) == 12

    house.run(scenario)


def test_what_cannot_be_launched_fails_with_a_sentence_and_holds_up_nobody(house: House) -> None:
    async def scenario(executor: LocalExecutor) -> None:
        hinted = await house.submit("absent-program")
        unsealed = await house.submit("true", env={"A": "1"})
        house.sealed.discard(unsealed)
        absent = await house.submit("no-such-program-here")
        last = await house.submit("echo", "done")
        async with working(house.dispatcher(executor, capacity=1)):
            await house.ended(hinted, unsealed, absent, last)
        assert house.end(hinted)["reason"] == "Install it first."
        assert "private part" in house.end(unsealed)["reason"]
        assert "No such program" in house.end(absent)["reason"]
        for job_id in (hinted, unsealed, absent):
            end = house.end(job_id)
            assert (end["outcome"], end["exit_code"]) == ("failed", None)
            assert len(end["error_id"]) == 12
        assert house.lines(last) == ["done"]

    house.run(scenario)


class Surprise(Leases):
    """A part with an unexpected error."""

    def beat(self, job_id: str, attempt: int) -> None:
        raise RuntimeError("Nobody foresaw this.")


class Surprises(dict[str, str]):
    def get(self, *_: object) -> Any:
        raise RuntimeError("Nobody foresaw this.")


def test_an_error_that_nobody_foresaw_ends_the_attempt_and_its_process(house: House) -> None:
    """Also if its output cannot be read: no process may run without a running job."""

    async def scenario(executor: LocalExecutor) -> None:
        job_id = await house.shell(f"echo $$ > pid; echo on; {WAIT_FOR_GATE}")
        dispatcher = house.dispatcher(executor, capacity=1, leases=Surprise())
        async with working(dispatcher):
            await house.ended(job_id)
            assert house.end(job_id)["outcome"] == "failed"
            assert len(house.end(job_id)["error_id"]) == 12
            assert "unexpected error" in house.end(job_id)["reason"]
            with pytest.raises(ProcessLookupError):
                os.kill(int((house.folder / "pid").read_text()), 0)
            quiet = await house.submit("true")
            await house.ended(quiet)
            await soon(lambda: not attempts_in(house.folder))
        assert house.end(quiet)["outcome"] == "completed"

    house.run(scenario)


def test_an_error_that_nobody_foresaw_before_the_process_ends_the_attempt(house: House) -> None:
    house.hints = Surprises()

    async def scenario(executor: LocalExecutor) -> None:
        async with working(house.dispatcher(executor)):
            job_id = await house.submit("true")
            await house.ended(job_id)
        assert house.end(job_id)["outcome"] == "failed"
        assert len(house.end(job_id)["error_id"]) == 12

    house.run(scenario)


def test_private_parts_are_removed_when_no_attempt_needs_them(house: House) -> None:
    def sealed() -> set[str]:
        return {path.stem for path in (house.folder / "sealed").iterdir()}

    async def scenario(executor: LocalExecutor) -> None:
        runs = await house.shell('echo "$A"', env={"A": "1"})
        waits = await house.shell(WAIT_FOR_GATE, env={"A": "1"})
        never = await house.submit("true", env={"A": "1"})
        assert sealed() == {runs, waits, never}
        async with working(house.dispatcher(executor, capacity=2)):
            await house.ended(runs)
            await house.jobs.execute(never, lambda job: job.request_cancel("no"), WHO)
            await soon(lambda: sealed() == {waits})
            house.open_gate()
            await house.ended(waits)
            await soon(lambda: sealed() == set())
        assert house.lines(runs) == ["1"]

    house.run(scenario)


def test_private_parts_of_a_job_that_ends_while_it_is_claimed_are_removed(house: House) -> None:
    async def scenario(executor: LocalExecutor) -> None:
        never = await house.submit("true", env={"A": "1"})
        dispatcher = house.dispatcher(executor, capacity=0)
        claimed = asyncio.Event()

        async def claim(attempt: Attempt) -> None:
            await claimed.wait()
            await attempt.claim(None)

        async with working(dispatcher):
            dispatcher._begin(never, None, claim)
            await house.jobs.execute(never, lambda job: job.request_cancel("no"), WHO)
            await soon(lambda: dispatcher.follower.position >= house.log.head)
            assert list((house.folder / "sealed").iterdir())
            claimed.set()
            await soon(lambda: not list((house.folder / "sealed").iterdir()))

    house.run(scenario)


def test_what_is_in_the_log_and_makes_no_sense_holds_up_nobody(house: House) -> None:
    async def scenario(executor: LocalExecutor) -> None:
        gone = await house.submit("true")
        await house.jobs.execute(gone, lambda job: job.request_cancel("no"), WHO)
        await house.jobs.execute(gone, lambda job: job.delete(), WHO)
        queued_only = new_events("job-stray", [JobQueued(attempt=1)], SYSTEM)
        await house.log.append(queued_only, {"job-stray": 0})
        async with working(house.dispatcher(executor, capacity=1)):
            last = await house.submit("echo", "on")
            await house.ended(last)
        assert gone not in starts(house)
        assert house.lines(last) == ["on"]

    house.run(scenario)


def test_whoever_appends_a_queued_job_gets_it_run(house: House) -> None:
    """A dispatcher listens only to the log."""
    job = submitted(owner="somebody", argv=["echo", "by hand"], cwd=str(house.folder))

    async def scenario(executor: LocalExecutor) -> None:
        async with working(house.dispatcher(executor)):
            events = new_events("job-by-hand", [job, JobQueued(attempt=1)], SYSTEM)
            await house.log.append(events, {"job-by-hand": 0})
            await house.ended("by-hand")
        assert house.lines("by-hand") == ["by hand"]

    house.run(scenario)
