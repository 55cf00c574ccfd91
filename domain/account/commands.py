"""Commands on accounts, and everybody in memory: who has which address, identity and token.

One process owns the log, so what its own commands append is all that can change an account: the
directory is brought up with each append, before the command returns, and never waits for a view.
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
from domain.account.email import folded
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
        super().__init__("There is an account with this e-mail address already.")


class IdentityTaken(WrongState):
    def __init__(self) -> None:
        super().__init__("This identity belongs to another account.")


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody as an OpenID Connect provider knows them. It says that the address is theirs."""

    issuer: str
    subject: str
    provider: str
    email: str
    name: str
    avatar_url: str | None


@dataclass(frozen=True, slots=True)
class Person:
    """The account after a command, and the position of the newest event about it."""

    account: Account
    position: int


class Directory:
    """Every account, by id, address, identity and token. Reads are a look into a dictionary."""

    def __init__(self) -> None:
        self.loaded = False
        """False until `load` of `People` is through."""
        self.changes = 0
        """Goes up with each change of any account."""
        self._accounts: dict[str, Account] = {}
        self._emails: dict[str, str] = {}
        self._identities: dict[tuple[str, str], str] = {}
        self._tokens: dict[str, tuple[str, str]] = {}
        self._token_names: dict[str, tuple[str, str]] = {}

    @property
    def empty(self) -> bool:
        return not self._accounts

    def everybody(self) -> list[Account]:
        """Every account, in the order in which they were registered."""
        return list(self._accounts.values())

    def find(self, user_id: str) -> Account | None:
        return self._accounts.get(user_id)

    def get(self, user_id: str) -> Account:
        """UserNotFound when there is none."""
        account = self._accounts.get(user_id)
        if account is None:
            raise UserNotFound(user_id)
        return account

    def by_email(self, email: str) -> Account | None:
        """The account with an address, in whatever ASCII case it is written."""
        user_id = self._emails.get(folded(email))
        return None if user_id is None else self._accounts[user_id]

    def by_identity(self, issuer: str, subject: str) -> Account | None:
        user_id = self._identities.get((issuer, subject))
        return None if user_id is None else self._accounts[user_id]

    def by_token_hash(self, digest: str) -> tuple[Account, Token] | None:
        """The account and the token with this SHA-256; None for one that was revoked.

        Whether it has expired is for the caller, who knows the time.
        """
        found = self._tokens.get(digest)
        if found is None:
            return None
        account = self._accounts[found[0]]
        token = account.tokens[found[1]]
        return (account, token) if self.stands(token) else None

    def stands(self, token: Token) -> bool:
        """Whether the token that issued it, and the one that issued that, were not revoked."""
        while token.issuer is not None:
            user_id, _ = self._token_names.get(token.issuer, ("", ""))
            holder = self._accounts.get(user_id)
            if holder is None or token.issuer not in holder.tokens:
                return False
            token = holder.tokens[token.issuer]
        return True

    def fallen(self) -> list[tuple[str, str]]:
        """Account and id of each token that is held and whose issuer was revoked."""
        return [
            (account.id, token.id)
            for account in self._accounts.values()
            for token in account.tokens.values()
            if not self.stands(token)
        ]

    def name_of(self, who: str) -> str:
        """What people read for an actor or an owner: a person's name or address; other actors
        (``operator``, ``system``, ``schedule:<id>``) are given back as they are.
        """
        kind, _, id = who.partition(":")
        if kind == "user" and id in self._accounts:
            return self._accounts[id].shown_name
        if kind == "token" and id in self._token_names:
            user_id, name = self._token_names[id]
            return f"{self._accounts[user_id].shown_name} (token {name})"
        return who

    def apply(self, recorded: Recorded) -> None:
        """Take in one event; those that are not about an account are passed over."""
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
    """The accounts of one log. Commands run one after the other: they are few, and so what each
    decides on is what is in the log.
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
        """Make an account. BadInput for what is no address, EmailTaken, IdentityTaken."""
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
        """Let an account decide and append its events. UserNotFound, and what `decide` raises."""
        return await self._run(user_id, decide, context)

    async def link(self, user_id: str, identity: Identity, context: Context) -> Person:
        """Make the identity one of this account's. IdentityTaken when it is another's."""

        def plan(account: Account) -> list[Event]:
            holder = self.directory.by_identity(identity.issuer, identity.subject)
            if holder is not None and holder.id != account.id:
                raise IdentityTaken
            return [] if holder is not None else [_linked(identity)]

        return await self._run(user_id, plan, context)

    async def refresh(self, user_id: str, identity: Identity, context: Context) -> Person:
        """Take over what the provider says of the person today. An address that is another's, or
        none, is left as it was.
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
        """Add a token. WrongState when the account is disabled or has too many."""
        at = format_time(self._clock())
        person = await self.execute(user_id, lambda a: a.issue_token(issued, at), context)
        return person, person.account.tokens[issued.token_id]

    async def revoke_token(self, user_id: str, token_id: str, context: Context) -> Person:
        """Revoke a token, and all that it issued, for whomever. TokenNotFound."""
        person = await self.execute(user_id, lambda a: a.revoke_token(token_id), context)
        # They stand no more already; this says so, and frees their places.
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
        # Shielded: a client that goes away must not leave the directory behind the log.
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
                # What was given up may be claimed again. What is held was found by the directory.
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
    """What these events make the account's own, and what they free, with the stream of each."""
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
    """The address in a text. BadInput when it cannot be one."""
    address = text.strip()
    if not is_email(address):
        raise BadInput("email", "This is no e-mail address.")
    return address


def is_email(text: str) -> bool:
    """Whether this can be an address; nobody asks whether mail arrives."""
    return len(text) <= LONGEST_EMAIL and _EMAIL.fullmatch(text) is not None
