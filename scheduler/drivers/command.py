"""The runner of one attempt: its output into the log as it comes, then its end.

Nothing is kept here that the log and the spool do not have: a server that dies in the middle is
followed by one that reads the last output event, goes on in the spool where that stops, and loses
and doubles nothing.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from domain.clock import Clock, system_clock
from domain.errors import JobAlreadyEnded, LogUnavailable, NotFound, StaleAttempt, VersionConflict
from domain.event import Event
from domain.job.aggregate import Job
from domain.job.commands import Jobs
from domain.job.events import (
    JobArtifactsDropped,
    JobFinished,
    JobOutput,
    JobOutputDropped,
    Outcome,
    job_stream,
    output_stream,
)
from domain.log import Context, EventLog, new_events
from domain.redaction import HIDDEN, hide_key_lines
from scheduler.drivers.lines import Lines, LineSplitter
from scheduler.drivers.unfinished import LONGEST, Beginning, Unfinished
from scheduler.executors.contract import Exit, Running
from scheduler.executors.passing import PASSING

logger = logging.getLogger("crewlog.runner")

BATCH_S = 0.05
"""Output waits at most this long for more to share its event."""

BATCH_BYTES = 64 * 1024
"""Output that shares an event at the most, unless a single line is longer. See LINE_COST."""

SHOW_S = 0.2
"""A line that has begun is shown when it has stood for so long, and again that often."""

LINE_COST = 64
"""Bytes that a line counts for beside its own: what is made of it costs that much, even if it is
empty.
"""

_APPEND_BYTES = 64 * BATCH_BYTES
"""Output that is written together, counted in the same way: events with a commit each would be
slow, and to encode very many would hold up the event loop.
"""

_LAST_WORDS = 4
"""Events of output that a cancelled job may still have when the disk is full."""

_BITE = 1_024
"""Bytes that are split at a time, so that even empty lines are not far too many for an event."""

_BACKOFF_S = (0.1, 0.25, 0.5, 1.0, 2.0)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Leavings:
    """What an attempt left behind, read once it has ended."""

    events: Sequence[Event] = ()
    """Files that it left, as events."""
    result: dict[str, Any] | None = None
    problem: str | None = None
    """A sentence, where what it left is not what was asked for."""


class Left(Protocol):
    """Looks at what attempts left."""

    def left_nothing(self, job: Job, attempt: int) -> bool:
        """Whether there is nothing to gather; at once."""
        ...

    def gather(self, job: Job, attempt: int) -> Leavings:
        """Blocks on the disk."""
        ...


class Fenced(Exception):
    """This attempt is no longer the job's current one: whatever it still has to
    say is not written.
    """


class OutputPump:
    """Appends one attempt's lines to ``job-<id>/output``, fenced by the version of the job's own
    stream.
    """

    def __init__(
        self, log: EventLog, jobs: Jobs, job_id: str, attempt: int, context: Context, clock: Clock
    ) -> None:
        self._log = log
        self._jobs = jobs
        self._job_id = job_id
        self._attempt = attempt
        self._context = context
        self._clock = clock
        self._stream = output_stream(job_id)
        self._version = 0
        self._job_version = 0
        self._cancelled = False
        self._in_key = False
        """Whether the last line was of a private key that may go on."""
        self.lines = 0
        self.offset = 0

    def resume(self) -> None:
        """Find out from the log where to go on. Raises Fenced when the attempt is not current."""
        self._look_at_job()
        last = self._log.blocking.last_of_stream(self._stream)
        self._version = last.version if last else 0
        self.lines = last.data["first_line"] + len(last.data["lines"]) - 1 if last else 0
        same = last is not None and last.data["attempt"] == self._attempt
        self.offset = last.data["end_offset"] if last is not None and same else 0
        # What may have been of a key is taken for it: only lines that look like one are hidden.
        lines = last.data["lines"] if last is not None and same else []
        _, begins = hide_key_lines(lines[-1:], False)
        self._in_key = begins or lines[-1:] == [HIDDEN]

    def _look_at_job(self) -> None:
        try:
            job = self._jobs.load(self._job_id)
        except NotFound:
            raise Fenced from None
        if not job.active or job.attempt != self._attempt:
            raise Fenced
        self._job_version = job.version
        self._cancelled = job.cancel_requested

    async def append(self, batches: Sequence[Lines]) -> None:
        """Append each batch as an event. Raises Fenced, VersionConflict, LogUnavailable."""
        events: list[Event] = []
        count, in_key = self.lines, self._in_key
        for texts, end in batches:
            texts, in_key = hide_key_lines(texts, in_key)
            # Not validated: what the splitter gives is text, and there may be millions of it.
            events.append(
                JobOutput.model_construct(
                    attempt=self._attempt, first_line=count + 1, lines=texts, end_offset=end
                )
            )
            count += len(texts)
        await self._write(events)
        self._version += len(events)
        self.lines, self.offset, self._in_key = count, batches[-1].end, in_key

    def show(self, unfinished: Unfinished, text: str | None) -> None:
        """Let others see how the next line begins; None: it has not begun."""
        shown = None if text is None or self._in_key else self._log.redactor.beginning(text)
        number = self.lines + 1
        unfinished.put(self._job_id, Beginning(self._attempt, number, shown) if shown else None)

    async def _write(self, events: list[Event]) -> None:
        own = job_stream(self._job_id)
        while True:
            new = new_events(self._stream, events, self._context, self._clock)
            expected = {self._stream: self._version, own: self._job_version}
            # The last words of what is to end must not bar its end, on a disk that it may have
            # filled itself.
            last_words = self._cancelled and len(events) <= _LAST_WORDS
            try:
                await self._log.append(new, expected, essential=last_words)
                return
            except VersionConflict as conflict:
                if conflict.stream != own:
                    raise
                self._look_at_job()


class Pending:
    """Lines on their way into the log, in the batches that are to be an event each."""

    def __init__(self, offset: int) -> None:
        self._batches: list[Lines] = []
        self._end = offset
        self._room = 0  # in the last batch
        self.cost = 0
        """Bytes of all lines, with LINE_COST for each; 0: there are none."""

    def add(self, lines: Lines) -> None:
        if not lines.texts:
            return
        cost = lines.end - self._end + LINE_COST * len(lines.texts)
        if self._room > 0:
            texts = self._batches.pop().texts
        else:
            texts, self._room = [], BATCH_BYTES
        texts += lines.texts
        self._batches.append(Lines(texts, lines.end))
        self._room -= cost
        self.cost += cost
        self._end = lines.end

    def take(self) -> list[Lines]:
        """All of them; then there are none."""
        batches, self._batches = self._batches, []
        self._room = self.cost = 0
        return batches


class Runner:
    """Sees one attempt through to its end in the log."""

    def __init__(
        self,
        log: EventLog,
        jobs: Jobs,
        left: Left,
        beat: Callable[[str, int], None],
        unfinished: Unfinished,
        clock: Clock = system_clock,
    ) -> None:
        self._log = log
        self._jobs = jobs
        self._left = left
        self._beat = beat
        self._unfinished = unfinished
        self._clock = clock

    async def see_through(self, job: Job, attempt: int, running: Running, context: Context) -> None:
        """Pump the output, wait for the exit, append the end, discard the spool.

        While the log cannot be written the process goes on into its spool and nothing is lost; this
        tries again until it can. Cancelling this coroutine leaves the process to be adopted.
        """
        pump = OutputPump(self._log, self._jobs, job.id, attempt, context, self._clock)
        try:
            await _persistently(
                lambda: self._pump(pump, running, lambda: self._beat(job.id, attempt))
            )
            ended = await running.wait()
            await _persistently(
                lambda: self._end(job, attempt, ended, pump.lines, context),
                (LogUnavailable, VersionConflict),
            )
        except (Fenced, StaleAttempt, JobAlreadyEnded, NotFound):
            logger.warning("attempt %d of job %s is not current any more", attempt, job.id)
            await running.cancel()
            await running.wait()
        await running.discard()

    async def _pump(self, pump: OutputPump, running: Running, beat: Callable[[], None]) -> None:
        pump.resume()
        splitter = LineSplitter(start=pump.offset, clip=self._log.redactor.cut)
        chunks = running.output(pump.offset)
        loop = asyncio.get_running_loop()
        pending = Pending(pump.offset)
        due = loop.time()
        show_at: float | None = None  # when the line that has begun is looked at again

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
                            beat()
                            show_at = show_at or loop.time() + SHOW_S
                        for lines in _split(splitter, data, cut):
                            pending.add(lines)
                            if pending.cost >= _APPEND_BYTES:
                                await write()  # others have their turn meanwhile
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

    async def _end(
        self, launched: Job, attempt: int, ended: Exit, lines: int, context: Context
    ) -> None:
        error_id = secrets.token_hex(6) if ended.error else None
        if error_id is not None:
            logger.error(
                "attempt %d of job %s (%s): %s", attempt, launched.id, error_id, ended.error
            )
        left = Leavings()
        if not self._left.left_nothing(launched, attempt):
            left = await self._left_by(self._jobs.load(launched.id), attempt)

        def decide(job: Job) -> list[Event]:
            job.require_current(attempt)
            events: list[Event] = []
            if ended.output_bytes > ended.kept_bytes:
                dropped = ended.output_bytes - ended.kept_bytes
                events += job.report(
                    JobOutputDropped(attempt=attempt, from_offset=ended.kept_bytes, bytes=dropped)
                )
            events += left.events
            if left.result is not None and job.given is None and ended.exit_code == 0:
                events += job.give_result(attempt, left.result)
                job = replace(job, given=left.result)
            if ended.reason == "lost":
                return events + job.lose_attempt(attempt, ended.error or "", error_id or "")
            finished = _finished(job, ended, lines, error_id)
            return events + job.end_attempt(finished, left.problem)

        await self._jobs.execute(launched.id, decide, context)

    async def _left_by(self, job: Job, attempt: int) -> Leavings:
        """What it left. LogUnavailable while that cannot be kept, as on a full disk: like the end
        itself it is tried again. What can never be kept is told as dropped.
        """
        try:
            return await asyncio.to_thread(self._left.gather, job, attempt)
        except OSError as error:
            logger.error("what attempt %d of job %s left is not kept: %s", attempt, job.id, error)
            if error.errno not in PASSING:
                why = f"they could not be kept ({error.strerror})"
                dropped = JobArtifactsDropped(attempt=attempt, names=["artifacts/"], reason=why)
                return Leavings([dropped])
            raise LogUnavailable(f"What the attempt left cannot be kept: {error}") from error


def _finished(job: Job, ended: Exit, lines: int, error_id: str | None) -> JobFinished:
    outcome = {
        "exited": Outcome.COMPLETED if ended.exit_code == 0 else Outcome.FAILED,
        "cancelled": Outcome.CANCELLED,
        "timed_out": Outcome.TIMED_OUT,
        "spawn_failed": Outcome.FAILED,
    }[ended.reason]
    reason = ended.error or ""
    if outcome is Outcome.CANCELLED and not job.cancel_requested:
        # Ended by its lease, or by an answer: the job has another say in what that means.
        outcome = Outcome.FAILED
        reason = reason or "The worker gave no sign of life."
    return JobFinished(
        attempt=job.attempt,
        outcome=outcome,
        exit_code=ended.exit_code,
        reason=reason,
        error_id=error_id,
        run_ms=ended.duration_ms,
        lines=lines,
        output_bytes=ended.output_bytes,
    )


async def _is_cut(running: Running) -> bool:
    """Whether an attempt that has ended wrote more than was kept."""
    ended = await running.wait()
    return ended.output_bytes > ended.kept_bytes


def _split(splitter: LineSplitter, data: bytes | None, cut: bool) -> Iterator[Lines]:
    """The lines that a chunk completes, or the end of all, a bite at a time."""
    if data is None:
        yield splitter.finish(cut)
    else:
        for at in range(0, len(data), _BITE):
            yield splitter.feed(data[at : at + _BITE])


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    return await anext(chunks, None)


async def _persistently(
    work: Callable[[], Awaitable[T]],
    passing: tuple[type[Exception], ...] = (LogUnavailable,),
) -> T:
    """Try again, ever more slowly, while the log is unavailable, or for what else is `passing`."""
    tries = 0
    while True:
        try:
            return await work()
        except passing:
            await asyncio.sleep(_BACKOFF_S[min(tries, len(_BACKOFF_S) - 1)])
            tries += 1
