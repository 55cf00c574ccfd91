"""A process that a server starts with an interpreter of its own."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

_BOOT = (
    "import os, sys; sys.path.append(sys.argv[1]); os.chdir(sys.argv[2]); "
    "from scheduler.executors.shim import {module}; {module}.{function}(*sys.argv[3:])"
)

_VARIABLES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL")
"""The variables that the interpreter may need. No more: a job can read the environment of
its shim.
"""

_ROOT = str(Path(__file__).parents[2])
"""The folder of crewlog's packages. The shim runs without site packages."""

_HELD_BACK = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def nothing() -> None:
    """A callback for when nobody waits any more."""


def spawn(cwd: Path, function: str, *arguments: str) -> int:
    """Starts a process, in a session of its own, that calls a function of the shim."""
    module, _, name = function.partition(".")
    boot = _BOOT.format(module=module, function=name)
    argv = [sys.executable, "-ISE", "-c", boot, _ROOT, str(cwd), *arguments]
    env = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    return os.posix_spawn(
        sys.executable,
        argv,
        env,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ],
        setsid=True,
        setsigmask=_HELD_BACK,
    )


class Spawned:
    """A process that this one started, until it is reaped. It does only what a parent must do."""

    def __init__(self, pid: int) -> None:
        self.gone = False
        self.at_exit: Callable[[], object] = nothing
        self._pid = pid
        self._loop = asyncio.get_running_loop()
        self._pidfd = watched(self._loop, _open_pidfd(pid), self._reap)
        self._timer: asyncio.TimerHandle | None = None
        if self._pidfd is None:
            self._reap()

    def let_go(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    def _reap(self) -> None:
        try:
            ended = os.waitpid(self._pid, os.WNOHANG)[0]
        except ChildProcessError:
            ended = self._pid  # another part reaped it
        if ended:
            self.gone = True
            self.let_go()
            self.at_exit()
        elif self._pidfd is None:
            self._timer = self._loop.call_later(0.02, self._reap)


def watched(
    loop: asyncio.AbstractEventLoop, fd: int | None, heard: Callable[[], None]
) -> int | None:
    """The descriptor, with `heard` called when it is readable; None if that is impossible: then the
    caller must look from time to time.
    """
    if fd is not None:
        try:
            loop.add_reader(fd, heard)
        except OSError:
            os.close(fd)
            return None
    return fd


def _open_pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None
