"""Commands on accounts, and a directory of all accounts in memory.

One process owns the log, so only its own commands change accounts. The directory is updated with
each append, before the command returns, so it never waits for a view.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from uuid import uuid4

from domain.account.aggregate import (
    Account,
    EmailClaimed,
    EmailReleased,
    IdentityClaimed,
    Role,
    Token,
    TokenIssued,
    TokenNotFound,
    UserIdentityLinked,
    UserNotFound,
    UserPasswordSet,
    UserProfileRefreshed,
    UserRegistered,
    email_stream,
    evolve,
    identity_stream,
    stream_of,
    user_stream,
)
from domain.account.email import folded, has_domain
from domain.clock import Clock, format_time, system_clock
from domain.decide import decide as decided
from domain.draft import Draft
from domain.errors import BadInput, WrongState
from domain.event import Event
from domain.log import Context, EventLog, Recorded

LONGEST_EMAIL = 254
"""Characters of an address (RFC 5321 section 4.5.3.1)."""

_EMAIL = re.compile(r"[^@\s\x00-\x20\ud800-\udfff]{1,64}@[^@\s\x00-\x20\ud800-\udfff]+")

Decide = Callable[[Account], list[Event]]


class EmailTaken(WrongState):
    def __init__(self) -> None:
        super().__init__("An account with this e-mail address exists already.")


class IdentityTaken(WrongState):
    def __init__(self) -> None:
        super().__init__("This identity is linked to another account.")


@dataclass(frozen=True, slots=True)
class Identity:
    """A person as an OpenID Connect provider knows them. The provider has verified the address."""

    issuer: str
    subject: str
    provider: str
    email: str
    name: str
    avatar_url: str | None


@dataclass(frozen=True, slots=True)
class Person:
    """An account after a command, and the position of its newest event."""

    account: Account
    position: int


class Directory:
    """Every account, by id, address, identity and token. Each read is a look-up in a dictionary."""

    def __init__(self) -> None:
        self.loaded = False
        """False until `People.load` has finished."""
        self.changes = 0
        """Grows with each change of any account."""
        self._accounts: dict[str, Account] = {}
        self._emails: dict[str, str] = {}
        self._identities: dict[tuple[str, str], str] = {}
        self._tokens: dict[str, tuple[str, str]] = {}
        self._token_names: dict[str, tuple[str, str]] = {}

    @property
    def empty(self) -> bool:
        return not self._accounts

    def everybody(self) -> list[Account]:
        """Every account, in the order of registration."""
        return list(self._accounts.values())

    def find(self, user_id: str) -> Account | None:
        return self._accounts.get(user_id)

    def get(self, user_id: str) -> Account:
        """The account. Raises UserNotFound."""
        account = self._accounts.get(user_id)
        if account is None:
            raise UserNotFound(user_id)
        return account

    def by_email(self, email: str) -> Account | None:
        """The account with an address; ASCII case does not count. None if there is none."""
        user_id = self._emails.get(folded(email))
        return None if user_id is None else self._accounts[user_id]

    def by_identity(self, issuer: str, subject: str) -> Account | None:
        user_id = self._identities.get((issuer, subject))
        return None if user_id is None else self._accounts[user_id]

    def by_token_hash(self, digest: str) -> tuple[Account, Token] | None:
        """The account and the token with this SHA-256; None if there is none or it was revoked.

        The caller must check whether the token has expired, because the caller knows the time.
        """
        found = self._tokens.get(digest)
        if found is None:
            return None
        account = self._accounts[found[0]]
        token = account.tokens[found[1]]
        return (account, token) if self.stands(token) else None

    def stands(self, token: Token) -> bool:
        """Whether neither the token's issuer, nor the issuer of that, and so on, was revoked."""
        while token.issuer is not None:
            user_id, _ = self._token_names.get(token.issuer, ("", ""))
            holder = self._accounts.get(user_id)
            if holder is None or token.issuer not in holder.tokens:
                return False
            token = holder.tokens[token.issuer]
        return True

    def fallen(self) -> list[tuple[str, str]]:
        """Account and id of each token that still exists but whose issuer was revoked."""
        return [
            (account.id, token.id)
            for account in self._accounts.values()
            for token in account.tokens.values()
            if not self.stands(token)
        ]

    def name_of(self, who: str) -> str:
        """The name to show for an actor or an owner: a person's name or address. Other actors
        (``operator``, ``system``, ``schedule:<id>``) are returned unchanged.
        """
        kind, _, id = who.partition(":")
        if kind == "user" and id in self._accounts:
            return self._accounts[id].shown_name
        if kind == "token" and id in self._token_names:
            user_id, name = self._token_names[id]
            return f"{self._accounts[user_id].shown_name} (token {name})"
        return who

    def apply(self, recorded: Recorded) -> None:
        """Fold one event in. Events that are not about an account change nothing."""
        if not recorded.subject.startswith("user-"):
            return
        user_id = recorded.subject.removeprefix("user-")
        before = self._accounts.get(user_id) or Account(user_id)
        self._put(before, evolve(before, recorded))

    def _put(self, before: Account, account: Account) -> None:
        was, now = folded(before.email), folded(account.email)
        if was != now:
            self._emails.pop(was, None)
            self._emails[now] = account.id
        for identity in account.identities - before.identities:
            self._identities[identity] = account.id
        for gone in before.tokens.keys() - account.tokens.keys():
            self._tokens.pop(before.tokens[gone].hash, None)
        for made in account.tokens.keys() - before.tokens.keys():
            token = account.tokens[made]
            self._tokens[token.hash] = (account.id, token.id)
            self._token_names[token.id] = (account.id, token.name)
        self._accounts[account.id] = account
        self.changes += 1


class People:
    """The accounts of one log. Commands run one after the other. There are few of them, and so each
    decides on exactly what is in the log.
    """

    def __init__(self, log: EventLog, clock: Clock = system_clock) -> None:
        self._log = log
        self._clock = clock
        self._turn = asyncio.Lock()
        self.directory = Directory()

    def load(self, user_ids: Iterable[str]) -> None:
        """Read these accounts from the log. Blocks on the disk."""
        for user_id in user_ids:
            for page in self._log.blocking.pages(subject=user_stream(user_id)):
                for recorded in page:
                    self.directory.apply(recorded)
        self.directory.loaded = True

    async def register(
        self,
        email: str,
        name: str,
        role: Role,
        context: Context,
        *,
        credential: str | None = None,
        identity: Identity | None = None,
    ) -> Person:
        """Make an account. Raises BadInput for a wrong address, EmailTaken, IdentityTaken."""
        address = email_of(email)
        user_id = str(uuid4())
        registered = UserRegistered(
            email=address,
            name=name.strip(),
            role=role.value,
            provider=identity.provider if identity is not None else "local",
            avatar_url=identity.avatar_url if identity is not None else None,
        )
        events: list[Event] = [registered]
        if credential is not None:
            events.append(UserPasswordSet(credential=credential))

        def plan(_: Account) -> list[Event]:
            self._require_free(address, identity)
            return events if identity is None else [*events, _linked(identity)]

        return await self._run(Account(user_id), plan, context)

    async def execute(self, user_id: str, decide: Decide, context: Context) -> Person:
        """Let an account decide and append its events. Raises UserNotFound, and what
        `decide` raises.
        """
        return await self._run(user_id, decide, context)

    async def link(self, user_id: str, identity: Identity, context: Context) -> Person:
        """Link an identity to this account. Raises IdentityTaken if another account has it."""

        def plan(account: Account) -> list[Event]:
            holder = self.directory.by_identity(identity.issuer, identity.subject)
            if holder is not None and holder.id != account.id:
                raise IdentityTaken
            return [] if holder is not None else [_linked(identity)]

        return await self._run(user_id, plan, context)

    async def refresh(self, user_id: str, identity: Identity, context: Context) -> Person:
        """Take over the provider's present data about the person. The address stays as it was if
        the new one is invalid or belongs to another account.
        """

        def plan(now: Account) -> list[Event]:
            holder = self.directory.by_email(identity.email)
            free = holder is None or holder.id == now.id
            email = identity.email if free and is_email(identity.email) else now.email
            name = identity.name or now.name
            if (email, name, identity.avatar_url) == (now.email, now.name, now.avatar_url):
                return []
            return [UserProfileRefreshed(email=email, name=name, avatar_url=identity.avatar_url)]

        return await self._run(user_id, plan, context)

    async def issue_token(
        self, user_id: str, issued: TokenIssued, context: Context
    ) -> tuple[Person, Token]:
        """Add a token. Raises WrongState if the account is disabled or has too many tokens."""
        at = format_time(self._clock())
        person = await self.execute(user_id, lambda a: a.issue_token(issued, at), context)
        return person, person.account.tokens[issued.token_id]

    async def revoke_token(self, user_id: str, token_id: str, context: Context) -> Person:
        """Revoke a token and every token that it issued, whoever owns them. Raises
        TokenNotFound.
        """
        person = await self.execute(user_id, lambda a: a.revoke_token(token_id), context)
        # They are invalid already. These events record it, and free their places.
        for holder, fallen in self.directory.fallen():
            with suppress(TokenNotFound):
                await self.execute(holder, partial(Account.revoke_token, token_id=fallen), context)
        return person

    def _require_free(self, email: str, identity: Identity | None) -> None:
        if self.directory.by_email(email) is not None:
            raise EmailTaken
        if identity is not None and self.directory.by_identity(identity.issuer, identity.subject):
            raise IdentityTaken

    async def _run(self, whose: str | Account, decide: Decide, context: Context) -> Person:
        # Shielded: if the client disconnects, the directory must still follow the log.
        return await asyncio.shield(self._in_turn(whose, decide, context))

    async def _in_turn(self, whose: str | Account, decide: Decide, context: Context) -> Person:
        def decision(draft: Draft) -> Account:
            account = whose if isinstance(whose, Account) else self.directory.get(whose)
            events = decide(account)
            for event in events:
                stream = stream_of(account.id, event)
                draft.add(stream, account.versions.get(stream, 0), [event])
            for stream, claim in _claims(account, events):
                last = self._log.blocking.last_of_stream(stream)
                # A stream that was released may be claimed again. The directory has checked that it
                # is free.
                draft.add(stream, last.version if last is not None else 0, [claim])
            return account

        async with self._turn:
            account, recorded = await decided(self._log, decision, context, self._clock)
            if not recorded:
                return Person(account, account.position)
            for one in recorded:
                self.directory.apply(one)
            return Person(self.directory.get(account.id), recorded[-1].position)


def _claims(account: Account, events: list[Event]) -> Iterator[tuple[str, Event]]:
    """The claims and releases that these events need, each with its stream."""
    for event in events:
        match event:
            case UserRegistered():
                yield email_stream(event.email), EmailClaimed(user=account.id)
            case UserIdentityLinked():
                stream = identity_stream(event.issuer, event.subject)
                yield stream, IdentityClaimed(user=account.id)
            case UserProfileRefreshed() if folded(event.email) != folded(account.email):
                yield email_stream(event.email), EmailClaimed(user=account.id)
                yield email_stream(account.email), EmailReleased(user=account.id)


def _linked(identity: Identity) -> UserIdentityLinked:
    return UserIdentityLinked(
        issuer=identity.issuer,
        subject=identity.subject,
        email=identity.email,
        provider=identity.provider,
    )


def email_of(text: str) -> str:
    """The address in a text. Raises BadInput if it cannot be an address."""
    address = text.strip()
    if not is_email(address):
        raise BadInput("email", "This is not an e-mail address.")
    return address


def is_email(text: str) -> bool:
    """Whether the text can be an address. Whether mail arrives there is not checked."""
    return len(text) <= LONGEST_EMAIL and _EMAIL.fullmatch(text) is not None and has_domain(text)
