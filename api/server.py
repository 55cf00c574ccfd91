"""The server process: its token, its socket, its life from start to SIGTERM."""

import asyncio
import gc
import json
import logging
import os
import secrets
import socket
from ipaddress import ip_address
from pathlib import Path

import uvicorn
from pydantic import SecretStr

from api.app import VERSION, Parts, build, create_app, edge
from api.settings import Settings
from domain.errors import CrewlogError

_GRACE_S = 2


class CannotServe(CrewlogError):
    """The server must not or cannot start; the text says why and what to do."""


def serve(settings: Settings) -> None:
    """Run the server until SIGTERM or SIGINT. Raises CannotServe or LogRefused
    before it listens.
    """
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    settings, where = with_token(settings)
    listener = listen(settings.host, settings.port)
    try:
        parts = build(settings, url=_url(settings, listener))
    except BaseException:
        listener.close()
        raise
    _announce(settings, listener, where)
    _run(parts, listener)


def with_token(settings: Settings) -> tuple[Settings, str]:
    """The settings with a token, and a phrase that says where it is from.

    Without one in the settings, the file ``token`` in the data directory is read, or made on first
    start (0600). CannotServe off loopback when there is none at all: nothing is open there by
    accident.
    """
    if settings.token is not None and settings.token.get_secret_value():
        return settings, "from the settings"
    path = settings.data / "token"
    if not path.exists():
        if not is_loopback(settings.host):
            raise CannotServe(
                f"Listening on {settings.host} needs a token: set CREWLOG_TOKEN, or start once on "
                f"127.0.0.1 so that one is made in {path}."
            )
        _make_token(path)
    try:
        token = path.read_text().strip()
    except OSError as error:
        raise CannotServe(f"The token file {path} cannot be read: {error.strerror}.") from error
    if not token:
        raise CannotServe(f"The token file {path} is empty: remove it, and a new token is made.")
    return settings.model_copy(update={"token": SecretStr(token)}), f"in {path}"


def _make_token(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(file, "w") as stream:
            stream.write(f"crewlog_{secrets.token_urlsafe(32)}\n")
    except FileExistsError:
        return
    except OSError as error:
        raise CannotServe(f"The token file {path} cannot be made: {error.strerror}.") from error


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. CannotServe when the address is taken or is not this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise CannotServe(
            f"Cannot listen on {host}:{port}: {error.strerror}. "
            "Give another one with --host and --port."
        ) from error
    return listener


def _url(settings: Settings, listener: socket.socket) -> str:
    """Where this machine reaches the server: what listens everywhere listens on loopback too."""
    anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to be replaced
    host = anywhere.get(settings.host, settings.host)
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{listener.getsockname()[1]}"


def _announce(settings: Settings, listener: socket.socket, where: str) -> None:
    url = _url(settings, listener)
    told = settings.data / "server.json"
    told.touch(mode=0o600)
    told.write_text(json.dumps({"url": url, "pid": os.getpid()}))
    print(f"crewlog {VERSION} listens on {url}", flush=True)
    print(f"  data   {settings.data}\n  token  {where}", flush=True)


def tune_collector() -> None:
    """What stands now stands for good, and requests make many objects that die by themselves: the
    collector's defaults cost a busy server a sixth of its time to find nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _run(parts: Parts, listener: socket.socket) -> None:
    tune_collector()
    config = uvicorn.Config(
        edge(create_app(parts), parts.settings),
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=True,
        timeout_graceful_shutdown=_GRACE_S,
        timeout_keep_alive=30,
        ws_max_size=64 * 1024,
        lifespan="on",
    )
    _Server(config, parts.stopping).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Tells who waits inside a request that it stops, before it waits for requests to end."""

    def __init__(self, config: uvicorn.Config, stopping: asyncio.Event) -> None:
        super().__init__(config)
        self._stopping = stopping

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping.set()
        await super().shutdown(sockets)
