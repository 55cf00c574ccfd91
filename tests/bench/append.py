"""Durable appends by 64 concurrent callers, against raw sqlite3 with 100 rows in a transaction."""

import asyncio
import sqlite3
import tempfile
import time
from pathlib import Path

import uvloop

from api.process import collector
from domain.catalogue import CATALOGUE
from domain.job.events import (
    JobMessaged,
)
from domain.log import SYSTEM, EventLog, new_events, open_sqlite_log
from domain.log.sqlite.datastore import Datastore
from domain.log.sqlite.recorder import LogRecorder
from domain.redaction import Redactor
from tests.bench.measure import Ratio, ratio

CALLERS = 64
EACH = 500
_HASH = bytes(32)
TEXT = "a message of ordinary length, as a person would type it " * 3


async def _append_all(log: EventLog, run: int) -> None:
    async def caller(number: int) -> None:
        stream = f"job-bench-{run}-{number}"
        for version in range(EACH):
            await log.append(
                new_events(stream, [JobMessaged(text=TEXT)], SYSTEM), {stream: version}
            )

    await asyncio.gather(*(caller(number) for number in range(CALLERS)))


def append_group_commit_vs_raw_sqlite() -> Ratio:
    """Rows a second; both files have the same tables and indexes, synchronous=FULL and WAL."""
    with tempfile.TemporaryDirectory() as directory:
        collector.begin()
        log = open_sqlite_log(Path(directory) / "ours", redactor=Redactor(), catalogue=CATALOGUE)
        raw = _raw_file(Path(directory) / "raw.db")
        runs = iter(range(1_000))
        state = log_state()

        def ours() -> float:
            run = next(runs)
            began = time.perf_counter()
            uvloop.run(_append_all(log, run))
            return CALLERS * EACH / (time.perf_counter() - began)

        def baseline() -> float:
            return _raw_rate(raw, next(runs), state)

        try:
            return ratio(ours, baseline)
        finally:
            log.close()
            raw.close()


def log_state() -> bytes:
    """As many bytes as the log stores for one of these events."""
    with tempfile.TemporaryDirectory() as directory:
        log = open_sqlite_log(Path(directory), redactor=Redactor(), catalogue=CATALOGUE)
        recorded = log.append_blocking(
            new_events("job-one", [JobMessaged(text=TEXT)], SYSTEM), {"job-one": 0}
        )
        log.close()
        return recorded[0].state


def _raw_file(path: Path) -> sqlite3.Connection:
    path.touch()
    datastore = Datastore(path, writes=True)
    LogRecorder(datastore).create_table()
    datastore.close()
    raw = sqlite3.connect(path, isolation_level=None)
    raw.execute("PRAGMA synchronous=FULL")
    return raw


def _raw_rate(raw: sqlite3.Connection, run: int, state: bytes) -> float:
    count = CALLERS * EACH
    began = time.perf_counter()
    for start in range(0, count, 100):
        raw.execute("BEGIN IMMEDIATE")
        raw.executemany(
            "INSERT INTO events "
            "(originator_id, originator_version, topic, state, subject, actor, hash) "
            "VALUES (?,?,?,?,?,?,?)",
            [
                (
                    f"job-bench-{run}-{n % CALLERS}",
                    n // CALLERS + 1,
                    "job.messaged",
                    state,
                    f"job-bench-{run}-{n % CALLERS}",
                    "system",
                    _HASH,
                )
                for n in range(start, start + 100)
            ],
        )
        raw.execute("COMMIT")
    return count / (time.perf_counter() - began)
