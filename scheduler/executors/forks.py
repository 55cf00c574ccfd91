"""Asks the fork server of the node (`shim/fork_server.py`) for shims.

It looks for the fork server when the first shim is needed, starts one if there is none, and starts
a new one if it dies; requests that have not begun are then repeated. If no fork server can be had,
as on a system without /proc, each shim gets an interpreter of its own.
"""

import asyncio
import logging
import os
import socket
import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from scheduler.executors.shim.fork_server import SOCKET
from scheduler.executors.spawned import Spawned, nothing, spawn

logger = logging.getLogger("crewlog.executor")

_READY_S = 10.0
"""How long a new fork server may take until it listens."""

_WITHOUT_S = 60.0
"""How long to wait, after no fork server could be had, before looking for one again."""

_LOOK_S = 0.002
_CODE = Path(__file__).parent / "shim"


@dataclass(slots=True, eq=False)
class Forked:
    """A process requested from the fork server, until its end is reported."""

    function: str
    arguments: tuple[str, ...]
    is_wanted: Callable[[], bool]
    """Whether to repeat the request if it is unknown whether the process was begun."""
    gone: bool = False
    at_exit: Callable[[], object] = field(default=nothing)
    spawned: Spawned | None = None
    """The process, if it was begun without a fork server."""

    def ended(self) -> None:
        self.gone = True
        self.at_exit()


class Forks:
    """The fork server of one directory of attempts. Belongs to one event loop."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._number = 0
        self._asked: dict[int, Forked] = {}
        self._connection: _Connection | None = None
        self._lock = asyncio.Lock()
        self._without_until = 0.0
        self._going_on: asyncio.Task[None] | None = None
        self._server: int | None = None
        """The process id of the fork server that this process began, until it is reaped."""
        self._closed = False

    async def ready(self) -> None:
        """Have a fork server, if that is possible."""
        if self._connection is None and sys.platform == "linux":
            async with self._lock:
                await self._connected()

    def begin(
        self, function: str, *arguments: str, is_wanted: Callable[[], bool] = lambda: True
    ) -> Forked:
        """A process that calls a function of the shim's `main` in the directory of all attempts.
        Raises OSError if none can be begun.
        """
        forked = Forked(function, arguments, is_wanted)
        self._ask(forked)
        return forked

    def close(self) -> None:
        """Release everything. The fork server leaves; the shims go on."""
        self._closed = True
        if self._going_on is not None:
            self._going_on.cancel()
        if self._connection is not None:
            self._connection.say(b"retire\n")
            self._connection.close()
            self._connection = None
        for forked in self._asked.values():
            forked.at_exit = nothing
            if forked.spawned is not None:
                forked.spawned.let_go()
        self._asked.clear()

    def _ask(self, forked: Forked) -> None:
        self._number += 1
        number = self._number
        self._asked[number] = forked
        if self._connection is not None:
            words = (str(number), forked.function, *forked.arguments)
            self._connection.say(" ".join(words).encode() + b"\n")
            return
        try:
            pid = spawn(self._root, f"main.{forked.function}", *forked.arguments)
        except OSError:
            del self._asked[number]
            raise
        forked.spawned = Spawned(pid)
        forked.spawned.at_exit = lambda: self._told(number)
        if forked.spawned.gone:
            self._told(number)

    def _told(self, number: int) -> None:
        """The process of a request has ended."""
        forked = self._asked.pop(number, None)
        if forked is not None:
            forked.ended()

    def _lost(self) -> None:
        """The fork server is gone, and with it all knowledge of its processes."""
        self._connection = None
        if not self._closed:
            logger.warning("The fork server has died: starting another one.")
            self._going_on = asyncio.create_task(self._go_on(), name="fork server")

    async def _go_on(self) -> None:
        unknown = {n: forked for n, forked in self._asked.items() if forked.spawned is None}
        await self.ready()
        for number, forked in unknown.items():
            if self._asked.pop(number, None) is None:
                continue
            if not forked.is_wanted():
                forked.ended()
                continue
            try:
                self._ask(forked)
            except OSError:
                forked.ended()

    async def _connected(self) -> None:
        """Connect, and start a fork server if there is none. Gives up for a while if that fails."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _READY_S
        version = _version()
        with suppress(OSError):
            while (
                self._connection is None and not self._closed and loop.time() > self._without_until
            ):
                connected = self._connect()
                if connected is not None:
                    await self._take(connected, version)
                    continue
                if self._has_left():
                    self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
                    self._server = spawn(self._root, "fork_server.serve", version)
                await asyncio.sleep(_LOOK_S)
                if loop.time() > deadline:
                    logger.error(
                        "No fork server can be started: each job gets an interpreter of its own."
                    )
                    self._without_until = loop.time() + _WITHOUT_S

    def _has_left(self) -> bool:
        """Whether the fork server that this process began has ended. Reaps it here: its death shows
        as the end of the connection, so nothing else waits for the process.
        """
        if self._server is not None:
            try:
                ended = os.waitpid(self._server, os.WNOHANG)[0]
            except ChildProcessError:
                ended = self._server  # somebody reaped it for us
            if ended:
                self._server = None
        return self._server is None

    async def _take(self, connected: socket.socket, version: str) -> None:
        """Use the connection, if the fork server at its other end has the right version."""
        connection = _Connection(connected, self._told, self._lost)
        found = await connection.version(_READY_S)
        if found == version and not self._closed:
            self._connection = connection
            connection.listen()
        else:
            connection.say(b"retire\n")
            connection.close()
            await asyncio.sleep(_LOOK_S)

    def _connect(self) -> socket.socket | None:
        """None: nobody listens. Raises OSError if that cannot be known."""
        # The path of a socket must be short, so it goes through a descriptor of the directory.
        try:
            root = os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connected.setblocking(False)
                connected.connect(f"/proc/self/fd/{root}/{SOCKET}")
            except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
                connected.close()
                return None
            except OSError:
                connected.close()
                raise
            return connected
        finally:
            os.close(root)


class _Connection:
    """A connection to the fork server. Calls `told` with the number of each request whose process
    has ended, and `lost` if the other end is gone.
    """

    def __init__(
        self, connected: socket.socket, told: Callable[[int], None], lost: Callable[[], None]
    ) -> None:
        self._socket = connected
        self._told = told
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._heard = b""
        self._unsaid = b""

    async def version(self, timeout_s: float) -> str | None:
        """The first line that it sends; None if it sends nothing."""
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(timeout_s):
                while b"\n" not in self._heard:
                    data = await self._loop.sock_recv(self._socket, 65_536)
                    if not data:
                        return None
                    self._heard += data
            version, self._heard = self._heard.split(b"\n", 1)
            return version.decode()
        return None

    def listen(self) -> None:
        self._loop.add_reader(self._socket, self._hear)

    def say(self, text: bytes) -> None:
        waits = bool(self._unsaid)
        self._unsaid += text
        if not waits:
            self._flush()

    def close(self) -> None:
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()

    def _flush(self) -> None:
        with suppress(BlockingIOError):
            try:
                self._unsaid = self._unsaid[self._socket.send(self._unsaid) :]
            except BlockingIOError:
                raise
            except OSError:
                return  # it is gone; reading reports that
        if self._unsaid:
            self._loop.add_writer(self._socket, self._flush)
        else:
            self._loop.remove_writer(self._socket)

    def _hear(self) -> None:
        try:
            data = self._socket.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            self._lost()
            return
        *numbers, self._heard = (self._heard + data).split(b"\n")
        for number in numbers:
            self._told(int(number))


def _version() -> str:
    """The version of the shim's code and of everything that a process inherits: limits, rights,
    namespaces. A fork server of another version is not used.
    """
    code = b"".join(path.read_bytes() for path in sorted(_CODE.glob("*.py")))
    given = [sys.executable]
    for name in ("status", "limits", "cgroup"):
        with suppress(OSError):
            lines = Path(f"/proc/self/{name}").read_text().splitlines()
            given += [line for line in lines if name != "status" or line.startswith(_INHERITED)]
    for name in ("root", "ns/cgroup", "ns/ipc", "ns/mnt", "ns/net", "ns/pid", "ns/user", "ns/uts"):
        with suppress(OSError):
            given.append(os.readlink(f"/proc/self/{name}"))
    # The server raises its limit of open files. Each shim gets the jobs' limit separately.
    text = "\n".join(line for line in given if not line.startswith("Max open files"))
    return f"{zlib.crc32(code):08x}-{zlib.crc32(text.encode()):08x}"


_INHERITED = ("Umask", "Uid", "Gid", "Groups", "Cap", "NoNewPrivs", "Seccomp")
