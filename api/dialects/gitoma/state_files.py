"""The state files that gitoma keeps for each repository, as clients see them.

gitoma writes `<owner>__<name>.json`; crewlog only reads and deletes. The rules are those of
`contracts/gitoma.md` §8 (liveness) and §3 (slugs), without its failing 9.14: here a state names its
job, and a cancelled job does not leave an orphan.
"""

import asyncio
import logging
import os
import re
import stat
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from api.dialects.gitoma.state_jobs import StateJob
from domain.errors import Unavailable

logger = logging.getLogger("crewlog.gitoma")

State = dict[str, Any]

_FILE_LIMIT = 8 * 1024 * 1024
_HEARTBEAT_GRACE_S = 90.0
# The sequence of contracts/gitoma.md §5 up to DONE, its end.
_PHASES_AT_WORK = ("IDLE", "ANALYZING", "PLANNING", "WORKING", "PR_OPEN", "REVIEWING")

# A file that changes twice within one tick of the file system's clock looks unchanged after the
# second.
_CLOCK_TICK_NS = 1_000_000_000

_slug = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,100}").fullmatch


def _no_jobs(_: Collection[str]) -> Mapping[str, StateJob]:
    return {}


@dataclass(frozen=True, slots=True)
class _Version:
    """Tells two contents of a file apart without reading them."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "_Version":
        return cls(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    @property
    def settled(self) -> bool:
        return time.time_ns() - max(self.mtime_ns, self.ctime_ns) > _CLOCK_TICK_NS


class StatesUnavailable(Unavailable):
    """The server cannot use the state directory. The text says why."""


class StateDirectory:
    """The directory of gitoma's state files. It need not exist.

    `jobs_of` returns the jobs of state files by the files' names. The methods block: call them from
    a thread. They are thread-safe.
    """

    def __init__(
        self, root: Path, jobs_of: Callable[[Collection[str]], Mapping[str, StateJob]] = _no_jobs
    ) -> None:
        self.root = root
        self._jobs_of = jobs_of
        self._known: dict[str, tuple[_Version, State | None]] = {}

    def snapshot(self) -> list[State]:
        """Every state, the most recently changed file first.

        Each is the file's JSON object with `is_alive` (its pid is a running process), `is_orphaned`
        (it is at work, did not exit cleanly, is dead or had no heartbeat for 90 s, and its job
        neither runs here nor was cancelled), `heartbeat_age_s` (float or None) and, if a job of
        this server wrote it, `job_id`. A file is ignored unless it is a JSON object in a regular
        file of at most 8 MiB inside the directory. Raises OSError if the directory cannot be read.
        """
        now = datetime.now(UTC)
        known: dict[str, tuple[_Version, State | None]] = {}
        found: list[tuple[int, str, State]] = []
        for name in self._names():
            read = self._read(name)
            if read is None:
                continue
            version, state = read
            if version.settled:
                known[name] = read
            if state is not None:
                found.append((version.mtime_ns, name, state))
        self._known = known
        found.sort(key=lambda entry: (-entry[0], entry[1]))
        jobs = self._jobs_of([name for _, name, _ in found])
        return [state | _liveness(state, now, jobs.get(name)) for _, name, state in found]

    def delete(self, owner: str, name: str) -> bool:
        """Remove the state of `owner/name`, whatever it holds. Returns False if there was none.

        Raises ValueError with a sentence if either is not a slug (`contracts/gitoma.md` §3), or if
        the file is a link that leads out of the directory. Raises StatesUnavailable if it cannot be
        removed.
        """
        for part, slug in (("owner", owner), ("name", name)):
            if not _slug(slug):
                raise ValueError(
                    f"The {part} must be 1 to 100 letters, digits, '.', '_' or '-', "
                    "and must not begin with '.'."
                )
        path = self.root / f"{owner}__{name}.json"
        if not self._inside(path):
            raise ValueError("The state file is a link that leads out of the state directory.")
        try:
            path.unlink()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return False
        except OSError as error:
            logger.warning("A gitoma state file cannot be removed: %s", error.strerror)
            raise StatesUnavailable(
                "The state file cannot be removed: the server cannot write to the state directory."
            ) from error
        return True

    def _names(self) -> list[str]:
        try:
            with os.scandir(self.root) as entries:
                return [entry.name for entry in entries if _is_state_file(entry.name)]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _read(self, name: str) -> tuple[_Version, State | None] | None:
        """The file's version and state (None if it has no valid state); None if it cannot be
        read.
        """
        path = self.root / name
        try:
            if not self._inside(path):
                return None
            # Non-blocking: opening a pipe would wait for its other end.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode) or status.st_size > _FILE_LIMIT:
                    return None
                version = _Version.of(status)
                known = self._known.get(name)
                if known is not None and known[0] == version:
                    return known
                return version, _parse(file.read(_FILE_LIMIT))
        except OSError:
            return None

    def _inside(self, path: Path) -> bool:
        root = os.path.realpath(self.root)
        return not path.is_symlink() or Path(os.path.realpath(path)).is_relative_to(root)


def _is_state_file(name: str) -> bool:
    return name.endswith(".json") and not name.startswith(".")


def _parse(content: bytes) -> State | None:
    try:
        state = orjson.loads(content)
        # Deeper nesting can be read but not written. One such file must not hide the others.
        orjson.dumps([state])
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None
    return state if isinstance(state, dict) else None


def _liveness(state: State, now: datetime, job: StateJob | None) -> State:
    alive = _is_running(state.get("pid"))
    age = _age_s(state.get("last_heartbeat"), now)
    silent = age is not None and age > _HEARTBEAT_GRACE_S
    at_work = state.get("phase", "IDLE") in _PHASES_AT_WORK and not state.get("exit_clean")
    accounted_for = job is not None and job.accounted_for
    return {
        "is_alive": alive,
        "is_orphaned": at_work and (silent or not alive) and not accounted_for,
        "heartbeat_age_s": age,
    } | ({} if job is None else {"job_id": job.id})


def _is_running(pid: object) -> bool:
    if not isinstance(pid, int) or pid <= 0 or isinstance(pid, bool):
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def _age_s(heartbeat: object, now: datetime) -> float | None:
    if not isinstance(heartbeat, str):
        return None
    try:
        beat = datetime.fromisoformat(heartbeat)
    except ValueError:
        return None
    return (now - (beat if beat.tzinfo else beat.replace(tzinfo=UTC))).total_seconds()


@dataclass(frozen=True)
class _Snapshot:
    """All states at one moment. `serial` grows if readers must be told."""

    serial: int
    states: list[State]
    content: bytes

    @cached_property
    def frame(self) -> bytes:
        """The JSON array for the wire, encoded once for all readers."""
        return orjson.dumps(self.states)


def _survey(directory: StateDirectory) -> tuple[list[State], bytes]:
    """All states, and bytes that differ if the states have changed.

    The bytes leave out the age of a heartbeat, because it changes all the time.
    """
    states = directory.snapshot()
    return states, orjson.dumps([state | {"heartbeat_age_s": None} for state in states])


class _Watch:
    """The one task that watches the directory while anybody reads the feed."""

    def __init__(self, directory: StateDirectory, interval: float, spacing: float) -> None:
        self._directory = directory
        self._interval = interval
        self._spacing = spacing
        self._latest: _Snapshot | None = None
        self._news = asyncio.Event()
        self._poked = asyncio.Event()
        self._failing = False
        self._task = asyncio.create_task(self._run(), name="gitoma state watch")

    def poke(self) -> None:
        self._poked.set()

    async def after(self, serial: int) -> _Snapshot:
        """The newest snapshot, as soon as its serial is later than this one."""
        while self._latest is None or self._latest.serial <= serial:
            if self._task.done():
                await self._task
            await self._news.wait()
        return self._latest

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _run(self) -> None:
        try:
            while True:
                poked = self._poked.is_set()
                self._poked.clear()
                await self._look(poked)
                await asyncio.sleep(self._spacing)
                # Not wait_for: on Python 3.11 it can lose a cancellation that comes together with a
                # poke.
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._interval):
                        await self._poked.wait()
        finally:
            self._tell()

    async def _look(self, poked: bool) -> None:
        try:
            states, content = await asyncio.to_thread(_survey, self._directory)
            self._failing = False
        except OSError as error:
            if not self._failing:
                logger.warning("The gitoma state directory cannot be read: %s", error.strerror)
            self._failing = True
            states, content = [], b"[]"
        self._publish(states, content, poked)

    def _publish(self, states: list[State], content: bytes, poked: bool) -> None:
        latest = self._latest
        news = latest is None or poked or content != latest.content
        serial = (latest.serial if latest else 0) + news
        # Replaced even if nothing has changed, so that a new reader gets the present age.
        self._latest = _Snapshot(serial, states, content)
        if news:
            self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


class StateFeed:
    """Pushes the states of a directory to any number of readers.

    One watcher serves them all. It looks every `interval` seconds, and at once when poked (but not
    more often than every `spacing` seconds), and runs only while somebody reads. A reader holds a
    position and no queue: a slow one skips to the newest snapshot. For one event loop.
    """

    def __init__(
        self, directory: StateDirectory, interval: float = 0.5, spacing: float = 0.05
    ) -> None:
        self._directory = directory
        self._interval = interval
        self._spacing = spacing
        self._watch: _Watch | None = None
        self._readers = 0

    @property
    def readers(self) -> int:
        """The number of open subscriptions."""
        return self._readers

    @property
    def watching(self) -> bool:
        """Whether the watcher runs."""
        return self._watch is not None

    def poke(self) -> None:
        """Send a new snapshot to all readers now, changed or not: a job has started or ended."""
        if self._watch is not None:
            self._watch.poke()

    async def subscribe(self) -> AsyncGenerator[bytes, None]:
        """JSON arrays of all states: the present one at once, then one for each real change.

        A change of `heartbeat_age_s` alone does not count. Close it with `contextlib.aclosing`.
        """
        if self._watch is None:
            self._watch = _Watch(self._directory, self._interval, self._spacing)
        watch = self._watch
        self._readers += 1
        try:
            serial = -1
            while True:
                snapshot = await watch.after(serial)
                serial = snapshot.serial
                yield snapshot.frame
        finally:
            self._readers -= 1
            if self._readers == 0:
                self._watch = None
                await watch.stop()
