"""The fork server: the promises of an attempt hold whenever it is killed, and it keeps nothing of
attempts.
"""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from scheduler.executors import forks
from scheduler.executors.contract import Executor
from scheduler.executors.local import LocalExecutor
from tests.conformance.test_executors import (
    HERE,
    JOB,
    NAMED,
    WAIT_FOR_GATE,
    World,
    everything,
    is_dead,
)
from tests.kit.waiting import soon, until


@pytest.fixture
def here(tmp_path: Path) -> World:
    return World(LocalExecutor, tmp_path)


def fork_servers(world: World) -> list[int]:
    """The fork servers of the directory, oldest first."""
    found = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdecimal()):
        try:
            ours = os.readlink(f"/proc/{pid}/cwd") == str(world.root)
            begun = b"fork_server" in Path(f"/proc/{pid}/cmdline").read_bytes()
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if ours and begun and fields[0] not in "ZX":
            found.append((int(fields[19]), pid))
    return [pid for _, pid in sorted(found)]


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    until(lambda: is_dead(pid))


async def runs(executor: Executor, world: World, job: str) -> None:
    running = await executor.start(world.shell(f"echo {job}", job=job))
    assert await everything(running) == f"{job}\n".encode()
    assert (await running.wait()).exit_code == 0


def test_one_fork_server_serves_all_attempts_and_leaves_with_its_server(here: World) -> None:
    async def scenario(executor: Executor) -> None:
        await runs(executor, here, "one")
        servers = fork_servers(here)
        await asyncio.gather(*(runs(executor, here, f"more-{number}") for number in range(8)))
        assert fork_servers(here)[:1] == servers
        running = await executor.start(here.shell(f"echo $PPID > shim; {WAIT_FOR_GATE}"))
        shim = await asyncio.to_thread(here.pid, "shim")
        fields = Path(f"/proc/{shim}/stat").read_text().rpartition(")")[2].split()
        assert int(fields[1]) == servers[0]
        here.open_gate()
        await running.wait()

    here.run(scenario)
    until(lambda: fork_servers(here) == [])
    assert not (here.root / "forks").exists()


def test_attempts_go_on_and_others_begin_when_the_fork_server_is_killed(here: World) -> None:
    async def scenario(executor: Executor) -> None:
        running = await executor.start(here.shell(f"echo one; {WAIT_FOR_GATE} echo two; exit 5"))
        live = running.output()
        assert await anext(live) == b"one\n"
        to_cancel = await executor.start(here.shell("echo up; exec sleep 60", job="to-cancel"))
        assert await anext(to_cancel.output()) == b"up\n"
        (server,) = fork_servers(here)
        await asyncio.to_thread(kill, server)
        await runs(executor, here, "later")
        assert fork_servers(here)[0] != server
        await to_cancel.cancel()
        assert (await to_cancel.wait()).reason == "cancelled"
        here.open_gate()
        assert [chunk async for chunk in live] == [b"two\n"]
        assert (await running.wait()).exit_code == 5

    here.run(scenario)


@pytest.mark.parametrize("turn", range(0, 40, 5))
def test_each_attempt_runs_once_whenever_the_fork_server_is_killed(here: World, turn: int) -> None:
    async def scenario(executor: Executor) -> None:
        await runs(executor, here, "first")
        (server, *_) = fork_servers(here)
        jobs = [f"job-{number}" for number in range(12)]
        started = []
        for number, job in enumerate(jobs):
            started.append(await executor.start(here.shell(f"echo {job} >> ran", job=job)))
            if number == 6:
                for _ in range(turn):
                    await asyncio.sleep(0.0002)
                os.kill(server, signal.SIGKILL)
        ends = [await running.wait() for running in started]
        assert [(end.reason, end.exit_code) for end in ends] == [("exited", 0)] * len(jobs)
        assert sorted((here.cwd / "ran").read_text().split()) == sorted(jobs)

    here.run(scenario)


def test_the_next_server_takes_the_fork_server_over(here: World) -> None:
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(here.root), str(here.cwd)],
        stdout=subprocess.PIPE,
        cwd=HERE,
    )
    assert server.stdout is not None
    with server.stdout:
        assert server.stdout.readline() == b"up\n"
        before = fork_servers(here)
        server.kill()
        server.wait()

    async def second_life(executor: Executor) -> None:
        adopted = await executor.adopt(JOB, 1)
        assert adopted is not None
        await runs(executor, here, "later")
        assert fork_servers(here) == before
        here.open_gate()
        assert (await adopted.wait()).exit_code == 5

    here.run(second_life)
    until(lambda: fork_servers(here) == [])


SERVER = textwrap.dedent(
    f"""
    import asyncio, os, sys
    from pathlib import Path
    from scheduler.executors.contract import AttemptSpec
    from scheduler.executors.local import LocalExecutor

    async def main():
        script = "echo up; {WAIT_FOR_GATE} exit 5"
        env = {{"PATH": os.environ["PATH"]}}
        spec = AttemptSpec("{JOB}", 1, ("sh", "-c", script), sys.argv[2], env, 0, 10**7)
        running = await LocalExecutor(Path(sys.argv[1])).start(spec)
        async for chunk in running.output():
            print(chunk.decode(), end="", flush=True)

    asyncio.run(main())
    """
)


def test_nothing_of_an_attempt_lives_when_all_that_watched_it_is_killed(here: World) -> None:
    script = "setsid sleep 4321 & echo $! > left; echo $$ > child; echo $PPID > shim; sleep 4322"

    async def first_life(executor: Executor) -> None:
        await executor.start(here.shell(script, env=NAMED))
        shim = await asyncio.to_thread(here.pid, "shim")
        left = Path(f"/proc/{here.pid('left')}/cmdline")
        await soon(lambda: left.read_bytes().startswith(b"sleep"))
        for pid in (*fork_servers(here), shim):
            os.kill(pid, signal.SIGKILL)

    async def second_life(executor: Executor) -> None:
        running = await executor.adopt(JOB, 1)
        assert running is not None
        assert (await running.wait()).reason == "lost"
        assert is_dead(here.pid("left"))
        await soon(lambda: is_dead(here.pid("child")))

    here.run(first_life)
    here.run(second_life)


def test_a_fork_server_of_another_version_is_not_used(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(executor: Executor) -> None:
        running = await executor.start(here.shell(f"echo one; {WAIT_FOR_GATE} exit 5"))
        assert await anext(running.output()) == b"one\n"
        old = fork_servers(here)
        monkeypatch.setattr(forks, "_version", lambda: "another")
        later = LocalExecutor(here.root)
        adopted = await later.adopt(JOB, 1)
        assert adopted is not None
        await runs(later, here, "later")
        assert fork_servers(here)[-1] not in old
        here.open_gate()
        assert (await adopted.wait()).exit_code == 5
        await later.close()

    here.run(scenario)
    until(lambda: fork_servers(here) == [])


def test_it_is_in_a_session_of_its_own_and_holds_nothing_of_the_server(here: World) -> None:
    os.environ["CREWLOG_PROBE"] = "s3cr3t"
    with (here.cwd / "held").open("w") as held:
        os.set_inheritable(held.fileno(), True)

        async def scenario(executor: Executor) -> None:
            await runs(executor, here, "one")
            (server,) = fork_servers(here)
            assert os.getsid(server) == server
            assert b"s3cr3t" not in Path(f"/proc/{server}/environ").read_bytes()
            links = [os.readlink(path) for path in Path(f"/proc/{server}/fd").iterdir()]
            files = {link for link in links if link.startswith("/")}
            assert files == {os.devnull, str(here.root / "forks.lock")}
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                os.kill(server, number)
            await runs(executor, here, "two")
            assert fork_servers(here)[0] == server

        try:
            here.run(scenario)
        finally:
            del os.environ["CREWLOG_PROBE"]


def test_attempts_see_nothing_of_each_other(here: World) -> None:
    script = "ls /proc/self/fd | wc -l; ls /proc/$PPID/fd | wc -l; env | grep -c OF_; "
    script += "tr '\\0' '\\n' < /proc/$PPID/environ | grep -c OF_; "
    script += "ls -l /proc/$PPID/fd | grep -c -e socket: -e forks"

    async def one(executor: Executor, number: int) -> bytes:
        env = {"PATH": os.environ["PATH"], f"OF_{number}": "s3cr3t"}
        running = await executor.start(here.shell(script, job=f"job-{number}", env=env))
        return await everything(running)

    async def scenario(executor: Executor) -> None:
        alone = await one(executor, 0)
        assert alone.split()[2:] == [b"1", b"0", b"0"]
        for _ in range(2):
            seen = await asyncio.gather(*(one(executor, number) for number in range(1, 9)))
            for sight in map(bytes.split, seen):
                own, of_shim, *others = alone.split()
                assert [sight[0], *sight[2:]] == [own, *others]
                # A shim has a file open now and then; others of the eight would be many more.
                assert abs(int(sight[1]) - int(of_shim)) <= 2
            for number in range(1, 9):
                adopted = await executor.adopt(f"job-{number}", 1)
                assert adopted is not None
                await adopted.wait()
                await adopted.discard()

    here.run(scenario)


def test_its_memory_and_its_descriptors_stay_as_they_are(here: World) -> None:
    def held(server: int) -> tuple[int, int]:
        status = Path(f"/proc/{server}/status").read_text()
        (anonymous,) = (line.split()[1] for line in status.splitlines() if "RssAnon" in line)
        return int(anonymous), len(os.listdir(f"/proc/{server}/fd"))

    async def scenario(executor: Executor) -> None:
        async def some(count: int) -> None:
            for number in range(count):
                big: dict[str, Any] = {"env": {"PATH": os.environ["PATH"], "BIG": "x" * 60_000}}
                running = await executor.start(here.shell("true", job=f"job-{number}", **big))
                await running.wait()
                await running.discard()

        await some(20)
        (server, *_) = fork_servers(here)
        memory, descriptors = held(server)
        await some(120)
        await soon(lambda: held(server)[1] == descriptors)
        assert held(server)[0] <= memory + 128  # KiB: half of one attempt's environment

    here.run(scenario)
