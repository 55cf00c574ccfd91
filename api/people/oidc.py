"""Signing in with an OpenID Connect provider, Google or any other, with the same code.

Authorization code flow with state, nonce and PKCE S256 (OpenID Connect Core 1.0 §3.1, RFC 7636).
The data between its two requests is in a signed cookie of its own, which lives ten minutes and is
sent to ``/auth`` only.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.requests import Request
from starlette.responses import Response

from domain.account.aggregate import Account, Role
from domain.account.commands import Identity, People, Person, is_email
from domain.account.email import folded
from domain.errors import CrewlogError
from domain.log import Context

logger = logging.getLogger("crewlog.people")

GOOGLE = "google"

HANDSHAKE_COOKIE = "crewlog_handshake"
_HANDSHAKE_S = 600
_TIMEOUT_S = 10.0


class SignInFailed(CrewlogError):
    """The sign-in failed. `reason` is one word for the sign-in page."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Provider:
    """An OpenID Connect provider. `discovery_url` ends in ``/.well-known/openid-configuration``."""

    name: str
    label: str
    discovery_url: str
    client_id: str
    client_secret: str

    @property
    def path(self) -> str:
        """The path where signing in with it begins."""
        return f"/auth/{GOOGLE}" if self.name == GOOGLE else f"/auth/oidc/{self.name}"


@dataclass(frozen=True, slots=True)
class Claimed:
    """A provider's statements about a person."""

    identity: Identity
    verified: bool
    """Whether the provider has verified the e-mail address."""


class OpenIdConnect:
    """The providers of this server. `key` signs the cookie. `public_url` is the server's address
    for people; if it is empty, it is taken from the request.
    """

    def __init__(self, providers: Sequence[Provider], key: bytes, public_url: str = "") -> None:
        self.providers: Mapping[str, Provider] = {p.name: p for p in providers}
        self._serializer = URLSafeTimedSerializer(key, salt="crewlog.handshake")
        self._public_url = public_url.rstrip("/")

    @cached_property
    def _oauth(self) -> Any:
        """Made at the first sign-in: a server without providers never loads the library."""
        from authlib.integrations.starlette_client import OAuth  # type: ignore[import-untyped]

        oauth = OAuth()
        for provider in self.providers.values():
            oauth.register(
                provider.name,
                server_metadata_url=provider.discovery_url,
                client_id=provider.client_id,
                client_secret=provider.client_secret,
                client_kwargs={
                    "scope": "openid email profile",
                    "code_challenge_method": "S256",
                    "timeout": _TIMEOUT_S,
                },
            )
        return oauth

    async def leave(self, request: Request, name: str) -> Response:
        """The redirect to the provider. Raises SignInFailed if it cannot be reached."""
        request.scope["session"] = {}
        back = f"{self._base(request)}{self.providers[name].path}/callback"
        try:
            response: Response = await self._client(name).authorize_redirect(request, back)
        except _faults() as error:
            raise _unavailable(name, error) from error
        self._remember(request, response)
        return response

    async def come_back(self, request: Request, name: str) -> Claimed:
        """The person whom the provider has confirmed. Raises SignInFailed for a callback that this
        browser did not begin, that was used before, or that the provider does not confirm.
        """
        request.scope["session"] = self._remembered(request)
        client = self._client(name)
        try:
            token = await client.authorize_access_token(request)
            claims = dict(token.get("userinfo") or {})
            if claims and "email" not in claims:
                metadata = await client.load_server_metadata()
                if "userinfo_endpoint" in metadata:
                    claims = {**await client.userinfo(token=token), **claims}
            return _claimed(name, claims)
        except _faults() as error:
            raise _refused(name, error) from error

    def forget(self, response: Response) -> None:
        """End the handshake, whatever its result."""
        response.delete_cookie(HANDSHAKE_COOKIE, path="/auth", httponly=True, samesite="lax")

    def _client(self, name: str) -> Any:
        return self._oauth.create_client(name)

    def _base(self, request: Request) -> str:
        return self._public_url or str(request.base_url).rstrip("/")

    def _remember(self, request: Request, response: Response) -> None:
        response.set_cookie(
            HANDSHAKE_COOKIE,
            str(self._serializer.dumps(request.scope["session"])),
            max_age=_HANDSHAKE_S,
            path="/auth",
            secure=self._base(request).startswith("https:"),
            httponly=True,
            samesite="lax",
        )

    def _remembered(self, request: Request) -> dict[str, Any]:
        try:
            content = self._serializer.loads(
                request.cookies.get(HANDSHAKE_COOKIE, ""), max_age=_HANDSHAKE_S
            )
        except BadData:
            return {}
        return content if isinstance(content, dict) else {}


def _faults() -> tuple[type[Exception], ...]:
    """The errors of a provider, real or fake."""
    import httpx2  # at the first sign-in: a server that starts needs no client
    from authlib.integrations.base_client import OAuthError  # type: ignore[import-untyped]
    from joserfc.errors import JoseError

    # JSON of another shape than the libraries expect: a list, null, or a number for an address.
    shapes = (ArithmeticError, AttributeError, LookupError, TypeError)
    own = (httpx2.HTTPError, httpx2.InvalidURL, RuntimeError, ValueError)
    return OAuthError, JoseError, *own, *shapes


def _claimed(provider: str, claims: Mapping[str, Any]) -> Claimed:
    email = str(claims.get("email") or "").strip()
    for claim in ("iss", "sub", "name", "picture"):
        str(claims.get(claim)).encode()  # a lone surrogate is a ValueError: no event can carry it
    picture = claims.get("picture")
    identity = Identity(
        issuer=str(claims["iss"]),
        subject=str(claims["sub"]),
        provider=provider,
        email=email,
        name=str(claims.get("name") or "")[:200],
        avatar_url=picture if isinstance(picture, str) and picture.startswith("https:") else None,
    )
    return Claimed(identity, bool(email) and _is_true(claims.get("email_verified")))


def _is_true(claim: object) -> bool:
    """Some providers write a boolean as text."""
    return claim is True or claim == "true"


def _unavailable(name: str, error: Exception) -> SignInFailed:
    logger.warning("signing in with %s cannot begin: %s", name, type(error).__name__)
    return SignInFailed("unavailable", "The provider cannot be reached at the moment.")


def _refused(name: str, error: Exception) -> SignInFailed:
    logger.warning("signing in with %s failed: %s", name, getattr(error, "error", error))
    return SignInFailed("failed", "The provider did not confirm the sign-in. Try again.")


async def account_of(
    people: People, claimed: Claimed, allowed: Collection[str], context: Context
) -> Person:
    """The account of a person who came back from a provider, updated with the provider's data.

    A known identity belongs to its account. An unknown identity with a verified address is linked
    to the account with that address, by an event. If there is none, it gets a new account, never an
    administrator's, if the address or its domain (``@example.org``, or ``*`` for any) is `allowed`.
    Otherwise raises SignInFailed.
    """
    identity = claimed.identity
    directory = people.directory
    known = directory.by_identity(identity.issuer, identity.subject)
    if known is None:
        if not claimed.verified:
            raise SignInFailed("unverified", "The provider has not verified the e-mail address.")
        if not is_email(identity.email):
            raise SignInFailed("unusable", "The provider's e-mail address is not valid.")
        known = directory.by_email(identity.email)
        if known is None:
            return await _newcomer(people, identity, allowed, context)
        _require_enabled(known)
        await people.link(known.id, identity, _as(known, context))
    _require_enabled(known)
    if not claimed.verified:
        return Person(known, known.position)
    return await people.refresh(known.id, identity, _as(known, context))


async def _newcomer(
    people: People, identity: Identity, allowed: Collection[str], context: Context
) -> Person:
    address = folded(identity.email)
    domain = "@" + address.rpartition("@")[2]
    if not {address, domain, "*"} & set(map(folded, allowed)):
        raise SignInFailed("no_account", "There is no account with this e-mail address.")
    return await people.register(
        identity.email, identity.name, Role.USER, context, identity=identity
    )


def _as(account: Account, context: Context) -> Context:
    return Context(actor=f"user:{account.id}", request_id=context.request_id)


def _require_enabled(account: Account) -> None:
    if account.disabled:
        raise SignInFailed("disabled", "This account is disabled.")
