"""The promises of the engine: the same events give the same bytes, readers never see an empty
view, and nothing stops for ever.
"""

import asyncio
import gc
import os
import random
import sqlite3
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Engine, Integer, String, create_engine, select
from sqlalchemy.event import listen

from domain.catalogue import CATALOGUE
from domain.errors import JobNotFound
from domain.event import Event
from domain.job.commands import Jobs
from domain.job.events import (
    JobMessaged,
    JobOutput,
)
from domain.log import SYSTEM, EventLog, Recorded, new_events, open_sqlite_log
from domain.redaction import Redactor
from projections.engine import RebuildRuns, UnknownProjection, Views
from projections.filling import Filling, works_of
from projections.jobs import find_job, list_jobs
from projections.projection import Projection, Row
from projections.reading import ViewFailed, ViewsUnavailable
from projections.views import PROJECTIONS
from tests.domain.test_job import COMMANDS
from tests.kit.jobs import submitted
from tests.kit.waiting import until


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    opened = open_sqlite_log(tmp_path / "log", redactor=Redactor(), catalogue=CATALOGUE)
    yield opened
    opened.close()


def started(log: EventLog, path: Path, projections: tuple[Projection, ...] = PROJECTIONS) -> Views:
    views = Views(path, log, projections)
    views.start()
    return views


def until_caught_up(views: Views) -> None:
    asyncio.run(views.caught_up(20.0))


def was_opened_anew(views: Views, before: Engine) -> bool:
    return views._engine is not before


def digests(views: Views) -> dict[str, str]:
    return {status.name: status.digest for status in views.status()}


def make_history(log: EventLog, seed: int, jobs: int = 12) -> None:
    """Events of jobs on any possible walk, interleaved."""
    dice = random.Random(seed)
    repository = Jobs(log)

    async def one(number: int) -> None:
        job_id = f"j{seed}-{number}"
        await repository.submit(job_id, submitted(), SYSTEM)
        written = 0
        for name in ["start", *dice.choices(sorted(COMMANDS), k=dice.randint(0, 8))]:
            try:
                await repository.execute(job_id, COMMANDS[name], SYSTEM)
            except (JobNotFound, Exception):
                continue
            if dice.random() < 0.7:
                lines = [f"line {n}" for n in range(dice.randint(1, 4))]
                output = JobOutput(
                    attempt=1, first_line=written + 1, lines=lines, end_offset=written + 9
                )
                written += len(lines)
                stream = f"job-{job_id}/output"
                version = len(log.blocking.stream(stream))
                await log.append(new_events(stream, [output], SYSTEM), {stream: version})

    async def everything() -> None:
        await asyncio.gather(*(one(number) for number in range(jobs)))

    asyncio.run(everything())


def test_a_steady_trickle_of_events_is_folded_in_few_transactions(
    log: EventLog, tmp_path: Path
) -> None:
    views = started(log, tmp_path / "views.db")
    until_caught_up(views)
    commits: list[float] = []
    listen(views._engine, "commit", lambda _: commits.append(time.monotonic()))

    async def trickle() -> None:
        for number in range(60):
            await Jobs(log).submit(f"j{number}", submitted(), SYSTEM)
            await asyncio.sleep(0.005)

    begun = time.monotonic()
    asyncio.run(trickle())
    took = time.monotonic() - begun
    until_caught_up(views)
    views.close()
    # Each transaction collects events for 100 ms; a waiting reader causes one more.
    assert 0 < len(commits) <= took / 0.1 + 2


def garble(path: Path, table: str) -> None:
    """Overwrite the first page of a table's tree."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        [(size,)] = connection.execute("PRAGMA page_size")
        query = "SELECT rootpage FROM sqlite_master WHERE type = 'table' AND name LIKE ?"
        [(page,)] = connection.execute(query, (f"{table}_%",))
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\x5a" * size)


def drop(path: Path, table: str) -> None:
    with sqlite3.connect(path) as connection:
        query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE ?"
        [(name,)] = connection.execute(query, (f"{table}_%",))
        connection.execute(f"DROP TABLE {name}")
    connection.close()


@pytest.mark.parametrize("harm", [garble, drop])
@pytest.mark.parametrize("found_by", ["reader", "writer"])
def test_a_damaged_table_is_made_again_from_the_log(
    log: EventLog, tmp_path: Path, harm: Callable[[Path, str], None], found_by: str
) -> None:
    path = tmp_path / "views.db"
    views = started(log, path)
    make_history(log, 1)
    until_caught_up(views)
    views.close()
    harm(path, "jobs")

    views = started(log, path)
    if found_by == "writer":
        make_history(log, 2)

    def readable() -> bool:
        try:
            until_caught_up(views)
            with views.reading() as reading:
                return len(list_jobs(reading, limit=100)[0]) > 0
        except ViewsUnavailable:
            return False

    until(readable, "the views are made again")
    fresh = started(log, tmp_path / "fresh.db")
    until_caught_up(fresh)
    until_caught_up(views)
    assert views.recount() == digests(views) == digests(fresh)
    assert views.error is None
    views.close()
    fresh.close()


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_a_reader_of_files_that_were_replaced_leaves_nothing_open(
    log: EventLog, tmp_path: Path
) -> None:
    path = tmp_path / "views.db"
    views = started(log, path)
    until_caught_up(views)
    gc.disable()  # it would close what was forgotten
    try:
        with views.reading():
            first = path.stat().st_ino
            path.unlink()
            views.rebuild("jobs")
            until(lambda: path.exists() and path.stat().st_ino != first, "the views are made again")
            until_caught_up(views)
        assert [link for link in open_files() if "views.db" in link and "(deleted)" in link] == []
    finally:
        gc.enable()
    views.close()


def open_files() -> list[str]:
    """What the descriptors of this process lead to."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the listing's own is gone
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return found


def test_every_digest_is_the_digest_of_the_rows(log: EventLog, tmp_path: Path) -> None:
    views = started(log, tmp_path / "views.db")
    make_history(log, 1)
    until_caught_up(views)
    assert views.recount() == digests(views)
    seen = digests(views)
    assert len({seen[name] for name in ("jobs", "timeline", "output", "analytics")}) == 4
    views.close()


def test_deleting_the_views_and_starting_again_gives_the_same_digests(
    log: EventLog, tmp_path: Path
) -> None:
    views = started(log, tmp_path / "views.db")
    make_history(log, 2)
    until_caught_up(views)
    before = digests(views)
    views.close()
    for file in tmp_path.glob("views.db*"):
        file.unlink()
    again = started(log, tmp_path / "views.db")
    until_caught_up(again)
    assert digests(again) == before
    again.close()


def test_a_restart_goes_on_from_the_checkpoint_without_folding_twice(
    log: EventLog, tmp_path: Path
) -> None:
    make_history(log, 3)
    views = started(log, tmp_path / "views.db")
    until_caught_up(views)
    before = digests(views)
    views.close()
    again = Views(tmp_path / "views.db", log, PROJECTIONS)
    assert {status.position for status in again.status()} == {log.head}
    again.start()
    make_history(log, 4)
    until_caught_up(again)
    assert again.recount() == digests(again)
    assert digests(again) != before
    again.close()


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cuts=st.lists(st.integers(1, 400), max_size=12), seed=st.integers(0, 3))
def test_any_split_into_batches_gives_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], seed: int
) -> None:
    directory = tmp_path_factory.mktemp("split")
    log = open_sqlite_log(directory / "log", redactor=Redactor(), catalogue=CATALOGUE)
    make_history(log, seed)
    events = log.blocking.read(0, 10_000)
    log.close()
    edges = [0, *sorted(c for c in set(cuts) if c < len(events)), len(events)]
    whole = fold(directory / "whole.db", [events])
    pieces = fold(directory / "pieces.db", [events[a:b] for a, b in pairwise(edges)])
    assert whole == pieces


def fold(path: Path, pages: list[list[Recorded]]) -> list[tuple[str, list[tuple[Any, ...]]]]:
    """The digest and the rows of every projection after these pages."""
    from sqlalchemy import MetaData

    engine = create_engine(f"sqlite:///{path}")
    found = []
    for projection in PROJECTIONS:
        table = projection.table(1, MetaData())
        filling = Filling(projection, 1, table)
        with engine.begin() as connection:
            table.create(connection)
        for page in pages:
            if page:
                with engine.begin() as connection:
                    [work] = works_of(page, [filling])
                    filling.fold(connection, work, page[-1].position)
        with engine.begin() as connection:
            rows = [tuple(row) for row in connection.execute(select(table).order_by(*table.c[:1]))]
            assert filling.recount(connection) == filling.digest
        found.append((filling.digest, rows))
    engine.dispose()
    return found


def test_a_reader_sees_its_own_writes(log: EventLog, tmp_path: Path) -> None:
    views = started(log, tmp_path / "views.db")

    async def scenario() -> None:
        for number in range(50):
            await Jobs(log).submit(f"mine-{number}", submitted(), SYSTEM)
            await views.caught_up()
            with views.reading() as reading:
                assert find_job(reading, f"mine-{number}")["state"] == "queued"

    asyncio.run(scenario())
    views.close()


def test_a_reader_waits_no_longer_than_it_is_told(log: EventLog, tmp_path: Path) -> None:
    views = Views(tmp_path / "views.db", log, PROJECTIONS)
    make_history(log, 5, jobs=1)
    with pytest.raises(ViewsUnavailable, match=r"they are at 0 of \d+"):
        asyncio.run(views.caught_up(0.01))
    with pytest.raises(ViewsUnavailable, match="being built"), views.reading() as reading:
        reading.table("jobs")
    views.close()


def test_a_rebuild_runs_beside_the_live_view_and_matches(log: EventLog, tmp_path: Path) -> None:
    make_history(log, 6)
    views = started(log, tmp_path / "views.db")
    until_caught_up(views)
    before = digests(views)
    for projection in PROJECTIONS:
        views.rebuild(projection.name)
    reads = 0
    while any(status.status == "rebuilding" for status in views.status()):
        with views.reading() as reading:
            assert len(list_jobs(reading, limit=100)[0]) > 0
        reads += 1
    assert digests(views) == before
    assert all(status.rebuild_matched for status in views.status())
    assert views.recount() == before
    views.close()
    tables = {f"{projection.name}_2" for projection in PROJECTIONS}
    assert table_names(tmp_path / "views.db") == {"about", "fillings", *tables}


def table_names(path: Path) -> set[str]:
    import sqlite3

    raw = sqlite3.connect(path)
    names = {row[0] for row in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    raw.close()
    return names


def test_a_rebuild_shows_where_live_rows_differ_from_the_log(log: EventLog, tmp_path: Path) -> None:
    """The rebuild finds a wrong digest (here changed by hand) and corrects it."""
    make_history(log, 7)
    views = started(log, tmp_path / "views.db")
    until_caught_up(views)
    good = digests(views)
    views.close()
    import sqlite3

    raw = sqlite3.connect(tmp_path / "views.db")
    raw.execute(
        "UPDATE fillings SET digest = '00000000000000000000000000000001' WHERE name = 'jobs'"
    )
    raw.commit()
    raw.close()
    again = started(log, tmp_path / "views.db")
    until_caught_up(again)
    assert digests(again) != good
    again.rebuild("jobs")
    until(
        lambda: again.status()[0].status == "live" and again.status()[0].rebuild_matched is not None
    )
    assert again.status()[0].rebuild_matched is False
    assert digests(again) == good
    again.close()


def damaged_row(path: Path, statement: str) -> None:
    raw = sqlite3.connect(path, timeout=10)
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB 'jobs_[0-9]*'"
    [(table,)] = raw.execute(query)
    raw.execute(statement.format(table))
    raw.commit()
    raw.close()


@pytest.mark.parametrize("value", ["x'00ff'", "CAST(x'ff41' AS TEXT)"])
def test_a_rebuild_ends_whatever_is_in_the_live_rows(
    log: EventLog, tmp_path: Path, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A value that a column of this kind cannot have is no reason to count for ever."""
    make_history(log, 7)
    views = started(log, tmp_path / "views.db")
    until_caught_up(views)
    good = digests(views)
    damaged_row(tmp_path / "views.db", f"UPDATE {{}} SET title = {value}")
    views.rebuild("jobs")
    until(
        lambda: views.status()[0].status == "live" and views.status()[0].rebuild_matched is not None
    )
    assert views.status()[0].rebuild_matched is False
    assert "jobs: the rows of the live table cannot be counted: " in caplog.text
    assert views.recount() == digests(views) == good
    views.close()


def test_a_row_that_cannot_be_folded_again_fails_its_view_alone(
    log: EventLog, tmp_path: Path
) -> None:
    make_history(log, 7)
    views = started(log, tmp_path / "views.db")
    until_caught_up(views)
    good = digests(views)
    views.close()
    damaged_row(tmp_path / "views.db", "UPDATE {} SET title = x'00ff'")
    again = started(log, tmp_path / "views.db")
    streams = {event.stream for event in log.blocking.read(0, 10_000)}
    for stream in streams:
        if stream.startswith("job-") and "/" not in stream:
            version = len(log.blocking.stream(stream))
            log.append_blocking(
                new_events(stream, [JobMessaged(text="after")], SYSTEM), {stream: version}
            )
    until(lambda: again.status()[0].status == "failed")
    until(lambda: all(one.lag == 0 for one in again.status()[1:]))
    again.rebuild("jobs")
    until(lambda: again.status()[0].status == "live" and again.status()[0].lag == 0)
    assert again.recount() == digests(again) != good
    again.close()


def test_an_unexpected_error_does_not_end_the_thread_of_the_views(
    log: EventLog, tmp_path: Path
) -> None:
    class FailsOnce(Views):
        raised = False

        def _step(self) -> bool:
            if not self.raised:
                self.raised = True
                raise TypeError("unexpected")
            return super()._step()

    make_history(log, 7)
    views = FailsOnce(tmp_path / "views.db", log, PROJECTIONS)
    views.start()
    until_caught_up(views)
    assert views.raised
    until(lambda: views.error is None)
    views.close()


def test_views_that_have_seen_more_than_the_log_has_say_so(
    log: EventLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log may have lost its write-ahead log while no server ran: nothing else knows of it."""
    make_history(log, 7)
    views = started(log, tmp_path / "views.db")
    until_caught_up(views)
    views.close()
    started(log, tmp_path / "views.db").close()
    assert caplog.messages == []
    other = open_sqlite_log(tmp_path / "other", redactor=Redactor(), catalogue=CATALOGUE)
    Views(tmp_path / "views.db", other, PROJECTIONS).close()
    other.close()
    (message,) = caplog.messages
    assert log.id in message
    assert f"{log.head} events" in message
    assert "events are lost" in message


@pytest.mark.parametrize("digest", ["'zz'", "x'00'"])
def test_views_whose_digests_are_garbled_are_filled_again(
    log: EventLog, tmp_path: Path, digest: str
) -> None:
    """At a start, and after a step that failed: without what the database says, nothing is sure."""
    make_history(log, 7)
    views = started(log, tmp_path / "views.db")
    until_caught_up(views)
    good = digests(views)
    views.close()
    damaged_row(tmp_path / "views.db", f"UPDATE fillings SET digest = {digest} -- {{}}")
    again = started(log, tmp_path / "views.db")
    until_caught_up(again)
    assert digests(again) == good
    damaged_row(tmp_path / "views.db", f"UPDATE fillings SET digest = {digest} -- {{}}")
    before = again._engine
    fails = "CREATE TRIGGER fails BEFORE INSERT ON {} BEGIN SELECT RAISE(ABORT, 'no'); END"
    damaged_row(tmp_path / "views.db", fails)
    make_history(log, 8)
    until(lambda: was_opened_anew(again, before), "it is filled again")
    until_caught_up(again)
    assert again.recount() == digests(again)
    again.close()


def test_rebuilding_what_is_unknown_or_being_rebuilt_is_refused(
    log: EventLog, tmp_path: Path
) -> None:
    views = Views(tmp_path / "views.db", log, PROJECTIONS)
    with pytest.raises(UnknownProjection):
        views.rebuild("nothing")
    with pytest.raises(RebuildRuns):
        views.rebuild("jobs")
    views.close()


def _notes(version: int, *columns: str, gate: "Gate | None" = None) -> Projection:
    """The texts of messages, each with the version; a fold may wait at a gate."""

    def note(_: Row | None, event: Recorded) -> Row | None:
        if gate is not None:
            gate.pass_by(event)
        text = f"{event.data['text']} v{version}"
        return {"position": event.position, **dict.fromkeys(columns, text)}

    return Projection(
        name="notes",
        version=version,
        columns=lambda: (
            Column("position", Integer, primary_key=True),
            *(Column(name, String) for name in columns),
        ),
        key=lambda event: event.position,
        folds={"job.messaged": note},
    )


class Gate:
    """Stops the engine in its fold of one event until it is opened."""

    def __init__(self, position: int) -> None:
        self._position = position
        self._open = threading.Event()
        self.reached = threading.Event()

    def pass_by(self, event: Recorded) -> None:
        if event.position == self._position:
            self.reached.set()
            assert self._open.wait(60)

    def open(self) -> None:
        self._open.set()


def say(log: EventLog, *texts: str) -> None:
    version = len(log.blocking.stream("job-n"))
    messages = new_events("job-n", [JobMessaged(text=text) for text in texts], SYSTEM)
    log.append_blocking(messages, {"job-n": version})


def notes(views: Views) -> list[str]:
    with views.reading() as reading:
        table = reading.table("notes")
        return [row["text"] for row in reading.rows(select(table).order_by(table.c.position))]


def test_a_new_version_fills_its_table_beside_the_old_one_which_is_read_meanwhile(
    log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.engine._REBUILD_PAGE", 2)
    path = tmp_path / "views.db"
    say(log, "a", "b", "c", "d")
    views = started(log, path, (_notes(1, "text"),))
    until_caught_up(views)
    views.close()
    for _ in range(2):  # a restart before the new table is full changes nothing
        gate = Gate(3)
        again = started(log, path, (_notes(2, "text", gate=gate),))
        until(gate.reached.is_set)
        try:
            assert notes(again) == ["a v1", "b v1", "c v1", "d v1"]
            assert again.status()[0].status == "rebuilding"
            assert again.position == log.head
            asyncio.run(again.caught_up(0.01))
        finally:
            kept = path.read_bytes(), path.with_name("views.db-wal").read_bytes()
            gate.open()
            again.close()
        path.write_bytes(kept[0])
        path.with_name("views.db-wal").write_bytes(kept[1])
    again = started(log, path, (_notes(2, "text"),))
    until(lambda: again.status()[0].status == "live")
    say(log, "e")
    until_caught_up(again)
    assert notes(again) == ["a v2", "b v2", "c v2", "d v2", "e v2"]
    assert again.recount() == digests(again)
    assert again.status()[0].rebuild_matched is None  # nothing to compare it with
    again.close()
    assert table_names(path) == {"about", "fillings", "notes_2"}


def test_what_comes_while_a_new_version_is_filled_is_read_at_once(
    log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.engine._REBUILD_PAGE", 1)
    say(log, *"abcdefgh")
    views = started(log, tmp_path / "views.db", (_notes(1, "text"),))
    until_caught_up(views)
    views.close()
    again = Views(tmp_path / "views.db", log, (_notes(2, "text"),))
    say(log, "i")
    again._step()
    assert notes(again) == [*(f"{text} v1" for text in "abcdefgh"), "i v2"]
    assert again.status()[0].progress == pytest.approx(1 / 9, abs=1e-4)
    again.start()
    until(lambda: again.status()[0].status == "live")
    assert notes(again) == [f"{text} v2" for text in "abcdefghi"]
    again.close()


def test_a_new_version_with_other_columns_is_filled_beside_nothing(
    log: EventLog, tmp_path: Path
) -> None:
    say(log, "a", "b")
    views = started(log, tmp_path / "views.db", (_notes(1, "text"),))
    until_caught_up(views)
    views.close()
    again = Views(tmp_path / "views.db", log, (_notes(2, "text", "more"),))
    assert (again.position, again.status()[0].position) == (-1, 0)
    with pytest.raises(ViewsUnavailable, match="being built"):
        notes(again)
    again.start()
    until_caught_up(again)
    assert notes(again) == ["a v2", "b v2"]
    assert again.recount() == digests(again)
    again.close()
    assert table_names(tmp_path / "views.db") == {"about", "fillings", "notes_2"}


def test_the_version_of_a_real_view_may_change(log: EventLog, tmp_path: Path) -> None:
    """The view's columns in the database are those of its declaration."""
    make_history(log, 8)
    views = started(log, tmp_path / "views.db")
    until_caught_up(views)
    views.close()
    newer = tuple(replace(each, version=each.version + 1) for each in PROJECTIONS)
    again = Views(tmp_path / "views.db", log, newer)
    assert again.position == log.head
    assert {status.status for status in again.status()} == {"rebuilding"}
    again.start()
    until(lambda: {status.status for status in again.status()} == {"live"})
    assert again.recount() == digests(again)
    again.close()


def test_the_progress_of_a_rebuild_is_what_it_has_of_the_log(
    log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.engine._REBUILD_PAGE", 10)
    say(log, *(str(n) for n in range(40)))
    gate = Gate(31)
    views = Views(tmp_path / "views.db", log, (_notes(1, "text", gate=gate),))
    assert views.status()[0].progress == 0.0
    views.start()
    until(gate.reached.is_set)
    assert (views.status()[0].progress, views.status()[0].status) == (0.75, "rebuilding")
    gate.open()
    until(lambda: views.status()[0].status == "live")
    assert views.status()[0].progress == 1.0
    gate._open.clear()
    gate.reached.clear()
    views.rebuild("notes")
    until(gate.reached.is_set)
    shown = views.status()[0]
    assert (shown.progress, shown.status, shown.position) == (0.75, "rebuilding", 40)
    gate.open()
    until(lambda: views.status()[0].status == "live")
    assert (views.status()[0].progress, views.status()[0].rebuild_matched) == (1.0, True)
    views.close()


def test_a_database_that_is_removed_while_it_is_read_is_filled_again(
    log: EventLog, tmp_path: Path
) -> None:
    make_history(log, 15)
    views = started(log, tmp_path / "views.db")
    until_caught_up(views)
    for gone in ("views.db*", "views.db", "views.db-*"):
        opened = views._engine
        for file in tmp_path.glob(gone):
            file.unlink()
        say(log, gone)
        until(partial(was_opened_anew, views, opened))
        until(lambda: views.position == log.head)
        assert digests(views) == views.recount()
    before = digests(views)
    views.close()
    again = Views(tmp_path / "views.db", log, PROJECTIONS)
    assert digests(again) == before
    again.close()


def test_no_reader_makes_an_empty_database_of_one_that_is_gone(
    log: EventLog, tmp_path: Path
) -> None:
    views = Views(tmp_path / "views.db", log, PROJECTIONS)
    for file in tmp_path.glob("views.db*"):
        file.unlink()
    views._engine.dispose()
    with pytest.raises(ViewsUnavailable), views.reading():
        pass
    assert list(tmp_path.glob("views.db*")) == []
    views.close()


def test_views_of_another_log_are_not_believed(log: EventLog, tmp_path: Path) -> None:
    make_history(log, 9)
    views = started(log, tmp_path / "views.db")
    until_caught_up(views)
    views.close()
    other = open_sqlite_log(tmp_path / "other", redactor=Redactor(), catalogue=CATALOGUE)
    again = started(other, tmp_path / "views.db")
    make_history(other, 10, jobs=3)
    until_caught_up(again)
    with again.reading() as reading:
        assert len(list_jobs(reading, limit=100)[0]) <= 3
    assert again.recount() == digests(again)
    again.close()
    other.close()


def test_a_damaged_views_database_is_built_anew(log: EventLog, tmp_path: Path) -> None:
    make_history(log, 11)
    views = started(log, tmp_path / "views.db")
    until_caught_up(views)
    before = digests(views)
    views.close()
    (tmp_path / "views.db").write_bytes(b"no database at all" * 500)
    again = started(log, tmp_path / "views.db")
    until_caught_up(again)
    assert digests(again) == before
    again.close()


def test_unknown_event_types_are_counted_and_passed_over(log: EventLog, tmp_path: Path) -> None:
    class FromTheFuture(Event, type="future.happened"):
        """Written by a later version."""

    log.append_blocking(new_events("job-x", [FromTheFuture()], SYSTEM), {"job-x": 0})
    views = started(log, tmp_path / "views.db")
    make_history(log, 12, jobs=2)
    until_caught_up(views)
    assert {status.unknown_events for status in views.status()} == {1}
    assert views.recount() == digests(views)
    views.close()


def _raises(_: Row | None, event: Recorded) -> Row | None:
    if event.data["text"] == "poison":
        raise RuntimeError("cannot fold this")
    return {"position": event.position, "text": event.data["text"]}


FRAGILE = Projection(
    name="fragile",
    version=1,
    columns=lambda: (Column("position", Integer, primary_key=True), Column("text", String)),
    key=lambda event: event.position,
    folds={"job.messaged": _raises},
)


def test_a_fold_that_fails_stops_its_own_view_and_says_so(log: EventLog, tmp_path: Path) -> None:
    views = started(log, tmp_path / "views.db", (*PROJECTIONS, FRAGILE))
    make_history(log, 13, jobs=2)
    log.append_blocking(new_events("job-p", [JobMessaged(text="poison")], SYSTEM), {"job-p": 0})
    until(lambda: views.status()[-1].status == "failed")
    make_history(log, 14, jobs=2)
    until(lambda: all(status.position == log.head for status in views.status()[:-1]))
    assert "cannot fold this" in str(views.status()[-1].failure)
    views.close()


def test_a_failed_view_is_named_and_the_others_go_on(log: EventLog, tmp_path: Path) -> None:
    views = started(log, tmp_path / "views.db", (*PROJECTIONS, FRAGILE))
    make_history(log, 13, jobs=2)
    log.append_blocking(new_events("job-p", [JobMessaged(text="poison")], SYSTEM), {"job-p": 0})
    poison = log.head
    until(lambda: views.status()[-1].status == "failed")
    make_history(log, 14, jobs=2)
    asyncio.run(views.caught_up(30))
    with views.reading() as reading:
        assert reading.rows(select(reading.table("jobs")))
        with pytest.raises(ViewFailed) as failed:
            reading.table("fragile")
    assert f"view of fragile has failed at event {poison}, a job.messaged" in str(failed.value)
    assert "crewlog projections rebuild fragile" in str(failed.value)
    assert "cannot fold this" not in str(failed.value), "the log's content is not public"
    assert views.error is None
    for _ in range(3):
        until(lambda: _takes_rebuild(views, "fragile"))
    views.close()


def _takes_rebuild(views: Views, name: str) -> bool:
    """Whether a rebuild is accepted. It is refused only while another one runs."""
    try:
        views.rebuild(name)
    except RebuildRuns:
        return False
    return True


def _too_large(_: Row | None, event: Recorded) -> Row | None:
    return {"position": event.position, "text": 1 << 70}


def test_a_value_that_no_column_takes_stops_its_own_view(log: EventLog, tmp_path: Path) -> None:
    large = replace(FRAGILE, name="large", folds={"job.messaged": _too_large})
    views = started(log, tmp_path / "views.db", (*PROJECTIONS, large))
    log.append_blocking(new_events("job-p", [JobMessaged(text="x")], SYSTEM), {"job-p": 0})
    until(lambda: views.status()[-1].status == "failed")
    make_history(log, 14, jobs=2)
    asyncio.run(views.caught_up(30))
    views.close()


def test_a_rebuild_counts_what_the_live_table_holds(log: EventLog, tmp_path: Path) -> None:
    """It does not trust the stored sum."""
    views = started(log, tmp_path / "views.db")
    make_history(log, 15, jobs=5)
    until_caught_up(views)

    def rebuilt() -> bool | None:
        views.rebuild("jobs")
        until(lambda: views.status()[0].status == "live")
        return views.status()[0].rebuild_matched

    assert rebuilt() is True
    connection = sqlite3.connect(tmp_path / "views.db")
    with connection:
        found = connection.execute("SELECT name, generation FROM fillings WHERE name = 'jobs'")
        table = "{}_{}".format(*found.fetchone())
        connection.execute(f"UPDATE {table} SET title = 'changed by hand'")
    connection.close()
    assert rebuilt() is False
    assert rebuilt() is True
    assert views.recount() == digests(views)
    views.close()


def test_what_the_views_keep_in_memory_is_bounded_in_bytes(log: EventLog, tmp_path: Path) -> None:
    """300 jobs with commands of a megabyte each: they took all of it for good, in each view that
    shows a command.
    """
    argv = ["x" * 1_000_000]
    for number in range(300):
        new = new_events(f"job-{number}", [submitted(argv=argv)], SYSTEM)
        log.append_blocking(new, {f"job-{number}": 0})
    tracemalloc.start()
    try:
        views = started(log, tmp_path / "views.db")
        until(lambda: views.position == log.head)
        kept, _ = tracemalloc.get_traced_memory()
        views.close()
    finally:
        tracemalloc.stop()
    assert kept < 100_000_000
