"""Logs of a given size, made as an import makes them."""

from collections.abc import Iterator
from pathlib import Path

from domain.catalogue import CATALOGUE
from domain.event import Event
from domain.job.events import (
    JobFinished,
    JobOutput,
    JobQueued,
    JobStarted,
    JobSubmitted,
    Links,
    Outcome,
    job_stream,
    output_stream,
)
from domain.log import SYSTEM, Recorded, new_events, open_sqlite_log
from domain.log.mapper import EventMapper
from domain.redaction import Redactor

LINE = "tests/test_something.py::test_that_it_works PASSED                                   [ 42%]"


def job_events(number: int, outputs: int) -> list[tuple[str, int, Event]]:
    """One job from start to end: stream, version, event."""
    own, out = job_stream(job_id(number)), output_stream(job_id(number))
    submitted = JobSubmitted(
        kind="command",
        label="bench",
        title=f"job {number}",
        owner="operator",
        argv=["make", "test"],
        cwd="/srv/project",
        env_names=[],
        sealed=False,
        timeout_ms=0,
        labels=["bench"],
        links=Links(),
    )
    finished = JobFinished(
        attempt=1,
        outcome=Outcome.COMPLETED,
        exit_code=0,
        reason="",
        error_id=None,
        run_ms=1234,
        lines=outputs * 5,
        output_bytes=outputs * 450,
    )
    lines = [
        (
            out,
            n + 1,
            JobOutput(attempt=1, first_line=n * 5 + 1, lines=[LINE] * 5, end_offset=n * 450),
        )
        for n in range(outputs)
    ]
    return [
        (own, 1, submitted),
        (own, 2, JobQueued(attempt=1)),
        (own, 3, JobStarted(attempt=1, node="local", timeout_ms=0)),
        *lines,
        (own, 4, finished),
    ]


def job_id(number: int) -> str:
    return f"bench-{number:07d}"


def pages(events: int, outputs: int) -> Iterator[list[Recorded]]:
    """`events` events of jobs one after the other, 1,000 to a page.

    Parts that all jobs share are encoded once: to encode a million events would take a minute.
    """
    mapper = EventMapper(Redactor())
    known: dict[tuple[str, int], bytes] = {}
    position, number = 0, 0
    page: list[Recorded] = []
    while position < events:
        for stream, version, event in job_events(number, outputs):
            position += 1
            state = known.get((event.type, version))
            if state is None:
                new = new_events(stream, [event], SYSTEM)[0]
                state = mapper.stored([new], [version])[0].state
                if event.type != JobSubmitted.type:
                    known[event.type, version] = state
            page.append(Recorded(position, stream, version, event.type, state, CATALOGUE))
            if len(page) == 1_000:
                yield page
                page = []
        number += 1
    if page:
        yield page


def make_log(directory: Path, events: int, outputs: int) -> None:
    """A log of about `events` events in `directory`."""
    log = open_sqlite_log(directory, redactor=Redactor(), catalogue=CATALOGUE)
    log.import_rows(pages(events, outputs), lambda _: "system")
    log.close()
