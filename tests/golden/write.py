"""Writes the golden log of this version: ``python -m tests.golden.write VERSION``, once for each
release.

It has at least one event of every type, so that later versions must read all types.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

import orjson

from domain.catalogue import CATALOGUE
from domain.event import Event
from domain.idempotency import RequestAccepted
from domain.job.events import (
    JobArchived,
    JobAttemptLost,
    JobCancelRequested,
    JobDeleted,
    JobFinished,
    JobMessaged,
    JobOutput,
    JobOutputDropped,
    JobPaused,
    JobProgressed,
    JobQueued,
    JobResumed,
    JobStarted,
    JobSubmitted,
    JobUnarchived,
    Links,
    Outcome,
)
from domain.log import Context, EventLog, new_events, open_sqlite_log
from domain.log.archive import export_lines
from domain.redaction import Redactor
from projections.engine import Views
from projections.views import PROJECTIONS
from tests.golden import board

HERE = Path(__file__).parent


def submitted(title: str) -> JobSubmitted:
    return JobSubmitted(
        kind="command",
        label="tests",
        title=title,
        owner="operator",
        argv=["make", "test"],
        cwd="/srv/project",
        env_names=["LANG"],
        sealed=True,
        timeout_ms=60_000,
        labels=["tests", "nightly"],
        links=Links(parent="p", crew="c", schedule="s", request="r"),
    )


def finished(attempt: int, outcome: Outcome, code: int | None) -> JobFinished:
    return JobFinished(
        attempt=attempt,
        outcome=outcome,
        exit_code=code,
        reason="" if code is not None else "Nothing ran.",
        error_id=None if code is not None else "0a1b2c3d4e5f",
        run_ms=1_234,
        lines=3,
        output_bytes=30,
    )


STARTED = JobStarted(attempt=1, node="node-1", timeout_ms=60_000)

HISTORIES: dict[str, list[Event]] = {
    "job-completed": [
        submitted("one that completes"),
        JobQueued(attempt=1),
        STARTED,
        JobProgressed(attempt=1, fraction="0.5", text="half way"),
        JobMessaged(text="a person says something – ünïcödé ✓"),
        JobOutputDropped(attempt=1, from_offset=1_000, bytes=24),
        finished(1, Outcome.COMPLETED, 0),
        JobArchived(),
        JobUnarchived(),
    ],
    "job-completed/output": [
        JobOutput(attempt=1, first_line=1, lines=["one", "two \\xff"], end_offset=9),
        JobOutput(attempt=1, first_line=3, lines=["__END__:completed"], end_offset=30),
    ],
    "job-cancelled": [
        submitted("one that is cancelled"),
        JobQueued(attempt=1),
        STARTED,
        JobPaused(attempt=1),
        JobResumed(attempt=1),
        JobCancelRequested(reason="By request."),
        finished(1, Outcome.CANCELLED, -15),
        JobDeleted(),
    ],
    "job-lost": [
        submitted("one that is lost"),
        JobQueued(attempt=1),
        STARTED,
        JobAttemptLost(attempt=1, reason="The runner is gone."),
        finished(1, Outcome.FAILED, None),
    ],
    "job-late": [
        submitted("one that takes too long"),
        JobQueued(attempt=1),
        STARTED,
        finished(1, Outcome.TIMED_OUT, -9),
    ],
    "job-waiting": [submitted("one that waits"), JobQueued(attempt=1)],
    "request-golden": [RequestAccepted(fingerprint="f" * 64, result="waiting")],
    **board.HISTORIES,
}


def fill(log: EventLog) -> None:
    context = Context(actor="operator", request_id="golden-request")
    for stream, events in HISTORIES.items():
        log.append_blocking(new_events(stream, events, context), {stream: 0})


def digests(log: EventLog, path: Path) -> dict[str, str]:
    """The digest of every view of a log; the views are filled in `path`."""
    views = Views(path, log, PROJECTIONS)
    views.start()
    asyncio.run(views.caught_up(30))
    found = {f"{s.name}@{s.version}": s.digest for s in views.status()}
    views.close()
    return found


def main(version: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        log = open_sqlite_log(Path(directory), redactor=Redactor(), catalogue=CATALOGUE)
        fill(log)
        (HERE / f"{version}.ndjson").write_bytes(b"".join(export_lines(log)))
        encoded = orjson.dumps(
            digests(log, Path(directory) / "views.db"), option=orjson.OPT_INDENT_2
        )
        (HERE / f"{version}.json").write_bytes(encoded + b"\n")
        log.close()


if __name__ == "__main__":
    main(sys.argv[1])
