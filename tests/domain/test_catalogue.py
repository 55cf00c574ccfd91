"""The catalogue has every event class, and every reader of a log knows all of it."""

import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

import api
import domain
import projections
import scheduler
from domain.catalogue import CATALOGUE, catalogue_of
from domain.errors import LogRefused
from domain.event import Event
from domain.log import open_sqlite_log
from domain.redaction import Redactor

GOLDEN = Path(__file__).parent.parent / "golden" / "0.2.0.ndjson"

ROOMS = (domain, projections, scheduler, api)


def classes(kind: type[Event]) -> Iterator[type[Event]]:
    for below in kind.__subclasses__():
        yield below
        yield from classes(below)


def test_the_catalogue_holds_every_event_class_that_there_is() -> None:
    names: set[str] = set()
    for room in ROOMS:
        for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
                names.add(module.name)
    ours = {kind for kind in classes(Event) if kind.__module__ in names}
    assert set(CATALOGUE.values()) == ours
    assert all(kind.type == name for name, kind in CATALOGUE.items())


def test_two_events_of_one_name_are_refused() -> None:
    class Twin(Event, type="job.queued"):
        """Has the name of another event."""

    with pytest.raises(ValueError, match=r"job\.queued"):
        catalogue_of(*CATALOGUE.values(), Twin)


READS = """
import sys
from domain.catalogue import CATALOGUE
from domain.log.archive import BadExport, Export
try:
    list(Export(open(sys.argv[1], "rb"), CATALOGUE).pages())
except BadExport as refused:
    print(refused)
"""


def damaged(type_name: str) -> tuple[int, bytes]:
    """The golden log with damaged data in the first event of a type, and that event's line."""
    lines = GOLDEN.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines):
        envelope = orjson.loads(line)
        if envelope["type"] == type_name:
            lines[number] = orjson.dumps({**envelope, "data": {"damaged": True}}) + b"\n"
            return number + 1, b"".join(lines)
    raise AssertionError(type_name)


@pytest.mark.parametrize(
    "type_name",
    [
        "crew.committed",
        "approval.requested",
        "schedule.created",
        "user.registered",
        "email.claimed",
        "request.accepted",
        "job.submitted",
    ],
)
def test_damage_in_any_noun_is_found_whatever_was_imported(type_name: str, tmp_path: Path) -> None:
    line, export = damaged(type_name)
    file = tmp_path / "damaged.ndjson"
    file.write_bytes(export)
    printed = subprocess.run(
        [sys.executable, "-c", READS, file], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert printed.startswith(f"Line {line}: Position {line}: its data is not that of {type_name}")


def test_the_guard_against_a_newer_log_knows_every_type(tmp_path: Path) -> None:
    open_sqlite_log(tmp_path, redactor=Redactor(), catalogue=CATALOGUE).close()

    class Earlier(Event, type="approval.requested", schema=0):
        """The event as in an earlier version."""

    older: dict[str, type[Event]] = {**CATALOGUE, "approval.requested": Earlier}
    with pytest.raises(LogRefused, match=r"holds approval\.requested events of schema"):
        open_sqlite_log(tmp_path, redactor=Redactor(), catalogue=older)
