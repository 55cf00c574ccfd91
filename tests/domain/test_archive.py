"""The log as a whole: exports are imported unchanged, and damage is found at its place."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import orjson
import pytest

from domain.catalogue import CATALOGUE
from domain.errors import LogDamaged, LogRefused
from domain.job.events import (
    JobOutput,
    JobQueued,
)
from domain.log import SYSTEM, EventLog, new_events, open_sqlite_log
from domain.log.archive import (
    BadExport,
    Export,
    Imported,
    Verified,
    export_lines,
    import_export,
    verify,
)
from domain.log.sqlite.stored import stored_log
from domain.redaction import Redactor
from tests.kit.jobs import finished, started, submitted

JOBS = 3
EVENTS_OF_A_JOB = 5
ALL = JOBS * EVENTS_OF_A_JOB


@contextmanager
def opened(directory: Path) -> Iterator[EventLog]:
    log = open_sqlite_log(directory, redactor=Redactor([]), catalogue=CATALOGUE, purpose="a test")
    try:
        yield log
    finally:
        log.close()


def fill(log: EventLog) -> None:
    for number in range(JOBS):
        stream = f"job-{number}"
        output = JobOutput(attempt=1, first_line=1, lines=["one", "two\u2028"], end_offset=8)
        begun = new_events(
            stream, [submitted(title="Ein schöner Titel"), JobQueued(attempt=1), started()], SYSTEM
        )
        written = new_events(f"{stream}/output", [output], SYSTEM)
        ended = new_events(stream, [finished(lines=2, output_bytes=8)], SYSTEM)
        log.append_blocking([*begun, *written, *ended], {stream: 0, f"{stream}/output": 0})


def exported(directory: Path) -> bytes:
    with opened(directory) as log:
        return b"".join(export_lines(log))


def walked(directory: Path) -> Verified:
    with stored_log(directory, CATALOGUE) as stored:
        return verify(stored.pages(), written=stored.written)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    with opened(directory) as log:
        fill(log)
    return directory


def lines_of(export: bytes) -> list[bytes]:
    return export.splitlines(keepends=True)


def changed(line: bytes, **fields: object) -> bytes:
    return orjson.dumps({**orjson.loads(line), **fields}) + b"\n"


def without_hash(line: bytes) -> bytes:
    return line[: line.index(b"hash") - 1] + line[line.index(b"stream") - 1 :]


def foreign_line(position: int, stream: str, state: bytes) -> bytes:
    head = b'{"position":%d,"stream":"%s","version":1,"type":"thing.happened",'
    return head % (position, stream.encode()) + state[1:] + b"\n"


def test_an_export_imported_and_exported_again_is_the_same_to_the_byte(
    directory: Path, tmp_path: Path
) -> None:
    export = exported(directory)
    with opened(tmp_path / "copy") as log:
        assert import_export(log, lines_of(export)) == Imported(ALL, hashed=True)
    assert exported(tmp_path / "copy") == export
    assert walked(tmp_path / "copy") == walked(directory)


def test_an_import_neither_redacts_nor_encodes_anew(tmp_path: Path) -> None:
    state = (
        b'{"schema":1,"id":"01a2006c-0544-77e8-a26f-d0bb0f8bfdc6",'
        b'"at":"2026-11-21T23:23:30.000000Z","actor":"operator","request_id":null,"cause":null,'
        b'"data":{"url":"https://me:secret@example.org/","number":1.500e0,"text":"\\u00e9"}}'
    )
    export = foreign_line(1, "thing-1", state) + foreign_line(2, "thing-2", state)
    with opened(tmp_path / "copy") as log:
        assert import_export(log, lines_of(export)) == Imported(2, hashed=False)
    with opened(tmp_path / "copy") as log:
        assert (
            b"".join(event.wire + b"\n" for page in log.blocking.pages() for event in page)
            == export
        )
    again = exported(tmp_path / "copy")
    with opened(tmp_path / "again") as log:
        import_export(log, lines_of(again))
    assert exported(tmp_path / "again") == again


def test_a_log_goes_on_after_an_import(directory: Path, tmp_path: Path) -> None:
    with opened(tmp_path / "copy") as log:
        import_export(log, lines_of(exported(directory)))
    with opened(tmp_path / "copy") as log:
        assert log.head == JOBS * EVENTS_OF_A_JOB
        stream = log.blocking.stream("job-1")
        [event] = log.append_blocking(
            new_events("job-1", [JobQueued(attempt=2)], SYSTEM), {"job-1": stream[-1].version}
        )
        assert event.position == JOBS * EVENTS_OF_A_JOB + 1
    assert walked(tmp_path / "copy").events == JOBS * EVENTS_OF_A_JOB + 1


def test_an_export_that_another_tool_spaced_out_is_taken(directory: Path, tmp_path: Path) -> None:
    export = exported(directory)
    spaced = [line.replace(b'":', b'": ') for line in lines_of(export)]
    with opened(tmp_path / "copy") as log:
        import_export(log, spaced)
    assert exported(tmp_path / "copy") == export


def test_a_log_that_is_not_empty_takes_no_import(directory: Path) -> None:
    export = exported(directory)
    with opened(directory) as log, pytest.raises(LogRefused, match="15 events already"):
        import_export(log, lines_of(export))
    assert exported(directory) == export


BROKEN_LINES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut short": (lambda line: line[:40] + b"\n", "not JSON"),
    "not an object": (lambda line: b"[1]\n", "not a JSON object"),
    "without a field": (lambda line: line.replace(b'"actor"', b'"aktor"'), "no actor"),
    "a text for a position": (lambda line: changed(line, position="7"), "whole numbers"),
    "a gap": (lambda line: changed(line, position=70), "Position 7: missing"),
    "a repeated version": (lambda line: changed(line, version=1), "where 2 must follow"),
    "an impossible stream": (lambda line: changed(line, stream='a"b'), "name of its stream"),
    "an impossible type": (lambda line: changed(line, type="job"), "name of its type"),
    "an id that is none": (lambda line: changed(line, id="x"), "envelope's id"),
    "a local time": (lambda line: changed(line, at="2026-11-21T23:23:30"), "envelope's at"),
    "nobody": (lambda line: changed(line, actor=""), "envelope's actor"),
    "a number for a cause": (lambda line: changed(line, cause=3), "envelope's cause"),
    "a newer schema": (lambda line: changed(line, schema=99), "schema 99"),
    "other data": (lambda line: changed(line, data={"attempt": "one"}), "data is not that of"),
    "no data": (lambda line: changed(line, data=None), "envelope's data"),
    "one character": (lambda line: line.replace(b"system", b"sistem"), "hash does not fit"),
    "another number": (
        lambda line: line.replace(b'"attempt":1', b'"attempt":2'),
        "hash does not fit",
    ),
    "another hash": (lambda line: changed(line, hash="00" * 32), "hash does not fit"),
    "a hash that is none": (lambda line: changed(line, hash="xyz"), "it has no hash"),
    "no hash": (lambda line: without_hash(line), "it has no hash"),
}


@pytest.mark.parametrize("name", BROKEN_LINES)
def test_a_bad_line_is_named_and_nothing_is_imported(
    name: str, directory: Path, tmp_path: Path
) -> None:
    break_it, reason = BROKEN_LINES[name]
    lines = lines_of(exported(directory))
    lines[6] = break_it(lines[6])
    with opened(tmp_path / "copy") as log:
        with pytest.raises(BadExport, match=reason) as refused:
            import_export(log, lines)
        assert refused.value.line == 7
        assert str(refused.value).startswith("Line 7: ")
    with opened(tmp_path / "copy") as log:
        assert log.head == 0
        assert import_export(log, lines_of(exported(directory))).events == ALL


def test_the_hash_of_a_line_is_that_of_the_line_from_its_stream_on(directory: Path) -> None:
    """As the documentation says, and as any tool can compute it."""
    *events, end = lines_of(exported(directory))
    leaves = b""
    for line in events:
        canonical = b"{" + line[line.index(b'"stream"') :].rstrip(b"\n")
        leaf = sha256(b"\0" + canonical)
        assert orjson.loads(line)["hash"] == leaf.hexdigest()
        leaves += leaf.digest()
    assert orjson.loads(end) == {
        "type": "export.ended",
        "format": 2,
        "events": ALL,
        "after": 0,
        "head": ALL,
        "subject": None,
        "hash": sha256(leaves).hexdigest(),
    }


@pytest.mark.parametrize("kept", range(ALL + 1))
def test_an_export_that_was_cut_at_a_lines_end_is_refused(
    kept: int, directory: Path, tmp_path: Path
) -> None:
    lines = lines_of(exported(directory))[:kept]
    with opened(tmp_path / "copy") as log:
        with pytest.raises(BadExport, match="was cut") as refused:
            import_export(log, lines)
        assert (refused.value.line, log.head) == (kept + 1, 0)


def test_an_export_that_lost_its_last_job_is_refused(directory: Path, tmp_path: Path) -> None:
    """Even though the rest is dense, and each of its lines is valid."""
    lines = lines_of(exported(directory))
    with opened(tmp_path / "copy") as log, pytest.raises(BadExport, match="had 15 events, and 10"):
        import_export(log, [*lines[:10], lines[-1]])


ENDS: dict[str, tuple[Callable[[bytes], list[bytes]], str]] = {
    "another hash": (lambda end: [changed(end, hash="00" * 32)], "hash over the whole"),
    "of one subject": (lambda end: [changed(end, subject="job-1")], "of a whole log"),
    "from a position on": (lambda end: [changed(end, after=3)], "of a whole log"),
    "of a later format": (lambda end: [changed(end, format=3)], "up to format 2"),
    "twice": (lambda end: [end, end], "after the last line"),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_bad_end_is_refused(name: str, directory: Path, tmp_path: Path) -> None:
    bad, reason = ENDS[name]
    *events, end = lines_of(exported(directory))
    with opened(tmp_path / "copy") as log, pytest.raises(BadExport, match=reason):
        import_export(log, [*events, *bad(end)])


def test_what_was_changed_in_the_log_does_not_pass_through_its_export(
    directory: Path, tmp_path: Path
) -> None:
    damage(directory, DAMAGE["one character"][0])
    export = exported(directory)
    with (
        opened(tmp_path / "copy") as log,
        pytest.raises(BadExport, match=r"Line 6: .*does not fit"),
    ):
        import_export(log, lines_of(export))


def test_an_export_of_nothing_has_its_end(tmp_path: Path) -> None:
    with opened(tmp_path / "empty"):
        pass
    export = exported(tmp_path / "empty")
    with opened(tmp_path / "copy") as log:
        assert import_export(log, lines_of(export)) == Imported(0, hashed=True)


def test_a_bad_line_after_whole_pages_takes_them_back(tmp_path: Path) -> None:
    def state(number: int) -> bytes:
        return (
            b'{"schema":1,"id":"01a2006c-0544-77e8-a26f-%012d",'
            b'"at":"2026-11-21T23:23:30.000000Z","actor":"a","request_id":null,"cause":null,'
            b'"data":{}}' % number
        )

    lines = [foreign_line(n, f"thing-{n}", state(n)) for n in range(1, 2_501)]
    with opened(tmp_path / "copy") as log:
        with pytest.raises(BadExport, match="Line 2501"):
            import_export(log, [*lines, b"{}\n"])
        assert import_export(log, lines).events == 2_500


def test_the_export_of_one_subject_is_no_log(directory: Path) -> None:
    about_one = [line for line in lines_of(exported(directory)) if b'"job-1' in line]
    with pytest.raises(BadExport, match="Only the export of a whole log"):
        list(Export(about_one, CATALOGUE).pages())


def test_a_sound_log_is_sound_while_its_owner_writes(directory: Path) -> None:
    with opened(directory) as log:
        assert walked(directory) == Verified(JOBS * EVENTS_OF_A_JOB, 2 * JOBS, {})
        log.append_blocking(new_events("job-9", [JobQueued(attempt=1)], SYSTEM), {"job-9": 0})
        assert walked(directory).events == JOBS * EVENTS_OF_A_JOB + 1


def test_unknown_types_are_counted(directory: Path) -> None:
    known = {name: kind for name, kind in CATALOGUE.items() if name != "job.output"}
    with stored_log(directory, known) as stored:
        assert verify(stored.pages()).unknown == {"job.output": JOBS}


def damage(directory: Path, statement: str, *parameters: object) -> None:
    connection = sqlite3.connect(directory / "log.db")
    try:
        with connection:
            connection.execute(statement, parameters)
    finally:
        connection.close()


DAMAGE = {
    "a gap": ("DELETE FROM events WHERE position = 7", 7, "missing"),
    "a lost beginning": ("DELETE FROM events WHERE position < 4", 1, "missing"),
    "a lost end": ("DELETE FROM events WHERE position > 12", 13, "missing, as is all up to 15"),
    "a version": (
        "UPDATE events SET originator_version = 9 WHERE position = 7",
        7,
        "version 9 of job-1, where 2 must follow",
    ),
    "another stream": (
        "UPDATE events SET originator_id = 'job-0', originator_version = 9 WHERE position = 7",
        7,
        "version 9 of job-0",
    ),
    "a type": ("UPDATE events SET topic = 'job.started' WHERE position = 7", 7, "job.started"),
    "bytes": ("UPDATE events SET state = x'00ff' WHERE position = 7", 7, "not a JSON object"),
    "a text": ("UPDATE events SET state = 'text' WHERE position = 7", 7, "not a JSON object"),
    "an actor": (
        "UPDATE events SET state = CAST(replace(CAST(state AS TEXT), '\"system\"', '\"\"') AS BLOB)"
        " WHERE position = 7",
        7,
        "actor",
    ),
    "a time": (
        "UPDATE events SET state = CAST(replace(CAST(state AS TEXT), 'Z\"', '+01:00\"') AS BLOB)"
        " WHERE position = 7",
        7,
        "envelope's at",
    ),
    "a number": ("UPDATE events SET state = 7 WHERE position = 7", 7, "not a JSON object"),
    "a subject": (
        "UPDATE events SET subject = 'job-zzz' WHERE position = 7",
        7,
        "under the subject 'job-zzz', and is about job-1",
    ),
    "the actor beside": (
        "UPDATE events SET actor = 'operator' WHERE position = 7",
        7,
        "under the actor 'operator', and is by system",
    ),
    "one character": (
        "UPDATE events SET state = CAST(replace(CAST(state AS TEXT), 'schöner', 'schoner') AS BLOB)"
        " WHERE position = 6",
        6,
        "hash does not fit",
    ),
    "a hash": ("UPDATE events SET hash = zeroblob(32) WHERE position = 7", 7, "hash does not fit"),
    "a position 0": ("UPDATE events SET position = 0 WHERE position = 7", 0, "count from 1"),
    "a position below": ("UPDATE events SET position = -7 WHERE position = 7", -7, "count from 1"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_verify_names_the_first_broken_position(name: str, directory: Path) -> None:
    statement, position, reason = DAMAGE[name]
    damage(directory, statement)
    with pytest.raises(LogDamaged, match=reason) as found:
        walked(directory)
    assert found.value.position == position


def test_verify_refuses_what_is_no_log(tmp_path: Path) -> None:
    with pytest.raises(LogRefused, match="There is no log"):
        walked(tmp_path)
    (tmp_path / "log.db").write_bytes(b"something else, and long enough to be looked at" * 100)
    with pytest.raises(LogRefused, match="is not a log"):
        walked(tmp_path)


def test_verify_refuses_a_newer_format(directory: Path) -> None:
    damage(directory, "UPDATE meta SET value = '99' WHERE key = 'format'")
    with pytest.raises(LogRefused, match="format 99"):
        walked(directory)
