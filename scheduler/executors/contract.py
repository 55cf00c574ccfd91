"""What an executor promises: an attempt begins at most once, its output is kept, its end is known.

An executor runs attempts somewhere (`local`: as a process on this machine) and knows nothing of
jobs, events or the log. The process outlives the server that started it; `adopt` finds it again.
Every executor passes `tests/conformance/test_executors.py`.
"""

import os
import re
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from scheduler.executors.inbox import Frame

Reason = Literal["exited", "cancelled", "timed_out", "spawn_failed", "lost"]

CHUNK = 262_144
"""Most bytes that `Running.output` yields at once."""

OUTPUT = "output"
"""The channel that every attempt has."""

_JOB_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}", re.ASCII)
_CHANNEL = re.compile(r"[a-z][a-z0-9_]{0,30}", re.ASCII)


@dataclass(frozen=True, slots=True)
class AttemptSpec:
    """Everything that is needed to run one attempt. Raises `ValueError` if no system could run it.

    The representation shows no values of the environment, and no error quotes them.
    """

    job_id: str  # a safe file name: letters, digits, '.', '_', '-'; does not begin with '.'
    attempt: int  # 1-based
    argv: tuple[str, ...]  # the program first; looked up in the PATH of `env`
    cwd: str  # absolute
    # The complete environment of the process. By CREWLOG_JOB_ID and CREWLOG_ATTEMPT in it, detached
    # processes and the rest of a lost attempt are recognised and ended.
    env: Mapping[str, str] = field(repr=False)
    timeout_ms: int  # wall clock from spawn; 0 = none
    output_limit: int  # bytes kept of each channel
    grace_ms: int = 5_000  # between SIGTERM and SIGKILL, for everything that the attempt began
    # Channels beside `output`. With `stderr` that is a channel of its own, otherwise it is part of
    # `output`. The process finds the descriptor of each in CREWLOG_CHANNELS, as in "stderr:2
    # journal:3".
    channels: tuple[str, ...] = ()
    # Whether it has an inbox. The process finds it at the path in CREWLOG_INBOX, and reads it with
    # `scheduler/executors/inbox.py`.
    inbox: bool = False

    def __post_init__(self) -> None:
        check_attempt(self.job_id, self.attempt)
        if not self.argv or not self.argv[0]:
            raise ValueError("There is no program to run.")
        if not os.path.isabs(self.cwd):
            raise ValueError("The working directory is not an absolute path.")
        if min(self.timeout_ms, self.output_limit, self.grace_ms) < 0:
            raise ValueError("A time or size of the attempt is below zero.")
        if any(not name or "=" in name for name in self.env):
            raise ValueError("The name of an environment variable is empty or contains '='.")
        names = {OUTPUT, *self.channels}
        if len(names) <= len(self.channels) or not all(map(_CHANNEL.fullmatch, names)):
            raise ValueError("The names of the channels are not valid.")
        for text in (*self.argv, self.cwd, *self.env, *self.env.values()):
            if not _can_be_passed(text):
                raise ValueError("An argument, path or variable holds a character no system takes.")


def check_attempt(job_id: str, attempt: int) -> None:
    """Raises `ValueError` unless the two can name an attempt's directory."""
    if not _JOB_ID.fullmatch(job_id):
        raise ValueError("The job id is not a safe file name.")
    if attempt < 1:
        raise ValueError("Attempts are counted from 1.")


def _can_be_passed(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


@dataclass(frozen=True, slots=True)
class Kept:
    """The bytes that an attempt wrote to a channel, and how many of them are in the spool."""

    channel: str
    written: int
    kept: int


@dataclass(frozen=True, slots=True)
class Exit:
    """How an attempt ended.

    No process of the attempt is alive then, except one that has left its session and has no
    CREWLOG_JOB_ID in its environment any more. `cancelled` and `timed_out` are what the executor
    did, whatever exit code followed. `exited`: the first process ended before it got a signal, and
    processes that still held the output had a moment to finish. `spawn_failed`: nothing ever ran.
    `lost`: it ran, but its shim is gone, so nobody knows its exit code.
    """

    reason: Reason
    exit_code: int | None  # negative: killed by that signal; None: no process, or lost
    output_bytes: int  # what the process wrote to `output`
    kept_bytes: int  # the part in the spool; the rest, from this offset on, was dropped
    duration_ms: int  # of the first process
    error: str | None = None  # a sentence for a person, with spawn_failed and lost
    others: tuple[Kept, ...] = ()  # the other channels; empty if the attempt is lost


class Running(Protocol):
    """An attempt that has begun or ended. Its methods may be called at any time, in any order."""

    def output(self, offset: int = 0, channel: str = OUTPUT) -> AsyncIterator[bytes]:
        """Every byte kept of the channel from `offset` on, live, in chunks of at most `CHUNK`.

        Ends when the attempt has ended and everything was yielded. May be called again, with
        another offset. A channel that the attempt does not have yields nothing.
        """
        ...

    async def send(self, frame: Frame) -> None:
        """Puts the frame into the inbox, durably. The process reads each frame once.

        A frame whose number is not above the last one is ignored. So a caller that does not know
        whether a frame was sent sends it again. Does nothing if the attempt has no inbox, or none
        any more. Raises OSError if the disk refuses.
        """
        ...

    async def sent(self) -> int:
        """The number of the last frame in the inbox, from any server; 0 if there is none."""
        ...

    async def wait(self) -> Exit:
        """The end. Any number of callers get the same one."""
        ...

    async def cancel(self) -> None:
        """SIGTERM to everything that it began, SIGKILL after the grace. Idempotent, also
        after the end.
        """
        ...

    async def hold(self) -> None:
        """Stops the clock of the time limit until `release`: the attempt waits for a person.

        Idempotent, also after the end. Servers that adopt the attempt know it too.
        """
        ...

    async def release(self) -> None:
        """Starts the clock again. The limit is later by the time that the attempt was held."""
        ...

    async def discard(self) -> None:
        """Removes the files of an ended attempt. Call it when the end is in the log.

        Raises `RuntimeError` while the attempt runs.
        """
        ...


class Executor(Protocol):
    """Begins attempts, and finds those that an earlier server began."""

    async def start(self, spec: AttemptSpec) -> Running:
        """Begins the attempt. Does not raise if it cannot be run: it ends as `spawn_failed`.

        If the attempt has begun before, it runs nothing and returns what `adopt` returns.
        """
        ...

    async def adopt(self, job_id: str, attempt: int) -> Running | None:
        """An attempt that an earlier server began: running, ended or lost. None: it never began
        here.

        After None nothing begins by itself any more, and `start` runs the attempt exactly once.
        """
        ...

    async def unwanted(self, keep: Collection[tuple[str, int]]) -> "list[tuple[str, int]]":
        """Attempts (job id, number) that an earlier server began and that are not in `keep`."""
        ...

    async def sweep(self, keep: Collection[tuple[str, int]]) -> None:
        """Removes the files of attempts (job id, number) that do not run and are not in `keep`."""
        ...

    async def close(self) -> None:
        """Releases every attempt without ending any.

        A caller that still waits for one waits for ever: cancel such tasks first.
        """
        ...
