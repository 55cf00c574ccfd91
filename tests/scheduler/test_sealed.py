"""Values that must not be in the log are kept while the job needs them, only for the server."""

import os
import resource
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.dispatch.sealed import Sealed, SealedSpecs

PRIVATE = Sealed(("curl", "-u", "user:secret"), {"PASSWORD": "secret"})
# Arguments that a process can get: UTF-8 text without NUL.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "sealed"


def from_before(path: Path) -> None:
    """Makes a file look as if an earlier server had written it."""
    os.utime(path, (1, 1))


def from_now(path: Path) -> None:
    """Set the time to the microsecond, because file systems may lag by some milliseconds."""
    os.utime(path, (time.time(), time.time()))


@given(
    argv=st.lists(TEXT, min_size=1, max_size=4),
    env=st.dictionaries(TEXT, TEXT, max_size=4),
    cwd=st.none() | TEXT,
)
def test_what_was_sealed_is_opened_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, argv: list[str], env: dict[str, str], cwd: str | None
) -> None:
    root = tmp_path_factory.mktemp("sealed", numbered=True)
    SealedSpecs(root).seal("job", Sealed(tuple(argv), env, cwd))

    assert SealedSpecs(root).open("job") == Sealed(tuple(argv), env, cwd)


def test_what_an_earlier_version_sealed_is_opened(root: Path) -> None:
    specs = SealedSpecs(root)
    (root / "job.json").write_text('{"argv": ["a"], "env": {"B": "c"}}')

    assert specs.open("job") == Sealed(("a",), {"B": "c"})


def test_only_the_server_can_read_it(root: Path) -> None:
    before = os.umask(0)
    try:
        SealedSpecs(root).seal("job", PRIVATE)
    finally:
        os.umask(before)

    (file,) = root.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


def test_what_is_private_is_not_in_a_representation() -> None:
    assert "secret" not in repr(PRIVATE)


def test_sealing_again_takes_the_place_of_what_was(root: Path) -> None:
    specs = SealedSpecs(root)
    specs.seal("job", Sealed(("a long program name",), {"A": "a long value"}))
    specs.seal("job", PRIVATE)

    assert specs.open("job") == PRIVATE
    assert len(list(root.iterdir())) == 1


def test_a_discarded_one_is_gone_and_may_be_discarded_again(root: Path) -> None:
    specs = SealedSpecs(root)
    specs.seal("job", PRIVATE)
    specs.seal("other", PRIVATE)
    for _ in range(2):
        specs.discard("job")

    assert specs.open("job") is None
    assert specs.open("other") == PRIVATE


def test_a_sweep_takes_what_no_job_needs_any_more(root: Path) -> None:
    """Left by a server that died between sealing and accepting, or between the end and the file."""
    earlier = SealedSpecs(root)
    for job_id in ("open", "ended"):
        earlier.seal(job_id, PRIVATE)
        from_before(root / f"{job_id}.json")
    half_written = root / "never-accepted.draft"
    half_written.write_bytes(b"{")
    from_before(half_written)

    specs = SealedSpecs(root)
    specs.sweep({"open"}.__contains__)

    assert [path.name for path in root.iterdir()] == ["open.json"]
    assert specs.open("open") == PRIVATE


def test_a_sweep_leaves_what_is_just_being_accepted(root: Path) -> None:
    specs = SealedSpecs(root)
    specs.seal("new", PRIVATE)
    from_now(root / "new.json")
    specs.sweep(lambda job_id: False)

    assert specs.open("new") == PRIVATE


def test_what_cannot_be_written_is_an_error_and_leaves_nothing(root: Path) -> None:
    specs = SealedSpecs(root)
    root.rmdir()

    with pytest.raises(OSError, match="No such file"):
        specs.seal("job", PRIVATE)
    root.mkdir()
    assert specs.open("job") is None


def test_a_disk_that_takes_only_a_part_of_it_is_an_error(root: Path) -> None:
    specs = SealedSpecs(root)
    specs.seal("job", PRIVATE)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            specs.seal("job", Sealed(("true",), {"A": "long" * 4_096}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert specs.open("job") == PRIVATE
    assert [path.name for path in root.iterdir()] == ["job.json"]


@pytest.mark.parametrize("half", [b"", b'{"argv": ["tr', b"[]", b"1", b'{"argv": ["true"]}'])
def test_what_is_not_a_whole_one_is_none(root: Path, half: bytes) -> None:
    specs = SealedSpecs(root)
    (root / "job.json").write_bytes(half)

    assert specs.open("job") is None


STRANGE: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a directory": Path.mkdir,
    "a link": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("make", STRANGE.values(), ids=STRANGE)
def test_what_is_no_file_holds_no_job_up(root: Path, make: Callable[[Path], object]) -> None:
    """A job may have put it there."""
    specs = SealedSpecs(root)
    for name in ("job.json", "stray", "ended.json"):
        make(root / name)
        os.utime(root / name, (1, 1), follow_symlinks=False)

    assert specs.open("job") is None
    specs.discard("ended")
    specs.sweep({"job"}.__contains__)
    stays = {"job.json", "stray", "ended.json"} if make is Path.mkdir else {"job.json"}
    assert set(os.listdir(root)) == stays
