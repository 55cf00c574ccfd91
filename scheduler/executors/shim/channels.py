"""The channels of an attempt: each is a pipe, with a spool file behind it."""

# ruff: noqa: SIM105

import fcntl
import os

from scheduler.executors.shim.directory import READ_SIZE
from scheduler.executors.shim.spool import Spool

PIPE_SIZE = 1_048_576
DRAIN_LIMIT = 2 * PIPE_SIZE  # after the end; a daemon that holds the pipe may write for ever


class Channel:
    """The pipe of one channel. `targets` are the program's descriptors for it."""

    __slots__ = ("child", "fd", "is_open", "name", "spool", "targets", "written")

    def __init__(self, name: str, targets: tuple[int, ...], limit: int) -> None:
        self.name = name
        self.targets = targets
        self.spool = Spool(spool_of(name), limit)
        self.written = 0
        self.is_open = True  # a process may still write to it
        self.fd, self.child = os.pipe()
        grow_pipe(self.fd)
        os.set_blocking(self.fd, False)

    @property
    def is_read(self) -> bool:
        """Whether to read the pipe now: not while the disk accepts nothing."""
        return self.is_open and not self.spool.held

    def take(self) -> int:
        """Reads once. 0: nothing will come any more; below 0: there is nothing now."""
        try:
            data = os.read(self.fd, READ_SIZE)
        except BlockingIOError:
            return -1
        self.written += len(data)
        self.spool.write(data)
        self.is_open = bool(data)
        return len(data)

    def drain(self) -> None:
        """Reads what was written before the attempt's end. Never waits, because others may
        hold the pipe.
        """
        limit = self.written + DRAIN_LIMIT
        while self.written < limit and self.take() > 0:
            pass


def channels_of(env: dict[bytes, bytes], limit: int) -> list[Channel]:
    """The channels of an attempt, as its environment names them: `output` first."""
    entries = env.get(b"CREWLOG_CHANNELS", b"").decode().split()
    others = {name: int(fd) for name, _, fd in (entry.partition(":") for entry in entries)}
    output = (1,) if "stderr" in others else (1, 2)
    named = [("output", output), *((name, (fd,)) for name, fd in others.items())]
    return [Channel(name, targets, limit) for name, targets in named]


def spool_of(name: str) -> str:
    """The spool's file in the attempt's directory."""
    return "spool" if name == "output" else f"spool.{name}"


def grow_pipe(fd: int) -> None:
    """A larger pipe needs fewer wake-ups. If the system refuses, it is only slower."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    except (AttributeError, OSError):
        pass
