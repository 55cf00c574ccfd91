"""Addresses of single dialects, served by the same process over the same log."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from starlette.types import ASGIApp, Receive, Scope, Send

from api.dialects import DIALECTS

_DOOR = re.compile(
    r"(?P<dialect>[^=]+)=(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:]+):(?P<port>[0-9]{1,5})"
)
_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104 - to be recognised


@dataclass(frozen=True, slots=True)
class Door:
    """An address that serves one dialect alone."""

    dialect: str
    host: str
    port: int
    """0 picks a free port."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """``NAME=HOST:PORT``. Raises ValueError with a sentence that says what is wrong."""
        found = _DOOR.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"{text!r} must be written as NAME=HOST:PORT.")
        dialect, port = known_dialect(found["dialect"]), int(found["port"])
        if port > 65_535:
            raise ValueError(f"{port} in {text!r} is not a port: ports end at 65535.")
        return cls(dialect, found["host"].strip("[]"), port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.dialect}={host}:{self.port}"


def known_dialect(name: str) -> str:
    """The name itself. Raises ValueError with a sentence if no dialect has it."""
    if name not in DIALECTS:
        raise ValueError(f"{name!r} is not a dialect. Known: {', '.join(DIALECTS)}.")
    return name


Place = tuple[str, int]
"""Host and port that a socket is bound to."""


class Doors:
    """Gives each request to the application at the address that it came to. `doors` maps a socket's
    host and port to its application; `main` answers everywhere else.
    """

    def __init__(self, main: ASGIApp, doors: Sequence[tuple[Place, ASGIApp]]) -> None:
        self._main = main
        self._doors: Mapping[Place, ASGIApp] = {
            ("", port) if host in _ANYWHERE else (host, port): app for (host, port), app in doors
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._main
        if scope["type"] != "lifespan":
            host, port = scope["server"]
            app = self._doors.get((host, port)) or self._doors.get(("", port)) or self._main
        await app(scope, receive, send)
