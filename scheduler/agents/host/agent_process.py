"""The agent's process: in the session of the host, with the host's standard error."""

import asyncio
import os
import subprocess
import threading

from scheduler.agents.host.configuration import Configuration
from scheduler.agents.host.endings import Ended, ExitCode


class AgentProcess:
    """A process that has begun. Nobody here ends it: the end of the attempt does."""

    def __init__(self, configuration: Configuration) -> None:
        """Raises Ended if it cannot be run."""
        program = configuration.argv[0]
        try:
            self._process = subprocess.Popen(
                configuration.argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=configuration.cwd,
                env=dict(configuration.env),
                bufsize=0,
            )
        except (OSError, ValueError) as error:
            reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
            sentence = f"The agent could not be started: {program!r}: {reason}."
            raise Ended(ExitCode.NOT_STARTED, sentence) from None
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int] = self._loop.create_future()
        """Its exit code; negative: killed by that signal."""
        # A thread, because not every system tells an event loop of the end of a process. It is a
        # daemon: it must not keep a host that leaves before its agent.
        threading.Thread(target=self._wait, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    async def pipes(
        self, reader: asyncio.Protocol, writer: asyncio.BaseProtocol
    ) -> asyncio.WriteTransport:
        """Connect the agent's output and input with the loop. Returns its input."""
        await self._loop.connect_read_pipe(lambda: reader, self._process.stdout)
        return (await self._loop.connect_write_pipe(lambda: writer, self._process.stdin))[0]

    def _wait(self) -> None:
        code = self._process.wait()
        try:
            self._loop.call_soon_threadsafe(self._tell, code)
        except RuntimeError:
            return  # the host has ended first

    def _tell(self, code: int) -> None:
        if not self.exited.done():
            self.exited.set_result(code)
