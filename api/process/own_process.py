"""The server's own process: hides its secrets from jobs, and does the duties of process 1."""

import ctypes
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

from scheduler.workspaces.environment import SECRET_SUFFIXES

_PR_SET_DUMPABLE = 4
_ENV_START, _ENV_END = 47, 48  # in /proc/self/stat, from the state on
_FORWARDED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


def keep_to_itself() -> None:
    """Make the process non-dumpable: Linux then shows its memory and environment only to root, and
    writes no core file of it. Programs that it starts are not affected.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def take_secrets_out_of_environment() -> dict[str, str]:
    """Returns the whole environment, and removes its secrets from /proc."""
    whole = dict(os.environ)
    secrets = [name for name in whole if _is_secret(name)]
    for name in secrets:
        del os.environ[name]
    if sys.platform == "linux":
        _overwrite([os.fsencode(name) for name in secrets])
    return whole


def _is_secret(name: str) -> bool:
    return name.upper().endswith(SECRET_SUFFIXES) or name.upper().startswith("CREWLOG_OIDC")


def _overwrite(names: Iterable[bytes]) -> None:
    """Overwrite the place where the system put the environment at the start, and from which
    /proc shows it.
    """
    fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    start, end = int(fields[_ENV_START]), int(fields[_ENV_END])
    begun = ctypes.string_at(start, end - start)
    wanted = {name + b"=" for name in names}
    at = 0
    for variable in begun.split(b"\0"):
        if variable.partition(b"=")[0] + b"=" in wanted:
            ctypes.memset(start + at, 0, len(variable))
        at += len(variable) + 1


def let_another_serve() -> None:
    """As process 1, such as in a container without an init: the caller goes on in a child, and this
    process stays to reap orphans and to pass signals on. It exits with the child's status. Call it
    before there are threads.
    """
    if os.getpid() != 1:
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, *_FORWARDED})
    server = os.fork()
    if server == 0:
        # In a group of its own, so that Ctrl-C at a terminal does not reach it twice.
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return
    while True:
        number = signal.sigwait({signal.SIGCHLD, *_FORWARDED})
        if number != signal.SIGCHLD:
            os.kill(server, number)
        elif (status := _reaped(server)) is not None:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def _reaped(server: int) -> int | None:
    """Reap every ended child. Returns the status of the server if it has ended."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == server:
            found = status
