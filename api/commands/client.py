"""A client of the server: JSON over HTTP, and streams that resume after a lost connection."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2
from httpx2 import EventSource, ServerSentEvent

from api.commands.option_names import in_options, option_of_path, told, told_problem
from domain.errors import CrewlogError

PARTIAL = "partial"
"""The name of a frame that is no event: the beginning of an unfinished line."""

DEFAULT_URL = "http://127.0.0.1:8080"

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_TIMEOUT = httpx2.Timeout(30.0, connect=10.0)
# The server sends a heartbeat every 15 s. If three are missing, the server is gone.
_SILENCE_S = 45.0
_RETRY_S = 1.0
_LONGEST_RETRY_S = 10.0


class Unreachable(CrewlogError):
    """No server can be reached, or the connection is lost."""

    exit_code = 2


class Rejected(CrewlogError):
    """The server answered with an error. The text is the server's."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The server's address, without a slash at the end, and its token."""

    url: str
    token: str | None


def find(url: str | None, token: str | None, directory: Callable[[], Path]) -> Endpoint:
    """The server to use: from the arguments, otherwise from the data directory.

    The token in the data directory belongs to the server on this machine, and is sent to no other
    one.
    """
    if url and token:
        return Endpoint(url.rstrip("/"), token)
    data = directory()
    here = _announced(data)
    there = (url or here or DEFAULT_URL).rstrip("/")
    if not token and (there == here or _is_loopback(there)):
        token = _read(data / "token")
    return Endpoint(there, token or None)


def _announced(data: Path) -> str | None:
    try:
        server = json.loads(_read(data / "server.json") or "null")
    except ValueError:
        return None
    return str(server["url"]) if isinstance(server, dict) and "url" in server else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None


def _is_loopback(url: str) -> bool:
    try:
        return urlsplit(url).hostname in _LOOPBACK
    except ValueError:
        return False


class Client:
    """Speaks to one server. Each request looks the server up anew, because it may return at another
    address.

    Raises Unreachable and Rejected. `patience_s` is how long a stream tries to resume without a
    server. `notice` gets a sentence when a connection is lost and when it is back.
    """

    def __init__(
        self,
        locate: Callable[[], Endpoint],
        *,
        patience_s: float = 300.0,
        notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._locate = locate
        self._patience_s = patience_s
        self._notice = notice
        self._clients: dict[bool, httpx2.Client] = {}

    @property
    def endpoint(self) -> Endpoint:
        return self._locate()

    def get(self, path: str, **params: Any) -> Any:
        """The JSON at `path`. Parameters that are None are left out."""
        with self._sent("GET", path, params) as response:
            return _json(response)

    def pages(self, path: str, **params: Any) -> Iterator[Any]:
        """The pages of a list."""
        page = self.get(path, **params)
        yield page
        while page["cursor"] is not None:
            page = self.get(path, cursor=page["cursor"], **params)
            yield page

    def items(self, path: str, **params: Any) -> Iterator[Any]:
        """The items of all pages of a list."""
        for page in self.pages(path, **params):
            yield from page["items"]

    def post(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        with self._sent("POST", path, {}, body, headers) as response:
            return _json(response)

    def patch(self, path: str, body: Any) -> Any:
        with self._sent("PATCH", path, {}, body) as response:
            return _json(response)

    def delete(self, path: str) -> Any:
        with self._sent("DELETE", path, {}) as response:
            return _json(response)

    @contextmanager
    def download(self, path: str, **params: Any) -> Iterator[Iterator[bytes]]:
        """The body in pieces. Raises Unreachable if it was cut short."""
        with self._sent("GET", path, params) as response:
            yield response.iter_bytes()

    @contextmanager
    def stream(
        self, path: str, last_id: str = "", **params: Any
    ) -> Iterator[Iterator[ServerSentEvent] | None]:
        """One connection to a stream, after `last_id`; None if nothing more will come."""
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if last_id:
            headers["Last-Event-ID"] = last_id
        with self._sent("GET", path, params, headers=headers, silence_s=_SILENCE_S) as response:
            if response.status_code == 204:
                yield None
            else:
                yield iter(EventSource(response, max_event_size=None))

    def follow(self, path: str, last_id: str = "", **params: Any) -> Iterator[ServerSentEvent]:
        """The stream's events, each once, through lost connections and restarts of the server.

        It ends with the stream's 204; when a stream ends by itself, it is asked for this at once.
        Otherwise it waits as `retry:` says before it connects again, and then twice as long each
        time, up to 10 s. Raises Unreachable after `patience_s` seconds without an event.
        """
        retry_s, failures, lost_at = _RETRY_S, 0, 0.0
        while True:
            reason, progressed = "the stream ended early", False
            try:
                with self.stream(path, last_id, **params) as events:
                    if events is None:
                        return
                    for event in events:
                        if failures:
                            self._notice("Connected again.")
                            failures = 0
                        if event.retry is not None:
                            retry_s = event.retry / 1000
                        last_id = event.id or last_id
                        if event.data:
                            progressed = progressed or event.event != PARTIAL
                            yield event
                if progressed:
                    continue
            except Unreachable as error:
                reason = str(error)
            except Rejected as error:
                # 503: the server is up again, but its views are not ready yet.
                if error.status < 500:
                    raise
                reason = str(error)
            now = time.monotonic()
            if not failures:
                lost_at = now
                self._notice("The connection was lost; trying to resume…")
            elif now - lost_at > self._patience_s:
                raise Unreachable(
                    f"Gave up after {now - lost_at:.0f} s without a connection: {reason}"
                )
            time.sleep(min(_LONGEST_RETRY_S, retry_s * 2**failures))
            failures = min(failures + 1, 10)

    @contextmanager
    def _sent(
        self,
        method: str,
        path: str,
        params: dict[str, Any],
        body: Any = None,
        headers: dict[str, str] | None = None,
        silence_s: float | None = None,
    ) -> Iterator[httpx2.Response]:
        endpoint = self._locate()
        sent: dict[bytes, bytes] = {k.encode(): v.encode() for k, v in (headers or {}).items()}
        if endpoint.token:
            sent[b"Authorization"] = f"Bearer {endpoint.token}".encode()
        timeout = _TIMEOUT if silence_s is None else httpx2.Timeout(silence_s, connect=10.0)
        given = {name: value for name, value in params.items() if value is not None}
        try:
            with self._client(endpoint.url).stream(
                method, endpoint.url + path, params=given, json=body, headers=sent, timeout=timeout
            ) as response:
                if response.is_error:
                    response.read()
                    raise Rejected(response.status_code, _sentence(response))
                yield response
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
            raise Unreachable(f"{endpoint.url!r} is not the URL of a server: {error}") from error
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise Unreachable(
                f"No server answers at {endpoint.url}. "
                "Start one with 'crewlog serve', or name another one with --url."
            ) from error
        except (httpx2.TransportError, httpx2.DecodingError, httpx2.StreamError) as error:
            reason = str(error) or type(error).__name__
            raise Unreachable(f"The connection to {endpoint.url} was lost: {reason}") from error

    def _client(self, url: str) -> httpx2.Client:
        # A proxy in the environment is for the internet, not for the server on this machine.
        outward = not _is_loopback(url)
        if outward not in self._clients:
            self._clients[outward] = httpx2.Client(trust_env=outward)
        return self._clients[outward]

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _json(response: httpx2.Response) -> Any:
    response.read()
    try:
        return response.json()
    except ValueError as error:
        raise Rejected(
            response.status_code, f"The program at {response.url} is not a crewlog server."
        ) from error


def _sentence(response: httpx2.Response) -> str:
    """The error as text for a person: `detail`, or its problems one after the other."""
    sentence = _detail(response)
    if response.status_code in (401, 403):
        sentence += (
            " Give the server's token with --token or CREWLOG_TOKEN, or its --data directory."
        )
    return sentence


def _detail(response: httpx2.Response) -> str:
    try:
        body = response.json()
    except ValueError:
        body = None
    detail = body.get("detail") if isinstance(body, dict) else None
    problems = body.get("errors") if isinstance(body, dict) else None
    if isinstance(problems, list) and problems:
        return "; ".join(map(told_problem, problems))
    if isinstance(detail, str):
        path = body.get("path")
        if path and detail.startswith(f"{path}: "):
            detail = option_of_path(path) + detail.removeprefix(path)
        return in_options(detail)
    if isinstance(detail, list):
        return "; ".join(map(told, detail))
    return f"The server answered with {response.status_code} {response.reason_phrase}."
