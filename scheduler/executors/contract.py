"""What an executor promises: an attempt begins at most once, its output is kept, its end is known.

An executor runs attempts somewhere (`local`: a process on this machine) and knows nothing of jobs,
events or the log. What it runs outlives the server that asked for it; `adopt` finds it again. Every
executor passes `tests/conformance/test_executors.py`.
"""

import os
import re
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from scheduler.executors.inbox import Frame

Reason = Literal["exited", "cancelled", "timed_out", "spawn_failed", "lost"]

CHUNK = 262_144
"""The most bytes that `Running.output` yields at a time."""

OUTPUT = "output"
"""The channel that every attempt has."""

_JOB_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}", re.ASCII)
_CHANNEL = re.compile(r"[a-z][a-z0-9_]{0,30}", re.ASCII)


@dataclass(frozen=True, slots=True)
class AttemptSpec:
    """All that is needed to run one attempt. Raises `ValueError` where no system could run it.

    The environment's values are left out of the representation, and no error quotes them.
    """

    job_id: str  # a safe file name: letters, digits, '.', '_', '-'; does not begin with '.'
    attempt: int  # 1-based
    argv: tuple[str, ...]  # the program first; looked up in the PATH of `env`
    cwd: str  # absolute
    # The complete environment of the process. CREWLOG_JOB_ID and CREWLOG_ATTEMPT in it are how what
    # detached itself, or is left of a lost attempt, can be told from other processes, and ended.
    env: Mapping[str, str] = field(repr=False)
    timeout_ms: int  # wall clock from spawn; 0 = none
    output_limit: int  # bytes kept of each channel
    grace_ms: int = 5_000  # between SIGTERM and SIGKILL, for all that the attempt began
    # What it writes beside `output`. With `stderr` that is kept apart, else it is in `output`. The
    # process finds the descriptor of each in CREWLOG_CHANNELS, as in "stderr:2 journal:3".
    channels: tuple[str, ...] = ()
    # Whether it is spoken to: then the process finds its inbox at the path in CREWLOG_INBOX, and
    # reads it with `scheduler/executors/inbox.py`.
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
    """What an attempt wrote to a channel, in bytes, and what of it is in the spool."""

    channel: str
    written: int
    kept: int


@dataclass(frozen=True, slots=True)
class Exit:
    """How an attempt ended.

    Nothing that the attempt began lives then, but for what has left its session and has no
    CREWLOG_JOB_ID in its environment any more. `cancelled` and `timed_out` are what the executor
    did, whatever code the first process then ended with; one that ended before it was sent a signal
    has `exited`, and what still held the output had a moment to finish. `spawn_failed`: nothing
    ever ran. `lost`: it ran, and what watched it is gone, so nobody knows its exit code.
    """

    reason: Reason
    exit_code: int | None  # negative: killed by that signal; None: there was no process, or lost
    output_bytes: int  # what the process wrote to `output`
    kept_bytes: int  # what is in the spool; the rest was dropped from this offset on
    duration_ms: int  # of the first process
    error: str | None = None  # a sentence for a person, with spawn_failed and lost
    others: tuple[Kept, ...] = ()  # the other channels; none where it is lost


class Running(Protocol):
    """An attempt that has begun or ended. Its methods may be called at any time, in any order."""

    def output(self, offset: int = 0, channel: str = OUTPUT) -> AsyncIterator[bytes]:
        """Every byte kept of the channel from `offset` on, live, in chunks of at most `CHUNK`.

        Ends when the attempt has ended and everything was yielded. May be called again, with
        another offset. A channel that the attempt does not have yields nothing.
        """
        ...

    async def send(self, frame: Frame) -> None:
        """Puts the frame into the inbox; it is durable then. The process reads each once.

        A frame whose number is not above that of the last one is passed over, so whoever does not
        know whether a frame was sent before sends it again. Nothing happens where the attempt has
        no inbox, or none any more. OSError when the disk refuses.
        """
        ...

    async def sent(self) -> int:
        """The number of the last frame in the inbox, by whichever server; 0 where there is none."""
        ...

    async def wait(self) -> Exit:
        """The end. Any number of callers get the same one."""
        ...

    async def cancel(self) -> None:
        """SIGTERM to all that it began, SIGKILL after the grace. Idempotent, also at the end."""
        ...

    async def hold(self) -> None:
        """Lets no time count against the time limit until `release`: a person is waited for.

        Idempotent, also at the end, and remembered for the servers that adopt the attempt.
        """
        ...

    async def release(self) -> None:
        """Lets time count again; the limit is later by as long as the attempt was held."""
        ...

    async def discard(self) -> None:
        """Removes what is kept of an ended attempt; call it when the end is in the log.

        Raises `RuntimeError` while the attempt runs.
        """
        ...


class Executor(Protocol):
    """Begins attempts, and finds again those that an earlier server began."""

    async def start(self, spec: AttemptSpec) -> Running:
        """Begins the attempt. What cannot be run does not raise: it ends as `spawn_failed`.

        Starting an attempt that has begun before runs nothing and gives what `adopt` gives.
        """
        ...

    async def adopt(self, job_id: str, attempt: int) -> Running | None:
        """What an earlier server began: running, ended or lost. None: it never began here.

        After None nothing begins by itself any more, and `start` runs the attempt exactly once.
        """
        ...

    async def unwanted(self, keep: Collection[tuple[str, int]]) -> "list[tuple[str, int]]":
        """Attempts (job id, number) that an earlier server began and that are not in `keep`."""
        ...

    async def sweep(self, keep: Collection[tuple[str, int]]) -> None:
        """Removes what is kept of attempts (job id, number) neither running nor in `keep`."""
        ...

    async def close(self) -> None:
        """Lets go of every attempt without ending any.

        Whoever still waits for one waits for ever: cancel those tasks first.
        """
        ...
