"""The local executor: each attempt is a process on this machine, started and watched by a shim.

An attempt is a directory, `ROOT/JOB/ATTEMPT/`, described in `scheduler/executors/shim/`. The server
side here only reads it, so any server process can take over from another at any time. The lock on
the attempt's `lock` file decides whether the attempt is alive; a process id never does.
"""

import asyncio
import os
import resource
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Lock
from uuid import uuid4

from scheduler.executors.contract import (
    CHUNK,
    OUTPUT,
    AttemptSpec,
    Exit,
    Running,
    check_attempt,
)
from scheduler.executors.directories import (
    INBOX,
    REMOVED,
    check_control,
    check_spools,
    folders,
    open_bell,
    prepare,
    remove_directory,
    remove_left,
    take_lock,
    withdraw,
)
from scheduler.executors.ends import lost_exit, never_began, read_exit, removed_exit
from scheduler.executors.forks import Forked, Forks
from scheduler.executors.inbox import Frame, Outbox
from scheduler.executors.passing import PASSING
from scheduler.executors.removals import Removals
from scheduler.executors.shim.channels import spool_of
from scheduler.executors.shim.regular_file import NotRegular, open_regular
from scheduler.executors.spawned import nothing, watched

LOOK_INTERVAL_S = 0.5
"""Seconds between looks at a running attempt whose bell is silent: a killed shim cannot ring."""

_SOON_S = 0.005
"""Seconds until the first look whether a shim has left that has written its end."""


class LocalExecutor:
    """Runs attempts below `root`, a directory that only this executor uses; made with mode 0700."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        """The jobs' soft limit of open files. The server may raise its own limit, but programs that
        use `select`, or close all possible descriptors, need a low one.
        """
        self._runs: dict[tuple[str, int], _LocalRun] = {}
        self._forks = Forks(self._root)
        self._removals = Removals()
        self._job_folders = Lock()
        """Held while a job's folder is made with an attempt in it, or removed once it is empty."""

    async def start(self, spec: AttemptSpec) -> Running:
        key = (spec.job_id, spec.attempt)
        directory = self._directory(*key)
        await self._forks.ready()
        if key in self._runs or (directory / "started").exists():
            return self._follow(key)
        try:
            prepare(directory, spec, self._job_folders)
            shim = self._forks.begin(
                "main",
                f"{spec.job_id}/{spec.attempt}",
                str(self._descriptors),
                is_wanted=lambda: not (directory / "started").exists(),
            )
        except OSError as error:
            with suppress(OSError):
                (directory / "spec").unlink()
            return _NeverBegan(f"The job could not be prepared: {error.strerror}.")
        return self._follow(key, shim)

    async def adopt(self, job_id: str, attempt: int) -> Running | None:
        check_attempt(job_id, attempt)
        key = (job_id, attempt)
        directory = self._directory(*key)
        while key not in self._runs and not (directory / "started").exists():
            try:
                if withdraw(directory):
                    return None
                await asyncio.sleep(0.01)  # a shim is between its lock and its marker
            except OSError as error:
                if error.errno not in PASSING:
                    break  # it will never be known: the attempt is lost
                await asyncio.sleep(LOOK_INTERVAL_S)  # not known now, so do not decide yet
        return self._follow(key)

    async def unwanted(self, keep: Collection[tuple[str, int]]) -> list[tuple[str, int]]:
        wanted = set(keep)
        return [
            key
            for key, directory in self._attempts()
            if key not in wanted and (directory / "started").exists()
        ]

    async def sweep(self, keep: Collection[tuple[str, int]]) -> None:
        await asyncio.to_thread(remove_left, self._root)
        wanted = set(keep)
        await asyncio.gather(
            *(
                self._sweep_one(key, directory)
                for key, directory in self._attempts()
                if key not in wanted and key not in self._runs
            )
        )

    def _attempts(self) -> list[tuple[tuple[str, int], Path]]:
        """The attempts on the disk, by job id and number."""
        return [
            ((job.name, int(directory.name)), directory)
            for job in folders(self._root)
            if not job.name.startswith(REMOVED)
            for directory in folders(job)
            if directory.name.isdecimal()
        ]

    async def close(self) -> None:
        for run in list(self._runs.values()):
            run.let_go()
        self._runs.clear()
        self._forks.close()

    def remove(self, directory: Path) -> None:
        """Removes an attempt's directory: renames it at once, and deletes it in a thread."""
        removed = self._root / f"{REMOVED}{uuid4().hex}"
        with suppress(OSError):
            directory.rename(removed)  # `sweep` removes what stays
        self._removals.put(partial(remove_directory, removed, directory.parent, self._job_folders))

    def _directory(self, job_id: str, attempt: int) -> Path:
        return self._root / job_id / str(attempt)

    def _follow(self, key: tuple[str, int], shim: Forked | None = None) -> "_LocalRun":
        """The only run object of an attempt in this process: two would take bytes of the bell from
        each other.
        """
        if key not in self._runs:
            run = _LocalRun(self, self._directory(*key), shim, lambda: self._runs.pop(key, None))
            if run.look():
                return run
            self._runs[key] = run
        return self._runs[key]

    def end_left(self, directory: Path) -> Forked:
        """A process that ends the rest of an attempt without a shim."""
        return self._forks.begin("end_left", directory.parent.name, directory.name)

    async def _sweep_one(self, key: tuple[str, int], directory: Path) -> None:
        with suppress(OSError):
            lock = take_lock(directory)
            if lock is None:
                return
            try:
                began = (directory / "started").exists()
            finally:
                os.close(lock)
            if began:
                await self._follow(key).wait()
            self.remove(directory)


class _LocalRun:
    """Looks at an attempt's directory whenever its bell rings, its shim exits or time passes."""

    def __init__(
        self,
        executor: LocalExecutor,
        directory: Path,
        shim: Forked | None,
        at_end: Callable[[], object],
    ) -> None:
        self._executor = executor
        self._directory = directory
        self._shim = shim
        self._ender: Forked | None = None
        self._at_end = at_end
        self._loop = asyncio.get_running_loop()
        self._exit: Exit | None = None
        self._lost: Exit | None = None  # the end, once its processes are ended
        self._cancelled = False
        self._began = False
        self._outbox = Outbox(directory / INBOX)
        self._sending = asyncio.Lock()
        self._news = asyncio.Event()
        self._bell = watched(self._loop, open_bell(directory), self._hear)
        self._timer = self._loop.call_later(LOOK_INTERVAL_S, self._look_again)
        self._soon: asyncio.TimerHandle | None = None
        self._soon_s = _SOON_S
        if shim is not None:
            shim.at_exit = self.look

    async def output(self, offset: int = 0, channel: str = OUTPUT) -> AsyncIterator[bytes]:
        spool = await self._open_spool(spool_of(channel))
        if spool is None:
            return
        try:
            while True:
                # Both are taken before the read, so that no change in between is missed.
                ended, news = self._exit is not None, self._news
                chunk = os.pread(spool, CHUNK, offset)
                if chunk:
                    offset += len(chunk)
                    yield chunk
                    await asyncio.sleep(0)
                elif ended:
                    return
                else:
                    await news.wait()
        finally:
            os.close(spool)

    async def _open_spool(self, name: str) -> int | None:
        while True:
            try:
                return open_regular(str(self._directory / name))
            except OSError as error:
                if isinstance(error, NotRegular):
                    self._look(thorough=True)  # its end says that this cannot be read
                if error.errno not in PASSING:
                    return None  # discarded, or never readable any more
                await asyncio.sleep(LOOK_INTERVAL_S)  # too many open files; try again later

    async def send(self, frame: Frame) -> None:
        async with self._sending:
            with suppress(FileNotFoundError):
                await asyncio.to_thread(self._outbox.put, frame)

    async def sent(self) -> int:
        async with self._sending:
            with suppress(FileNotFoundError):
                return await asyncio.to_thread(self._outbox.last)
        return 0

    async def wait(self) -> Exit:
        while self._exit is None:
            await self._news.wait()
        return self._exit

    async def cancel(self) -> None:
        if self._exit is None:
            self._cancelled = True
            self._mark("cancel", b".")

    async def hold(self) -> None:
        if self._exit is None:
            self._mark("held", b"h")

    async def release(self) -> None:
        # Only with the marker: a shim of an earlier version takes every byte for a cancel.
        with suppress(OSError):
            (self._directory / "held").unlink()
            self._tell(b"h")

    async def discard(self) -> None:
        if self._exit is None:
            raise RuntimeError("The attempt is still running.")
        self._executor.remove(self._directory)

    def look(self) -> bool:
        """Looks for the end, and wakes every waiter if it is there."""
        return self._look(thorough=True)

    def let_go(self) -> None:
        self._timer.cancel()
        if self._soon is not None:
            self._soon.cancel()
        for shim in (self._shim, self._ender):
            if shim is not None:
                shim.at_exit = nothing
        if self._bell is not None:
            self._loop.remove_reader(self._bell)
            os.close(self._bell)
            self._bell = None

    def _mark(self, name: str, byte: bytes) -> None:
        # The marker first: a shim that opens its FIFO later looks for the marker then.
        with suppress(OSError):
            os.close(open_regular(str(self._directory / name), os.O_WRONLY | os.O_CREAT))
        with suppress(OSError):
            self._tell(byte)

    def _tell(self, byte: bytes) -> None:
        control = os.open(self._directory / "control", os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        try:
            os.write(control, byte)
        finally:
            os.close(control)

    def _look(self, thorough: bool) -> bool:
        if self._exit is None:
            try:
                self._exit = self._find_end(thorough)
            except OSError as error:
                # An error that may pass, such as too many open files, is waited for: look again.
                if error.errno not in PASSING:
                    why = f"The files of the running job cannot be read: {error.strerror}."
                    self._exit = self._once_ended(Exit("lost", None, 0, 0, 0, why))
            if self._exit is not None:
                self.let_go()
                self._at_end()
        news, self._news = self._news, asyncio.Event()
        news.set()
        return self._exit is not None

    def _look_again(self) -> None:
        self._timer = self._loop.call_later(LOOK_INTERVAL_S, self._look_again)
        if not self.look() and self._cancelled:
            self._mark("cancel", b".")  # earlier there may have been no descriptor for it

    def _look_soon(self) -> None:
        if self._soon is None:
            self._soon = self._loop.call_later(self._soon_s, self._look_now)
            self._soon_s = min(2 * self._soon_s, LOOK_INTERVAL_S)

    def _look_now(self) -> None:
        self._soon = None
        self.look()

    def _hear(self) -> None:
        if self._bell is not None:
            with suppress(BlockingIOError):
                os.read(self._bell, 65_536)
                self._began = True
            self._look(thorough=False)

    def _find_end(self, thorough: bool) -> Exit | None:
        if self._lost is not None:  # whatever its shim writes now
            return self._once_ended(self._lost)
        written = read_exit(self._directory)
        if written is None:
            return self._find_dead() if thorough else None
        if written.reason == "lost":
            return self._once_ended(written)
        # Until its shim has left, an end may be one that the job wrote. A lock that is gone raises.
        lock = take_lock(self._directory, make=False)
        if lock is None:
            self._look_soon()
            return None
        os.close(lock)
        check_spools(self._directory)
        last = read_exit(self._directory)
        if last is None or last.reason == "lost":
            return self._once_ended(last or lost_exit(self._directory))
        return last

    def _find_dead(self) -> Exit | None:
        """The end of an attempt that has no recorded end because its shim was killed."""
        began = (self._directory / "started").exists()
        if self._began and not began:
            return self._once_ended(removed_exit())
        self._began = began
        if began:
            check_spools(self._directory)
            check_control(self._directory)
        if not began and self._shim is not None and not self._shim.gone:
            return None
        # Not earlier: a shim that has not begun could find its lock held by this look.
        try:
            lock = take_lock(self._directory, make=not began)
        except FileNotFoundError:
            return self._once_ended(removed_exit())
        if lock is None:
            return None
        try:
            # Between the first look and the lock it may have ended normally, or begun and ended.
            written = read_exit(self._directory)
            if written is not None:
                return written if written.reason != "lost" else self._once_ended(written)
            if (self._directory / "started").exists():
                return self._once_ended(lost_exit(self._directory))
            (self._directory / "spec").unlink(missing_ok=True)
            return never_began("The process that runs the job ended before it began.")
        finally:
            os.close(lock)

    def _once_ended(self, lost: Exit) -> Exit | None:
        """The end, once no process of a lost attempt is alive."""
        self._lost = self._lost or lost
        if self._ender is None:
            with suppress(OSError):  # tried again at the next look
                self._ender = self._executor.end_left(self._directory)
                self._ender.at_exit = self.look
        return self._lost if self._ender is not None and self._ender.gone else None


class _NeverBegan:
    """A run of an attempt for which not even a shim could be started."""

    def __init__(self, error: str) -> None:
        self._exit = never_began(error)

    async def output(self, offset: int = 0, channel: str = OUTPUT) -> AsyncIterator[bytes]:
        for none in b"":
            yield bytes(none)

    async def send(self, frame: Frame) -> None:
        pass

    async def sent(self) -> int:
        return 0

    async def wait(self) -> Exit:
        return self._exit

    async def cancel(self) -> None:
        pass

    async def hold(self) -> None:
        pass

    async def release(self) -> None:
        pass

    async def discard(self) -> None:
        pass
