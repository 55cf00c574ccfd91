"""The SQLite store itself: durability settings, newer formats, damage, a failing disk."""

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from domain.catalogue import CATALOGUE
from domain.errors import LogRefused, LogUnavailable
from domain.job.events import (
    JobMessaged,
)
from domain.log import SYSTEM, EventLog, new_events, open_sqlite_log
from domain.log.sqlite.store import SQLiteStore
from domain.redaction import Redactor


def opened(path: Path) -> EventLog:
    return open_sqlite_log(path, redactor=Redactor(), catalogue=CATALOGUE)


def put(log: EventLog, stream: str, after: int, text: str) -> None:
    log.append_blocking(new_events(stream, [JobMessaged(text=text)], SYSTEM), {stream: after})


def pragma(log: EventLog, which: str, name: str) -> object:
    store = log._store
    assert isinstance(store, SQLiteStore)
    recorder = {"writer": store._writer, "reader": store._reader}[which]
    with recorder.datastore.get_connection(commit=False) as connection:
        return connection._sqlite_conn.execute(f"PRAGMA {name}").fetchone()[0]


def test_an_acknowledged_append_is_on_the_disk_and_only_the_writer_checkpoints(
    tmp_path: Path,
) -> None:
    log = opened(tmp_path)
    full = 2
    assert pragma(log, "writer", "synchronous") == full
    assert pragma(log, "writer", "journal_mode") == "wal"
    assert pragma(log, "reader", "wal_autocheckpoint") == 0
    assert pragma(log, "reader", "query_only") == 1
    log.close()


def test_positions_are_explicit_and_survive_vacuum(tmp_path: Path) -> None:
    log = opened(tmp_path)
    for n in range(5):
        put(log, "job-a", n, f"{n}")
    log.close()
    raw = sqlite3.connect(tmp_path / "log.db")
    raw.execute("VACUUM")
    ddl = raw.execute("SELECT sql FROM sqlite_master WHERE name = 'events'").fetchone()[0]
    raw.close()
    assert "position INTEGER PRIMARY KEY AUTOINCREMENT" in ddl
    again = opened(tmp_path)
    assert [e.position for e in again.blocking.read(0)] == [1, 2, 3, 4, 5]
    again.close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE meta SET value = '99' WHERE key = 'format'",
        """UPDATE meta SET value = '{"job.started":99}' WHERE key = 'schemas'""",
    ],
)
def test_a_log_of_a_newer_version_is_refused_and_untouched(tmp_path: Path, change: str) -> None:
    log = opened(tmp_path)
    put(log, "job-a", 0, "x")
    log.close()
    raw = sqlite3.connect(tmp_path / "log.db")
    raw.execute(change)
    raw.commit()
    raw.close()
    before = (tmp_path / "log.db").read_bytes()
    with pytest.raises(LogRefused, match="newer version wrote it"):
        opened(tmp_path)
    assert (tmp_path / "log.db").read_bytes() == before
    with pytest.raises(LogRefused, match="newer version wrote it"):
        opened(tmp_path)


def test_a_file_that_is_no_log_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "log.db").write_bytes(b"this is not a database, whatever its name says" * 100)
    with pytest.raises(LogRefused, match="cannot be opened"):
        opened(tmp_path)


def test_a_data_directory_that_is_a_file_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(LogRefused, match="cannot be used"):
        opened(tmp_path / "data")


_FULL_DISK = """
import asyncio, resource, sys
from pathlib import Path
from domain.catalogue import CATALOGUE
from domain.errors import LogUnavailable
from domain.job.events import (
    JobMessaged,
)
from domain.log import SYSTEM, new_events, open_sqlite_log
from domain.redaction import Redactor

log = open_sqlite_log(Path(sys.argv[1]), redactor=Redactor(), catalogue=CATALOGUE)
def put(after):
    event = JobMessaged(text="x" * 4000)
    log.append_blocking(new_events("job-a", [event], SYSTEM), {"job-a": after})
done = 0
for _ in range(20):
    put(done)
    done += 1
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
refused = 0
for _ in range(60):
    try:
        put(done)
        done += 1
    except LogUnavailable:
        refused += 1
assert refused > 0, "the disk never got full"
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
for _ in range(5):
    put(done)
    done += 1
assert log.head == done, (log.head, done)
assert [e.version for e in log.blocking.read(0, 500)] == list(range(1, done + 1))
log.close()
print(done)
"""


def test_a_full_disk_refuses_appends_loses_none_and_heals(tmp_path: Path) -> None:
    """A real process with a real limit on the size of files; acknowledged events are kept."""
    run = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    log = opened(tmp_path)
    assert log.head == int(run.stdout)
    log.close()


_CRASHED = """
import os, sys, threading
from pathlib import Path
from domain.catalogue import CATALOGUE
from domain.job.events import (
    JobMessaged,
)
from domain.log import SYSTEM, new_events, open_sqlite_log
from domain.redaction import Redactor
log = open_sqlite_log(Path(sys.argv[1]), redactor=Redactor(), catalogue=CATALOGUE)
def write(stream):
    version = 0
    while True:
        log.append_blocking(new_events(stream, [JobMessaged(text="x")], SYSTEM), {stream: version})
        version += 1
        os.write(1, f"{stream} {version}\\n".encode())
for n in range(4):
    threading.Thread(target=write, args=(f"job-{n}",)).start()
"""


def test_a_kill_at_any_instant_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    for round_number in range(5):
        data = tmp_path / str(round_number)
        acknowledged: dict[str, int] = {}
        with subprocess.Popen(
            [sys.executable, "-c", _CRASHED, str(data)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                stream, version = line.decode().split()
                acknowledged[stream] = int(version)
                if sum(acknowledged.values()) > 40 + 37 * round_number:
                    process.kill()
        log = opened(data)
        for name, answered in acknowledged.items():
            stored = [e.version for e in log.blocking.stream(name)]
            assert stored == list(range(1, len(stored) + 1))
            # Each writer may have at most one more append, which was stored but not answered.
            assert answered <= len(stored) <= answered + 1
        assert [e.position for e in log.blocking.read(0, 10_000)] == list(range(1, log.head + 1))
        log.close()


def test_moving_the_write_ahead_log_into_the_log_is_no_foreign_write(tmp_path: Path) -> None:
    log = opened(tmp_path)
    file = tmp_path / "log.db"
    states = {(file.stat().st_size, file.stat().st_mtime_ns)}
    obstacles: set[str | None] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            obstacles.add(log._store.obstacle())

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for n in range(30):
            events = [JobMessaged(text=f"{n}" * 50_000) for _ in range(10)]
            log.append_blocking(new_events(f"job-{n}", list(events), SYSTEM), {f"job-{n}": 0})
            states.add((file.stat().st_size, file.stat().st_mtime_ns))
    finally:
        ended.set()
        looking.join()
    assert len(states) > 3
    assert obstacles == {None}
    log.close()


def test_an_append_whose_store_fails_is_an_error_to_its_caller(tmp_path: Path) -> None:
    log = opened(tmp_path)
    assert isinstance(log._store, SQLiteStore)
    log._store._writer.datastore.pool.close()

    async def attempt() -> None:
        await log.append(new_events("job-a", [JobMessaged(text="x")], SYSTEM), {"job-a": 0})

    with pytest.raises(LogUnavailable):
        asyncio.run(attempt())
    log.close()
