"""The parent of shims: one small process per node that forks them, so that no shim has to start an
interpreter.

It lives in a session of its own and holds nothing of the server. The server that started it, and
any later one, connects to the socket `forks` in the directory of all attempts; the lock there says
whether a fork server is alive. It may be killed at any moment: the shims go on, and the connected
server starts another one and repeats its open requests.

It first sends its version. Then each line is a request: a number, a function of `main`, and its
arguments. When the process of a request has ended, it sends the request's number back. After
`retire` it does not listen any more. It leaves when it is retired and nobody is connected, or when
nobody was connected for `ALONE_S`.
"""

# ruff: noqa: SIM105

import _signal as signal  # type: ignore[import-not-found]
import _socket as socket
import gc
import os
import resource  # noqa: F401 - so that no shim has to load it
import select
import time

from scheduler.executors.shim import main, process_control
from scheduler.executors.shim.directory import take_lock
from scheduler.executors.shim.kin import there_before
from scheduler.executors.shim.processes import hear_of_children

SOCKET = "forks"
LOCK = "forks.lock"
ALONE_S = 60.0
BACKLOG = 16


class Connection:
    """A connected server."""

    __slots__ = ("asked", "socket", "unsaid")

    def __init__(self, connected: "socket.socket") -> None:
        self.socket = connected
        self.asked = b""  # an incomplete request
        self.unsaid = b""  # data that the server was not ready to read

    def requests(self) -> list[bytes] | None:
        """The complete requests that have come. None: the server is not connected any more."""
        try:
            data = self.socket.recv(65_536)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not data:
            return None
        *whole, self.asked = (self.asked + data).split(b"\n")
        return whole

    def say(self, text: bytes) -> None:
        """Sends at once, or when the server is ready to read: this process never waits for a
        server.
        """
        self.unsaid += text
        try:
            self.unsaid = self.unsaid[self.socket.send(self.unsaid) :]
        except OSError:
            pass  # not ready now; or it is gone, which the next read shows


class ForkServer:
    """Forks the requested processes, and reports their ends to the server that asked."""

    def __init__(self, version: bytes, lock: int) -> None:
        self.version = version
        self.lock = lock
        self.news = hear_of_children()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.listener.setblocking(False)
        self.connections: dict[int, Connection] = {}
        self.children: dict[int, tuple[Connection, bytes]] = {}
        self.retired = False
        self.alone_since = time.monotonic()

    def run(self) -> None:
        try:
            os.unlink(SOCKET)
        except FileNotFoundError:
            pass
        self.listener.bind(SOCKET)
        self.listener.listen(BACKLOG)
        while not self.is_done():
            for fd, _ in self.wait():
                if fd == self.news:
                    self.reap()
                elif fd in self.connections:
                    self.hear(self.connections[fd])
                elif not self.retired and fd == self.listener.fileno():
                    self.accept()
        self.retire()

    def is_done(self) -> bool:
        if self.connections:
            return False
        return self.retired or time.monotonic() >= self.alone_since + ALONE_S

    def wait(self) -> list[tuple[int, int]]:
        poll = select.poll()
        poll.register(self.news, select.POLLIN)
        if not self.retired:
            poll.register(self.listener.fileno(), select.POLLIN)
        for fd, connection in self.connections.items():
            poll.register(fd, select.POLLIN | (select.POLLOUT if connection.unsaid else 0))
        return poll.poll(None if self.connections else int(1000 * ALONE_S) + 1)

    def accept(self) -> None:
        try:
            fd, _ = self.listener._accept()  # type: ignore[attr-defined]
        except OSError:
            return  # the server has gone again
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fd)
        connected.setblocking(False)
        self.connections[fd] = connection = Connection(connected)
        connection.say(self.version + b"\n")

    def hear(self, connection: Connection) -> None:
        requests = connection.requests()
        connection.say(b"")
        if requests is None:
            del self.connections[connection.socket.fileno()]
            connection.socket.close()
            self.alone_since = time.monotonic()
            return
        for request in requests:
            if request == b"retire":
                self.retire()
            else:
                self.fork(connection, request)

    def fork(self, connection: Connection, request: bytes) -> None:
        number, function, *arguments = request.decode().split(" ")
        there_before()  # for all forks of the next moments
        try:
            pid = os.fork()
        except OSError:
            connection.say(number.encode() + b"\n")  # reported like one that ended at once
            return
        if pid == 0:
            become_shim(function, arguments)
        self.children[pid] = connection, number.encode()

    def reap(self) -> None:
        os.read(self.news, 4096)
        try:
            while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                connection, number = self.children.pop(pid)
                if connection.socket.fileno() in self.connections:
                    connection.say(number + b"\n")
        except ChildProcessError:
            pass

    def retire(self) -> None:
        """From now on another fork server may take its place."""
        if not self.retired:
            self.retired = True
            try:
                os.unlink(SOCKET)
            except OSError:
                pass
            self.listener.close()
            os.close(self.lock)


def become_shim(function: str, arguments: list[str]) -> None:
    """In the child. Never returns. The functions of `main` close what the parent had open, and this
    process ends with them.
    """
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        getattr(main, function)(*arguments)
        os._exit(0)
    finally:
        os._exit(70)


def serve(version: str) -> None:
    """Runs the fork server of the current directory, unless there is one."""
    os.closerange(3, 65_536)
    signal.pthread_sigmask(signal.SIG_BLOCK, main.HELD_BACK)
    lock = take_lock(LOCK)
    if lock is None:
        return
    process_control.find_prctl()
    server = ForkServer(version.encode(), lock)
    gc.collect()
    gc.freeze()  # the present objects are shared with all shims, so do not write to them
    server.run()
