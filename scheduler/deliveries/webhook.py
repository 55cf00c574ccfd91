"""Webhooks: an event as a POST request to an address that a person gave.

The address may be anybody's, so requests are careful: HTTPS only; only to addresses of the open
internet, where exactly the address that was checked is called; limited in time, and without
following redirects or reading the answer's body.
"""

import asyncio
import hmac
import ipaddress
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from time import time
from typing import Any
from urllib.parse import urlsplit

from domain.log import Recorded
from scheduler.deliveries.contract import Answer, Arrived, Missed, Refused

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_TIMEOUT_S = 10.0
_CONNECT_S = 5.0
_LONGEST_ASKED = timedelta(days=1)
_LATER = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Hook:
    """A receiver: its URL, and the secret that signs what is sent to it."""

    url: str
    secret: str = ""


class NotAllowed(Exception):
    """The address must not be called."""


class Webhooks:
    """The channel ``webhook``. It sends the event as it is in the log.

    `allowed` are networks that may be called although they are not of the open internet. There,
    plain HTTP is allowed too.
    """

    def __init__(
        self,
        hooks: Callable[[str], Hook | None] | Mapping[str, Hook],
        *,
        allowed: Sequence[Network] = (),
        timeout_s: float = _TIMEOUT_S,
        trusted: ssl.SSLContext | None = None,
    ) -> None:
        """`trusted` decides which certificates are accepted; None: those that the machine
        trusts.
        """
        self._hook = hooks if callable(hooks) else hooks.get
        self._allowed = tuple(allowed)
        self._timeout_s = timeout_s
        self._trusted = trusted

    async def send(self, receiver: str, event: Recorded) -> Answer:
        hook = self._hook(receiver)
        if hook is None:
            return Refused(f"There is no webhook called {receiver!r}.")
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._post(hook, event)
        except TimeoutError:
            return Missed(f"It gave no answer within {self._timeout_s:g} seconds.")
        except NotAllowed as error:
            return Refused(str(error))
        except OSError:
            return Missed("Its address was not found.")

    async def _post(self, hook: Hook, event: Recorded) -> Answer:
        parts = urlsplit(hook.url)
        host, port = parts.hostname or "", f":{parts.port}" if parts.port else ""
        headers = {
            **_signed(hook.secret, event.id, event.wire),
            "Host": f"[{host}]{port}" if ":" in host else f"{host}{port}",
            "Content-Type": "application/json",
            "Idempotency-Key": event.id,
            "User-Agent": "crewlog",
        }
        for address in await self._addresses(parts.scheme, host, parts.port):
            answer = await self._ask(hook.url, host, address, headers, event.wire)
            if answer is not None:
                return answer
        return Missed("It cannot be reached.")

    async def _ask(
        self, url: str, host: str, address: str, headers: dict[str, str], body: bytes
    ) -> Answer | None:
        """None if nothing answers at this address."""
        import httpx2  # a server that sends nothing never loads it

        called = httpx2.URL(url).copy_with(host=address)
        client = httpx2.AsyncClient(
            timeout=httpx2.Timeout(self._timeout_s, connect=_CONNECT_S),
            follow_redirects=False,
            trust_env=False,
            verify=True if self._trusted is None else self._trusted,
        )
        # The checked address is called; the certificate is checked for the host's name.
        named = {"sni_hostname": host}
        post = client.stream("POST", called, content=body, headers=headers, extensions=named)
        try:
            async with client, post as response:
                # The answer's body is not needed, so it is not read.
                return _answer(response.status_code, response.headers.get("retry-after"))
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            return None
        except httpx2.TimeoutException:
            return Missed("It was silent for too long.")
        except httpx2.TransportError:
            return Missed("Its answer is not HTTP.")

    async def _addresses(self, scheme: str, host: str, port: int | None) -> list[str]:
        """The host's addresses. Raises NotAllowed if one of them is not of the open internet."""
        if scheme not in ("http", "https") or not host:
            raise NotAllowed("Its address is not an https address.")
        loop = asyncio.get_running_loop()
        found: Any = await loop.getaddrinfo(host, port or 443, type=socket.SOCK_STREAM)
        addresses = [str(entry[4][0]) for entry in found]
        for address in addresses:
            ours = self._is_allowed(address)
            if not ours and not _open(address):
                raise NotAllowed("Its address is not of the open internet.")
            if scheme == "http" and not ours:
                raise NotAllowed("Its address is not an https address.")
        return addresses

    def _is_allowed(self, address: str) -> bool:
        return any(ipaddress.ip_address(address) in network for network in self._allowed)


def _open(text: str) -> bool:
    address = ipaddress.ip_address(text)
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is not None:
        address = mapped
    return address.is_global and not address.is_multicast


def _signed(secret: str, key: str, body: bytes) -> dict[str, str]:
    """The headers of the Standard Webhooks specification: HMAC-SHA256 over id, time and body."""
    at = str(int(time()))
    headers = {"webhook-id": key, "webhook-timestamp": at}
    if secret:
        signed = b"%s.%s.%s" % (key.encode(), at.encode(), body)
        digest = hmac.digest(secret.encode(), signed, "sha256")
        headers["webhook-signature"] = f"v1,{b64encode(digest).decode()}"
    return headers


def _answer(status: int, retry_after: str | None) -> Answer:
    if 200 <= status < 300:
        return Arrived(status)
    if status >= 500 or status in _LATER or status < 200:
        wait = timedelta(0)
        if retry_after is not None and retry_after.isdecimal() and len(retry_after) < 9:
            wait = min(timedelta(seconds=int(retry_after)), _LONGEST_ASKED)
        return Missed(f"It answered {status}.", status, wait)
    if 300 <= status < 400:
        return Refused(f"It answered {status}; redirects are not followed.", status)
    return Refused(f"It answered {status}.", status)
