"""Moves the output of an attempt into the log."""

from collections.abc import Sequence

from domain.clock import Clock
from domain.errors import NotFound, VersionConflict
from domain.event import Event
from domain.job.commands import Jobs
from domain.job.events import JobOutput, job_stream, output_stream
from domain.log import Context, EventLog, new_events
from domain.redaction import hide_key_lines, key_of
from scheduler.drivers.contract import Fenced
from scheduler.drivers.lines import Lines
from scheduler.drivers.unfinished import Beginning, Unfinished

BATCH_BYTES = 64 * 1024
"""Most output that shares an event, unless a single line is longer. See LINE_COST."""

LINE_COST = 64
"""Bytes that each line counts in addition to its own. The objects made of a line take this much,
even if it is empty.
"""

_LAST_WORDS = 4
"""Output events that a cancelled job may still write when the disk is full."""


class OutputPump:
    """Appends one attempt's lines to ``job-<id>/output``, fenced by the version of the job's
    own stream.
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
        self._key: str | None = None
        """What stands before each line of the private key of which the last line was part, if it
        may continue.
        """
        self.lines = 0
        self.offset = 0

    async def resume(self) -> None:
        """Find out from the log where to go on. Raises Fenced if the attempt is not current."""
        await self._look_at_job()
        last = await self._log.last_of_stream(self._stream)
        self._version = last.version if last else 0
        self.lines = last.data["first_line"] + len(last.data["lines"]) - 1 if last else 0
        same = last is not None and last.data["attempt"] == self._attempt
        self.offset = last.data["end_offset"] if last is not None and same else 0
        lines = last.data["lines"] if last is not None and same else []
        self._key = key_of(lines[-1]) if lines else None

    async def _look_at_job(self) -> None:
        try:
            job = await self._jobs.loaded(self._job_id)
        except NotFound:
            raise Fenced from None
        if not job.active or job.attempt != self._attempt:
            raise Fenced
        self._job_version = job.version
        self._cancelled = job.cancel_requested

    async def append(self, batches: Sequence[Lines]) -> None:
        """Append each batch as an event. Raises Fenced, VersionConflict, LogUnavailable."""
        events: list[Event] = []
        count, key = self.lines, self._key
        for texts, end in batches:
            texts, key = hide_key_lines(texts, key)
            # Not validated: the splitter returns valid text, and there may be millions of lines.
            events.append(
                JobOutput.model_construct(
                    attempt=self._attempt, first_line=count + 1, lines=texts, end_offset=end
                )
            )
            count += len(texts)
        await self._write(events)
        self._version += len(events)
        self.lines, self.offset, self._key = count, batches[-1].end, key

    def show(self, unfinished: Unfinished, text: str | None) -> None:
        """Show readers the beginning of the next line; None: it has not begun."""
        shown = (
            None if text is None or self._key is not None else self._log.redactor.beginning(text)
        )
        number = self.lines + 1
        unfinished.put(self._job_id, Beginning(self._attempt, number, shown) if shown else None)

    async def _write(self, events: list[Event]) -> None:
        own = job_stream(self._job_id)
        while True:
            new = new_events(self._stream, events, self._context, self._clock)
            expected = {self._stream: self._version, own: self._job_version}
            # The last output of a cancelled job must not prevent its end, on a disk that it may
            # have filled itself.
            last_words = self._cancelled and len(events) <= _LAST_WORDS
            try:
                await self._log.append(new, expected, essential=last_words)
                return
            except VersionConflict as conflict:
                if conflict.stream != own:
                    raise
                await self._look_at_job()


class Pending:
    """Lines on their way into the log, in batches of one event each."""

    def __init__(self, offset: int) -> None:
        self._batches: list[Lines] = []
        self._end = offset
        self._room = 0  # of the last batch
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
        """Returns all batches, and is empty afterwards."""
        batches, self._batches = self._batches, []
        self._room = self.cost = 0
        return batches
