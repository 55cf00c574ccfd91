"""The server process: its token, its sockets, its life from start to SIGTERM."""

import asyncio
import gc
import json
import logging
import os
import secrets
import socket
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import ExitStack, suppress
from ipaddress import ip_address
from pathlib import Path

import uvicorn
from pydantic import SecretStr
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.app import create_app, edge
from api.doors import Door, Doors
from api.edge.descriptors import for_connections, raise_limit
from api.edge.http_protocol import IDLE_S, bounded, sweep
from api.edge.middleware import SecurityHeaders
from api.edge.socket_protocol import CalmSockets
from api.parts import VERSION, Parts, build
from api.people.parts import PeopleParts
from api.people.sign_in_link import LINK_LIFETIME_S
from api.process import collector
from api.process.data_directory import check_kinds
from api.process.stdio import RecordWriter, say
from api.settings import SHORTEST_SECRET, Settings
from domain.errors import CrewlogError

logger = logging.getLogger("crewlog.server")

_GRACE_S = 1
"""Seconds that requests may take to end when the server stops. Then they are cut."""


_TICKS_A_SECOND = 10
_SHORT = 0.8
"""The share of possible connections at which the operator is warned."""
_WARN_S = 60.0


class CannotServe(CrewlogError):
    """The server must not or cannot start. The text says why and what to do."""


def serve(settings: Settings, environ: Mapping[str, str]) -> None:
    """Run the server until SIGTERM or SIGINT. Raises CannotServe or LogRefused before it listens.
    `environ` is the environment at its start.
    """
    records = RecordWriter()
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        handlers=[records],
    )
    try:
        _serve(settings, environ, records)
    finally:
        records.drain()


def _serve(settings: Settings, environ: Mapping[str, str], records: RecordWriter) -> None:
    check_kinds(settings.data)
    with ExitStack() as opened:
        needs_token(settings)
        listener = opened.enter_context(listen(settings.host, settings.port))
        doors = [
            (door, opened.enter_context(listen(door.host, door.port, "--listen")))
            for door in settings.listen
        ]
        settings, where = with_token(settings)
        url = _url(settings.host, listener)
        parts = build(settings, environ, url=url)
        _announce(settings, url, where, [(d.dialect, _url(d.host, socket)) for d, socket in doors])
        _run(parts, listener, doors, records, settings.public_url.rstrip("/") or url)


def needs_token(settings: Settings) -> None:
    """Raises CannotServe off loopback without a token: nothing is ever open there by accident."""
    path = settings.data / "token"
    if (settings.token is not None and settings.token.get_secret_value()) or path.exists():
        return
    for host in (settings.host, *(door.host for door in settings.listen)):
        if not is_loopback(host):
            raise CannotServe(
                f"Listening on {host} needs a token: set CREWLOG_TOKEN, or start once on "
                f"127.0.0.1 so that one is made in {path}."
            )


def with_token(settings: Settings) -> tuple[Settings, str]:
    """The settings with a token, and a phrase that says where the token comes from.

    Without one in the settings, the file ``token`` in the data directory is read, or made at the
    first start (0600). Raises CannotServe for a file without a token, and as `needs_token`.
    """
    if settings.token is not None and settings.token.get_secret_value():
        return settings, "from the settings"
    path = settings.data / "token"
    needs_token(settings)
    if not path.exists():
        _make_token(path)
    try:
        token = path.read_text().strip()
    except OSError as error:
        raise CannotServe(f"The token file {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise CannotServe(
            f"The token file {path} is damaged: remove it, and a new token is made."
        ) from error
    if not token:
        raise CannotServe(f"The token file {path} is empty: remove it, and a new token is made.")
    if len(token) < SHORTEST_SECRET:
        raise CannotServe(
            f"The token in {path} has fewer than {SHORTEST_SECRET} characters: write a longer one, "
            "or remove the file, and a new token is made."
        )
    return settings.model_copy(update={"token": SecretStr(token)}), f"in {path}"


def _make_token(path: Path) -> None:
    """Make the token file, complete or not at all, so that a first start on a full disk does not
    block the second one. If two servers start at once, the later takes the token of the earlier.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with open(file, "w") as stream:
                stream.write(f"crewlog_{secrets.token_urlsafe(32)}\n")
            with suppress(FileExistsError):
                os.link(draft, path)
        finally:
            draft.unlink()
    except OSError as error:
        raise CannotServe(f"The token file {path} cannot be made: {error.strerror}.") from error


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int, option: str = "--host and --port") -> socket.socket:
    """A listening socket. Raises CannotServe if the address is in use or not this machine's.
    `option` names the option that sets another one.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise CannotServe(
            f"Cannot listen on {host}:{port}: {error.strerror}. Choose another with {option}."
        ) from error
    return listener


def _url(host: str, listener: socket.socket) -> str:
    """The server's address on this machine. A socket that listens everywhere listens on
    loopback too.
    """
    anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to be replaced
    host = anywhere.get(host, host)
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{listener.getsockname()[1]}"


def _announce(
    settings: Settings, url: str, where: str, dialects: Sequence[tuple[str, str]]
) -> None:
    file = settings.data / "server.json"
    file.touch(mode=0o600)
    alone = [{"dialect": dialect, "url": own} for dialect, own in dialects]
    file.write_text(json.dumps({"url": url, "pid": os.getpid(), "listen": alone}))
    lines = [f"  data   {settings.data}", f"  token  {where}"]
    lines += [f"  {dialect} alone  {own}" for dialect, own in dialects]
    say("\n".join((f"crewlog {VERSION} listens on {url}", *lines, "")))


async def _tell_way_in(people: PeopleParts, url: str) -> None:
    """While there is no account, a link opens the page: a token is hard to type, and this is the
    only place where a person would have to.
    """
    await people.known.wait()
    if people.people.directory.empty:
        link = f"{url}/#/sign-in/{people.sign_in.link.issue()}"
        minutes = LINK_LIFETIME_S // 60
        text = f"  page   {link}\n         signs you in, once, within {minutes} minutes\n"
        await asyncio.to_thread(say, text)


def _run(
    parts: Parts,
    listener: socket.socket,
    doors: Sequence[tuple[Door, socket.socket]],
    records: RecordWriter,
    url: str,
) -> None:
    most = for_connections(raise_limit(), parts.settings.capacity)
    # An application has tens of thousands of objects, and stays: the collector need not walk them.
    addresses = create_app(parts, made=gc.freeze)
    collector.begin()
    app: ASGIApp = addresses
    if doors:
        alone = [(s.getsockname()[:2], addresses.dialects[door.dialect]) for door, s in doors]
        app = Doors(addresses, alone)
    config = uvicorn.Config(
        _Cuttable(edge(app, parts), parts.stopping),
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=True,
        timeout_graceful_shutdown=_GRACE_S,
        http=bounded(most),
        timeout_keep_alive=IDLE_S,
        ws=CalmSockets,
        ws_max_size=64 * 1024,
        lifespan="on",
    )
    server = _Server(config, parts.stopping, most, records, _tell_way_in(parts.people, url))
    server.run(sockets=[listener, *(socket for _, socket in doors)])


class _Cuttable:
    """Tells the client of a request that the stop cuts, if no answer has begun. In the server's log
    it is a line and not a traceback.
    """

    def __init__(self, app: ASGIApp, stopping: asyncio.Event) -> None:
        self._app = app
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        opened = False  # a socket: from then on the protocol closes it

        async def noted(message: Message) -> None:
            nonlocal opened
            opened = opened or message["type"] == "websocket.accept"
            await send(message)

        try:
            await self._app(scope, receive, noted if scope["type"] == "websocket" else send)
        except asyncio.CancelledError:
            if scope["type"] == "lifespan" or opened or not self._stopping.is_set():
                raise
            request_id = scope["state"]["request_id"]
            logger.warning("the stop of the server has cut the request %s", request_id)
            answer = JSONResponse(
                {"detail": "The server is being stopped.", "error_id": request_id},
                503,
                {"Retry-After": "1", "x-request-id": request_id, "Connection": "close"},
            )
            with suppress(RuntimeError):  # an answer has begun: its connection is closed instead
                await SecurityHeaders(answer)(scope, receive, send)


class _Server(uvicorn.Server):
    """Tells requests that wait that the server stops, before it waits for them to end. Checks its
    connections and its old objects once a second.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        stopping: asyncio.Event,
        most_connections: int,
        records: RecordWriter,
        once_started: Coroutine[None, None, None],
    ) -> None:
        super().__init__(config)
        self._once_started = once_started
        self._records = records
        self._stopping = stopping
        self._most = most_connections
        self._warn_at = 0.0
        self._old_objects = collector.OldObjects()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._telling = asyncio.create_task(self._once_started, name="way in")

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_A_SECOND == 0:
            now = asyncio.get_running_loop().time()
            connections = self.server_state.connections
            if len(connections) >= _SHORT * self._most and now >= self._warn_at:
                self._warn_at = now + _WARN_S
                logger.warning(
                    "%d connections are open, and descriptors are there for %d: raise the limit "
                    "of open files (ulimit -n), or the server will turn others away",
                    len(connections),
                    self._most,
                )
            sweep(connections, now)
            self._old_objects.look()
        return await super().on_tick(counter)

    async def _serve(self, sockets: list[socket.socket] | None = None) -> None:
        await super()._serve(sockets)
        self._records.drain()  # the signal ends the process right after this

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping.set()
        await super().shutdown(sockets)
