"""The account of a person: its events, its state folded from them, and what that state allows.

Passwords are not in the log, because the log is kept for ever and exported. An event names a
credential; a private file holds its hash. Session ids and the hashes of tokens may be in the log:
they come from 256 random bits, so nobody can guess them.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from domain.account.email import folded, same_but_for_unicode
from domain.errors import NotFound, WrongState
from domain.event import Event
from domain.fact import Fact

if TYPE_CHECKING:
    from domain.log import Recorded

MOST_SESSIONS = 50
"""Open sessions of one person. One more sign-in ends the oldest."""
MOST_TOKENS = 100
"""Tokens of one person that are neither revoked nor expired."""


class Role(StrEnum):
    """What a person may be."""

    USER = "user"
    """May see and change their own things."""
    ADMIN = "admin"
    """May see and change everything, and manage accounts."""


class UserNotFound(NotFound):
    def __init__(self, user_id: str) -> None:
        super().__init__("User not found")
        self.user_id = user_id


class TokenNotFound(NotFound):
    def __init__(self, token_id: str) -> None:
        super().__init__("Token not found")
        self.token_id = token_id


class UserRegistered(Event, type="user.registered"):
    """An account was made. The same append claims its e-mail address."""

    email: str
    name: str
    role: Literal["user", "admin"]
    provider: str
    """``local``, ``google``, or the name of another OpenID Connect provider."""
    avatar_url: str | None = None


class UserPasswordSet(Event, type="user.password_set"):
    """The password is now the one of this credential; every earlier one is invalid."""

    credential: str


class UserRoleChanged(Event, type="user.role_changed"):
    role: Literal["user", "admin"]


class UserRenamed(Event, type="user.renamed"):
    name: str


class UserDisabled(Event, type="user.disabled"):
    """Nobody can act as this account until it is enabled."""


class UserEnabled(Event, type="user.enabled"):
    """The account can be used again. Its earlier sessions stay ended."""


class UserIdentityLinked(Event, type="user.identity_linked"):
    """This account is linked to a subject of an OpenID Connect issuer, which says that the address
    is verified.
    """

    issuer: str
    subject: str
    email: str
    provider: str


class UserProfileRefreshed(Event, type="user.profile_refreshed"):
    """The provider's data about the person has changed."""

    email: str
    name: str
    avatar_url: str | None


class UserSignedIn(Event, type="user.signed_in"):
    """A session began. In `user-<id>/sessions`."""

    session: str
    """SHA-256 of the value in the cookie, cut to 32 digits: it cannot be used to sign in."""
    how: str
    """``password``, or the name of the provider."""
    address: str | None


class UserSignInRefused(Event, type="user.sign_in_refused"):
    """There were too many wrong passwords in a row. Recorded once, until the attempts stop.

    In `user-<id>/sessions`.
    """

    failures: int
    wait_ms: int
    """How long the next attempt is refused."""
    address: str | None


class UserSignedOut(Event, type="user.signed_out"):
    session: str


class UserSignedOutEverywhere(Event, type="user.signed_out_everywhere"):
    """Every session ended, except the one that the event names."""

    kept: str | None


class TokenIssued(Event, type="token.issued"):
    """An API token was made. It was shown once. In `user-<id>/tokens`."""

    token_id: str
    name: str
    scopes: list[str]
    hash: str
    """SHA-256 of the token, in hex."""
    expires_at: str | None
    issuer: str | None = None
    """The token that issued this one and whose end ends it; null if a person issued it."""


class TokenRevoked(Event, type="token.revoked"):
    token_id: str


class EmailClaimed(Event, type="email.claimed"):
    """The address belongs to one account. The version of `email-<hash>` allows only one claim."""

    user: str


class EmailReleased(Event, type="email.released"):
    """The account has another address now, so this one is free."""

    user: str


class IdentityClaimed(Event, type="identity.claimed"):
    """The subject of an issuer belongs to one account. In `identity-<hash>`."""

    user: str


def user_stream(user_id: str) -> str:
    return f"user-{user_id}"


def sessions_stream(user_id: str) -> str:
    return f"user-{user_id}/sessions"


def tokens_stream(user_id: str) -> str:
    return f"user-{user_id}/tokens"


def email_stream(email: str) -> str:
    """The stream of an address. The name is a hash, because an address may hold characters that a
    stream name must not.

    Earlier versions also folded the case of letters beyond ASCII. Their claims on such addresses
    are in streams that nothing reads any more; the accounts themselves say who has an address.
    """
    return "email-" + hashlib.sha256(folded(email).encode()).hexdigest()


def identity_stream(issuer: str, subject: str) -> str:
    return "identity-" + hashlib.sha256(f"{issuer}\0{subject}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Session:
    """A session of a person. Times are as in the log."""

    id: str
    how: str
    address: str | None
    since: str


@dataclass(frozen=True, slots=True)
class Token:
    """An API token of a person. Only its hash is known."""

    id: str
    name: str
    scopes: frozenset[str]
    hash: str
    created_at: str
    expires_at: str | None
    issuer: str | None = None

    def good_at(self, at: str) -> bool:
        """Whether it has not yet expired at a stored time."""
        return self.expires_at is None or at < self.expires_at


@dataclass(frozen=True, slots=True)
class Account:
    """The state of one account, folded from its streams. Commands return events and change
    nothing.
    """

    id: str
    versions: Mapping[str, int] = field(default_factory=dict)
    """The version of each of its streams."""
    position: int = 0
    email: str = ""
    name: str = ""
    role: Role = Role.USER
    provider: str = "local"
    avatar_url: str | None = None
    created_at: str = ""
    disabled: bool = False
    credential: str | None = None
    identities: frozenset[tuple[str, str]] = frozenset()
    """Issuer and subject of each linked identity."""
    separated: tuple[str, ...] = ()
    """Addresses that earlier versions wrongly took for this account's. They no longer open it."""
    sessions: Mapping[str, Session] = field(default_factory=dict)
    tokens: Mapping[str, Token] = field(default_factory=dict)
    """Those that are not revoked, by id."""

    @property
    def exists(self) -> bool:
        return self.version > 0

    @property
    def version(self) -> int:
        """The version of the account's own stream, without the sub-streams of sessions and
        tokens.
        """
        return self.versions.get(user_stream(self.id), 0)

    @property
    def admin(self) -> bool:
        return self.role is Role.ADMIN

    @property
    def shown_name(self) -> str:
        """The name that people read: the account's name, or its address if it has no name."""
        return self.name or self.email

    def is_separated_from(self, address: str) -> bool:
        """Whether an earlier version wrongly took this address for the account's."""
        return folded(address) in map(folded, self.separated)

    def set_password(self, credential: str, keep_session: str | None) -> list[Event]:
        """Set a new password. Every session ends except the one that asked for it."""
        return [UserPasswordSet(credential=credential), *self.sign_out_everywhere(keep_session)]

    def change_role(self, role: Role) -> list[Event]:
        return [] if role is self.role else [UserRoleChanged(role=role.value)]

    def rename(self, name: str) -> list[Event]:
        return [] if name == self.name else [UserRenamed(name=name)]

    def disable(self) -> list[Event]:
        """Disable the account at once. Its sessions end for good."""
        return [] if self.disabled else [UserDisabled(), *self.sign_out_everywhere()]

    def enable(self) -> list[Event]:
        return [UserEnabled()] if self.disabled else []

    def sign_in(self, session: str, how: str, address: str | None) -> list[Event]:
        """Begin a session. Raises WrongState if the account is disabled."""
        self._require_enabled()
        oldest = list(self.sessions)[: max(0, len(self.sessions) - MOST_SESSIONS + 1)]
        ended: list[Event] = [UserSignedOut(session=old) for old in oldest]
        return [*ended, UserSignedIn(session=session, how=how, address=address)]

    def sign_out(self, session: str) -> list[Event]:
        return [UserSignedOut(session=session)] if session in self.sessions else []

    def sign_out_everywhere(self, kept: str | None = None) -> list[Event]:
        if not self.sessions.keys() - {kept}:
            return []
        return [UserSignedOutEverywhere(kept=kept if kept in self.sessions else None)]

    def issue_token(self, issued: TokenIssued, at: str) -> list[Event]:
        """Raises WrongState if the account is disabled, or has MOST_TOKENS tokens that are good at
        this time.
        """
        self._require_enabled()
        if sum(token.good_at(at) for token in self.tokens.values()) >= MOST_TOKENS:
            raise WrongState(f"The account has {MOST_TOKENS} tokens already: revoke one first.")
        return [issued]

    def revoke_token(self, token_id: str) -> list[Event]:
        """Raises TokenNotFound if the account has no such token, or it was revoked before."""
        if token_id not in self.tokens:
            raise TokenNotFound(token_id)
        return [TokenRevoked(token_id=token_id)]

    def _require_enabled(self) -> None:
        if self.disabled:
            raise WrongState("The account is disabled.")


def stream_of(user_id: str, event: Event) -> str:
    """Which of the account's streams an event belongs to."""
    match event:
        case UserSignedIn() | UserSignInRefused() | UserSignedOut() | UserSignedOutEverywhere():
            return sessions_stream(user_id)
        case TokenIssued() | TokenRevoked():
            return tokens_stream(user_id)
        case _:
            return user_stream(user_id)


def evolve(account: Account, recorded: "Recorded") -> Account:
    """Fold one event about the account. Pure. An unknown event only moves the version."""
    versions = {**account.versions, recorded.stream: recorded.version}
    account = replace(account, versions=versions, position=recorded.position)
    try:
        event = recorded.event()
    except KeyError:
        return account
    if isinstance(event, UserProfileRefreshed) and account.is_separated_from(event.email):
        return account
    account = replace(account, **changes_by(recorded))
    match event:
        case UserPasswordSet():
            return replace(account, credential=event.credential)
        case UserIdentityLinked():
            if same_but_for_unicode(event.email, account.email):
                # An earlier version compared addresses by Unicode's case folding: this is another
                # person.
                return replace(account, separated=(*account.separated, event.email))
            linked = account.identities | {(event.issuer, event.subject)}
            return replace(account, identities=linked)
        case _:
            return _evolve_access(account, event, recorded.at)


def _fields(*names: str) -> Callable[[Fact], dict[str, Any]]:
    return lambda fact: {name: fact.data[name] for name in names}


_TRANSITIONS: dict[str, Callable[[Fact], dict[str, Any]]] = {
    UserRegistered.type: lambda fact: {
        **_fields("email", "name", "provider", "avatar_url")(fact),
        "role": Role(fact.data["role"]),
        "created_at": fact.at,
    },
    UserRoleChanged.type: lambda fact: {"role": Role(fact.data["role"])},
    UserRenamed.type: _fields("name"),
    UserDisabled.type: lambda _: {"disabled": True},
    UserEnabled.type: lambda _: {"disabled": False},
    UserProfileRefreshed.type: _fields("email", "name", "avatar_url"),
}


def changes_by(fact: Fact) -> dict[str, Any]:
    """What an event changes of a person's data and rights, by the field names of `Account`."""
    transition = _TRANSITIONS.get(fact.type)
    return {} if transition is None else transition(fact)


def _evolve_access(account: Account, event: Event, at: str) -> Account:
    """Fold an event about sessions or tokens."""
    match event:
        case UserSignedIn():
            begun = Session(event.session, event.how, event.address, at)
            return replace(account, sessions={**account.sessions, begun.id: begun})
        case UserSignedOut():
            left = {id: s for id, s in account.sessions.items() if id != event.session}
            return replace(account, sessions=left)
        case UserSignedOutEverywhere():
            left = {id: s for id, s in account.sessions.items() if id == event.kept}
            return replace(account, sessions=left)
        case TokenIssued():
            token = Token(
                id=event.token_id,
                name=event.name,
                scopes=frozenset(event.scopes),
                hash=event.hash,
                created_at=at,
                expires_at=event.expires_at,
                issuer=event.issuer,
            )
            return replace(account, tokens={**account.tokens, token.id: token})
        case TokenRevoked():
            tokens = {id: t for id, t in account.tokens.items() if id != event.token_id}
            return replace(account, tokens=tokens)
        case _:
            return account
