"""The driver of commands: the output of the process is lines.

It keeps nothing that the log and the spool do not have. If a server dies, the next one reads the
last output event, goes on in the spool where that event ends, and loses or repeats nothing.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

from domain.clock import Clock, system_clock
from domain.job.commands import Jobs
from domain.log import EventLog
from scheduler.drivers.contract import Followed
from scheduler.drivers.lines import Lines, LineSplitter
from scheduler.drivers.output import BATCH_BYTES, OutputPump, Pending
from scheduler.drivers.unfinished import LONGEST, Unfinished
from scheduler.executors.contract import AttemptSpec, Running

BATCH_S = 0.05
"""Output waits at most this long for more output that can share its event."""

SHOW_S = 0.2
"""How long an unfinished line stands before it is shown, and how often it is shown again."""

_APPEND_BYTES = 64 * BATCH_BYTES
"""Most output that is written together, in the same unit. One commit for each event would be slow,
and encoding very many events would block the event loop.
"""

_BITE = 1_024
"""Bytes that are split at a time, so that even empty lines are not far too many for one event."""


class CommandDriver:
    """Appends the lines of commands to the log."""

    def __init__(
        self, log: EventLog, jobs: Jobs, unfinished: Unfinished, clock: Clock = system_clock
    ) -> None:
        self._log = log
        self._jobs = jobs
        self._unfinished = unfinished
        self._clock = clock

    def outfit(self, spec: AttemptSpec) -> AttemptSpec:
        return spec

    async def follow(self, followed: Followed) -> int:
        job_id, attempt, context = followed.job.id, followed.attempt, followed.context
        pump = OutputPump(self._log, self._jobs, job_id, attempt, context, self._clock)
        await self._pump(pump, followed)
        return pump.lines

    async def _pump(self, pump: OutputPump, followed: Followed) -> None:
        running = followed.running
        await pump.resume()
        splitter = LineSplitter(start=pump.offset, clip=self._log.redactor.cut)
        chunks = running.output(pump.offset)
        loop = asyncio.get_running_loop()
        pending = Pending(pump.offset)
        due = loop.time()
        show_at: float | None = None  # when to look at the unfinished line again

        async def write() -> None:
            await pump.append(pending.take())
            pump.show(self._unfinished, None)

        coming: asyncio.Task[bytes | None] | None = asyncio.create_task(_next(chunks))
        try:
            while coming is not None or pending.cost:
                if coming is not None:
                    until = due if pending.cost else show_at
                    wait = None if until is None else max(0.0, until - loop.time())
                    await asyncio.wait({coming}, timeout=wait)
                    if coming.done():
                        data = coming.result()
                        coming = None if data is None else asyncio.create_task(_next(chunks))
                        cut = data is None and await _is_cut(running)
                        if data is not None:
                            followed.beat()
                            show_at = show_at or loop.time() + SHOW_S
                        for lines in _split(splitter, data, cut):
                            pending.add(lines)
                            if pending.cost >= _APPEND_BYTES:
                                await write()  # lets other tasks run in between
                if pending.cost and (
                    coming is None or pending.cost >= BATCH_BYTES or loop.time() >= due
                ):
                    await write()
                    due = loop.time() + BATCH_S
                if show_at is not None and not pending.cost and loop.time() >= show_at:
                    show_at = None
                    pump.show(self._unfinished, splitter.beginning(LONGEST))
        finally:
            pump.show(self._unfinished, None)
            if coming is not None:
                coming.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await coming


async def _is_cut(running: Running) -> bool:
    """Whether an ended attempt wrote more than was kept."""
    ended = await running.wait()
    return ended.output_bytes > ended.kept_bytes


def _split(splitter: LineSplitter, data: bytes | None, cut: bool) -> Iterator[Lines]:
    """The lines that a chunk completes, or the last line, in small parts."""
    if data is None:
        yield splitter.finish(cut)
    else:
        for at in range(0, len(data), _BITE):
            yield splitter.feed(data[at : at + _BITE])


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    return await anext(chunks, None)
