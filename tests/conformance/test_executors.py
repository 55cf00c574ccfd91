"""The promises of every executor, with real processes, and the further ones of the local executor.

A new executor joins `EXECUTORS` and must pass the first part unchanged. Jobs are small shell
scripts; a script that must not go on yet waits for a file that the test makes.
"""

import asyncio
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from scheduler.executors import local
from scheduler.executors.contract import (
    CHUNK,
    OUTPUT,
    AttemptSpec,
    Executor,
    Exit,
    Kept,
    Running,
)
from scheduler.executors.directories import prepare
from scheduler.executors.inbox import Frame, Inbox, Outbox, make
from scheduler.executors.local import LocalExecutor
from scheduler.executors.spawned import spawn
from tests.kit.waiting import soon, until

EXECUTORS: list[Callable[[Path], Executor]] = [LocalExecutor]
JOB = f"job-{token_hex(6)}"
"""Unique on this machine: processes with it in their environment are killed."""
HERE = Path(local.__file__).parents[2]
"""The directory of the packages."""
ROOM_S = 90.0  # longest wait for a condition on a busy machine
WAIT_FOR_GATE = "while [ ! -e gate ]; do sleep 0.01; done; "


class World:
    """An executor, a directory for its jobs, and helpers for tests."""

    def __init__(self, make: Callable[[Path], Executor], folder: Path) -> None:
        self.make = make
        self.root = folder / "root"
        self.cwd = folder / "cwd"
        self.cwd.mkdir()

    def spec(self, *argv: str, job: str = JOB, **changes: Any) -> AttemptSpec:
        fields: dict[str, Any] = {
            "job_id": job,
            "attempt": 1,
            "argv": argv,
            "cwd": str(self.cwd),
            "env": {"PATH": os.environ["PATH"]},
            "timeout_ms": 0,
            "output_limit": 1_000_000,
        }
        return AttemptSpec(**{**fields, **changes})

    def shell(self, script: str, **changes: Any) -> AttemptSpec:
        return self.spec("sh", "-c", script, **changes)

    def run(self, scenario: Callable[[Executor], Coroutine[Any, Any, None]]) -> None:
        """One life of a server: its own loop and its own executor."""

        async def life() -> None:
            executor = self.make(self.root)
            try:
                async with asyncio.timeout(ROOM_S):
                    await scenario(executor)
            finally:
                await executor.close()

        asyncio.run(life())

    def ends(self, spec: AttemptSpec) -> tuple[bytes, Exit]:
        """The whole output and the end of a job."""
        seen: list[tuple[bytes, Exit]] = []

        async def scenario(executor: Executor) -> None:
            running = await executor.start(spec)
            seen.append((await everything(running), await running.wait()))

        self.run(scenario)
        return seen[0]

    def end_all(self) -> None:
        """End what still works in the directory: what a test left when it failed would slow the
        others down.
        """
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (entry / "cwd").readlink() == self.cwd:
                    os.kill(int(entry.name), signal.SIGKILL)

    def open_gate(self) -> None:
        (self.cwd / "gate").touch()

    def pid(self, name: str) -> int:
        """A pid that the job wrote to a file."""
        path = self.cwd / name
        until(lambda: path.exists() and path.read_text().endswith("\n"))
        return int(path.read_text())


@pytest.fixture(params=EXECUTORS, ids=lambda make: make.__name__)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    world = World(request.param, tmp_path)
    yield world
    world.end_all()


async def everything(running: Running, offset: int = 0, channel: str = OUTPUT) -> bytes:
    return b"".join([chunk async for chunk in running.output(offset, channel)])


def is_dead(pid: int) -> bool:
    """The process is gone, or a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_output_is_merged_and_the_exit_code_is_known(world: World) -> None:
    output, end = world.ends(world.shell("echo out; echo err >&2; exit 3"))
    assert output == b"out\nerr\n"
    assert (end.reason, end.exit_code, end.error) == ("exited", 3, None)
    assert (end.output_bytes, end.kept_bytes) == (8, 8)


def test_a_job_gets_its_own_environment_directory_and_no_input(world: World) -> None:
    env = {"PATH": os.environ["PATH"], "A": "1", "EMPTY": "", "UTF": "é\n="}
    output, _ = world.ends(world.spec("env", "-0", env=env))
    assert sorted(output.rstrip(b"\0").split(b"\0")) == sorted(
        f"{name}={value}".encode() for name, value in env.items()
    )
    output, end = world.ends(world.shell("pwd; cat; echo done", job="job-2"))
    assert output.decode() == f"{world.cwd}\ndone\n"
    assert end.exit_code == 0


def test_arguments_reach_the_job_byte_for_byte(world: World) -> None:
    argv = ("printf", "%s|", "", "a b", "*", "$HOME", "é", os.fsdecode(b"\xff"), "\n")
    assert world.ends(world.spec(*argv))[0] == b"|a b|*|$HOME|\xc3\xa9|\xff|\n|"


def test_a_job_killed_by_a_signal_has_a_negative_exit_code(world: World) -> None:
    assert world.ends(world.shell("kill -9 $$"))[1].exit_code == -9


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"argv": ("no-such-thing",)}, "No such program: 'no-such-thing'."),
        ({"argv": ("./no/such",)}, "No such program: './no/such'."),
        ({"argv": ("./plain",)}, "No permission to run the program, or it is not executable"),
        ({"argv": ("./noise",)}, "Not a program that this system can run"),
        ({"argv": ("true", "x" * 3_000_000)}, "are too long: 'true'."),
        ({"cwd": "/no/such"}, "No such working directory: '/no/such'."),
        ({"cwd": "/dev/null"}, "The working directory is not a directory: '/dev/null'."),
        ({"argv": ('é"\\\n🙂',)}, "No such program: 'é\"\\\\\\n🙂'."),
    ],
)
def test_what_cannot_be_run_ends_with_a_sentence(
    world: World, changes: dict[str, Any], sentence: str
) -> None:
    (world.cwd / "plain").write_text("text")
    (world.cwd / "noise").write_bytes(b"\0\1\2")
    (world.cwd / "noise").chmod(0o700)
    env = {"PATH": os.environ["PATH"], "X_TOKEN": "s3cr3t"}
    output, end = world.ends(world.spec("true", **{"env": env, **changes}))
    assert output == b""
    assert (end.reason, end.exit_code, end.output_bytes) == ("spawn_failed", None, 0)
    assert end.error is not None
    assert sentence in end.error
    assert "s3cr3t" not in end.error


def test_output_is_seen_while_the_job_runs_and_from_any_offset(world: World) -> None:
    async def scenario(executor: Executor) -> None:
        running = await executor.start(world.shell(f"echo one; {WAIT_FOR_GATE} echo two"))
        live = running.output()
        assert await anext(live) == b"one\n"
        late = asyncio.create_task(everything(running, 2))
        world.open_gate()
        assert await anext(live) == b"two\n"
        assert [chunk async for chunk in live] == []
        assert await late == b"e\ntwo\n"
        assert await everything(running) == b"one\ntwo\n"
        assert await everything(running, 100) == b""

    world.run(scenario)


def test_a_large_output_is_complete_and_comes_in_bounded_chunks(world: World) -> None:
    async def scenario(executor: Executor) -> None:
        spec = world.shell("seq 1 300000", output_limit=10_000_000)
        running = await executor.start(spec)
        chunks = [chunk async for chunk in running.output()]
        assert max(map(len, chunks)) <= CHUNK
        assert b"".join(chunks) == b"".join(b"%d\n" % n for n in range(1, 300_001))

    world.run(scenario)


def test_output_over_the_limit_is_counted_and_dropped(world: World) -> None:
    output, end = world.ends(world.shell("head -c 500000 /dev/zero; echo end", output_limit=1_000))
    assert output == b"\0" * 1_000
    assert (end.reason, end.output_bytes, end.kept_bytes) == ("exited", 500_004, 1_000)
    assert world.ends(world.shell("echo x", job="job-2", output_limit=0))[0] == b""


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("echo up; exec sleep 60", -signal.SIGTERM),
        ("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done", 0),
        ("trap '' TERM; echo up; while :; do sleep 0.01; done", -signal.SIGKILL),
        ("trap '' TERM; echo up; while :; do echo chatter; done", -signal.SIGKILL),
        ("echo up; kill -STOP $$; echo never", -signal.SIGTERM),
    ],
    ids=["plain", "cooperative", "deaf", "deaf-and-chatty", "stopped"],
)
@pytest.mark.parametrize("how", ["cancelled", "timed_out"])
def test_cancel_and_timeout_end_every_job(world: World, script: str, code: int, how: str) -> None:
    async def scenario(executor: Executor) -> None:
        timeout_ms = 1_000 if how == "timed_out" else 0
        spec = world.shell(script, timeout_ms=timeout_ms, grace_ms=200, output_limit=10_000)
        running = await executor.start(spec)
        live = running.output()
        assert (await anext(live)).startswith(b"up\n")
        if how == "cancelled":
            await asyncio.gather(running.cancel(), running.cancel())
            await running.cancel()
        end = await running.wait()
        assert (end.reason, end.exit_code) == (how, code)
        assert end.kept_bytes == len(await everything(running))
        await running.cancel()
        assert await running.wait() == end

    world.run(scenario)


def test_a_cancel_reaches_the_whole_group(world: World) -> None:
    async def scenario(executor: Executor) -> None:
        script = (
            "(trap '' TERM; sh -c 'echo $PPID > deaf'; while :; do sleep 0.01; done) & sleep 60"
        )
        running = await executor.start(world.shell(script, grace_ms=100))
        deaf = await asyncio.to_thread(world.pid, "deaf")
        await running.cancel()
        assert (await running.wait()).reason == "cancelled"
        await soon(lambda: is_dead(deaf))

    world.run(scenario)


@pytest.mark.parametrize("turns", range(0, 60, 6))
def test_a_cancel_at_any_instant_of_the_start_ends_the_job_once(world: World, turns: int) -> None:
    async def scenario(executor: Executor) -> None:
        running = await executor.start(world.shell("echo ran >> ran; exec sleep 60"))
        for _ in range(turns):
            await asyncio.sleep(0.0005)
        await running.cancel()
        end = await running.wait()
        assert end.reason == "cancelled"
        assert end.exit_code in (None, -signal.SIGTERM)

    world.run(scenario)


def test_an_end_before_the_cancel_stays_an_end(world: World) -> None:
    async def scenario(executor: Executor) -> None:
        running = await executor.start(world.shell("exit 0"))
        end = await running.wait()
        await running.cancel()
        assert await running.wait() == end
        assert end.reason == "exited"

    world.run(scenario)


NAMED = {"PATH": os.environ["PATH"], "CREWLOG_JOB_ID": JOB, "CREWLOG_ATTEMPT": "1"}
"""The environment by which the processes of an attempt are found."""


@pytest.mark.parametrize(
    ("script", "lines"),
    [
        ("(sleep 0.3; echo late) & echo first", [b"first", b"late"]),
        (
            "mkfifo p; (sleep 0.2; sed 's/^/| /') < p & exec > p; seq 500; exit 3",
            [b"| %d" % n for n in range(1, 501)],
        ),
        ("mkfifo p; tee copy < p & exec > p 2>&1; echo out; echo err >&2", [b"out", b"err"]),
        (
            "mkfifo p; setsid sed 's/^/| /' < p & exec > p; trap 'echo bye' EXIT; echo work",
            [b"| work", b"| bye"],
        ),
    ],
    ids=["late", "filter", "tee", "in a session of its own"],
)
def test_what_holds_the_output_may_finish_when_the_first_process_has_left(
    world: World, script: str, lines: list[bytes]
) -> None:
    output, end = world.ends(world.shell(script, env=NAMED))
    assert output.splitlines() == lines
    assert end.reason == "exited"
    assert end.kept_bytes == len(output)


def test_the_end_is_the_exit_and_not_the_pipe(world: World) -> None:
    """A process that holds the output for ever cannot keep the job running, even if detached."""
    script = (
        "sleep 60 & echo $! > inside; env -u CREWLOG_JOB_ID setsid sh -c "
        "'echo $$ > outside; exec sleep 60' & while [ ! -s outside ]; do sleep 0.01; done; "
        "echo last; exit 4"
    )
    output, end = world.ends(world.shell(script, env=NAMED))
    outside = world.pid("outside")
    try:
        assert (output, end.reason, end.exit_code) == (b"last\n", "exited", 4)
        assert is_dead(world.pid("inside"))
        assert not is_dead(outside)
    finally:
        os.kill(outside, signal.SIGKILL)


# Each starts `sh job`, and waits for it unless it detaches it.
DETACHED = {
    "timeout": "timeout 60 sh job; echo never",
    "monitor": "set -m; sh job & wait",
    "session": "setsid sh job & wait",
    "daemon": "(setsid sh job > /dev/null 2>&1 &); sleep 60",
    "daemon's daemon": "(setsid sh -c '(setsid sh job &)' > /dev/null 2>&1 &); sleep 60",
    "other title": "(exec -a other setsid env CREWLOG_ATTEMPT=7 sh job &); sleep 60",
}


def detached(world: World, how: str, job: str, after: str = "") -> AttemptSpec:
    (world.cwd / "job").write_text(job)
    script = f"{DETACHED[how]}{after}"
    return world.spec("bash", "-c", script, env=NAMED, grace_ms=60_000)


@pytest.mark.parametrize("how", DETACHED)
def test_a_cancel_ends_what_detached_itself(world: World, how: str) -> None:
    async def scenario(executor: Executor) -> None:
        job = "echo $$ > pid; while :; do sleep 0.01; done"
        running = await executor.start(detached(world, how, job))
        pid = await asyncio.to_thread(world.pid, "pid")
        await running.cancel()
        assert (await running.wait()).reason == "cancelled"
        assert is_dead(pid)

    world.run(scenario)


@pytest.mark.parametrize("how", DETACHED)
def test_the_time_limit_ends_what_detached_itself(world: World, how: str) -> None:
    job = "echo $$ > pid; while :; do sleep 0.01; done"
    spec = replace(detached(world, how, job), timeout_ms=1_500)
    assert world.ends(spec)[1].reason == "timed_out"
    assert is_dead(world.pid("pid"))


TITLED = """
import ctypes, os, time
if os.fork():
    os._exit(0)
os.setsid()
null = os.open(os.devnull, os.O_RDWR)
for descriptor in (0, 1, 2):
    os.dup2(null, descriptor)
with open("/proc/self/stat") as file:
    begin, end = map(int, file.read().rpartition(")")[2].split()[47:49])
ctypes.memmove(begin, b"worker".ljust(end - begin), end - begin)
with open("pid", "w") as file:
    print(os.getpid(), file=file)
time.sleep(60)
"""
"""A daemon that does as Perl and others do when they set the title of their process."""


@pytest.mark.parametrize("end", ["exited", "cancelled", "timed_out"])
def test_a_daemon_that_writes_its_title_over_its_environment_is_ended(
    world: World, end: str
) -> None:
    """It has not removed what it is known by: nobody can read it any more."""
    (world.cwd / "titled.py").write_text(TITLED)
    script = f"{sys.executable} titled.py; while [ ! -s pid ]; do sleep 0.01; done"
    if end != "exited":
        script += "; echo up; sleep 60"
    spec = world.shell(script, env=NAMED, timeout_ms=2_000 if end == "timed_out" else 0)

    async def scenario(executor: Executor) -> None:
        running = await executor.start(spec)
        if end == "cancelled":
            await anext(running.output())
            await running.cancel()
        assert (await running.wait()).reason == end
        assert is_dead(world.pid("pid"))

    world.run(scenario)


@pytest.mark.parametrize(
    "given", ["env -i", "env -i ONE=1", "env -u CREWLOG_JOB_ID", "env CREWLOG_JOB_ID=other"]
)
def test_what_was_left_on_purpose_lives(world: World, given: str) -> None:
    script = (
        f"{given} setsid /bin/sh -c 'echo $$ > pid; exec /bin/sleep 60' > /dev/null 2>&1 & "
        "while [ ! -s pid ]; do sleep 0.01; done; sleep 0.2"
    )
    assert world.ends(world.shell(script, env=NAMED))[1].reason == "exited"
    left = world.pid("pid")
    try:
        assert not is_dead(left)
    finally:
        os.kill(left, signal.SIGKILL)


@pytest.mark.parametrize("deaf", [False, True])
def test_nothing_of_an_attempt_lives_when_it_has_left_by_itself(world: World, deaf: bool) -> None:
    job = f"trap '{'' if deaf else 'exit'}' TERM; echo $$ > pid; while :; do sleep 0.01; done"
    (world.cwd / "job").write_text(job)
    script = "(setsid sh job > /dev/null 2>&1 &); while [ ! -s pid ]; do sleep 0.01; done"
    output, end = world.ends(world.shell(script, env=NAMED, grace_ms=300 if deaf else 60_000))
    assert (output, end.reason, end.exit_code) == (b"", "exited", 0)
    assert is_dead(world.pid("pid"))


CHAIN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
breath = os.open("breath", os.O_WRONLY)
for fd in 0, 1, 2:
    os.close(fd)
open("begun", "w").close()
end = time.monotonic() + 60
while time.monotonic() < end:
    if os.fork():
        os._exit(0)
    os.setsid()
"""


@pytest.mark.parametrize("end", ["exited", "cancelled"])
def test_a_chain_of_processes_that_each_begin_the_next_is_ended(world: World, end: str) -> None:
    """None of them lives until all processes have been examined."""
    os.mkfifo(world.cwd / "breath")
    breath = os.open(world.cwd / "breath", os.O_RDONLY | os.O_NONBLOCK)
    (world.cwd / "chain.py").write_text(CHAIN)
    script = f"{sys.executable} -IS chain.py & while [ ! -e begun ]; do sleep 0.01; done; echo up"
    spec = world.shell(
        script + ("; sleep 60" if end == "cancelled" else ""), env=NAMED, grace_ms=200
    )

    async def scenario(executor: Executor) -> None:
        running = await executor.start(spec)
        assert await anext(running.output()) == b"up\n"
        if end == "cancelled":
            await running.cancel()
        assert (await running.wait()).reason == end

    try:
        world.run(scenario)
        assert os.read(breath, 1) == b"", "Somebody still holds the pipe."
    finally:
        os.close(breath)


@pytest.mark.parametrize("how", ["cancelled", "timed_out"])
@pytest.mark.parametrize("around", ["sh job; echo after", "sh job | cat", "setsid sh job & wait"])
def test_all_of_an_attempt_has_the_grace_and_no_longer_than_it_needs(
    world: World, around: str, how: str
) -> None:
    (world.cwd / "job").write_text(
        "trap 'sleep 0.7; echo > cleaned; exit' TERM; echo $$ > pid; while :; do sleep 0.01; done"
    )

    async def scenario(executor: Executor) -> None:
        spec = world.spec(
            "bash",
            "-c",
            around,
            env=NAMED,
            grace_ms=60_000,
            timeout_ms=1_500 if how == "timed_out" else 0,
        )
        running = await executor.start(spec)
        pid = await asyncio.to_thread(world.pid, "pid")
        if how == "cancelled":
            await running.cancel()
        assert (await running.wait()).reason == how
        assert (world.cwd / "cleaned").exists()
        assert is_dead(pid)

    world.run(scenario)


def test_each_process_is_asked_to_end_once(world: World) -> None:
    """Many programs take a second SIGTERM as an order to end at once."""
    (world.cwd / "job").write_text(
        "trap 'echo asked >> asked' TERM; echo $$ > pid; "
        "while [ ! -s asked ]; do sleep 0.01; done; sleep 0.3; sleep 0.3"
    )

    async def scenario(executor: Executor) -> None:
        script = "setsid sh job & cp job other; sed -i 's/pid/pid2/' other; sh other; wait"
        running = await executor.start(world.shell(script, env=NAMED, grace_ms=60_000))
        await asyncio.to_thread(world.pid, "pid")
        await asyncio.to_thread(world.pid, "pid2")
        await running.cancel()
        await running.wait()
        assert (world.cwd / "asked").read_text() == "asked\n" * 2

    world.run(scenario)


def test_a_cancel_hurries_what_is_left_and_leaves_the_end_as_it_was(world: World) -> None:
    async def scenario(executor: Executor) -> None:
        script = "(while :; do echo on; sleep 0.1; done) & echo $$ > pid; exit 3"
        running = await executor.start(world.shell(script, env=NAMED))
        first = await asyncio.to_thread(world.pid, "pid")
        await soon(lambda: is_dead(first))
        await running.cancel()
        end = await running.wait()
        assert (end.reason, end.exit_code) in (("exited", 3), ("cancelled", 3))

    world.run(scenario)


def test_a_job_that_closes_its_output_is_still_running(world: World) -> None:
    output, end = world.ends(world.shell("echo x; exec >&- 2>&-; sleep 0.1; exit 7"))
    assert (output, end.exit_code) == (b"x\n", 7)


def test_an_attempt_runs_once_however_often_it_is_started(world: World) -> None:
    async def scenario(executor: Executor) -> None:
        spec = world.shell("echo ran >> ran; echo out")
        runs = await asyncio.gather(*(executor.start(spec) for _ in range(4)))
        ends = [await run.wait() for run in runs]
        ends.append(await (await executor.start(spec)).wait())
        assert len(set(ends)) == 1

    world.run(scenario)
    world.run(scenario)
    assert (world.cwd / "ran").read_text() == "ran\n"


def test_attempts_of_a_job_are_apart(world: World) -> None:
    assert world.ends(world.shell("echo first", attempt=1))[0] == b"first\n"
    assert world.ends(world.shell("echo second", attempt=2))[0] == b"second\n"


def test_what_never_began_is_not_adopted_and_can_be_started(world: World) -> None:
    async def scenario(executor: Executor) -> None:
        assert await executor.adopt(JOB, 1) is None
        running = await executor.start(world.shell("echo x"))
        assert await executor.adopt(JOB, 2) is None
        assert await everything(running) == b"x\n"

    world.run(scenario)


def test_a_running_attempt_is_adopted_with_all_its_output(world: World) -> None:
    script = f"echo one; {WAIT_FOR_GATE} echo two; exit 5"

    async def first_life(executor: Executor) -> None:
        running = await executor.start(world.shell(script))
        assert await anext(running.output()) == b"one\n"

    async def second_life(executor: Executor) -> None:
        running = await executor.adopt(JOB, 1)
        assert running is not None
        world.open_gate()
        assert await everything(running, 1) == b"ne\ntwo\n"
        assert (await running.wait()).exit_code == 5

    world.run(first_life)
    world.run(second_life)


def test_an_attempt_that_ended_while_no_server_ran_is_adopted(world: World) -> None:
    async def first_life(executor: Executor) -> None:
        await executor.start(world.shell(f"{WAIT_FOR_GATE} echo alone; echo > done; exit 4"))

    async def second_life(executor: Executor) -> None:
        running = await executor.adopt(JOB, 1)
        assert running is not None
        assert await everything(running) == b"alone\n"
        assert (await running.wait()).exit_code == 4

    world.run(first_life)
    world.open_gate()
    until((world.cwd / "done").exists)
    world.run(second_life)


def test_cancel_and_timeout_reach_an_adopted_attempt(world: World) -> None:
    async def first_life(executor: Executor) -> None:
        for job, timeout_ms in (("to-cancel", 0), ("to-end", 500)):
            script = "echo up; exec sleep 60"
            running = await executor.start(world.shell(script, job=job, timeout_ms=timeout_ms))
            assert await anext(running.output()) == b"up\n"

    async def second_life(executor: Executor) -> None:
        to_cancel = await executor.adopt("to-cancel", 1)
        to_end = await executor.adopt("to-end", 1)
        assert to_cancel is not None
        assert to_end is not None
        await to_cancel.cancel()
        assert (await to_cancel.wait()).reason == "cancelled"
        assert (await to_end.wait()).reason == "timed_out"

    world.run(first_life)
    world.run(second_life)


OUTLIVES_LIMIT = "echo up; sleep 1.3; echo still; "


def test_no_time_counts_while_an_attempt_is_held_also_by_an_earlier_server(world: World) -> None:
    async def first_life(executor: Executor) -> None:
        spec = world.shell(f"{OUTLIVES_LIMIT} exec sleep 60", timeout_ms=1_000)
        running = await executor.start(spec)
        await running.hold()
        assert await anext(running.output()) == b"up\n"

    async def second_life(executor: Executor) -> None:
        running = await executor.adopt(JOB, 1)
        assert running is not None
        await running.hold()
        assert await anext(running.output(3)) == b"still\n"
        await running.release()
        assert (await running.wait()).reason == "timed_out"
        await running.hold()
        await running.release()

    world.run(first_life)
    world.run(second_life)


def test_the_limit_is_later_by_as_long_as_an_attempt_was_held(world: World) -> None:
    async def scenario(executor: Executor) -> None:
        spec = world.shell(f"{OUTLIVES_LIMIT} {WAIT_FOR_GATE} exit 7", timeout_ms=1_200)
        running = await executor.start(spec)
        await running.hold()
        live = running.output()
        while b"still" not in await anext(live):
            pass
        await running.release()
        await running.release()
        world.open_gate()
        end = await running.wait()
        assert (end.reason, end.exit_code) == ("exited", 7)
        await running.discard()
        await running.hold()

    world.run(scenario)


def test_a_held_attempt_can_be_cancelled(world: World) -> None:
    async def scenario(executor: Executor) -> None:
        running = await executor.start(world.shell("echo up; exec sleep 60", timeout_ms=60_000))
        assert await anext(running.output()) == b"up\n"
        await running.hold()
        await running.cancel()
        assert (await running.wait()).reason == "cancelled"

    world.run(scenario)


def test_a_server_killed_before_it_told_of_a_hold_has_held_nevertheless(tmp_path: Path) -> None:
    world = World(LocalExecutor, tmp_path)

    async def scenario(executor: Executor) -> None:
        spec = world.shell(f"{OUTLIVES_LIMIT} exec sleep 60", timeout_ms=1_000)
        running = await executor.start(spec)
        live = running.output()
        assert await anext(live) == b"up\n"
        (world.root / JOB / "1" / "held").touch()
        assert await anext(live) == b"still\n"
        await running.release()
        assert (await running.wait()).reason == "timed_out"

    world.run(scenario)


def test_a_job_outlives_a_server_that_is_killed_and_no_byte_is_lost(world: World) -> None:
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(world.root), str(world.cwd)],
        stdout=subprocess.PIPE,
        cwd=HERE,
    )
    assert server.stdout is not None
    with server.stdout:
        assert server.stdout.readline() == b"1\n"
        server.kill()
        server.wait()

    async def second_life(executor: Executor) -> None:
        running = await executor.adopt(JOB, 1)
        assert running is not None
        world.open_gate()
        output = await everything(running)
        assert output == b"".join(b"%d\n" % n for n in range(1, 50_001))
        end = await running.wait()
        assert (end.reason, end.exit_code, end.output_bytes) == ("exited", 9, len(output))

    world.run(second_life)


SERVER = textwrap.dedent(
    f"""
    import asyncio, os, sys
    from pathlib import Path
    from scheduler.executors.contract import AttemptSpec
    from scheduler.executors.local import LocalExecutor

    async def main():
        script = "seq 1 25000; {WAIT_FOR_GATE} seq 25001 50000; exit 9"
        env = {{"PATH": os.environ["PATH"]}}
        spec = AttemptSpec("{JOB}", 1, ("sh", "-c", script), sys.argv[2], env, 0, 10**7)
        running = await LocalExecutor(Path(sys.argv[1])).start(spec)
        async for chunk in running.output():
            print(chunk.split()[0].decode(), flush=True)

    asyncio.run(main())
    """
)


# Channels and the inbox


def test_each_channel_has_a_spool_of_its_own(world: World) -> None:
    script = (
        'echo "$CREWLOG_CHANNELS"; echo wrong >&2; echo {\\"n\\": 1} >&3; echo 2 >&4; '
        "ls /proc/self/fd | wc -l"
    )
    names = ("journal", "stderr", "other")

    async def scenario(executor: Executor) -> None:
        running = await executor.start(world.shell(script, channels=names))
        end = await running.wait()
        assert await everything(running) == b"stderr:2 journal:3 other:4\n6\n"
        found = {name: await everything(running, channel=name) for name in names}
        assert found == {"stderr": b"wrong\n", "journal": b'{"n": 1}\n', "other": b"2\n"}
        assert await everything(running, 5, channel="journal") == b" 1}\n"
        assert await everything(running, channel="none") == b""
        assert set(end.others) == {Kept("stderr", 6, 6), Kept("journal", 9, 9), Kept("other", 2, 2)}
        assert end.output_bytes == len(await everything(running))

    world.run(scenario)


def test_many_channels_do_not_take_each_others_place(world: World) -> None:
    names = tuple(f"c{number}" for number in range(12))
    script = "".join(f'os.write({fd}, b"{name}"); ' for fd, name in enumerate(names, 3))

    async def scenario(executor: Executor) -> None:
        argv = (sys.executable, "-c", f"import os; {script}")
        running = await executor.start(world.spec(*argv, channels=names))
        assert (await running.wait()).exit_code == 0
        for name in names:
            assert await everything(running, channel=name) == name.encode()
        failed = await executor.start(world.spec("no-such-thing", job="job-2", channels=names))
        assert (await failed.wait()).reason == "spawn_failed"

    world.run(scenario)


def test_the_limit_holds_for_each_channel(world: World) -> None:
    async def scenario(executor: Executor) -> None:
        script = "echo out; head -c 500000 /dev/zero >&3; echo more >&2"
        spec = world.shell(script, channels=("journal",), output_limit=1_000)
        running = await executor.start(spec)
        end = await running.wait()
        assert await everything(running) == b"out\nmore\n"
        assert await everything(running, channel="journal") == b"\0" * 1_000
        assert end.others == (Kept("journal", 500_000, 1_000),)

    world.run(scenario)


def test_channels_are_live_and_are_adopted(world: World) -> None:
    script = f"echo one >&3; {WAIT_FOR_GATE} echo two >&3; echo done"

    async def first_life(executor: Executor) -> None:
        running = await executor.start(world.shell(script, channels=("journal",)))
        assert await anext(running.output(channel="journal")) == b"one\n"

    async def second_life(executor: Executor) -> None:
        running = await executor.adopt(JOB, 1)
        assert running is not None
        journal = running.output(channel="journal")
        assert await anext(journal) == b"one\n"
        world.open_gate()
        assert await anext(journal) == b"two\n"
        assert await everything(running) == b"done\n"

    world.run(first_life)
    world.run(second_life)


READER = textwrap.dedent(
    """
    import os, sys
    from pathlib import Path
    sys.path.append(sys.argv[1])
    from scheduler.executors.inbox import Inbox

    # What a frame has it do is a line, which has the number of the frame: so it knows where it was.
    heard = os.open("heard", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    lines = os.read(heard, 10**7).splitlines()
    after = int(lines[-1].split()[0]) if lines else 0
    inbox = Inbox(Path(os.environ["CREWLOG_INBOX"]), after)
    Path("reader").write_text(f"{os.getpid()}\\n")
    while True:
        frame = inbox.next()
        if frame.data == b"leave":
            break
        os.write(heard, b"%d %s\\n" % (frame.number, frame.data))
    print("left")
    """
)
"""Reads its inbox until a frame says `leave`."""


def spoken_to(world: World) -> AttemptSpec:
    """A job that starts its reader again each time that the reader is killed."""
    (world.cwd / "reader.py").write_text(READER)
    script = 'until "$1" -ISE reader.py "$2"; do :; done'
    return world.spec("sh", "-c", script, "sh", sys.executable, str(HERE), inbox=True)


def heard(world: World) -> list[str]:
    path = world.cwd / "heard"
    return path.read_text().splitlines() if path.exists() else []


def expected(count: int) -> list[str]:
    return [f"{number} frame {number}" for number in range(1, count + 1)]


async def says(running: Running, *numbers: int) -> None:
    for number in numbers:
        await running.send(Frame(number, b"frame %d" % number))


async def leaves(world: World, running: Running, number: int) -> None:
    await running.send(Frame(number, b"leave"))
    assert (await everything(running)).endswith(b"left\n")  # the shell also reports killed readers
    assert (await running.wait()).exit_code == 0


def test_a_process_reads_each_frame_once_and_in_order(world: World) -> None:
    async def scenario(executor: Executor) -> None:
        running = await executor.start(spoken_to(world))
        assert await running.sent() == 0
        await says(running, 1, 2)
        await soon(lambda: heard(world) == expected(2))
        await says(running, 2, 1, 3, 3)
        assert await running.sent() == 3
        await leaves(world, running, 7)
        assert heard(world) == expected(3)
        await running.send(Frame(8, b"nobody reads it"))
        await running.discard()
        await running.send(Frame(9, b"nor this"))
        assert await running.sent() == 0

    world.run(scenario)


def test_who_is_not_spoken_to_has_no_inbox(world: World) -> None:
    async def scenario(executor: Executor) -> None:
        running = await executor.start(world.shell("echo ${CREWLOG_INBOX-none}"))
        await running.send(Frame(1, b"x"))
        assert await running.sent() == 0
        assert await everything(running) == b"none\n"

    world.run(scenario)


def test_large_frames_and_odd_bytes_arrive_as_they_are(world: World) -> None:
    script = (
        "import os, sys; from pathlib import Path; sys.path.append(sys.argv[1]); "
        "from scheduler.executors.inbox import Inbox; "
        "box = Inbox(Path(os.environ['CREWLOG_INBOX'])); "
        "[sys.stdout.buffer.write(box.next().data) for _ in range(3)]"
    )
    frames = [b"", bytes(range(256)) * 8_000, b"\n\0"]

    async def scenario(executor: Executor) -> None:
        argv = (sys.executable, "-ISE", "-c", script, str(HERE))
        running = await executor.start(world.spec(*argv, inbox=True, output_limit=10**7))
        for number, data in enumerate(frames, 5):
            await running.send(Frame(number, data))
        assert await everything(running) == b"".join(frames)

    world.run(scenario)


def test_a_frame_is_read_once_also_when_its_reader_is_killed(world: World) -> None:
    async def scenario(executor: Executor) -> None:
        running = await executor.start(spoken_to(world))
        for number in range(1, 31):
            await says(running, number)
            if number % 6 == 0:
                await asyncio.to_thread(kill_reader, world)
        await soon(lambda: len(heard(world)) >= 30)
        await leaves(world, running, 31)
        assert heard(world) == expected(30)

    world.run(scenario)


def test_a_frame_is_sent_while_readers_come_and_go(tmp_path: Path) -> None:
    """A reader may leave between the look for one and the byte that wakes it."""
    inbox, over = tmp_path / "inbox", threading.Event()
    make(inbox)

    def come_and_go() -> None:
        while not over.is_set():
            os.close(os.open(f"{inbox}.bell", os.O_RDONLY | os.O_NONBLOCK))

    reader = threading.Thread(target=come_and_go)
    reader.start()
    try:
        outbox = Outbox(inbox)
        for number in range(1, 1_001):
            outbox.put(Frame(number, b"."))
        assert outbox.last() == 1_000
    finally:
        over.set()
        reader.join()


def kill_reader(world: World) -> None:
    """Kill the reader at any moment."""
    os.kill(world.pid("reader"), signal.SIGKILL)
    (world.cwd / "reader").unlink(missing_ok=True)


@pytest.mark.parametrize("reader_too", [False, True])
def test_a_frame_is_read_once_also_when_its_server_is_killed(
    world: World, reader_too: bool
) -> None:
    """A server sends frame after frame and is killed; the next one repeats those that may have been
    sent.
    """

    async def begins(executor: Executor) -> None:
        await executor.start(spoken_to(world))

    world.run(begins)
    sent = 0
    for _ in range(3):
        server = subprocess.Popen(
            [sys.executable, "-c", SPEAKER, str(world.root), str(sent)],
            stdout=subprocess.PIPE,
            cwd=HERE,
        )
        assert server.stdout is not None
        with server.stdout:
            for _ in range(20):
                sent = int(server.stdout.readline())
            if reader_too:
                kill_reader(world)
            server.kill()
            server.wait()

    async def ends(executor: Executor) -> None:
        running = await executor.adopt(JOB, 1)
        assert running is not None
        last = await running.sent()
        assert last >= sent
        await soon(lambda: len(heard(world)) >= last)
        await leaves(world, running, last + 1)
        assert heard(world) == expected(last)

    world.run(ends)


SPEAKER = textwrap.dedent(
    f"""
    import asyncio, itertools, sys
    from pathlib import Path
    from scheduler.executors.inbox import Frame
    from scheduler.executors.local import LocalExecutor

    async def main():
        running = await LocalExecutor(Path(sys.argv[1])).adopt("{JOB}", 1)
        for number in itertools.count(int(sys.argv[2])):
            if number:
                await running.send(Frame(number, b"frame %d" % number))
            print(number, flush=True)

    asyncio.run(main())
    """
)
"""A server that sends frames from a number on."""


def test_a_frame_that_was_written_by_half_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "inbox"
    make(path)
    Outbox(path).put(Frame(3, b"whole"))
    whole = path.read_bytes()
    reader = Inbox(path)
    Outbox(path).put(Frame(4, b"another frame"))
    torn = path.read_bytes()
    for length in range(len(whole), len(torn)):
        path.write_bytes(torn[:length])
        assert Outbox(path).last() == 3
        path.write_bytes(torn[:length])
        Outbox(path).put(Frame(4, b"another frame"))
        assert path.read_bytes() == torn
    Outbox(path).put(Frame(3, b"said again"))
    assert path.read_bytes() == torn
    within = tmp_path / "within"
    make(within)
    Outbox(within).put(Frame(9, b"what a longer one held"))
    Outbox(path).put(Frame(5, b"AAAA" + within.read_bytes() + b"A"))
    path.write_bytes(path.read_bytes()[:-1])
    Outbox(path).put(Frame(5, b"BBBB"))
    assert [frame.number for frame in iter(Inbox(path).take, None)] == [3, 4, 5]
    path.write_bytes(torn)
    assert [reader.next(0), reader.next(0), reader.next(0)] == [
        Frame(3, b"whole"),
        Frame(4, b"another frame"),
        None,
    ]
    reader.close()


def test_what_a_reader_is_not_done_with_is_given_again(tmp_path: Path) -> None:
    path = tmp_path / "inbox"
    make(path)
    outbox = Outbox(path)
    for number in (1, 2, 3):
        outbox.put(Frame(number, b"x"))
    for done, rest in ((0, [1, 2, 3]), (2, [3]), (3, [])):
        reader = Inbox(path)
        if done:
            reader.done(done)
            reader.close()
            reader = Inbox(path)
        assert [frame.number for frame in iter(reader.take, None)] == rest
        reader.close()


@pytest.mark.parametrize("number", [0, -1, 1 << 64])
def test_a_frame_has_a_number_that_can_be_written(number: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Frame(number, b"")


def test_an_ended_attempt_is_discarded_and_a_running_one_is_not(world: World) -> None:
    async def scenario(executor: Executor) -> None:
        running = await executor.start(world.shell(WAIT_FOR_GATE))
        with pytest.raises(RuntimeError):
            await running.discard()
        world.open_gate()
        await running.wait()
        await running.discard()
        await running.discard()
        assert await executor.adopt(JOB, 1) is None
        assert await everything(running) == b""

    world.run(scenario)


def test_a_sweep_leaves_what_runs_and_what_is_wanted(world: World) -> None:
    async def scenario(executor: Executor) -> None:
        for job in ("wanted", "unwanted"):
            await (await executor.start(world.shell("echo x", job=job))).wait()
        running = await executor.start(world.shell(WAIT_FOR_GATE + "echo y", job="runs"))
        await executor.sweep([("wanted", 1)])
        # An ended shim may hold its lock for a moment; then the next sweep removes it.
        while await executor.adopt("unwanted", 1) is not None:
            await executor.sweep([("wanted", 1)])
        wanted = await executor.adopt("wanted", 1)
        assert wanted is not None
        assert await everything(wanted) == b"x\n"
        world.open_gate()
        assert await everything(running) == b"y\n"

    world.run(scenario)


def test_what_an_earlier_server_began_and_nobody_wants_is_named(world: World) -> None:
    async def first(executor: Executor) -> None:
        running = await executor.start(world.shell("echo on; sleep 60", job="left"))
        assert await anext(running.output()) == b"on\n"

    async def second(executor: Executor) -> None:
        assert await executor.unwanted([]) == [("left", 1)]
        assert await executor.unwanted([("left", 1)]) == []
        running = await executor.adopt("left", 1)
        assert running is not None
        await running.cancel()
        assert (await running.wait()).reason == "cancelled"
        await running.discard()
        assert await executor.unwanted([]) == []

    world.run(first)
    world.run(second)


@pytest.mark.parametrize(
    "changes",
    [
        {"job_id": "../x"},
        {"job_id": ".."},
        {"job_id": ""},
        {"job_id": "a/b"},
        {"job_id": "a\n"},
        {"attempt": 0},
        {"argv": ()},
        {"argv": ("",)},
        {"argv": ("a", "b\0")},
        {"argv": ("a", "\ud800")},
        {"cwd": "relative"},
        {"env": {"A=B": "s3cr3t"}},
        {"env": {"A": "s3cr3t\0"}},
        {"timeout_ms": -1},
        {"output_limit": -1},
        {"channels": ("output",)},
        {"channels": ("journal", "journal")},
        {"channels": ("a:b",)},
    ],
)
def test_what_no_system_can_run_is_refused(world: World, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\.$") as refused:
        world.spec(**{"argv": ("true",), **changes})
    assert "s3cr3t" not in str(refused.value)


# The local executor: how it keeps those promises with files, locks and signals.


@pytest.fixture
def here(tmp_path: Path) -> World:
    return World(LocalExecutor, tmp_path)


def prepared(world: World, spec: AttemptSpec) -> Path:
    """The directory of an attempt just before its shim starts."""
    directory = world.root / spec.job_id / str(spec.attempt)
    prepare(directory, spec, threading.Lock())
    return directory


def shims(directory: Path, count: int = 1) -> list[int]:
    return [spawn(directory, "main.main", ".") for _ in range(count)]


def reap(pids: list[int]) -> None:
    for pid in pids:
        os.waitpid(pid, 0)


@pytest.mark.parametrize("version", ["0.2.0", "0.3.0"])
def test_an_attempt_that_an_earlier_version_began_is_adopted(here: World, version: str) -> None:
    """A shim and the directory of its attempt outlive an upgrade."""
    text = (HERE / "tests" / "golden" / f"shim-{version}.txt").read_text()
    (here.cwd / "shim.py").write_text(text)
    running = prepared(here, here.shell(f"echo one; {WAIT_FOR_GATE} echo two; exit 5"))
    to_cancel = prepared(here, here.shell("echo up; exec sleep 60", job=f"{JOB}-2"))
    boot = "import sys; sys.path.append(sys.argv[1]); import shim; shim.main(*sys.argv[2:])"
    began = [
        subprocess.Popen(
            [sys.executable, "-ISE", "-c", boot, str(here.cwd), str(directory)],
            start_new_session=True,
        )
        for directory in (running, to_cancel)
    ]
    until(lambda: all((directory / "started").exists() for directory in (running, to_cancel)))

    async def scenario(executor: Executor) -> None:
        runs = [await executor.adopt(job, 1) for job in (JOB, f"{JOB}-2")]
        assert runs[0] is not None
        assert runs[1] is not None
        assert await anext(runs[1].output()) == b"up\n"
        await runs[1].cancel()
        assert (await runs[1].wait()).reason == "cancelled"
        here.open_gate()
        assert await everything(runs[0]) == b"one\ntwo\n"
        end = await runs[0].wait()
        assert (end.reason, end.exit_code, end.others) == ("exited", 5, ())
        await runs[0].send(Frame(1, b"nobody hears it"))
        await runs[0].discard()

    here.run(scenario)
    for process in began:
        process.wait()


def test_an_earlier_version_runs_what_a_later_one_prepared(here: World) -> None:
    """Its start may have been under way when its server was killed."""
    (here.cwd / "shim.py").write_text((HERE / "tests" / "golden" / "shim-0.3.0.txt").read_text())
    directory = prepared(here, here.shell("echo out; echo err >&2", channels=("stderr",)))
    boot = "import sys; sys.path.append(sys.argv[1]); import shim; shim.main(*sys.argv[2:])"
    argv = [sys.executable, "-ISE", "-c", boot, str(here.cwd), str(directory)]
    subprocess.run(argv, check=True, start_new_session=True)
    assert (directory / "spool").read_bytes() == b"out\nerr\n"


def test_two_shims_of_an_attempt_run_it_once(here: World) -> None:
    directory = prepared(here, here.shell("echo ran >> ran"))
    reap(shims(directory, 4))
    reap(shims(directory, 1))
    assert (here.cwd / "ran").read_text() == "ran\n"
    assert not (directory / "spec").exists()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at /proc")
def test_no_program_begins_before_the_marker_is_there(here: World) -> None:
    """The first process is forked earlier, and the shim may be killed in between."""
    for number in range(60):
        job = f"{JOB}-{number}"
        directory = prepared(here, here.shell(f"echo ran > {number}", job=job))
        [shim] = shims(directory)
        children, child = Path(f"/proc/{shim}/task/{shim}/children"), ""
        while not child and not (directory / "exit.json").exists():  # it may be too late for this
            child = children.read_text()
        time.sleep(0.0002 * (number % 20))  # to kill it at another instruction each time
        os.kill(shim, signal.SIGKILL)
        reap([shim])
        until(partial(is_dead, int(child or shim)), "the first process ends too")
        assert (directory / "started").exists() or not (here.cwd / str(number)).exists()


def test_a_job_that_is_cancelled_before_the_marker_is_there_never_runs(here: World) -> None:
    directory = prepared(here, here.shell("echo ran > ran"))
    (directory / "cancel").touch()
    reap(shims(directory))
    assert json.loads((directory / "exit.json").read_text())["reason"] == "cancelled"
    assert (directory / "started").exists()
    assert not (here.cwd / "ran").exists()


def test_a_shim_begun_before_adopt_says_never_began_runs_nothing(here: World) -> None:
    directory = prepared(here, here.shell("echo ran >> ran"))

    async def scenario(executor: Executor) -> None:
        assert await executor.adopt(JOB, 1) is None
        await asyncio.to_thread(reap, shims(directory))
        assert not (here.cwd / "ran").exists()
        await (await executor.start(here.shell("echo ran >> ran"))).wait()

    here.run(scenario)
    assert (here.cwd / "ran").read_text() == "ran\n"


def kill_shim_of(world: World, then: Callable[[Running], Awaitable[None]], adopt: bool) -> None:
    """Kills the shim of a job under its server, or under one that has adopted the job."""

    async def first_life(executor: Executor) -> None:
        running = await executor.start(world.shell("echo $$ > child; echo $PPID > shim; sleep 60"))
        await asyncio.to_thread(world.pid, "shim")
        if not adopt:
            os.kill(world.pid("shim"), signal.SIGKILL)
            await then(running)

    async def second_life(executor: Executor) -> None:
        running = await executor.adopt(JOB, 1)
        assert running is not None
        os.kill(world.pid("shim"), signal.SIGKILL)
        await then(running)

    world.run(first_life)
    if adopt:
        world.run(second_life)


@pytest.mark.parametrize("adopt", [False, True])
def test_an_attempt_whose_shim_is_killed_is_lost_and_dead(here: World, adopt: bool) -> None:
    async def then(running: Running) -> None:
        end = await running.wait()
        assert (end.reason, end.exit_code) == ("lost", None)
        assert end.error
        await soon(lambda: is_dead(here.pid("child")))

    kill_shim_of(here, then, adopt)

    async def later(executor: Executor) -> None:
        running = await executor.adopt(JOB, 1)
        assert running is not None
        assert (await running.wait()).reason == "lost"
        await running.discard()

    here.run(later)


@pytest.mark.parametrize("swept", [False, True])
@pytest.mark.parametrize(
    "begun",
    ["", "setsid ", "env -u CREWLOG_JOB_ID ", "env -i ", "env -u CREWLOG_ATTEMPT setsid "],
    ids=["group", "session", "no job", "nothing", "no attempt"],
)
def test_what_is_left_of_an_attempt_whose_shim_is_killed_is_ended(
    here: World, begun: str, swept: bool
) -> None:
    """By an adoption, or by a sweep that does not want the attempt. Other attempts stay."""
    script = (
        f"{begun}sleep 4321 & echo $! > left; "
        "CREWLOG_ATTEMPT=2 setsid sleep 4321 & echo $! > other; "
        "echo $$ > child; echo $PPID > shim; sleep 4322; true"
    )

    async def first_life(executor: Executor) -> None:
        await executor.start(here.shell(script, env=NAMED))
        await asyncio.to_thread(here.pid, "shim")
        # Before that it is a copy of its shell, with the shell's environment.
        other = Path(f"/proc/{here.pid('other')}/cmdline")
        await soon(lambda: other.read_bytes().startswith(b"sleep"))

    async def second_life(executor: Executor) -> None:
        if swept:
            await executor.sweep(set())
        else:
            running = await executor.adopt(JOB, 1)
            assert running is not None
            assert (await running.wait()).reason == "lost"
        assert is_dead(here.pid("left"))
        await soon(lambda: is_dead(here.pid("child")))

    here.run(first_life)
    os.kill(here.pid("shim"), signal.SIGKILL)
    until(lambda: is_dead(here.pid("shim")))
    here.run(second_life)
    assert not is_dead(here.pid("other"))
    os.kill(here.pid("other"), signal.SIGKILL)


@pytest.mark.parametrize("free", [1, 2, 3])
def test_a_server_out_of_descriptors_sees_its_attempt_through_nevertheless(
    here: World, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    """With so few left, an attempt can be started but not looked at."""
    monkeypatch.setattr(local, "LOOK_INTERVAL_S", 0.01)
    unforeseen: list[dict[str, Any]] = []

    async def scenario(executor: Executor) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: unforeseen.append(context))
        looks = 0

        def count() -> None:
            nonlocal looks
            looks += 1
            loop.call_later(0.01, count)

        with few_descriptors(free):
            running = await executor.start(here.shell(f"echo out; {WAIT_FOR_GATE} exit 3"))
            output = asyncio.create_task(everything(running))
            count()
            await soon(lambda: looks > 20)
        here.open_gate()
        assert await output == b"out\n"
        assert (await running.wait()).exit_code == 3

    here.run(scenario)
    assert unforeseen == []


def test_a_cancel_is_not_lost_to_a_lack_of_descriptors(here: World) -> None:
    async def scenario(executor: Executor) -> None:
        running = await executor.start(here.shell("echo up; exec sleep 60"))
        async for _ in running.output():
            break
        with few_descriptors(0):
            await running.cancel()
        assert (await running.wait()).reason == "cancelled"

    here.run(scenario)


@contextmanager
def few_descriptors(free: int) -> Iterator[None]:
    """Only `free` more descriptors can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = []
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 32, hard))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(free):
            os.close(taken.pop())
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_environment_lies_on_disk_only_until_it_is_read(here: World) -> None:
    async def scenario(executor: Executor) -> None:
        env = {"PATH": os.environ["PATH"], "X_TOKEN": "s3cr3t-value"}
        running = await executor.start(here.shell("echo up; " + WAIT_FOR_GATE, env=env))
        assert await anext(running.output()) == b"up\n"
        directory = here.root / JOB / "1"
        files = [path for path in directory.iterdir() if path.is_file()]
        assert all(b"s3cr3t-value" not in path.read_bytes() for path in files)
        assert directory.stat().st_mode & 0o777 == 0o700
        assert all(path.stat().st_mode & 0o077 == 0 for path in files)
        here.open_gate()
        await running.wait()

    here.run(scenario)


def test_a_job_inherits_no_descriptor_and_no_signal_setting(here: World) -> None:
    with socket.socket() as listener:
        listener.set_inheritable(True)
        output, _ = here.ends(
            here.shell("ls /proc/self/fd; grep -E 'Sig(Blk|Ign)' /proc/self/status")
        )
    *descriptors, blocked, ignored = output.decode().splitlines()
    assert descriptors == ["0", "1", "2", "3"]  # 3 is the directory that `ls` reads
    for mask in (blocked, ignored):
        assert int(mask.split()[1], 16) & 0x7FFF_FFFF == 0  # 32 and up belong to the C library


def test_the_shim_knows_nothing_of_the_servers_environment(here: World) -> None:
    os.environ["CREWLOG_PROBE"] = "s3cr3t"
    try:
        output, _ = here.ends(here.shell("cat /proc/$PPID/environ"))
    finally:
        del os.environ["CREWLOG_PROBE"]
    assert b"s3cr3t" not in output


def test_a_job_and_its_shim_survive_the_signals_of_a_terminal(here: World) -> None:
    async def scenario(executor: Executor) -> None:
        running = await executor.start(here.shell(f"echo $PPID > shim; {WAIT_FOR_GATE} echo ok"))
        shim = await asyncio.to_thread(here.pid, "shim")
        assert os.getsid(shim) == shim
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(shim, number)
        here.open_gate()
        assert await everything(running) == b"ok\n"
        assert (await running.wait()).exit_code == 0

    here.run(scenario)


def test_what_a_job_leaves_is_reaped_while_it_runs(here: World) -> None:
    script = (
        "for i in 1 2 3 4 5; do (true & echo $! > born); done; born=$(cat born); "
        "while [ -e /proc/$born ]; do sleep 0.01; done; grep -sl '^State:.Z' /proc/[0-9]*/status "
        '| xargs grep -sl "^PPid:.$PPID$"; true'
    )
    output, end = here.ends(here.shell(script))
    assert (output, end.exit_code) == (b"", 0)


def test_no_descriptor_and_no_zombie_stays_behind(here: World) -> None:
    async def scenario(executor: Executor) -> None:
        # The first attempt starts the fork server, which all of them share.
        await (await executor.start(here.shell("true", job="first"))).wait()
        before, children = set(os.listdir("/proc/self/fd")), own_children()
        for number in range(10):
            running = await executor.start(here.shell("echo x", job=f"job-{number}"))
            assert await everything(running) == b"x\n"
            await running.wait()
        adopted = await executor.adopt("job-0", 1)
        assert adopted is not None
        failed = await executor.start(here.spec("no-such-thing", job="failing"))
        await failed.wait()
        await soon(lambda: own_children() <= children)
        assert set(os.listdir("/proc/self/fd")) == before

    here.run(scenario)


def own_children() -> set[int]:
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return set(map(int, children.split()))


def test_a_closed_executor_holds_nothing_and_ends_nothing(here: World) -> None:
    children = own_children()

    async def scenario(executor: Executor) -> None:
        before = set(os.listdir("/proc/self/fd"))
        await executor.start(here.shell(f"{WAIT_FOR_GATE} echo > done"))
        await executor.close()
        assert set(os.listdir("/proc/self/fd")) == before

    here.run(scenario)
    here.open_gate()
    until((here.cwd / "done").exists)
    reap(sorted(own_children() - children))


def test_a_full_disk_holds_the_output_back_and_loses_none(here: World) -> None:
    directory = prepared(here, here.shell("seq 1 20000; echo > done"))
    (directory / "spool").unlink()
    (directory / "spool").symlink_to("/dev/full")
    pids = shims(directory)
    until((here.cwd / "done").exists)
    assert not (directory / "exit.json").exists()
    (directory / "spool").unlink()
    reap(pids)
    expected = b"".join(b"%d\n" % n for n in range(1, 20_001))
    assert (directory / "spool").read_bytes() == expected
    end = json.loads((directory / "exit.json").read_bytes())
    assert (end["reason"], end["exit_code"], end["kept_bytes"]) == ("exited", 0, len(expected))


def test_a_job_that_waits_for_the_disk_can_be_cancelled(here: World) -> None:
    directory = prepared(here, here.shell("yes", grace_ms=100))
    (directory / "spool").unlink()
    (directory / "spool").symlink_to("/dev/full")
    pids = shims(directory)
    until((directory / "started").exists)
    (directory / "cancel").touch()
    control = os.open(directory / "control", os.O_RDWR)
    os.write(control, b".")
    (directory / "spool").unlink()
    reap(pids)
    os.close(control)
    assert json.loads((directory / "exit.json").read_bytes())["reason"] == "cancelled"


def test_a_root_that_cannot_be_written_fails_the_attempt_with_a_sentence(here: World) -> None:
    here.root.write_text("not a directory")
    output, end = here.ends(here.shell("echo x"))
    assert (output, end.reason) == (b"", "spawn_failed")
    assert end.error == "The job could not be prepared: File exists."


def test_an_attempt_whose_files_somebody_removes_is_lost(here: World) -> None:
    async def scenario(executor: Executor) -> None:
        running = await executor.start(here.shell(f"echo $$ > child; {WAIT_FOR_GATE}"))
        await asyncio.to_thread(here.pid, "child")
        (here.root / JOB).rename(here.cwd / "elsewhere")
        here.open_gate()
        assert (await running.wait()).reason == "lost"

    here.run(scenario)


STRANGE = {
    "a pipe": "rm -f {0}; mkfifo {0}",
    "a directory": "rm -f {0}; mkdir {0}",
    "a link to a pipe": "mkfifo {0}_pipe; ln -sf {0}_pipe {0}",
}


@pytest.mark.parametrize("adopt", [False, True], ids=["watched", "adopted"])
@pytest.mark.parametrize("how", STRANGE.values(), ids=STRANGE)
@pytest.mark.parametrize("name", ["exit.json", "spool", "lock"])
def test_an_attempt_that_replaces_a_file_of_its_own_is_ended_and_lost(
    here: World, name: str, how: str, adopt: bool
) -> None:
    """And the server goes on meanwhile: nothing waits for the other end of a pipe."""
    place = here.root / JOB / "1" / name
    script = f"{how.format(place)}; echo $$ > child; exec sleep 60"

    async def begins(executor: Executor) -> None:
        running = await executor.start(here.shell(script, env=NAMED))
        await asyncio.to_thread(here.pid, "child")
        if not adopt:
            await is_lost(running)

    async def goes_on(executor: Executor) -> None:
        running = await executor.adopt(JOB, 1)
        assert running is not None
        await is_lost(running)

    async def is_lost(running: Running) -> None:
        async with asyncio.timeout(20):
            await everything(running)
            end = await running.wait()
        assert (end.reason, end.exit_code) == ("lost", None)
        assert end.error == (
            f"The files of the running job cannot be read: {name} is not a regular file."
        )
        assert is_dead(here.pid("child"))
        await running.discard()

    here.run(begins)
    if adopt:
        here.run(goes_on)


@pytest.mark.parametrize("how", ["rm {0}", "rm {0}; echo > {0}"], ids=["gone", "a file"])
def test_an_attempt_that_takes_away_its_control_pipe_is_lost(here: World, how: str) -> None:
    """Nobody could cancel it any more."""
    place = here.root / JOB / "1" / "control"

    async def scenario(executor: Executor) -> None:
        running = await executor.start(here.shell(f"{how.format(place)}; exec sleep 60", env=NAMED))
        async with asyncio.timeout(20):
            end = await running.wait()
        assert end.reason == "lost"
        assert (end.error or "").startswith("The files of the running job cannot be read: ")

    here.run(scenario)


@pytest.mark.parametrize("name", ["cancel", "held"])
def test_a_pipe_in_the_place_of_a_marker_holds_up_nobody(here: World, name: str) -> None:
    place = here.root / JOB / "1" / name

    async def scenario(executor: Executor) -> None:
        running = await executor.start(here.shell(f"mkfifo {place}; echo $$ > child; sleep 60"))
        await asyncio.to_thread(here.pid, "child")
        await running.hold()
        await running.release()
        await running.cancel()
        assert (await running.wait()).reason == "cancelled"

    here.run(scenario)


@pytest.mark.parametrize("how", STRANGE.values(), ids=STRANGE)
def test_a_job_cannot_hold_up_its_end_at_the_draft_of_it(here: World, how: str) -> None:
    place = here.root / JOB / "1" / "exit.json.new"
    script = f"while [ ! -s {place} ]; do sleep 0.01; done; {how.format(place)}; exit 3"

    async def scenario(executor: Executor) -> None:
        running = await executor.start(here.shell(script))
        async with asyncio.timeout(20):
            end = await running.wait()
        if "mkdir" in how:  # which might hold something
            assert end.reason == "lost"
        else:
            assert (end.reason, end.exit_code) == ("exited", 3)

    here.run(scenario)


ENDS = [
    "[]",
    "{}",
    "[" * 100_000,
    '{"reason":"exited","exit_code":"0","output_bytes":0,"kept_bytes":0,"duration_ms":0,"error":null}',
    '{"reason":"won","exit_code":0,"output_bytes":0,"kept_bytes":0,"duration_ms":0,"error":null}',
    '{"reason":"exited","exit_code":0,"output_bytes":-1,"kept_bytes":0,"duration_ms":0,"error":null}',
    '{"reason":"exited","exit_code":0,"output_bytes":0,"kept_bytes":0,"duration_ms":0,'
    '"error":{"stage":"cwd","errno":1e400,"what":1}}',
    " " * 5_000_000,
]


@pytest.mark.parametrize("written", ENDS, ids=lambda written: written[:24])
def test_an_end_that_no_shim_has_written_is_lost(here: World, written: str) -> None:
    (here.cwd / "end").write_text(written)
    place = here.root / JOB / "1" / "exit.json"
    script = f"echo $$ > child; cp end {place}.2; mv {place}.2 {place}; exec sleep 60"

    async def scenario(executor: Executor) -> None:
        running = await executor.start(here.shell(script, env=NAMED))
        async with asyncio.timeout(20):
            assert (await running.wait()).reason == "lost"
        assert is_dead(here.pid("child"))
        await running.discard()

    here.run(scenario)


FORGED = (
    '{"reason":"exited","exit_code":0,"output_bytes":0,"kept_bytes":0,"duration_ms":1,"error":null}'
)


def test_an_end_that_the_job_has_written_is_not_its_end_without_the_lock_either(
    here: World,
) -> None:
    (here.cwd / "end").write_text(FORGED)
    place = here.root / JOB / "1"
    script = f"echo $$ > child; rm {place}/lock; cp end {place}/exit.json; exec sleep 60"

    async def scenario(executor: Executor) -> None:
        running = await executor.start(here.shell(script, env=NAMED))
        async with asyncio.timeout(20):
            assert (await running.wait()).reason == "lost"
        assert is_dead(here.pid("child"))

    here.run(scenario)


@pytest.mark.parametrize("how", STRANGE.values(), ids=STRANGE)
def test_an_attempt_that_replaces_its_marker_is_lost_with_its_shim(here: World, how: str) -> None:
    """What ends the rest of it waits for nothing that stands there."""
    place = here.root / JOB / "1" / "started"
    script = f"sleep 4323 & echo $! > left; {how.format(place)}; echo $PPID > shim; sleep 60"

    async def scenario(executor: Executor) -> None:
        running = await executor.start(here.shell(script, env=NAMED))
        os.kill(await asyncio.to_thread(here.pid, "shim"), signal.SIGKILL)
        async with asyncio.timeout(20):
            assert (await running.wait()).reason == "lost"
        assert is_dead(here.pid("left"))

    here.run(scenario)


@pytest.mark.parametrize("adopt", [False, True], ids=["watched", "adopted"])
def test_an_end_that_the_job_has_written_is_not_its_end(here: World, adopt: bool) -> None:
    (here.cwd / "end").write_text(FORGED)
    place = here.root / JOB / "1" / "exit.json"
    script = f"cp end {place}; echo . > {place.parent / 'bell'}; {WAIT_FOR_GATE} echo out; exit 3"

    async def begins(executor: Executor) -> None:
        running = await executor.start(here.shell(script, env=NAMED))
        await soon(place.exists)
        if not adopt:
            await ends(running)

    async def goes_on(executor: Executor) -> None:
        running = await executor.adopt(JOB, 1)
        assert running is not None
        await ends(running)

    async def ends(running: Running) -> None:
        waiting = asyncio.create_task(running.wait())
        done, _ = await asyncio.wait({waiting}, timeout=0.3)
        assert not done
        here.open_gate()
        end = await waiting
        assert (end.reason, end.exit_code, end.output_bytes) == ("exited", 3, 4)
        await running.discard()

    here.run(begins)
    if adopt:
        here.run(goes_on)


@pytest.mark.parametrize("name", ["spec.new", "spool", "lock", "exit.json.new", "inbox"])
def test_a_pipe_that_waits_for_an_attempt_holds_up_nobody(here: World, name: str) -> None:
    """An earlier attempt, or another job, may have put it there."""
    directory = here.root / JOB / "1"
    directory.mkdir(parents=True)
    os.mkfifo(directory / name)

    async def scenario(executor: Executor) -> None:
        async with asyncio.timeout(20):
            running = await executor.start(here.shell("echo x", inbox=True))
            end = await running.wait()
        assert end.reason == ("exited" if name == "exit.json.new" else end.reason)
        assert end.error or end.reason == "exited"

    here.run(scenario)
