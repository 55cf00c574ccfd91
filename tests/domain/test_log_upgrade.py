"""A log of format 1 gets its hashes when it is opened, even after many interruptions."""

import logging
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from domain.catalogue import CATALOGUE
from domain.errors import LogDamaged
from domain.job.events import JobMessaged
from domain.log import SYSTEM, new_events, open_sqlite_log
from domain.log.archive import Verified, verify
from domain.log.sqlite.stored import stored_log
from domain.redaction import Redactor

GOLDEN = Path(__file__).parent.parent / "golden" / "0.2.0.ndjson"

FORMAT_1 = """
CREATE TABLE events (position INTEGER PRIMARY KEY AUTOINCREMENT, originator_id TEXT NOT NULL,
originator_version INTEGER NOT NULL, topic TEXT NOT NULL, state BLOB NOT NULL,
subject TEXT NOT NULL, actor TEXT NOT NULL, UNIQUE (originator_id, originator_version));
CREATE INDEX events_by_subject ON events (subject);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE tracking (application_name TEXT, notification_id INTEGER,
PRIMARY KEY (application_name)) WITHOUT ROWID;
INSERT INTO meta VALUES ('id', '01a2006c-0544-77e8-a26f-d0bb0f8bfdc6'), ('format', '1'),
('schemas', '{}');
"""
"""The tables as versions up to 0.2.0 made them."""


def old_log(directory: Path, *, further: int = 0) -> int:
    """Store the golden log as 0.2.0 did, with this many more messages. Returns its head."""
    directory.mkdir()
    connection = sqlite3.connect(directory / "log.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.executescript(FORMAT_1)
    rows = [row_of(line) for line in GOLDEN.read_bytes().splitlines()]
    state = rows[0][4]
    for n in range(1, further + 1):
        rows.append(
            (len(rows) + 1, f"thing-{n}", 1, "thing.happened", state, f"thing-{n}", "operator")
        )
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO events VALUES (?,?,?,?,?,?,?)", rows)
    connection.execute("COMMIT")
    connection.close()
    return len(rows)


def row_of(line: bytes) -> tuple[int, str, int, str, bytes, str, str]:
    envelope = orjson.loads(line)
    head = b'{"position":%d,"stream":"%s","version":%d,"type":"%s",' % (
        envelope["position"],
        envelope["stream"].encode(),
        envelope["version"],
        envelope["type"].encode(),
    )
    state = b"{" + line[len(head) :]
    subject = envelope["stream"].partition("/")[0]
    return (
        *(envelope[n] for n in ("position", "stream", "version", "type")),
        state,
        subject,
        envelope["actor"],
    )


def walked(directory: Path) -> Verified:
    with stored_log(directory, CATALOGUE) as stored:
        return verify(stored.pages(), written=stored.written)


def meta(directory: Path) -> dict[str, str]:
    connection = sqlite3.connect(f"file:{directory}/log.db?mode=ro", uri=True)
    try:
        return dict(connection.execute("SELECT key, value FROM meta").fetchall())
    finally:
        connection.close()


def test_an_older_log_is_upgraded_at_open(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = tmp_path / "data"
    head = old_log(data)
    assert walked(data).unhashed == head
    with caplog.at_level(logging.INFO, "crewlog.log"):
        log = open_sqlite_log(data, redactor=Redactor(), catalogue=CATALOGUE)
    records = [record.getMessage() for record in caplog.records]
    assert "format 2" in records[0]
    assert "100 %" in records[-1]
    assert [
        event.wire for page in log.blocking.pages() for event in page
    ] == GOLDEN.read_bytes().splitlines()
    log.append_blocking(new_events("job-z", [JobMessaged(text="after")], SYSTEM), {"job-z": 0})
    log.close()
    assert (walked(data).events, walked(data).unhashed) == (head + 1, 0)
    assert meta(data)["format"] == "2"
    assert "hashed" not in meta(data)

    caplog.clear()
    open_sqlite_log(data, redactor=Redactor(), catalogue=CATALOGUE).close()
    assert not caplog.records


def test_what_is_changed_after_the_upgrade_is_found(tmp_path: Path) -> None:
    data = tmp_path / "data"
    old_log(data)
    open_sqlite_log(data, redactor=Redactor(), catalogue=CATALOGUE).close()
    connection = sqlite3.connect(data / "log.db")
    with connection:
        connection.execute(
            "UPDATE events SET state = CAST(replace(CAST(state AS TEXT), 'make', 'fake') AS BLOB) "
            "WHERE position = 1"
        )
    connection.close()
    with pytest.raises(LogDamaged, match="Position 1: its hash does not fit"):
        walked(data)


DIES = """
import os, signal, sys
from pathlib import Path
from domain.catalogue import CATALOGUE
import domain.log.sqlite.store as store
from domain.log import open_sqlite_log
from domain.redaction import Redactor

told = 0

class Deadly:
    def __init__(self, path):
        pass
    def __call__(self, done, of):
        global told
        told += 1
        if told == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

store.Told = Deadly
open_sqlite_log(Path(sys.argv[1]), redactor=Redactor(), catalogue=CATALOGUE)
"""


def test_an_upgrade_goes_on_where_it_was_killed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "data"
    head = old_log(data, further=9_000)
    reached = [0]
    for told in (1, 2, 3):
        died = subprocess.run([sys.executable, "-c", DIES, data, str(told)], timeout=60)
        assert died.returncode == -signal.SIGKILL
        assert meta(data)["format"] == "2", "an older version must not open a half upgraded log"
        reached.append(int(meta(data)["hashed"]))
        found = walked(data)
        assert (found.events, found.unhashed) == (head, head - reached[-1])
    assert reached == [0, 0, 2_000, 6_000]
    with caplog.at_level(logging.INFO, "crewlog.log"):
        log = open_sqlite_log(data, redactor=Redactor(), catalogue=CATALOGUE)
    assert f"{100 * 6_000 // head // 10 * 10} %" in caplog.records[0].getMessage()
    log.close()
    assert walked(data) == Verified(head, walked(data).streams, {"thing.happened": 9_000}, 0)


def test_a_first_start_that_was_killed_before_its_tables_were_made(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "log.db")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    open_sqlite_log(tmp_path, redactor=Redactor(), catalogue=CATALOGUE).close()
    assert walked(tmp_path).events == 0
