"""`crewlog log export` and `import` with files, links, pipes and other targets."""

import gzip
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit import server as kit_server
from tests.kit.client import Native
from tests.kit.server import CREWLOG, Server, environment


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server.start(tmp_path_factory.mktemp("server") / "data") as running:
        with Native(running) as http:
            http.ended(http.submit("echo", "one line"))
        yield running


def crewlog(*arguments: str | Path, data: Path) -> subprocess.CompletedProcess[str]:
    return kit_server.crewlog(*arguments, CREWLOG_DATA=str(data))


def begun(*arguments: str | Path, data: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([CREWLOG, *arguments], env=environment(CREWLOG_DATA=str(data)))


def exported(server: Server) -> bytes:
    with Native(server) as http:
        return http.get("/crewlog/v1/log/export").content


def same(left: bytes, right: bytes) -> bool:
    """Two exports of one log are equal up to the end of the shorter one."""
    ours, theirs = left.splitlines()[:-1], right.splitlines()[:-1]
    return bool(ours) and all(a == b for a, b in zip(ours, theirs, strict=False))


def test_an_export_follows_a_link(server: Server, tmp_path: Path) -> None:
    target, link, dangling = tmp_path / "real", tmp_path / "link", tmp_path / "dangling"
    target.write_bytes(b"an older one")
    link.symlink_to(target)
    dangling.symlink_to(tmp_path / "new")
    for name in (link, dangling):
        assert crewlog("log", "export", name, data=server.data).returncode == 0
        assert name.is_symlink()
        assert same(name.read_bytes(), exported(server))


def test_an_export_goes_into_what_is_no_file(server: Server, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writing = begun("log", "export", fifo, data=server.data)
    assert same(fifo.read_bytes(), exported(server))
    assert writing.wait(60) == 0
    assert fifo.is_fifo()
    for device in ("/dev/null", "/dev/stdout"):
        written = crewlog("log", "export", device, data=server.data)
        assert written.returncode == 0, written.stderr
    assert same(written.stdout.encode(), exported(server))
    assert Path("/dev/null").is_char_device()
    full = crewlog("log", "export", "/dev/full", data=server.data)
    assert (full.returncode, full.stderr) == (
        1,
        "/dev/full cannot be written: No space left on device.\n",
    )


@pytest.mark.parametrize("leads_to", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "another"])
def test_an_export_through_a_link_to_a_descriptor_goes_after_what_is_there(
    server: Server, tmp_path: Path, leads_to: str
) -> None:
    link, kept = tmp_path / "link", tmp_path / "kept"
    (tmp_path / "another").symlink_to("/dev/stdout")
    link.symlink_to(leads_to)
    kept.write_bytes(b"head\n")
    inode = kept.stat().st_ino
    line = f"{CREWLOG} log export --data {server.data} {link} >> {kept}"
    subprocess.run(["bash", "-c", line], check=True, timeout=60)
    assert (kept.stat().st_ino, link.is_symlink()) == (inode, True)
    head, _, written = kept.read_bytes().partition(b"\n")
    assert head == b"head"
    assert same(written, exported(server))


def test_an_export_into_the_descriptor_of_another_process(server: Server, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    export = f"{CREWLOG} log export --data {server.data} /proc/$$/fd/6"
    line = f"exec 6>{kept}; echo head >&6; {export}; exec 6>&-"
    subprocess.run(["bash", "-c", line], check=True, timeout=60)
    head, _, written = kept.read_bytes().partition(b"\n")
    assert head == b"head"
    assert same(written, exported(server))


def test_a_slash_at_the_end_asks_for_a_directory(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("my own")
    for name in ("file", "new"):
        refused = crewlog("log", "export", f"{tmp_path / name}/", data=server.data)
        sentence = f"{tmp_path / name}/ cannot be written: Not a directory.\n"
        assert (refused.returncode, refused.stderr) == (1, sentence)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "my own"


def test_an_export_into_a_substituted_process(server: Server, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    line = f"{CREWLOG} log export --data {server.data} >(gzip > {packed}); wait $!"
    subprocess.run(["bash", "-c", line], check=True, timeout=60)
    assert same(gzip.decompress(packed.read_bytes()), exported(server))


def test_an_export_leaves_what_is_others_alone(server: Server, tmp_path: Path) -> None:
    longest = tmp_path / ("n" * 255)
    mine = tmp_path / "log.part"
    mine.write_text("my own")
    for name in (longest, tmp_path / "log"):
        assert crewlog("log", "export", name, data=server.data).returncode == 0
        assert same(name.read_bytes(), exported(server))
        assert name.stat().st_mode & 0o777 == 0o600
    assert mine.read_text() == "my own"
    for name, reason in (
        (tmp_path / ("n" * 256), "File name too long"),
        (tmp_path, "Is a directory"),
        (tmp_path / "none" / "log", "No such file or directory"),
    ):
        refused = crewlog("log", "export", name, data=server.data)
        assert (refused.returncode, refused.stderr) == (1, f"{name} cannot be written: {reason}.\n")
    assert {path.name for path in tmp_path.iterdir()} == {longest.name, "log", "log.part"}


def test_an_export_of_format_1_is_taken_with_a_warning(tmp_path: Path) -> None:
    golden = Path(__file__).parent.parent / "golden" / "0.2.0.ndjson"
    taken = crewlog("log", "import", golden, data=tmp_path / "data")
    assert taken.returncode == 0
    assert "crewlog cannot tell whether it is complete" in taken.stderr


def test_damage_anywhere_is_named_by_import_and_verify(tmp_path: Path) -> None:
    lines = (Path(__file__).parent.parent / "golden" / "0.2.0.ndjson").read_bytes().splitlines()
    number = next(n for n, line in enumerate(lines, 1) if b'"user.registered"' in line)
    lines[number - 1] = json.dumps(
        {**json.loads(lines[number - 1]), "data": {"damaged": True}}
    ).encode()
    bad = tmp_path / "bad.ndjson"
    bad.write_bytes(b"\n".join(lines) + b"\n")
    refused = crewlog("log", "import", bad, data=tmp_path / "data")
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"Line {number}: Position {number}: its data is not that of")


@pytest.mark.parametrize("number", [987, 99999999999999])
def test_a_descriptor_that_is_not_open_is_one_sentence(server: Server, number: int) -> None:
    ran = crewlog("log", "export", f"/dev/fd/{number}", data=server.data)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == f"/dev/fd/{number} cannot be written: Bad file descriptor.\n"
