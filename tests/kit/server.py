"""A real server in a process of its own, for tests, benchmarks and the demo."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import ClassVar, Self
from urllib.request import ProxyHandler, build_opener

from tests.kit.forkserver import ForkServer, Started
from tests.kit.waiting import DEADLINE_S

CREWLOG = str(Path(sys.executable).with_name("crewlog"))
"""The installed command."""

_direct = build_opener(ProxyHandler({}))


def environment(**env: str) -> dict[str, str]:
    """This process's environment without any crewlog settings, and then `env`."""
    own = ("CREWLOG_", "GITOMA_")
    return {k: v for k, v in os.environ.items() if not k.startswith(own)} | env


class Server:
    """`crewlog serve` on a free port, listening once `start` has returned.

    ``with Server(data) as server:`` starts and stops it. Its output goes to a file beside the data
    directory. Jobs outlive it, as always: end them before leaving.
    """

    forks: ClassVar[ForkServer | None] = None
    """Forks servers, so that they need not be executed. Only the suite sets it, not benchmarks or
    the demo.
    """

    def __init__(self, data: Path, *options: str, cwd: Path | None = None, **env: str) -> None:
        self.data = data
        self.output = data.with_name(f"{data.name}.out")
        self.url = ""
        self._options = options
        self._cwd = cwd
        self._env = env
        self.prefix: tuple[str, ...] = ()
        """A command that runs the server, for example to take rights from it."""
        self.executed = self.forks is None
        """Whether the command is executed: for tests of effects that a fork does not have."""
        self._process: subprocess.Popen[bytes] | Started | None = None

    @classmethod
    def start(cls, data: Path, *options: str, cwd: Path | None = None, **env: str) -> Self:
        """A listening server. `options` are those of `crewlog serve`; `env` is added to the
        environment.
        """
        return cls(data, *options, cwd=cwd, **env)._launch(0)

    @property
    def token(self) -> str:
        return self._env.get("CREWLOG_TOKEN") or (self.data / "token").read_text().strip()

    @property
    def headers(self) -> dict[str, str]:
        """The headers that authorize a request."""
        return {"Authorization": f"Bearer {self.token}"}

    @property
    def pid(self) -> int:
        assert self._process is not None, "The server is not running."
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL, without a chance to clean up."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> int:
        """SIGTERM. Returns the exit code. Kills the server if it has not ended in time."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.terminate()
        try:
            return process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def restart(self, port: int = 0) -> Self:
        """Start again on the same data. `url` changes unless `port` is given."""
        self.stop()
        return self._launch(port)

    def _launch(self, port: int) -> Self:
        # The old file would name the port of the last run.
        (self.data / "server.json").unlink(missing_ok=True)
        command = ["serve", "--port", str(port), "--data", str(self.data), *self._options]
        with self.output.open("ab") as output:
            self._process = self._begun(command, output.fileno())
        try:
            self._wait_until_it_listens()
        except BaseException:
            self.kill()
            raise
        return self

    def _begun(self, command: list[str], output: int) -> "subprocess.Popen[bytes] | Started":
        env = environment(**self._env)
        forks = None if self.executed or self.prefix else self.forks
        if forks is not None and forks.takes(env):
            with open(os.devnull, "rb") as nothing:
                streams = (nothing.fileno(), output, output)
                return forks.start(command, env=env, cwd=self._cwd, streams=streams)
        return subprocess.Popen(
            [*self.prefix, CREWLOG, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=self._cwd,
            env=env,
            process_group=0,  # Ctrl-C is only for the process that started it, which then stops it
        )

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            if not self.running:
                break
            if self._answers():
                return
            time.sleep(0.02)
        raise RuntimeError(f"The server did not start:\n{self.output.read_text()}")

    def _answers(self) -> bool:
        try:
            self.url = json.loads((self.data / "server.json").read_text())["url"]
            with _direct.open(f"{self.url}/healthz", timeout=30) as answer:
                return bool(answer.read() == b"ok")
        except (OSError, ValueError):
            return False

    def __enter__(self) -> Self:
        return self if self.running else self._launch(0)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def crewlog(
    *arguments: str | Path, given: str = "", cwd: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, with `given` as its input and without a terminal. `env` is added
    to this process's environment. In the suite it is forked and not executed, as servers are.
    """
    words, wanted = [str(argument) for argument in arguments], environment(**env)
    forks = Server.forks
    if forks is None or not forks.takes(wanted):
        command = [CREWLOG, *words]
        return subprocess.run(
            command,
            input=given,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            cwd=cwd,
            env=wanted,
            check=False,
        )
    with TemporaryFile() as stdin, TemporaryFile() as stdout, TemporaryFile() as stderr:
        stdin.write(given.encode())
        stdin.seek(0)
        streams = (stdin.fileno(), stdout.fileno(), stderr.fileno())
        process = forks.start(words, env=wanted, cwd=cwd, streams=streams)
        try:
            code = process.wait(DEADLINE_S)
        finally:
            process.kill()
        for stream in (stdout, stderr):
            stream.seek(0)
        printed = (stdout.read().decode(), stderr.read().decode())
        return subprocess.CompletedProcess(["crewlog", *words], code, *printed)
