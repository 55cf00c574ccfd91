"""Signing in and out: from a password or an identity to a session and its cookie."""

import logging
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from fastapi import HTTPException

from api.edge.security import NOT_READY, OPERATOR, Principal
from api.people.oidc import Claimed, account_of
from api.people.passwords import PasswordStore, TooBusy
from api.people.sessions import Cookies, operator_session_id, session_id
from api.people.sign_in_link import SignInLink
from api.people.throttle import Attempts, Refused
from domain.account.aggregate import Account, Role, UserSignInRefused
from domain.account.commands import People, Person
from domain.account.operator_sessions import Operator
from domain.errors import WrongState
from domain.event import Event
from domain.log import Context

logger = logging.getLogger("crewlog.people")

WRONG_PAIR = "The e-mail address and the password do not belong together."
WRONG_PASSWORD = "The current password is wrong."  # noqa: S105 - a sentence
TOO_MANY = "Too many failed attempts. Try again later."


@dataclass(frozen=True, slots=True)
class Entered:
    """A person has signed in: the account, the cookie's value, the event's position."""

    user_id: str
    cookie: str
    position: int


class WrongPair(Exception):
    """Address and password do not belong together. It does not tell whether the account exists."""


@dataclass(frozen=True, slots=True)
class SignIn:
    """The parts that signing in needs. Every way in ends in `enter`."""

    people: People
    operator: Operator
    passwords: PasswordStore
    cookies: Cookies
    attempts: Attempts
    link: SignInLink
    token: str
    """The server's own token."""

    def require_ready(self) -> None:
        """Raises HTTPException 503 until the accounts have been read."""
        if not self.people.directory.loaded:
            raise HTTPException(503, NOT_READY, {"Retry-After": "1"})

    async def by_password(
        self, email: str, password: str, address: str | None, request_id: str
    ) -> Entered:
        """Raises WrongPair, or HTTPException 429 after too many failures, even for the right
        password.
        """
        self.require_ready()
        account = self.people.directory.by_email(email)
        await self._attempt(account, email, address, request_id)
        right = await self._is_right(account, password)
        if account is None or not right or account.disabled:
            raise WrongPair
        self.attempts.succeeded(email, address)
        return await self.enter(account, "password", address, request_id)

    async def by_identity(
        self, claimed: Claimed, allowed: Collection[str], address: str | None, request_id: str
    ) -> Entered:
        """Raises SignInFailed if the identity gets no account."""
        self.require_ready()
        context = Context(actor="system:sign-in", request_id=request_id)
        person = await account_of(self.people, claimed, allowed, context)
        return await self.enter(person.account, claimed.identity.provider, address, request_id)

    async def by_token(self, right: bool, address: str | None, request_id: str) -> Entered | None:
        """Sign the operator in with the server's token. None if the token was not `right`. Raises
        HTTPException 429 as for passwords.
        """
        self.require_ready()
        await self._attempt(None, OPERATOR.owner, address, request_id)
        if not right:
            return None
        self.attempts.succeeded(OPERATOR.owner, address)
        return await self._enter_operator("token", address, request_id)

    async def by_link(self, code: str, address: str | None, request_id: str) -> Entered | None:
        """Sign the operator in with the link. None if the link is not valid any more. Nobody can
        guess it, so failures count only for the caller's address and do not delay anybody else.
        """
        self.require_ready()
        await self._attempt(None, None, address, request_id)
        if not self.link.redeem(code):
            return None
        self.attempts.succeeded(None, address)
        return await self._enter_operator("link", address, request_id)

    async def _enter_operator(
        self, how: Literal["token", "link"], address: str | None, request_id: str
    ) -> Entered:
        secret = secrets.token_urlsafe(32)
        session = operator_session_id(secret, self.token)
        context = Context(actor=OPERATOR.actor, request_id=request_id)
        position = await self.operator.sign_in(session, how, address, context)
        return Entered(OPERATOR.owner, self.cookies.seal(OPERATOR.owner, secret), position)

    async def enter(
        self, account: Account, how: str, address: str | None, request_id: str
    ) -> Entered:
        """Begin a session with a new cookie."""
        secret = secrets.token_urlsafe(32)
        session = session_id(secret)
        context = Context(actor=f"user:{account.id}", request_id=request_id)
        person = await self.people.execute(
            account.id, lambda a: a.sign_in(session, how, address), context
        )
        return Entered(account.id, self.cookies.seal(account.id, secret), person.position)

    async def leave(self, principal: Principal, context: Context) -> int | None:
        """End the principal's session. Returns the position of the newest event about it."""
        user_id, session = principal.user_id, principal.session
        if session is None:
            return None
        if user_id is None:
            return await self.operator.sign_out(session, context)
        person = await self.people.execute(user_id, lambda a: a.sign_out(session), context)
        return person.position

    async def change_password(
        self, principal: Principal, current: str, new: str, address: str | None, context: Context
    ) -> Person:
        """Set a new password for a person who knows the old one. Every other session ends.

        Raises HTTPException 403 without a session or for a wrong password, 429 after too many of
        those.
        """
        if principal.user_id is None or principal.session is None:
            raise HTTPException(403, "Only a person who is signed in has a password to change.")
        account = self.people.directory.get(principal.user_id)
        if account.credential is None:
            raise WrongState("This account has no password: its owner signs in with a provider.")
        await self._attempt(account, account.email, address, context.request_id)
        if not await self._is_right(account, current):
            raise HTTPException(403, WRONG_PASSWORD)
        self.attempts.succeeded(account.email, address)
        return await self.set_password(account.id, new, context, principal.session)

    async def set_password(
        self, user_id: str, password: str, context: Context, keep_session: str | None = None
    ) -> Person:
        """Raises BadInput for a password that is too short, UserNotFound."""
        self.people.directory.get(user_id)
        credential = await self.keep(password)
        replaced: list[str | None] = []

        def decide(account: Account) -> list[Event]:
            replaced.append(account.credential)
            return account.set_password(credential, keep_session)

        try:
            person = await self.people.execute(user_id, decide, context)
        except Exception:
            await self.passwords.discard(credential)
            raise
        await self.passwords.discard(replaced[-1])
        return person

    async def register(
        self, email: str, name: str, role: Role, password: str | None, context: Context
    ) -> Person:
        """Make an account. Raises BadInput, EmailTaken."""
        credential = await self.keep(password) if password is not None else None
        try:
            return await self.people.register(email, name, role, context, credential=credential)
        except Exception:
            await self.passwords.discard(credential)
            raise

    async def keep(self, password: str) -> str:
        """Store a password. Returns the id of its credential. Raises HTTPException 503 if
        too many wait.
        """
        try:
            return await self.passwords.keep(password)
        except TooBusy as error:
            raise HTTPException(503, str(error), {"Retry-After": "2"}) from error

    async def _is_right(self, account: Account | None, password: str) -> bool:
        try:
            return await self.passwords.check(account.credential if account else None, password)
        except TooBusy as error:
            raise HTTPException(503, str(error), {"Retry-After": "2"}) from error

    async def _attempt(
        self,
        account: Account | None,
        email: str | None,
        address: str | None,
        request_id: str | None,
    ) -> None:
        refused = self.attempts.begin(email, address)
        if refused is None:
            return
        if refused.first:
            await self._report(refused, account, address, request_id)
        raise HTTPException(429, TOO_MANY, {"Retry-After": str(refused.retry_after_s)})

    async def _report(
        self, refused: Refused, account: Account | None, address: str | None, request_id: str | None
    ) -> None:
        logger.warning("%d failed sign-ins in a row, from %s", refused.failures, address)
        if account is None:
            return
        event = UserSignInRefused(
            failures=refused.failures, wait_ms=refused.retry_after_s * 1000, address=address
        )
        context = Context(actor="system:sign-in", request_id=request_id)
        await self.people.execute(account.id, lambda _: [event], context)
