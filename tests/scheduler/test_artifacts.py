"""Artifacts: of everything in a job's folder, only the bytes of its own files are kept."""

import errno
import hashlib
import os
import socket
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from scheduler.workspaces import artifacts
from scheduler.workspaces.artifacts import ArtifactStore, Collected, mime_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    made.mkdir()
    return made


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store", limit_bytes=1_000, limit_files=5)


def names(collected: Collected) -> list[str]:
    return [file.name for file in collected.files]


def blobs(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "store").rglob("*") if path.is_file()]


def test_files_are_kept_by_their_hash_and_named_by_their_path(
    folder: Path, store: ArtifactStore
) -> None:
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "sub" / "deep" / "é ü.md").write_bytes(b"# hi\n")
    (folder / "a.txt").write_bytes(b"a")
    (folder / "empty").touch()

    collected = store.collect(folder)

    assert names(collected) == ["a.txt", "empty", "sub/deep/é ü.md"]
    assert (collected.dropped, collected.reason) == ([], "")
    last = collected.files[-1]
    assert (last.size, last.mime) == (5, "text/markdown")
    assert last.sha256 == hashlib.sha256(b"# hi\n").hexdigest()
    path = store.path(last.sha256)
    assert path is not None
    assert path.read_bytes() == b"# hi\n"
    assert path.parent.name == last.sha256[:2]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_same_bytes_are_kept_once_and_collecting_again_gives_the_same(
    folder: Path, store: ArtifactStore, tmp_path: Path
) -> None:
    (folder / "a").write_bytes(b"same")
    (folder / "b").write_bytes(b"same")

    first = store.collect(folder)
    kept = blobs(tmp_path)
    [before] = [path.stat().st_ino for path in kept]

    assert store.collect(folder) == first
    assert [path.stat().st_ino for path in blobs(tmp_path)] == [before]


def test_links_devices_and_pipes_are_neither_followed_nor_waited_for(
    folder: Path, store: ArtifactStore, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cr3t")
    (folder / "link").symlink_to(secret)
    (folder / "up").symlink_to(tmp_path, target_is_directory=True)
    (folder / "nowhere").symlink_to("nothing")
    (folder / "null").symlink_to("/dev/null")
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
    (folder / "real").write_text("real")

    collected = store.collect(folder)

    assert names(collected) == ["real"]
    assert collected.dropped == ["link", "nowhere", "null", "pipe", "socket", "up"]
    assert collected.reason == "links, devices and pipes are not kept (6)"
    assert all(b"s3cr3t" not in path.read_bytes() for path in blobs(tmp_path))


def test_a_folder_that_is_a_link_or_a_file_is_not_read_and_said_so(
    folder: Path, store: ArtifactStore, tmp_path: Path
) -> None:
    (folder / "a").write_text("a")
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)

    why = "the folder could not be read (Not a directory)"
    assert store.collect(tmp_path / "link") == Collected([], ["link/"], why)
    assert store.collect(tmp_path / "absent") == Collected([])
    assert store.collect(folder / "a") == Collected([], ["a/"], why)


@pytest.mark.parametrize("number", [errno.EACCES, errno.ESTALE, errno.ENOTCONN, errno.EIO])
@pytest.mark.parametrize("what", ["open", "listdir"])
def test_a_folder_that_cannot_be_read_is_not_tried_for_ever(
    folder: Path, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch, what: str, number: int
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, what, refuse)
    collected = store.collect(folder)

    why = f"the folder could not be read ({os.strerror(number)})"
    assert collected == Collected([], [f"{folder.name}/"], why)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOSPC, errno.EINTR])
def test_an_error_that_may_pass_is_raised(
    folder: Path, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(OSError, match=os.strerror(number)):
        store.collect(folder)


def test_a_directory_swapped_for_a_link_while_it_is_walked_leads_nowhere(
    folder: Path, store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "key").write_text("s3cr3t")
    (folder / "sub").mkdir()
    (folder / "sub" / "key").write_text("harmless")
    look, swapped = os.stat, threading.Event()

    def look_then_swap(path: str, **options: Any) -> os.stat_result:
        found = look(path, **options)
        if path == "sub" and not swapped.is_set():
            swapped.set()
            (folder / "sub").rename(tmp_path / "aside")
            (folder / "sub").symlink_to(tmp_path / "private", target_is_directory=True)
        return found

    monkeypatch.setattr(os, "stat", look_then_swap)
    collected = store.collect(folder)

    assert swapped.is_set()
    assert names(collected) == []
    assert collected.dropped == ["sub"]
    assert all(b"s3cr3t" not in path.read_bytes() for path in blobs(tmp_path))


def test_a_file_swapped_for_a_pipe_is_dropped_without_waiting(
    folder: Path, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "file").write_text("x")
    look = os.stat

    def look_then_swap(path: str, **options: Any) -> os.stat_result:
        found = look(path, **options)
        if path == "file":
            (folder / "file").unlink()
            os.mkfifo(folder / "file")
        return found

    monkeypatch.setattr(os, "stat", look_then_swap)
    assert store.collect(folder).dropped == ["file"]


def test_what_is_over_the_limits_is_named_and_leaves_no_trace(
    folder: Path, store: ArtifactStore, tmp_path: Path
) -> None:
    (folder / "a").write_bytes(b"a" * 600)
    (folder / "b").write_bytes(b"b" * 401)
    (folder / "c").write_bytes(b"c" * 400)

    collected = store.collect(folder)

    assert names(collected) == ["a", "c"]
    assert (collected.dropped, collected.reason) == (
        ["b"],
        "over the limit of 1000 bytes in all (1)",
    )
    assert len(blobs(tmp_path)) == 2

    for number in range(10):
        (folder / f"n{number}").write_bytes(b"")
    collected = store.collect(folder)
    assert len(collected.files) == 5
    assert len(collected.dropped) == 8
    assert "at most 5 files are kept (7)" in collected.reason


def test_names_that_nobody_can_write_are_dropped_and_shown_escaped(
    folder: Path, store: ArtifactStore
) -> None:
    (folder / os.fsdecode(b"bad\xff")).write_text("x")
    (folder / "line\nbreak").write_text("y")

    collected = store.collect(folder)

    assert names(collected) == ["line\nbreak"]
    assert collected.dropped == ["bad\\xff"]


def test_a_flood_of_names_is_counted_and_not_told_one_by_one(
    folder: Path, store: ArtifactStore
) -> None:
    for number in range(artifacts.MOST_DROPPED_NAMES + 20):
        (folder / f"{number}").symlink_to("/")

    collected = store.collect(folder)

    assert len(collected.dropped) == artifacts.MOST_DROPPED_NAMES
    assert collected.reason.endswith(f"({artifacts.MOST_DROPPED_NAMES + 20})")


def test_folders_without_end_do_not_end_the_server(folder: Path, store: ArtifactStore) -> None:
    deep = folder
    for _ in range(artifacts.DEEPEST + 3):
        deep = deep / "d"
        deep.mkdir()
        (deep / "f").write_text("")

    collected = ArtifactStore(folder.parent / "s", limit_bytes=10).collect(folder)

    assert len(collected.files) == artifacts.DEEPEST
    assert collected.dropped == ["d/" * (artifacts.DEEPEST + 1)]


def test_what_was_hashed_is_what_is_stored_while_somebody_writes(
    folder: Path, tmp_path: Path
) -> None:
    store = ArtifactStore(tmp_path / "store", limit_bytes=10_000_000)
    path, done = folder / "log", threading.Event()
    path.write_bytes(b"x" * 100_000)

    def write() -> None:
        with path.open("r+b") as file:
            while not done.is_set():
                file.seek(0)
                file.write(os.urandom(100_000))
                file.flush()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(20):
            [file] = store.collect(folder).files
            stored = store.path(file.sha256)
            assert stored is not None
            data = stored.read_bytes()
            assert (hashlib.sha256(data).hexdigest(), len(data)) == (file.sha256, file.size)
    finally:
        done.set()
        writer.join()


def test_a_store_that_cannot_be_written_says_so(
    folder: Path, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a").write_text("a")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        store.collect(folder)
    assert list(folder.parent.glob("store/*.draft")) == []


@pytest.mark.parametrize("text", ["", "..", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64])
def test_only_a_hash_that_is_kept_has_a_path(store: ArtifactStore, text: str) -> None:
    assert store.path(text) is None


def test_drafts_of_a_killed_server_are_removed(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "abc.draft").write_text("half")
    ArtifactStore(tmp_path / "store", limit_bytes=1)
    assert blobs(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "head", "mime"),
    [
        ("report.md", b"", "text/markdown"),
        ("a/b.TXT", b"", "text/plain"),
        ("x.json", b"", "application/json"),
        ("page.html", b"", "text/html"),
        ("pic.svg", b"", "image/svg+xml"),
        ("log.gz", b"", "application/gzip"),
        ("README", b"plain words", "text/plain"),
        ("README", "é".encode() * 4_095 + b"x\xc3", "text/plain"),
        ("core", b"\x7fELF\0\1", "application/octet-stream"),
        ("core", b"\xff\xfe\xfd\xfc\xfb", "application/octet-stream"),
    ],
)
def test_the_type_follows_the_name_and_then_the_first_bytes(
    name: str, head: bytes, mime: str
) -> None:
    assert mime_of(name, head) == mime
