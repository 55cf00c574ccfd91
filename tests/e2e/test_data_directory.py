"""Wrong or missing files in a data directory, at a start and under a running server."""

import asyncio
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from starlette.types import Message

from api.native.log import Cuttable
from api.process.data_directory import DIRECTORIES, FILES
from domain.catalogue import CATALOGUE
from domain.errors import LogUnavailable
from domain.log import open_sqlite_log
from domain.log.leaf import leaf_hash
from domain.log.sqlite.indexes import INDEXES
from domain.redaction import Redactor
from tests.domain.test_stored_log import emptied, garbled
from tests.e2e.people import add_user, sign_in
from tests.kit.client import Native
from tests.kit.server import Server, crewlog
from tests.kit.waiting import until


def refused(data: Path) -> str:
    """The message of a server that refuses to start on this directory and makes nothing in it."""
    before = sorted(path.name for path in data.iterdir()) if data.is_dir() else None
    ran = crewlog("serve", "--data", data, "--port", "0")
    assert (ran.returncode, ran.stdout) == (2, ""), ran.stderr
    assert ran.stderr.count("\n") == 1
    assert (sorted(path.name for path in data.iterdir()) if data.is_dir() else None) == before
    return ran.stderr


@pytest.mark.parametrize("name", DIRECTORIES)
def test_a_file_in_the_place_of_a_directory(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("")
    assert f"{tmp_path / name} must be a directory" in refused(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_a_directory_in_the_place_of_a_file(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    assert f"{tmp_path / name} must be a file" in refused(tmp_path)


def test_a_link_that_leads_nowhere_and_a_data_directory_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "spool").symlink_to(tmp_path / "gone")
    assert "leads nowhere" in refused(tmp_path)
    (tmp_path / "file").write_text("")
    assert "is a file" in refused(tmp_path / "file")


def test_what_a_server_makes_is_all_in_the_list(tmp_path: Path) -> None:
    with Server.start(tmp_path / "data") as server, Native(server) as http:
        http.ended(http.submit("true"))
        made = {path.name: path.is_dir() for path in server.data.iterdir()}
    assert {name for name, folder in made.items() if folder} <= set(DIRECTORIES)
    assert {name for name, folder in made.items() if not folder} <= set(FILES)


# The log under a running server


def removed(file: Path) -> None:
    file.rename(file.with_name("kept"))


def replaced(file: Path) -> None:
    file.rename(file.with_name("kept"))
    shutil.copy(file.with_name("kept"), file)


def directory_removed(file: Path) -> None:
    file.parent.rename(file.parent.with_name("kept"))


def put_back(file: Path) -> None:
    file.with_name("kept").rename(file)


def directory_put_back(file: Path) -> None:
    file.parent.with_name("kept").rename(file.parent)


@pytest.mark.parametrize(
    ("name", "lose", "restore"),
    [
        ("log.db", removed, put_back),
        ("log.db", replaced, put_back),
        ("log.db-wal", removed, put_back),
        ("log.db-shm", removed, put_back),
        ("log.db", directory_removed, directory_put_back),
    ],
)
def test_a_log_that_was_lost_acknowledges_nothing(
    name: str, lose: Callable[[Path], None], restore: Callable[[Path], None], tmp_path: Path
) -> None:
    with Server.start(tmp_path / "data") as server, Native(server) as http:
        first = http.submit("true")
        http.ended(first)
        lose(server.data / name)
        idle = http.get("/readyz")
        assert idle.status_code == 503
        assert f"{server.data / name} was removed or replaced" in idle.json()["problem"]
        answer = http.post("/api/jobs", json={"argv": ["true"]})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        told = f"{server.data / name} was removed"
        until(lambda: told in server.output.read_text(), "the log of the server says so")
        # Events acknowledged before can still be exported.
        assert first in http.get("/crewlog/v1/log/export").text

        restore(server.data / name)
        until(lambda: http.get("/readyz").status_code == 200, "ready again")
        after = http.submit("true")
        http.ended(after)
    log = open_sqlite_log(tmp_path / "data", redactor=Redactor(), catalogue=CATALOGUE)
    assert [log.blocking.stream(f"job-{id}") != [] for id in (first, after)] == [True, True]
    log.close()


def test_a_log_that_is_overwritten_acknowledges_nothing(tmp_path: Path) -> None:
    """The file is the same one, as after `cp backup/log.db data/log.db`."""
    open_sqlite_log(tmp_path / "other", redactor=Redactor(), catalogue=CATALOGUE).close()
    with Server.start(tmp_path / "data") as server, Native(server) as http:
        http.ended(http.submit("true"))
        path = server.data / "log.db"
        inode = path.stat().st_ino
        path.write_bytes((tmp_path / "other" / "log.db").read_bytes())
        assert path.stat().st_ino == inode
        answers = [http.post("/api/jobs", json={"argv": ["true"]}) for _ in range(5)]
        assert {answer.status_code for answer in answers} == {503}
        ready = http.get("/readyz")
        assert ready.status_code == 503
        assert f"{path} was written to by another program" in ready.json()["problem"]
        foreign = path.read_bytes()
        server.stop()
        assert path.read_bytes() == foreign, "it may be somebody's backup"


def cut_to_nothing(wal: Path) -> None:
    wal.write_bytes(b"")


def its_first_pages_zeroed(wal: Path) -> None:
    with wal.open("r+b") as file:
        file.write(bytes(8192))


@pytest.mark.parametrize("spoil", [cut_to_nothing, its_first_pages_zeroed])
def test_a_write_ahead_log_that_is_overwritten_acknowledges_nothing(
    spoil: Callable[[Path], None], tmp_path: Path
) -> None:
    """A later start would find nothing of what is acknowledged after that."""
    with Server.start(tmp_path / "data") as server, Native(server) as http:
        http.ended(http.submit("true"))
        wal = server.data / "log.db-wal"
        spoil(wal)
        answers = [http.post("/api/jobs", json={"argv": ["true"]}) for _ in range(5)]
        assert {answer.status_code for answer in answers} == {503}
        ready = http.get("/readyz")
        assert ready.status_code == 503
        assert f"{wal} was written to by another program" in ready.json()["problem"]


def test_an_export_of_a_log_that_was_cut_is_a_503_and_no_traceback(tmp_path: Path) -> None:
    server = Server(tmp_path / "data")
    with server:
        with Native(server) as http:
            for _ in range(3):
                http.ended(http.submit("true", "x" * 60_000))
        server.stop()  # moves everything from the write-ahead log to the log's own file
        server.restart()
        with Native(server) as http:
            os.truncate(server.data / "log.db", 0)
            refused = http.get("/crewlog/v1/log/export")
            assert refused.status_code == 503
            assert "GET /readyz and the server's log say why" in refused.json()["detail"]
            assert "Traceback" not in server.output.read_text()


def test_an_export_that_cannot_go_on_is_cut_with_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The client must see that it is not whole."""
    sent: list[Message] = []

    async def pages() -> AsyncIterator[bytes]:
        yield b"a line\n"
        raise LogUnavailable("The log cannot be read: malformed")

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(Cuttable(pages()).stream_response(send))
    assert [message.get("more_body") for message in sent] == [None, True]
    assert [record.exc_info for record in caplog.records] == [None]
    assert "The log cannot be read: malformed" in caplog.text


@pytest.mark.parametrize("parts", [("", "-wal", "-shm"), ("-wal",)])
def test_what_lies_beside_a_replaced_log_is_left_alone(
    parts: tuple[str, ...], tmp_path: Path
) -> None:
    """SQLite removes the write-ahead log by name when it closes, but by then the file belongs to
    another log. SQLite notices a replaced log.db, but not a replaced write-ahead log alone.
    """
    with Server.start(tmp_path / "data") as server, Native(server) as http:
        http.submit("true")
        for part in parts:
            replaced(server.data / f"log.db{part}")
        kept = [server.data / f"log.db{part}" for part in parts if part != "-shm"]
        foreign = {path: path.read_bytes() for path in kept}
        server.stop()
        assert {path: path.read_bytes() for path in kept if path.exists()} == foreign


# A log that cannot be read


def event_row(data: Path, type_name: str, stream: str, body: bytes) -> None:
    """Store an event that no version writes, with a valid hash."""
    connection = sqlite3.connect(data / "log.db")
    with connection:
        version = connection.execute(
            "SELECT MAX(originator_version) FROM events WHERE originator_id = ?", (stream,)
        ).fetchone()[0]
        state = (
            b'{"schema":1,"id":"01a2006c-0544-77e8-a26f-d0bb0f8bfdc6",'
            b'"at":"2026-11-21T23:23:30.000000Z","actor":"operator","request_id":null,'
            b'"cause":null,"data":%s}' % body
        )
        connection.execute(
            "INSERT INTO events (originator_id, originator_version, topic, state, subject, actor, "
            "hash) VALUES (?,?,?,?,?,?,?)",
            (
                stream,
                version + 1,
                type_name,
                state,
                stream.partition("/")[0],
                "operator",
                leaf_hash(stream, version + 1, type_name, state),
            ),
        )
    connection.close()


def listed(http: Native) -> set[str]:
    return {job["id"] for job in http.get("/api/jobs").json()["items"]}


def test_a_failed_view_is_named_and_the_server_goes_on(tmp_path: Path) -> None:
    server = Server(tmp_path / "data")
    with server:
        with Native(server) as http:
            job = http.submit("true")
            http.ended(job)
        server.stop()
        event_row(server.data, "job.artifact_stored", f"job-{job}", b"{}")
        server.restart()
        with Native(server) as http:
            later = http.submit("true")
            http.ended(later)
            assert listed(http) == {job, later}
            broken = http.get(f"/api/jobs/{job}/artifacts")
            assert broken.status_code == 503
            assert "view of artifacts has failed at event" in broken.json()["detail"]
            assert "crewlog projections rebuild artifacts" in broken.json()["detail"]
            assert http.get("/readyz").status_code == 503
            views = {v["name"]: v for v in http.get("/crewlog/v1/projections").json()["items"]}
            failed = {name for name, view in views.items() if view["status"] == "failed"}
            assert failed == {"artifacts", "timeline"}, "the views that show such an event"


def test_readyz_knows_of_a_page_that_cannot_be_read(tmp_path: Path) -> None:
    """Before any request needs the page."""
    server = Server(tmp_path / "data")
    with server:
        with Native(server) as http:
            job = http.submit("sh", "-c", "seq 20000")
            http.ended(job)
        server.stop()
        path = server.data / "log.db"
        page = os.stat(path).st_size // 4096 // 2
        with path.open("r+b") as file:
            file.seek(page * 4096)
            file.write(bytes(4096 * 3))
        server.restart()
        with Native(server) as http:
            ready = http.get("/readyz")
            assert (ready.status_code, ready.json()["status"]) == (503, "not ready")
            assert "cannot be read" in ready.json()["problem"]


def test_readyz_knows_of_a_long_event_that_cannot_be_read_to_its_end(tmp_path: Path) -> None:
    """Its row is found and counted, and the pages that it goes on in are damaged."""
    server = Server(tmp_path / "data")
    with server:
        with Native(server) as http:
            http.ended(http.submit("true"))
            http.ended(http.submit("true", "x" * 60_000))
            http.ended(http.submit("true"))
        server.stop()
        path = server.data / "log.db"
        content, whole = path.read_bytes(), b"x" * 4092
        pages = range(0, len(content), 4096)
        beyond = [page for page in pages if content[page + 4 : page + 4096] == whole]
        with path.open("r+b") as file:
            file.seek(beyond[2])
            file.write(b"\xff\xff\xff\x00")
        connection = sqlite3.connect(path)
        [(position,)] = connection.execute(
            "SELECT position FROM events WHERE length(state) > 60000"
        )
        connection.close()
        server.restart()
        with Native(server) as http:
            ready = http.get("/readyz")
            assert (ready.status_code, ready.json()["status"]) == (503, "not ready")
            assert f"the event at {position} cannot be read" in ready.json()["problem"]
            told = f"The log cannot be read: the event at {position} cannot be read"
            assert told in server.output.read_text()


@pytest.mark.parametrize("damage", [garbled, emptied])
@pytest.mark.parametrize("index", INDEXES)
def test_a_damaged_index_is_told_of_and_the_log_is_saved(
    index: str, damage: Callable[[Path, str], None], tmp_path: Path
) -> None:
    """Before anybody has read through it, and as `crewlog log verify` says to do it."""
    with Server(tmp_path / "data") as server:
        with Native(server) as http:
            for _ in range(30):
                http.ended(http.submit("true"))
        server.stop()
        damage(server.data / "log.db", index)
        events = sqlite3.connect(server.data / "log.db")
        count = events.execute("SELECT count(*) FROM events NOT INDEXED").fetchone()[0]
        events.close()
        server.restart()
        with Native(server) as http:
            ready = http.get("/readyz")
            assert ready.status_code == 503
            assert f"the index {index}" in ready.json()["problem"]
        export = tmp_path / "saved.ndjson"
        crewlog("log", "export", export, "--data", server.data).check_returncode()
    crewlog("log", "import", export, "--data", tmp_path / "saved").check_returncode()
    verified = crewlog("log", "verify", "--data", tmp_path / "saved")
    assert verified.stdout.startswith(f"Sound: {count} events")


# What lies in the directories, and in the files


STRANGE: dict[str, Callable[[Path], object]] = {
    "a directory": Path.mkdir,
    "a pipe": os.mkfifo,
    "a link": lambda path: path.symlink_to("nowhere"),
}


@pytest.mark.parametrize("make", STRANGE.values(), ids=STRANGE)
def test_a_stray_entry_stops_nothing(make: Callable[[Path], object], tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("sealed/abc", "sealed/abc.json", "credentials/abc", "artifacts/abc.draft"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        make(data / name)
        os.utime(data / name, (1, 1), follow_symlinks=False)
    for name in ("attempts/abc", "spool/~abc", "spool/abc", "templates/abc"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        make(data / name)
    with Server.start(data) as server, Native(server) as http:
        assert http.ended(http.submit("true", env={"NAME": "value"}))["state"] == "completed"
        assert http.get("/readyz").status_code == 200
        add_user(server, "ada@example.org")
        sign_in(server, "ada@example.org").close()
    assert "Traceback" not in server.output.read_text()


def damaged(data: Path) -> str:
    """What a server says that does not start on this directory."""
    ran = crewlog("serve", "--data", data, "--port", "0")
    assert (ran.returncode, ran.stdout) == (2, ""), ran.stderr
    assert ran.stderr.count("\n") == 1
    return ran.stderr


@pytest.mark.parametrize("name", ["spool/node", "token", "worker.key"])
def test_a_file_that_no_server_has_written_is_named(name: str, tmp_path: Path) -> None:
    with Server.start(tmp_path / "data"):
        pass
    file = tmp_path / "data" / name
    file.write_bytes(b"\xff\xfe\xff\xfe\xff\xfe\xff\xfe\xff")
    said = damaged(tmp_path / "data")
    assert str(file) in said
    assert file.read_bytes() == b"\xff\xfe\xff\xfe\xff\xfe\xff\xfe\xff"


@pytest.mark.parametrize("make", STRANGE.values(), ids=STRANGE)
def test_what_is_in_the_place_of_the_nodes_name_is_named(
    make: Callable[[Path], object], tmp_path: Path
) -> None:
    (tmp_path / "spool").mkdir()
    make(tmp_path / "spool" / "node")
    assert f"{tmp_path / 'spool' / 'node'}, the name of this node" in damaged(tmp_path)


def test_any_key_of_sessions_is_one(tmp_path: Path) -> None:
    """It is only mixed into signatures: with another one, everybody signs in again."""
    tmp_path.joinpath("session.key").write_bytes(b"\xff\xfe")
    with Server.start(tmp_path) as server, Native(server) as http:
        assert http.get("/readyz").status_code == 200


def test_a_damaged_token_is_none_to_a_command(tmp_path: Path) -> None:
    with Server.start(tmp_path / "data") as server:
        (tmp_path / "data" / "token").write_bytes(b"\xff\xfe\xff\xfe")
        ran = crewlog("jobs", "list", CREWLOG_DATA=str(server.data))
    assert ran.returncode != 0
    assert "Traceback" not in ran.stderr
