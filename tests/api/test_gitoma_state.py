"""gitoma's state files, the watch on them, and the socket that pushes them."""

import asyncio
import base64
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol

from api.dialects.gitoma.state_files import State, StateDirectory, StateFeed
from api.dialects.gitoma.state_socket import TokenInSubprotocol, websocket_state
from api.edge.middleware import DEFAULT_ALLOWED_HOSTS, install
from api.edge.security import Security
from tests.kit.waiting import soon

TOKEN = "gitoma_tök/en+"
DEADLINE_S = 90.0
_NOTICED_S = 3.0
"""It takes some milliseconds; an unanswered ping would show it only after 20 s or more."""


def write(root: Path, slug: str, *, at: float | None = None, **state: Any) -> Path:
    """Write a state file as gitoma does: under another name, then renamed."""
    owner, _, name = slug.partition("/")
    path = root / f"{owner}__{name}.json"
    draft = root / f".{owner}__{name}.json.tmp"
    draft.write_text(json.dumps({"owner": owner, "name": name, **state}))
    draft.replace(path)
    if at is not None:
        os.utime(path, (at, at))
    return path


def ago(**span: float) -> str:
    return (datetime.now(UTC) - timedelta(**span)).isoformat()


def dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def only(states: Sequence[State]) -> State:
    (state,) = states
    return state


class TestSnapshot:
    def test_a_missing_or_empty_directory_has_no_states(self, tmp_path: Path) -> None:
        assert StateDirectory(tmp_path / "missing").snapshot() == []
        assert StateDirectory(tmp_path).snapshot() == []

    def test_the_file_changed_last_comes_first(self, tmp_path: Path) -> None:
        for name, at in (("b", 200.0), ("c", 300.0), ("a", 100.0)):
            write(tmp_path, f"ada/{name}", at=at)
        assert [s["name"] for s in StateDirectory(tmp_path).snapshot()] == ["c", "b", "a"]

    def test_the_file_s_own_keys_are_all_there(self, tmp_path: Path) -> None:
        write(tmp_path, "ada/x", phase="DONE", errors=["é"], task_plan={"tasks": []}, unknown=None)
        assert only(StateDirectory(tmp_path).snapshot()) == {
            "owner": "ada",
            "name": "x",
            "phase": "DONE",
            "errors": ["é"],
            "task_plan": {"tasks": []},
            "unknown": None,
            "is_alive": False,
            "is_orphaned": False,
            "heartbeat_age_s": None,
        }

    def test_a_changed_file_is_seen_changed(self, tmp_path: Path) -> None:
        directory = StateDirectory(tmp_path)
        for number in range(20):
            write(tmp_path, "ada/x", current_operation=f"{number:02}")
            assert only(directory.snapshot())["current_operation"] == f"{number:02}"

    def test_a_file_rewritten_in_place_within_a_tick_is_seen_changed(self, tmp_path: Path) -> None:
        directory = StateDirectory(tmp_path)
        path = write(tmp_path, "ada/x", step="00")
        for number in range(10):
            path.write_text(path.read_text()[:-4] + f'{number:02}"}}')
            assert only(directory.snapshot())["step"] == f"{number:02}"

    def test_an_unchanged_file_is_not_read_again(self, tmp_path: Path) -> None:
        path = write(tmp_path, "ada/x", phase="DONE", big="x" * 100)
        directory = StateDirectory(tmp_path)
        while time.time() <= os.stat(path).st_ctime + 1.01:
            time.sleep(0.05)
        first = only(directory.snapshot())
        second = only(directory.snapshot())
        assert first == second
        assert first["big"] is second["big"]

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b'"text"',
            b'{"a": NaN}',
            b"\xff\xfe",
            b'{"a":' * 300 + b"1" + b"}" * 300,
            b"[" * 5000,
            b'{"a": 1}' + b" " * (8 * 1024 * 1024),
        ],
        ids=range(10),
    )
    def test_a_broken_file_is_passed_over_and_can_be_deleted(
        self, tmp_path: Path, content: bytes
    ) -> None:
        (tmp_path / "ada__broken.json").write_bytes(content)
        write(tmp_path, "ada/good")
        directory = StateDirectory(tmp_path)
        assert only(directory.snapshot())["name"] == "good"
        assert only(directory.snapshot())["name"] == "good"
        assert directory.delete("ada", "broken") is True
        assert not (tmp_path / "ada__broken.json").exists()

    def test_what_is_no_state_file_is_passed_over(self, tmp_path: Path) -> None:
        (tmp_path / "ada__x.lock").write_text("1")
        (tmp_path / ".ada__x.abc.json").write_text("{}")
        (tmp_path / "ada__dir.json").mkdir()
        os.mkfifo(tmp_path / "ada__idle.json")
        os.mkfifo(tmp_path / "ada__pipe.json")
        pipe = os.open(tmp_path / "ada__pipe.json", os.O_RDWR)
        try:
            os.write(pipe, b'{"name": "pipe"}')
            assert StateDirectory(tmp_path).snapshot() == []
        finally:
            os.close(pipe)

    def test_a_link_out_of_the_directory_is_passed_over(self, tmp_path: Path) -> None:
        root = tmp_path / "state"
        root.mkdir()
        secret = write(tmp_path, "their/secret")
        (root / "ada__out.json").symlink_to(secret)
        (root / "ada__loop.json").symlink_to(root / "ada__loop.json")
        inside = write(root, "ada/x")
        (root / "ada__in.json").symlink_to(inside)
        assert [s["name"] for s in StateDirectory(root).snapshot()] == ["x", "x"]

    def test_the_directory_itself_may_be_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        write(tmp_path / "real", "ada/x")
        assert only(StateDirectory(tmp_path / "link").snapshot())["name"] == "x"


WORKING: dict[str, Any] = {"phase": "WORKING", "exit_clean": False}


class TestLiveness:
    def seen(self, root: Path, **state: Any) -> State:
        write(root, "ada/x", **state)
        return only(StateDirectory(root).snapshot())

    def test_a_running_process_with_a_fresh_heartbeat_is_alive(self, tmp_path: Path) -> None:
        state = self.seen(tmp_path, **WORKING, pid=os.getpid(), last_heartbeat=ago(seconds=20))
        assert (state["is_alive"], state["is_orphaned"]) == (True, False)
        assert 20 <= state["heartbeat_age_s"] < 20 + DEADLINE_S

    def test_a_process_of_another_user_is_alive(self, tmp_path: Path) -> None:
        assert self.seen(tmp_path, **WORKING, pid=1)["is_alive"] is True

    def test_a_dead_process_is_orphaned_whatever_its_heartbeat(self, tmp_path: Path) -> None:
        state = self.seen(tmp_path, **WORKING, pid=dead_pid(), last_heartbeat=ago(seconds=1))
        assert (state["is_alive"], state["is_orphaned"]) == (False, True)

    def test_a_silence_of_more_than_90_s_is_orphaned_even_if_the_pid_lives(
        self, tmp_path: Path
    ) -> None:
        state = self.seen(tmp_path, **WORKING, pid=os.getpid(), last_heartbeat=ago(seconds=91))
        assert (state["is_alive"], state["is_orphaned"]) == (True, True)

    @pytest.mark.parametrize(
        "phase", ["IDLE", "ANALYZING", "PLANNING", "WORKING", "PR_OPEN", "REVIEWING"]
    )
    def test_every_phase_but_the_last_can_be_orphaned(self, tmp_path: Path, phase: str) -> None:
        assert self.seen(tmp_path, phase=phase)["is_orphaned"] is True
        assert self.seen(tmp_path, phase=phase, exit_clean=True)["is_orphaned"] is False

    @pytest.mark.parametrize("phase", ["DONE", "WHATEVER", None, ["WORKING"], 1])
    def test_a_terminal_or_unknown_phase_is_never_orphaned(
        self, tmp_path: Path, phase: object
    ) -> None:
        assert self.seen(tmp_path, phase=phase)["is_orphaned"] is False

    @pytest.mark.parametrize("pid", [None, 0, -1, True, "1", 1.0, 2**31, 2**70, []])
    def test_what_is_no_pid_is_not_alive(self, tmp_path: Path, pid: object) -> None:
        assert self.seen(tmp_path, **WORKING, pid=pid)["is_alive"] is False

    @pytest.mark.parametrize("beat", [None, "", "yesterday", 5, [], "0001-01-01T00:00:00+23:59"])
    def test_a_heartbeat_that_cannot_be_read_breaks_nothing(
        self, tmp_path: Path, beat: object
    ) -> None:
        age = self.seen(tmp_path, **WORKING, last_heartbeat=beat)["heartbeat_age_s"]
        assert age is None or age > 1e9

    def test_a_heartbeat_without_zone_is_utc(self, tmp_path: Path) -> None:
        beat = ago(seconds=5).removesuffix("+00:00")
        assert 5 <= self.seen(tmp_path, last_heartbeat=beat)["heartbeat_age_s"] < 5 + DEADLINE_S


class TestDelete:
    def test_it_is_idempotent_and_touches_nothing_else(self, tmp_path: Path) -> None:
        write(tmp_path, "ada/x")
        write(tmp_path, "ada/y")
        (tmp_path / "ada__x.lock").write_text("1")
        directory = StateDirectory(tmp_path)
        assert directory.delete("ada", "x") is True
        assert directory.delete("ada", "x") is False
        assert sorted(path.name for path in tmp_path.iterdir()) == ["ada__x.lock", "ada__y.json"]

    def test_a_missing_directory_holds_nothing(self, tmp_path: Path) -> None:
        assert StateDirectory(tmp_path / "missing").delete("ada", "x") is False

    @pytest.mark.parametrize(
        "slug", ["", ".", "..", ".hidden", "a/b", "../x", "a b", "a\n", "a\x00", "é", "a" * 101]
    )
    def test_what_is_no_slug_is_refused_with_a_sentence(self, tmp_path: Path, slug: str) -> None:
        directory = StateDirectory(tmp_path)
        with pytest.raises(ValueError, match=r"^The owner must be .*\.$"):
            directory.delete(slug, "x")
        with pytest.raises(ValueError, match=r"^The name must be .*\.$"):
            directory.delete("ada", slug)

    def test_the_longest_slugs_can_be_deleted(self, tmp_path: Path) -> None:
        write(tmp_path, f"{'a' * 100}/{'b' * 100}")
        assert StateDirectory(tmp_path).delete("a" * 100, "b" * 100) is True

    def test_a_link_out_of_the_directory_is_refused(self, tmp_path: Path) -> None:
        root = tmp_path / "state"
        root.mkdir()
        secret = write(tmp_path, "their/secret")
        (root / "ada__x.json").symlink_to(secret)
        with pytest.raises(ValueError, match="out of the state directory"):
            StateDirectory(root).delete("ada", "x")
        assert secret.exists()

    def test_a_directory_in_its_place_is_no_state(self, tmp_path: Path) -> None:
        (tmp_path / "ada__x.json").mkdir()
        assert StateDirectory(tmp_path).delete("ada", "x") is False


class CountedDirectory(StateDirectory):
    """A state directory that counts its snapshots."""

    looks = 0

    def snapshot(self) -> list[State]:
        states = super().snapshot()
        self.looks += 1
        return states


async def looked_again(directory: CountedDirectory, times: int = 4) -> None:
    seen = directory.looks
    await soon(lambda: directory.looks >= seen + times, "the watcher looks again")


async def next_frame(frames: AsyncGenerator[bytes, None]) -> list[State]:
    async with asyncio.timeout(DEADLINE_S):
        states: list[State] = json.loads(await anext(frames))
    return states


def a_feed(root: Path) -> tuple[CountedDirectory, StateFeed]:
    directory = CountedDirectory(root)
    return directory, StateFeed(directory, interval=0.01, spacing=0.0)


class TestFeed:
    def test_the_first_snapshot_comes_at_once_and_is_empty_without_states(
        self, tmp_path: Path
    ) -> None:
        async def scenario() -> None:
            feed = StateFeed(StateDirectory(tmp_path), interval=3600)
            async with aclosing(feed.subscribe()) as one, aclosing(feed.subscribe()) as two:
                assert await next_frame(one) == []
                assert await next_frame(two) == []

        asyncio.run(scenario())

    def test_a_heartbeat_that_ages_is_no_change_but_a_file_is(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            directory, feed = a_feed(tmp_path)
            alive = {**WORKING, "pid": os.getpid(), "last_heartbeat": ago(seconds=5)}
            path = write(tmp_path, "ada/x", **alive)
            async with aclosing(feed.subscribe()) as frames:
                assert only(await next_frame(frames))["heartbeat_age_s"] >= 5
                await looked_again(directory)
                os.utime(path)
                path.write_bytes(path.read_bytes())
                await looked_again(directory)
                write(tmp_path, "ada/x", **alive, current_operation="testing")
                # A frame for the earlier changes would come before this one.
                assert only(await next_frame(frames))["current_operation"] == "testing"

        asyncio.run(scenario())

    def test_a_process_that_dies_is_a_change(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            _, feed = a_feed(tmp_path)
            child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
            try:
                write(tmp_path, "ada/x", **WORKING, pid=child.pid)
                async with aclosing(feed.subscribe()) as frames:
                    assert only(await next_frame(frames))["is_alive"] is True
                    child.kill()
                    child.wait()
                    state = only(await next_frame(frames))
                    assert (state["is_alive"], state["is_orphaned"]) == (False, True)
            finally:
                child.kill()
                child.communicate()

        asyncio.run(scenario())

    def test_a_new_and_a_deleted_state_are_changes(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            directory, feed = a_feed(tmp_path)
            async with aclosing(feed.subscribe()) as frames:
                assert await next_frame(frames) == []
                write(tmp_path, "ada/x")
                assert only(await next_frame(frames))["name"] == "x"
                assert directory.delete("ada", "x")
                assert await next_frame(frames) == []

        asyncio.run(scenario())

    def test_a_poke_sends_a_fresh_snapshot_to_all_though_nothing_changed(
        self, tmp_path: Path
    ) -> None:
        async def scenario() -> None:
            feed = StateFeed(StateDirectory(tmp_path), interval=3600)
            write(tmp_path, "ada/x", last_heartbeat=ago(seconds=5))
            async with aclosing(feed.subscribe()) as one, aclosing(feed.subscribe()) as two:
                first = only(await next_frame(one))
                await next_frame(two)
                feed.poke()
                for frames in (one, two):
                    state = only(await next_frame(frames))
                    assert state["heartbeat_age_s"] > first["heartbeat_age_s"]
                write(tmp_path, "ada/x", phase="DONE")
                feed.poke()
                assert only(await next_frame(one))["phase"] == "DONE"

        asyncio.run(scenario())

    def test_many_readers_share_one_watcher_that_lives_as_long_as_they(
        self, tmp_path: Path
    ) -> None:
        async def scenario() -> None:
            _, feed = a_feed(tmp_path)
            feed.poke()
            before = asyncio.all_tasks()
            readers = [feed.subscribe() for _ in range(50)]
            for reader in readers:
                await next_frame(reader)
            assert feed.readers == 50
            watchers = [t for t in asyncio.all_tasks() - before if "watch" in t.get_name()]
            assert len(watchers) == 1
            for reader in readers[1:]:
                await reader.aclose()
            assert feed.watching
            await readers[0].aclose()
            assert (feed.readers, feed.watching) == (0, False)
            assert asyncio.all_tasks() == before

        asyncio.run(scenario())

    def test_who_joins_late_gets_the_heartbeat_s_age_of_now(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            directory, feed = a_feed(tmp_path)
            write(tmp_path, "ada/x", last_heartbeat=ago(seconds=5))
            async with aclosing(feed.subscribe()) as early, aclosing(feed.subscribe()) as late:
                age = only(await next_frame(early))["heartbeat_age_s"]
                await looked_again(directory)
                assert only(await next_frame(late))["heartbeat_age_s"] > age

        asyncio.run(scenario())

    def test_it_starts_again_after_it_stopped(self, tmp_path: Path) -> None:
        directory, feed = a_feed(tmp_path)

        async def scenario(expected: list[str]) -> None:
            async with aclosing(feed.subscribe()) as frames:
                assert [s["name"] for s in await next_frame(frames)] == expected
                await looked_again(directory)

        asyncio.run(scenario([]))
        write(tmp_path, "ada/x")
        asyncio.run(scenario(["x"]))

    def test_a_slow_reader_skips_to_the_newest(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            directory, feed = a_feed(tmp_path)
            async with aclosing(feed.subscribe()) as frames:
                await next_frame(frames)
                for number in range(3):
                    write(tmp_path, "ada/x", step=number)
                    await looked_again(directory)
                assert only(await next_frame(frames))["step"] == 2

        asyncio.run(scenario())

    def test_a_cancelled_reader_leaves_nothing_behind(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            directory, feed = a_feed(tmp_path)

            async def read() -> None:
                async with aclosing(feed.subscribe()) as frames:
                    async for _ in frames:
                        pass

            task = asyncio.create_task(read())
            await soon(lambda: directory.looks > 0, "the watcher looks")
            task.cancel()
            await asyncio.wait({task})
            assert (feed.readers, feed.watching) == (0, False)
            assert asyncio.all_tasks() == {asyncio.current_task()}

        asyncio.run(scenario())

    def test_a_poke_in_the_moment_of_leaving_does_not_keep_the_watcher(
        self, tmp_path: Path
    ) -> None:
        async def scenario() -> None:
            directory, feed = a_feed(tmp_path)
            for _ in range(20):
                async with asyncio.timeout(DEADLINE_S), aclosing(feed.subscribe()) as frames:
                    await next_frame(frames)
                    await looked_again(directory, times=1)
                    feed.poke()
                assert asyncio.all_tasks() == {asyncio.current_task()}

        asyncio.run(scenario())

    def test_an_unreadable_directory_is_empty_and_logged_once(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Unreadable(CountedDirectory):
            broken = True

            def snapshot(self) -> list[State]:
                states = super().snapshot()
                if self.broken:
                    raise PermissionError(13, "Permission denied")
                return states

        async def scenario() -> None:
            directory = Unreadable(tmp_path)
            feed = StateFeed(directory, interval=0.01, spacing=0.0)
            write(tmp_path, "ada/x")
            async with aclosing(feed.subscribe()) as frames:
                assert await next_frame(frames) == []
                await looked_again(directory)
                directory.broken = False
                assert only(await next_frame(frames))["name"] == "x"

        asyncio.run(scenario())
        assert [record.levelno for record in caplog.records] == [logging.WARNING]

    def test_a_watcher_that_breaks_tells_its_readers(self, tmp_path: Path) -> None:
        class Broken(StateDirectory):
            def snapshot(self) -> list[State]:
                raise RuntimeError("a bug")

        async def scenario() -> None:
            feed = StateFeed(Broken(tmp_path))
            with pytest.raises(RuntimeError, match="a bug"):
                await next_frame(feed.subscribe())
            assert not feed.watching

        asyncio.run(scenario())


@dataclass
class Server:
    """A real server with `/ws/state`, run in a thread."""

    directory: CountedDirectory
    feed: StateFeed
    token: str = TOKEN
    port: int = 0
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    loop: asyncio.AbstractEventLoop | None = None

    async def state(self, ws: WebSocket) -> None:
        self.loop = asyncio.get_running_loop()
        await websocket_state(ws, self.feed, ["https://board.example"], self.stop)

    def app(self) -> Starlette:
        app = Starlette(routes=[WebSocketRoute("/ws/state", self.state)])
        app.state.security = Security(lambda: self.token)
        app.add_middleware(TokenInSubprotocol)
        return app

    def tasks(self) -> int:
        """The number of our tasks on the server's loop."""
        assert self.loop is not None

        async def count() -> int:
            names = [str(task.get_coro()) for task in asyncio.all_tasks()]
            return sum("_watch" in n or "_frames" in n or "Watch" in n for n in names)

        return asyncio.run_coroutine_threadsafe(count(), self.loop).result(DEADLINE_S)

    def run(self, action: Callable[[], None]) -> None:
        assert self.loop is not None
        self.loop.call_soon_threadsafe(action)


@contextmanager
def serving(root: Path, token: str = TOKEN) -> Iterator[Server]:
    directory, feed = a_feed(root)
    service = Server(directory, feed, token)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        service.port = listener.getsockname()[1]
        app = install(service.app(), allowed_hosts=(*DEFAULT_ALLOWED_HOSTS, "nas.local"))
        config = uvicorn.Config(app, log_config=None, lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield service
        finally:
            server.should_exit = True
            thread.join()


def bearer(token: str = TOKEN) -> Subprotocol:
    encoded = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
    return Subprotocol(f"gitoma-bearer.{encoded}")


def opening(server: Server, **options: Any) -> connect:
    options.setdefault("subprotocols", [bearer(server.token)])
    return connect(f"ws://127.0.0.1:{server.port}/ws/state", proxy=None, **options)


async def received(ws: ClientConnection) -> list[State]:
    async with asyncio.timeout(DEADLINE_S):
        frame = await ws.recv()
    assert isinstance(frame, str), "a text frame"
    states: list[State] = json.loads(frame)
    return states


async def close_code(ws: ClientConnection) -> int | None:
    """The code that the server closes the socket with."""
    async with asyncio.timeout(DEADLINE_S):
        await ws.wait_closed()
    return ws.close_code


async def refusal(server: Server, **options: Any) -> tuple[int, bytes]:
    """Status and body of the refused handshake."""
    with pytest.raises(InvalidStatus) as caught:
        async with opening(server, **options):
            pass
    return caught.value.response.status_code, bytes(caught.value.response.body or b"")


class TestSocket:
    def test_trusted_origins_are_let_in(self, tmp_path: Path) -> None:
        async def scenario(server: Server) -> None:
            for origin in (
                None,
                "https://board.example",
                "http://localhost",
                "https://localhost:5173",
                "http://127.0.0.1:1",
                "http://[::1]:9999",
                "http://0.0.0.0:8000",
                f"https://127.0.0.1:{server.port}",
            ):
                async with opening(server, origin=origin) as ws:
                    assert await received(ws) == [], origin

        with serving(tmp_path) as server:
            asyncio.run(scenario(server))

    def test_the_server_s_own_origin_is_let_in(self, tmp_path: Path) -> None:
        async def scenario(server: Server) -> None:
            async with connect(
                f"ws://nas.local:{server.port}/ws/state",
                host="127.0.0.1",
                port=server.port,
                proxy=None,
                origin=Origin(f"https://NAS.local:{server.port}"),
                subprotocols=[bearer()],
            ) as ws:
                assert await received(ws) == []

        with serving(tmp_path) as server:
            asyncio.run(scenario(server))

    def test_foreign_origins_are_refused_with_403(self, tmp_path: Path) -> None:
        async def scenario(server: Server) -> None:
            for origin in (
                "https://evil.example",
                "https://board.example.evil.example",
                "http://localhost.evil.example",
                "http://localhost@evil.example",
                "http://evil.example/localhost",
                "http://evil.example\\@localhost",
                "ftp://localhost",
                "null",
                "",
                "https://",
                f"http://127.0.0.2:{server.port}",
            ):
                assert await refusal(server, origin=origin) == (403, b""), origin

        with serving(tmp_path) as server:
            asyncio.run(scenario(server))

    def test_missing_and_wrong_tokens_are_refused_with_403(self, tmp_path: Path) -> None:
        def header(value: str) -> dict[str, Any]:
            return {"subprotocols": None, "additional_headers": {"Authorization": value}}

        async def scenario(server: Server) -> None:
            for options in (
                {"subprotocols": None},
                {"subprotocols": ["chat"]},
                {"subprotocols": [bearer("wrong")]},
                {"subprotocols": [bearer(TOKEN + "x")]},
                {"subprotocols": ["gitoma-bearer."]},
                {"subprotocols": ["gitoma-bearer.!!!!"]},
                {"subprotocols": [f"{bearer()}~~~~"]},
                {"subprotocols": ["gitoma-bearer.a"]},
                header("Bearer wrong"),
                header("Bearer"),
                header("Bearer "),
                header(f"Basic {TOKEN}"),
                header(TOKEN),
                {**header("Bearer wrong"), "subprotocols": [bearer()]},
            ):
                assert await refusal(server, **options) == (403, b""), options
            assert server.feed.readers == 0

        with serving(tmp_path) as server:
            asyncio.run(scenario(server))

    def test_without_a_server_token_everybody_is_refused(self, tmp_path: Path) -> None:
        async def scenario(server: Server) -> None:
            for options in ({"subprotocols": None}, {"subprotocols": [bearer("")]}):
                assert await refusal(server, **options) == (403, b"")
            empty = {"Authorization": "Bearer "}
            assert await refusal(server, subprotocols=None, additional_headers=empty) == (403, b"")

        with serving(tmp_path, token="") as server:
            asyncio.run(scenario(server))

    def test_a_token_that_changes_counts_from_the_next_socket_on(self, tmp_path: Path) -> None:
        async def scenario(server: Server) -> None:
            old = [bearer()]
            async with opening(server, subprotocols=old) as ws:
                server.token = "rotated"
                assert await refusal(server, subprotocols=old) == (403, b"")
                assert await received(ws) == []

        with serving(tmp_path) as server:
            asyncio.run(scenario(server))

    def test_the_offered_subprotocol_is_echoed(self, tmp_path: Path) -> None:
        async def scenario(server: Server) -> None:
            async with opening(server, subprotocols=["chat", bearer()]) as ws:
                assert ws.subprotocol == bearer()
                assert await received(ws) == []

        with serving(tmp_path) as server:
            asyncio.run(scenario(server))

    def test_the_header_is_enough_and_nothing_is_echoed(self, tmp_path: Path) -> None:
        async def scenario(server: Server) -> None:
            for scheme in ("Bearer", "bearer", "BEARER", "Bearer  "):
                token = {"Authorization": f"{scheme} {server.token}"}
                async with opening(server, subprotocols=None, additional_headers=token) as ws:
                    assert ws.subprotocol is None
                    assert await received(ws) == []

        with serving(tmp_path, token="plain-token") as server:
            asyncio.run(scenario(server))

    def test_frames_come_at_once_on_change_and_on_a_poke_only(self, tmp_path: Path) -> None:
        async def scenario(server: Server) -> None:
            alive = {**WORKING, "pid": os.getpid(), "last_heartbeat": ago(seconds=5)}
            write(tmp_path, "ada/x", **alive)
            async with opening(server) as ws:
                assert only(await received(ws))["is_alive"] is True
                await ws.send("ignored")
                await ws.send(b"ignored too")
                await looked_again(server.directory)
                write(tmp_path, "ada/x", **alive, phase_note="second")
                assert only(await received(ws))["phase_note"] == "second"
                await looked_again(server.directory)
                server.run(server.feed.poke)
                assert only(await received(ws))["phase_note"] == "second"

        with serving(tmp_path) as server:
            asyncio.run(scenario(server))

    def test_closed_sockets_leave_nothing_behind(self, tmp_path: Path) -> None:
        async def scenario(server: Server) -> None:
            async def open_and_close(number: int) -> None:
                async with opening(server) as ws:
                    await received(ws)
                    if number % 3 == 0:
                        ws.transport.abort()

            for _ in range(10):
                await asyncio.gather(*(open_and_close(number) for number in range(20)))
            await soon(lambda: server.feed.readers == 0, "no reader is left")
            await soon(lambda: not server.feed.watching, "no watcher is left")
            await soon(lambda: server.tasks() == 0, "no task is left")

        with serving(tmp_path) as server:
            asyncio.run(scenario(server))

    def test_a_closed_socket_is_noticed_though_nothing_is_sent(self, tmp_path: Path) -> None:
        async def scenario(server: Server) -> None:
            async with opening(server) as ws:
                await received(ws)
                await ws.close()
                async with asyncio.timeout(_NOTICED_S):
                    await soon(lambda: server.feed.readers == 0, "the reader is gone")

        with serving(tmp_path) as server:
            asyncio.run(scenario(server))

    def test_one_closed_socket_does_not_disturb_another(self, tmp_path: Path) -> None:
        async def scenario(server: Server) -> None:
            async with opening(server) as stays:
                await received(stays)
                async with opening(server) as goes:
                    await received(goes)
                await soon(lambda: server.feed.readers == 1, "one reader is left")
                write(tmp_path, "ada/x")
                assert only(await received(stays))["name"] == "x"
                assert server.tasks() > 0

        with serving(tmp_path) as server:
            asyncio.run(scenario(server))

    def test_a_server_that_stops_closes_with_1012(self, tmp_path: Path) -> None:
        async def scenario(server: Server) -> None:
            async with opening(server) as early:
                await received(early)
                server.run(server.stop.set)
                assert await close_code(early) == 1012
                assert await close_code(await opening(server)) == 1012
            await soon(lambda: not server.feed.watching, "no watcher is left")

        with serving(tmp_path) as server:
            asyncio.run(scenario(server))
