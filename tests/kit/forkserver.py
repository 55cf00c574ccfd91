"""Starts `crewlog` from an interpreter that has imported it already.

A server spends most of its start on imports, and the suite starts hundreds of servers. A forked
process has its own environment, folder, group and output, as if the command had been executed.
Tests of the start itself (memory, the environment in /proc, the time) execute the command instead.
"""

import atexit
import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
_READ_AT_START = ("PYTHON", "LC_", "LANG", "TZ", "LD_")
"""Variables that an interpreter reads only once: programs with other values are executed."""
_LONGEST = 1 << 20
_TAKE_THE_TIME = (
    "api.server",
    *(f"api.assembly.{name}" for name in ("board", "codeplane", "gitoma", "native", "worker")),
    *("apscheduler.schedulers.asyncio", "httpx2", "jinja2", "jsonschema", "regex", "yaml"),
    "pydantic.v1",
)
"""Modules to import before forks: those of a start, and those imported at first use."""


class Started:
    """A forked process, with the methods of a `subprocess.Popen`."""

    def __init__(self, server: "ForkServer", pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._server = server

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        if self.returncode is None:
            self.returncode = self._server.ended(self.pid, 0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it has ended. Raises TimeoutExpired after `timeout` seconds."""
        if self.returncode is None:
            self.returncode = self._server.ended(self.pid, timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("crewlog", timeout or 0.0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            self._server.signal(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """One interpreter that forks processes. It starts with the first process, and ends with the
    process that started it.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._codes: dict[int, int] = {}
        self._link: socket.socket | None = None
        self._received = b""
        self._environ = {k: v for k, v in os.environ.items() if _read_at_start(k)}

    def takes(self, env: Mapping[str, str]) -> bool:
        """Whether a fork gives the same process for this environment as an execution."""
        return {k: v for k, v in env.items() if _read_at_start(k)} == self._environ

    def start(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None,
        streams: tuple[int, int, int],
    ) -> Started:
        """Run `crewlog` with these arguments in a process group of its own; `streams` are the
        descriptors of its input, its output and its errors.
        """
        wanted = {"run": [*arguments], "env": {**env}, "cwd": str(cwd or Path.cwd())}
        with self._lock:
            socket.send_fds(self._linked(), [_line(wanted)], streams)
            return Started(self, int(self._answer("pid")["pid"]))

    def signal(self, pid: int, number: int) -> None:
        """Send a signal. The parent does it, because it knows whether the pid is still its
        child.
        """
        with self._lock:
            self._linked().sendall(_line({"signal": number, "pid": pid}))
            self._answer("signalled")

    def ended(self, pid: int, timeout: float | None) -> int | None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._lock:
                while self._take(0.0):
                    pass
                if pid in self._codes:
                    return self._codes.pop(pid)
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return None
                self._take(0.1 if left is None else min(left, 0.1))

    def _linked(self) -> socket.socket:
        if self._link is None:
            ours, its = socket.socketpair()
            with its:
                process = subprocess.Popen(
                    [sys.executable, "-m", "tests.kit.forkserver", str(its.fileno())],
                    stdin=subprocess.DEVNULL,
                    cwd=_ROOT,
                    pass_fds=[its.fileno()],
                    start_new_session=True,  # Ctrl-C is only for the process that started it
                )
            self._link = ours
            atexit.register(self._close, process)
            self._answer("ready")
        return self._link

    def _close(self, process: "subprocess.Popen[bytes]") -> None:
        if self._link is not None:
            self._link.close()
        process.wait()

    def _answer(self, kind: str) -> dict[str, Any]:
        while True:
            told = self._next(None)
            assert told is not None
            if kind in told:
                return told
            self._note(told)

    def _take(self, timeout: float) -> bool:
        told = self._next(timeout)
        if told is not None:
            self._note(told)
        return told is not None

    def _note(self, told: dict[str, Any]) -> None:
        self._codes[told["ended"]] = told["code"]

    def _next(self, timeout: float | None) -> dict[str, Any] | None:
        link = self._link
        assert link is not None
        while b"\n" not in self._received:
            link.settimeout(timeout or 1e-9 if timeout is not None else None)
            try:
                more = link.recv(65_536)
            except TimeoutError:
                return None
            finally:
                link.settimeout(None)
            if not more:
                raise RuntimeError("The fork server has ended.")
            self._received += more
        line, _, self._received = self._received.partition(b"\n")
        return dict(json.loads(line))


def _read_at_start(name: str) -> bool:
    return name.startswith(_READ_AT_START) and name != "PYTEST_CURRENT_TEST"


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _serve(link: socket.socket) -> dict[str, Any] | None:
    """Fork for each request. Returns in the child, with the request; None once the client is
    gone.
    """
    waking, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    selector = selectors.DefaultSelector()
    selector.register(link, selectors.EVENT_READ)
    selector.register(waking, selectors.EVENT_READ)
    children: set[int] = set()
    link.sendall(_line({"ready": True}))
    received = b""
    handed: list[int] = []
    while True:
        for key, _ in selector.select():
            if key.fileobj is not link:
                with suppress(BlockingIOError):
                    os.read(waking, 4096)
                continue
            more, descriptors, _, _ = socket.recv_fds(link, _LONGEST, 3)
            if not more:
                return None
            received += more
            handed += descriptors
        for pid, code in _reaped(children):
            link.sendall(_line({"ended": pid, "code": code}))
        while b"\n" in received:
            line, _, received = received.partition(b"\n")
            wanted = json.loads(line)
            if "signal" in wanted:
                if wanted["pid"] in children:
                    os.kill(wanted["pid"], wanted["signal"])
                link.sendall(_line({"signalled": True}))
                continue
            streams, handed = handed[:3], handed[3:]
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                selector.close()
                os.close(waking)
                os.close(woken)
                link.close()
                return {**wanted, "streams": streams}
            children.add(pid)
            for descriptor in streams:
                os.close(descriptor)
            link.sendall(_line({"pid": pid}))


def _reaped(children: set[int]) -> list[tuple[int, int]]:
    found = []
    for pid in [*children]:
        reaped, status = os.waitpid(pid, os.WNOHANG)
        if reaped:
            children.remove(pid)
            found.append((pid, os.waitstatus_to_exitcode(status)))
    return found


def _become(wanted: Mapping[str, Any]) -> None:
    """Set everything that an execution would have set."""
    os.setpgid(0, 0)
    for place, descriptor in enumerate(wanted["streams"]):
        os.dup2(descriptor, place)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(wanted["env"])
    os.chdir(wanted["cwd"])
    sys.argv = [str(Path(sys.executable).with_name("crewlog")), *wanted["run"]]
    sys.path.pop(0)  # the folder that this module was run from
    sys.modules["__main__"].__package__ = None  # help texts name the program by it


def _run() -> None:
    for module in _TAKE_THE_TIME:
        import_module(module)
    from api.commands.main import main

    assert threading.active_count() == 1, "A fork copies only one thread."
    gc.collect()
    gc.freeze()
    wanted = _serve(socket.socket(fileno=int(sys.argv[1])))
    if wanted is not None:
        _become(wanted)
        main()


if __name__ == "__main__":
    _run()
