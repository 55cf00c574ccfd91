"""A log that was moved is noticed, even if its folder changed long ago."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from domain.log.sqlite import place
from domain.log.sqlite.place import Place
from tests.kit.waiting import until

SETTLED_NS = 20_000_000


def removed(log: Path) -> None:
    log.unlink()


def renamed(log: Path) -> None:
    log.rename(log.with_name("elsewhere"))


def replaced(log: Path) -> None:
    other = log.with_name("other")
    other.write_bytes(log.read_bytes())
    other.replace(log)


def without_its_folder(log: Path) -> None:
    log.parent.rename(log.parent.with_name("elsewhere"))


def beside_another_folder(log: Path) -> None:
    log.parent.rename(log.parent.with_name("elsewhere"))
    log.parent.mkdir()
    os.link(log.parent.with_name("elsewhere") / log.name, log)
    (log.parent / f"{log.name}-wal").touch()


def without_its_wal(log: Path) -> None:
    log.with_name(f"{log.name}-wal").unlink()


LOSSES = (removed, renamed, replaced, without_its_folder, beside_another_folder, without_its_wal)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("log.db", "log.db-wal"):
        (folder / name).write_bytes(b"x")
    return folder / "log.db"


@pytest.mark.parametrize("lose", LOSSES)
def test_a_loss_is_noticed_right_after_a_change_of_the_folder(
    log: Path, lose: Callable[[Path], None]
) -> None:
    there = Place(log)
    assert there.lost() is None
    assert there.lost() is None
    lose(log)
    assert str(there.lost()).startswith(f"{log}")
    assert there.lost() is not None


@pytest.mark.parametrize("lose", LOSSES)
def test_a_loss_is_noticed_after_the_folder_was_quiet(
    log: Path, lose: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "_SETTLED_NS", SETTLED_NS)
    there = Place(log)
    settled = log.parent.stat().st_ctime_ns + 2 * SETTLED_NS
    until(lambda: time.time_ns() > settled, "the folder is quiet")
    for _ in range(3):
        assert there.lost() is None
    lose(log)
    assert str(there.lost()).startswith(f"{log}")


def test_a_log_that_a_link_leads_to_is_noticed_too(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "_SETTLED_NS", SETTLED_NS)
    kept = log.parent.parent / "kept.db"
    log.rename(kept)
    log.symlink_to(kept)
    there = Place(log)
    settled = log.parent.stat().st_ctime_ns + 2 * SETTLED_NS
    until(lambda: time.time_ns() > settled, "the folder is quiet")
    for _ in range(3):
        assert there.lost() is None
    kept.unlink()
    assert there.lost() is not None


def test_what_is_put_back_is_there_again(log: Path) -> None:
    there = Place(log)
    kept = log.with_name("kept")
    log.rename(kept)
    assert there.lost() is not None
    kept.rename(log)
    assert there.lost() is None


def overwritten(log: Path) -> None:
    """The same file with other content, as after `cp`."""
    before = log.stat().st_mtime_ns
    until(lambda: log.write_bytes(b"y") and log.stat().st_mtime_ns != before, "the clock goes on")


def test_what_another_program_writes_into_the_log_is_noticed(log: Path) -> None:
    there = Place(log)
    assert there.lost() is None
    with there.written() as foreign:
        assert foreign is None
    overwritten(log)
    with there.written() as foreign:
        assert "by another program" in str(foreign)
    assert "by another program" in str(there.lost()), "however often it is looked at"

    idle = Place(log)
    overwritten(log)
    assert "by another program" in str(idle.lost())


def test_what_this_process_writes_into_the_log_is_no_loss(log: Path) -> None:
    there = Place(log)
    with there.written():
        overwritten(log)
        assert there.lost() is None
    assert there.lost() is None
    log.chmod(0o400)
    os.utime(log, ns=(1, log.stat().st_mtime_ns))
    assert there.lost() is None


WAL_HEADER = bytes.fromhex(
    "377f0682 002de218 00001000 00000003 0000002a 12345678 00000000 00000000"
)
BEGUN_AGAIN = WAL_HEADER[:12] + bytes.fromhex("00000004 0000002b 9abcdef0") + bytes(8)
OLDER = WAL_HEADER[:12] + bytes.fromhex("00000002 00000029 9abcdef0") + bytes(8)


@pytest.fixture
def wal(log: Path) -> Path:
    file = log.with_name("log.db-wal")
    file.write_bytes(WAL_HEADER + b"frames" * 2_000)
    return file


def emptied(wal: Path) -> None:
    wal.write_bytes(b"")


def zeroed(wal: Path) -> None:
    begun(wal, bytes(8192))


def begun(wal: Path, content: bytes) -> None:
    with wal.open("r+b") as file:
        file.write(content)


def of_an_older_copy(wal: Path) -> None:
    begun(wal, OLDER)


SPOILS = (emptied, zeroed, of_an_older_copy)


@pytest.mark.parametrize("spoil", SPOILS)
def test_what_another_program_writes_into_the_write_ahead_log_is_noticed(
    log: Path, wal: Path, spoil: Callable[[Path], None]
) -> None:
    there = Place(log)
    with there.written() as foreign:
        assert foreign is None
        begun(wal, BEGUN_AGAIN)
    assert there.known() is there.lost() is None
    spoil(wal)
    assert str(there.lost()).startswith(f"{wal} was written to by another program")
    with there.written() as foreign:
        assert foreign is not None
    there.close()


@pytest.mark.parametrize("spoil", SPOILS)
def test_what_is_written_into_the_write_ahead_log_during_a_commit_is_noticed(
    log: Path, wal: Path, spoil: Callable[[Path], None]
) -> None:
    there = Place(log)
    with there.written() as foreign:
        assert foreign is None
        spoil(wal)
        with wal.open("r+b") as file:
            file.seek(9_000)
            file.write(b"a frame of this process")
    assert str(there.known()).startswith(f"{wal} was written to by another program")
    there.close()


def test_a_change_in_the_same_tick_as_a_commit_is_noticed(log: Path, wal: Path) -> None:
    there = Place(log)
    before = wal.stat()
    zeroed(wal)
    os.utime(wal, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert str(there.lost()).startswith(f"{wal} was written to by another program")
    there.close()


def test_another_file_in_the_folder_is_no_loss(log: Path) -> None:
    there = Place(log)
    assert there.lost() is None
    log.with_name("server.json").touch()
    assert there.lost() is None


def test_what_the_system_says_of_a_file_is_the_same_in_both_ways(tmp_path: Path) -> None:
    """The C library is asked without giving up the interpreter's lock."""
    file = tmp_path / "file"
    file.write_bytes(bytes(range(100)))
    descriptor = os.open(file, os.O_RDONLY)
    try:
        status = os.fstat(descriptor)
        assert place._content(descriptor) == (status.st_size, status.st_mtime_ns)
        assert place._header(descriptor) == os.pread(descriptor, 32, 0)
        file.write_bytes(b"short")
        assert place._header(descriptor) == b"short"
    finally:
        os.close(descriptor)
    with pytest.raises(OSError, match="descriptor"):
        place._content(descriptor)
