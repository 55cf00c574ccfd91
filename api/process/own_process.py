"""The server's own process: what its jobs must not read of it, and what it owes as process 1."""

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
    """Linux then shows the memory and the environment of this process to root alone, and writes no
    core file of it; what it begins is another program, and open again.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def take_secrets_out_of_environment() -> dict[str, str]:
    """The whole environment, of which from now on nobody can read the secrets in /proc."""
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
    """Where the system put the environment when the program began, and shows it from."""
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
    """As process 1, as in a container without an init: the caller goes on in a child, and this
    process stays behind to reap what loses its parent, and to hand on signals. It leaves with the
    child, as that did. Call it before there are threads.
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
    """Reaps all that has ended; the status of the server, if it has."""
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
