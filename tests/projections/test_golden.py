"""This version reads the logs of every released version, with the same views."""

from pathlib import Path

import orjson
import pytest

from domain.catalogue import CATALOGUE
from domain.log import EventLog, open_sqlite_log
from domain.log.archive import export_lines, import_export
from domain.redaction import Redactor
from tests.golden.write import HISTORIES, digests

GOLDEN = sorted((Path(__file__).parent.parent / "golden").glob("*.ndjson"))


def imported(golden: Path, directory: Path) -> EventLog:
    log = open_sqlite_log(directory, redactor=Redactor(), catalogue=CATALOGUE)
    import_export(log, golden.read_bytes().splitlines(keepends=True))
    log.close()
    return open_sqlite_log(directory, redactor=Redactor(), catalogue=CATALOGUE)


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.stem)
def test_a_released_log_is_read_whole(golden: Path, tmp_path: Path) -> None:
    log = imported(golden, tmp_path)
    events = [event for page in log.blocking.pages() for event in page]
    for event in events:
        assert event.event().schema_number >= event.schema
    # Up to 0.2.0 an export was the events alone.
    as_written = b"".join(event.wire + b"\n" for event in events)
    assert golden.read_bytes() in (as_written, b"".join(export_lines(log)))
    log.close()


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.stem)
def test_views_of_the_same_version_come_out_the_same(golden: Path, tmp_path: Path) -> None:
    """Fails if a fold changes the rows of a view without a new version of the view."""
    log = imported(golden, tmp_path)
    now = digests(log, tmp_path / "views.db")
    log.close()
    then: dict[str, str] = orjson.loads(golden.with_suffix(".json").read_bytes())
    same = now.keys() & then.keys()
    assert {name: now[name] for name in same} == {name: then[name] for name in same}
    assert len(now) >= len({name.partition("@")[0] for name in then})


def test_the_newest_golden_log_holds_every_event_type() -> None:
    written = {event.type for events in HISTORIES.values() for event in events}
    assert written == CATALOGUE.keys()
    lines = GOLDEN[-1].read_bytes().splitlines()
    stored = {orjson.loads(line)["type"] for line in lines} - {"export.ended"}
    assert stored == written, "Write a golden log for this version: python -m tests.golden.write"
