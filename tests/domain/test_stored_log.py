"""A log read from outside: with unreadable pages, and in a place without write access."""

import json
import os
import shutil
import sqlite3
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from domain.catalogue import CATALOGUE
from domain.errors import LogDamaged
from domain.job.events import JobMessaged
from domain.log import SYSTEM, new_events, open_sqlite_log
from domain.log.archive import verify
from domain.log.sqlite.stored import stored_log
from domain.redaction import Redactor
from tests.e2e.test_read_only import bound_by_modes
from tests.kit.server import CREWLOG, crewlog

EVENTS = 3_000


def fill(directory: Path, events: int) -> None:
    log = open_sqlite_log(directory, redactor=Redactor(), catalogue=CATALOGUE)
    messages = [JobMessaged(text=f"number {n}") for n in range(events)]
    log.append_blocking(new_events("job-a", list(messages), SYSTEM), {"job-a": 0})
    log.close()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sound")
    fill(directory, EVENTS)
    return directory


def first_unreadable(path: Path) -> int | None:
    """Found by reading the positions one by one, each on its own connection."""
    for position in range(1, EVENTS + 1):
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            found = connection.execute(
                "SELECT originator_id, state FROM events WHERE position = ?", (position,)
            ).fetchone()
            if found is None:
                return position
        except sqlite3.DatabaseError:
            return position
        finally:
            connection.close()
    return None


@pytest.mark.parametrize("place", [0.15, 0.3, 0.5, 0.7, 0.95])
def test_verify_names_the_first_position_of_a_malformed_page(
    place: float, sound: Path, tmp_path: Path
) -> None:
    shutil.copy(sound / "log.db", tmp_path / "log.db")
    path = tmp_path / "log.db"
    connection = sqlite3.connect(path)
    size = connection.execute("PRAGMA page_size").fetchone()[0]
    connection.close()
    pages = path.stat().st_size // size
    truth: int | None = None
    for page in range(int(place * pages), pages):
        # Find the first page from there on that belongs to the table.
        shutil.copy(sound / "log.db", path)
        with path.open("r+b") as file:
            file.seek(page * size)
            file.write(b"\xff" * size)
        truth = first_unreadable(path)
        if truth is not None:
            break
    assert truth is not None
    with (
        stored_log(tmp_path, CATALOGUE) as stored,
        pytest.raises(LogDamaged, match="cannot be read") as found,
    ):
        verify(stored.pages(), written=stored.written)
    assert found.value.position == truth


def leaves_of(path: Path, name: str) -> tuple[list[int], int]:
    """The offsets in the file of the leaves right below the root of a table or index, and the size
    of a page.
    """
    connection = sqlite3.connect(path)
    size: int = connection.execute("PRAGMA page_size").fetchone()[0]
    root: int = connection.execute(
        "SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)
    ).fetchone()[0]
    connection.close()
    with path.open("rb") as file:
        file.seek((root - 1) * size)
        page = file.read(size)
    if page[0] not in INTERIOR_PAGES:
        return [(root - 1) * size], size
    cells = struct.unpack_from(f">{struct.unpack_from('>H', page, 3)[0]}H", page, 12)
    numbers = [struct.unpack_from(">I", page, at)[0] for at in (*cells, 8)]
    return [(number - 1) * size for number in numbers], size


INTERIOR_PAGES = (2, 5)
"""Of an index and of a table."""


def garbled(path: Path, name: str) -> None:
    leaves, size = leaves_of(path, name)
    with path.open("r+b") as file:
        file.seek(leaves[len(leaves) // 2])
        file.write(b"\xff" * size)


def changed(path: Path, name: str) -> None:
    """One character of one key, so that it leads to nothing."""
    leaves, size = leaves_of(path, name)
    with path.open("r+b") as file:
        file.seek(leaves[len(leaves) // 2])
        page = file.read(size)
        at = page.rindex(b"job-") + 2
        file.seek(leaves[len(leaves) // 2] + at)
        file.write(b"c")


def emptied(path: Path, name: str) -> None:
    """All of its last leaf: nothing is malformed, but events are not found."""
    leaves, _ = leaves_of(path, name)
    with path.open("r+b") as file:
        file.seek(leaves[-1] + 3)
        file.write(bytes(2))


@pytest.mark.parametrize("leaf", [0, 7, -1])
def test_verify_names_the_first_position_of_a_page_that_is_empty_inside(
    leaf: int, sound: Path, tmp_path: Path
) -> None:
    """SQLite then reads rows without content at position 0, where they cannot be."""
    path = tmp_path / "log.db"
    shutil.copy(sound / "log.db", path)
    leaves, size = leaves_of(path, "events")
    with path.open("r+b") as file:
        file.seek(leaves[leaf])
        page = file.read(size)
        content = struct.unpack_from(">H", page, 5)[0]
        file.seek(leaves[leaf] + content)
        file.write(bytes(size - content))
    truth = first_unreadable(path)
    assert (truth == 1) == (leaf == 0)
    with stored_log(tmp_path, CATALOGUE) as stored, pytest.raises(LogDamaged) as found:
        verify(stored.pages(), written=stored.written)
    assert found.value.position == truth


BESIDE = [
    *(
        (kind, name, damage)
        for kind, name in (
            ("index", "sqlite_autoindex_events_1"),
            ("index", "events_by_subject"),
        )
        for damage in (garbled, changed, emptied)
    ),
    ("table", "tracking", garbled),
    ("table", "sqlite_sequence", garbled),
]


@pytest.mark.parametrize(("kind", "name", "damage"), BESIDE)
def test_verify_names_what_is_damaged_beside_the_events(
    kind: str, name: str, damage: Callable[[Path, str], None], sound: Path, tmp_path: Path
) -> None:
    path = tmp_path / "log.db"
    shutil.copy(sound / "log.db", path)
    damage(path, name)
    before = path.read_bytes()
    with read_only(tmp_path):
        verified = crewlog("log", "verify", "--data", tmp_path)
        for_programs = crewlog("log", "verify", "--json", "--data", tmp_path)
    assert (verified.returncode, verified.stdout) == (1, "")
    assert verified.stderr.startswith(f"The {kind} {name} is damaged: ")
    assert "crewlog log export" in verified.stderr
    assert for_programs.returncode == 1
    assert json.loads(for_programs.stdout)["broken"]["position"] is None
    assert path.read_bytes() == before


CRASHES = """
import os, sys
from pathlib import Path
from domain.catalogue import CATALOGUE
from domain.job.events import JobMessaged
from domain.log import SYSTEM, new_events, open_sqlite_log
from domain.redaction import Redactor

log = open_sqlite_log(Path(sys.argv[1]), redactor=Redactor(), catalogue=CATALOGUE)
messages = [JobMessaged(text=str(n)) for n in range(20)]
log.append_blocking(new_events("job-b", messages, SYSTEM), {"job-b": 0})
os._exit(0)
"""


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (directory, *directory.iterdir())}
    for path in modes:
        path.chmod(0o500 if path.is_dir() else 0o400)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


@pytest.mark.parametrize("left", ["closed", "killed", "killed, without its shared memory"])
def test_verify_works_where_nothing_can_be_written(left: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    fill(data, 10)
    events = 10
    if left != "closed":
        subprocess.run([sys.executable, "-c", CRASHES, data], check=True, timeout=60)
        events = 30
        assert (data / "log.db-wal").stat().st_size
    if left == "killed, without its shared memory":
        (data / "log.db-shm").unlink()
    (data / "owner.lock").unlink()
    before = {path: path.read_bytes() for path in data.iterdir()}
    with read_only(data):
        verified = subprocess.run(
            [*bound_by_modes(), CREWLOG, "log", "verify", "--data", data],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "COLUMNS": "200"},
        )
    assert (verified.returncode, verified.stderr) == (0, "")
    assert verified.stdout.startswith(f"Sound: {events} events in ")
    assert {path: path.read_bytes() for path in data.iterdir()} == before
