"""A worker's client of its server. It uses only the standard library, because it is started for
each call and must start fast.

The server may restart meanwhile and return at another address. So each try looks the address up
again, and a call goes on until it was answered or `patience_s` is over.
"""

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, NoReturn
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

from api.commands.option_names import told
from domain.errors import CrewlogError

PATIENCE_S = 300.0
"""How long a call tries to reach a server, unless it waits for a person."""
WAIT_S = 50
"""Seconds of one request that waits for an answer."""

_TIMEOUT_S = 30.0
_FIRST_RETRY_S = 0.2
_LONGEST_RETRY_S = 2.0
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_TRY_AGAIN = (502, 503, 504)


class NotAWorker(CrewlogError):
    """This process is not an attempt that a crewlog server started."""

    exit_code = 2


class NoServer(CrewlogError):
    """No server could be reached for too long."""

    exit_code = 2


class Refused(CrewlogError):
    """The server refused. The text is its reason."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Cut(Exception):
    """The connection was lost, and nobody knows whether the server had carried out the request."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """The address of an attempt's server, from the environment that the server gave it."""

    url: str | None
    server_file: str | None
    token: str

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Workplace":
        """Raises NotAWorker if the environment is not that of an attempt."""
        token = environ.get("CREWLOG_WORKER_TOKEN", "")
        url, file = environ.get("CREWLOG_URL"), environ.get("CREWLOG_SERVER_FILE")
        if not token or not (url or file):
            raise NotAWorker(
                "This command works only in an attempt of a job: CREWLOG_WORKER_TOKEN, and "
                "CREWLOG_URL or CREWLOG_SERVER_FILE, are not set."
            )
        return cls(url, file, token)

    def addresses(self) -> list[str]:
        """Addresses to try: the one in the file now, then the one at the start."""
        found = [_announced(self.server_file), self.url]
        return list(dict.fromkeys(address.rstrip("/") for address in found if address))


def _announced(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            server = json.load(file)
    except (OSError, ValueError):
        return None
    url = server.get("url") if isinstance(server, dict) else None
    return url if isinstance(url, str) else None


class _NoRedirects(HTTPRedirectHandler):
    """The token must reach no other server."""

    def redirect_request(self, *_: Any) -> None:
        return None


class WorkerClient:
    """Speaks for one attempt. Raises Refused and NoServer."""

    def __init__(
        self, workplace: Workplace, *, notice: Callable[[str], None] = lambda _: None
    ) -> None:
        self._workplace = workplace
        self._notice = notice

    def get(self, path: str = "", *, patience_s: float = PATIENCE_S) -> Any:
        return self._persistently("GET", path, None, patience_s)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """At least once: a request that was cut is sent again."""
        return self._persistently("POST", path, body, PATIENCE_S)

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Ask once, even if connections are lost, and wait for the answer as long as it takes.
        Returns the approval, which is no longer pending.
        """
        approval = self._ask_once(question)
        path = f"/approvals/{approval['id']}?wait={WAIT_S}"
        while approval["state"] == "pending":
            began = time.monotonic()
            approval = self.get(path, patience_s=float("inf"))
            if time.monotonic() - began < 1:
                time.sleep(_FIRST_RETRY_S)  # the server is being stopped
        return dict(approval)

    def _ask_once(self, question: dict[str, Any]) -> dict[str, Any]:
        """After a lost connection, look for the question among those that this attempt has
        asked.
        """
        before = {approval["id"] for approval in self._asked(PATIENCE_S)}
        tries = _Tries(float("inf"), self._notice)
        while True:
            try:
                return dict(self._try("POST", "/approvals", question))
            except Cut as cut:
                tries.failed(cut)
                for approval in self._asked(float("inf")):
                    same = approval["description"] == question["description"]
                    if same and approval["id"] not in before:
                        return dict(approval)
            except URLError as error:
                tries.failed(error)

    def _asked(self, patience_s: float) -> list[dict[str, Any]]:
        """What this attempt has asked, all on one page."""
        return list(self.get("/approvals", patience_s=patience_s)["items"])

    def _persistently(
        self, method: str, path: str, body: dict[str, Any] | None, patience_s: float
    ) -> Any:
        tries = _Tries(patience_s, self._notice)
        while True:
            try:
                return self._try(method, path, body)
            except (URLError, Cut) as error:
                tries.failed(error)

    def _try(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        """Try every address once. Raises URLError if none was reached, Cut if one was reached and
        did not answer.
        """
        unreached = URLError("no address is known")
        for address in self._workplace.addresses():
            try:
                return self._exchange(address, method, path, body)
            except URLError as error:
                unreached = error
        raise unreached

    def _exchange(self, address: str, method: str, path: str, body: dict[str, Any] | None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self._workplace.token}"}
        if data is not None:
            headers["Content-Type"] = "application/json"
        request = Request(f"{address}/crewlog/v1/worker{path}", data, headers, method=method)  # noqa: S310
        timeout_s = _TIMEOUT_S + (WAIT_S if "?wait=" in path else 0)
        try:
            with _opener(address).open(request, timeout=timeout_s) as response:
                return json.load(response)
        except HTTPError as error:
            with error:
                _refuse(error.code, error.read())
        except URLError as error:  # raised before the whole request was sent
            if isinstance(error.reason, OSError):
                raise
            raise NoServer(f"{address!r} is not the URL of a server.") from error
        except ValueError as error:
            raise Refused(0, f"The program at {address} is not a crewlog server.") from error
        except (OSError, HTTPException) as error:
            raise Cut(str(error) or type(error).__name__) from error


class _Tries:
    """Waits longer after each try, and gives up when the patience is over."""

    def __init__(self, patience_s: float, notice: Callable[[str], None]) -> None:
        self._patience_s = patience_s
        self._notice = notice
        self._began = 0.0
        self._wait_s = _FIRST_RETRY_S

    def failed(self, error: Exception) -> None:
        """Raises NoServer after too many tries."""
        now = time.monotonic()
        if not self._began:
            self._began = now
            self._notice("The server cannot be reached; trying again…")
        elif now - self._began > self._patience_s:
            raise NoServer(f"No server answered for {now - self._began:.0f} s: {error}")
        time.sleep(self._wait_s)
        self._wait_s = min(self._wait_s * 2, _LONGEST_RETRY_S)


def _opener(address: str) -> OpenerDirector:
    # A proxy in the environment is for the internet, not for the server on this machine.
    here = urlsplit(address).hostname in _LOOPBACK
    return build_opener(_NoRedirects, *([ProxyHandler({})] if here else []))


def _refuse(status: int, body: bytes) -> NoReturn:
    if status in _TRY_AGAIN:
        raise Cut(f"the server answered with {status}")
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, TypeError, KeyError):
        raise Refused(status, f"The server answered with {status}.") from None
    if isinstance(detail, list):
        detail = "; ".join(map(told, detail))
    raise Refused(status, str(detail))


def connect(notice: Callable[[str], None]) -> WorkerClient:
    """The client of this process's attempt. Raises NotAWorker if there is none."""
    return WorkerClient(Workplace.of(os.environ), notice=notice)
