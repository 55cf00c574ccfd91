"""The parts for people, built and joined: accounts, passwords, sessions, providers."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from api.people.oidc import OpenIdConnect, Provider
from api.people.passwords import PasswordStore
from api.people.sessions import Accounts, Cookies, Secure, session_key
from api.people.sign_in import SignIn
from api.people.sign_in_link import SignInLink
from api.people.throttle import Attempts
from domain.account.aggregate import Role
from domain.account.commands import People
from domain.account.operator_sessions import Operator
from domain.clock import Clock
from domain.errors import CrewlogError
from domain.log import SYSTEM, EventLog
from projections.engine import Views
from projections.people import user_ids
from projections.reading import ViewsUnavailable

logger = logging.getLogger("crewlog.people")

_RETRY_S = 0.2


@dataclass(frozen=True, slots=True)
class FirstAdmin:
    """An administrator to make at the start, if no account has the address."""

    email: str
    password: str


@dataclass(frozen=True, slots=True)
class PeopleParts:
    """The parts that the routes and the edge need for people."""

    people: People
    accounts: Accounts
    sign_in: SignIn
    oidc: OpenIdConnect
    first_admin: FirstAdmin | None
    known: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the accounts are loaded."""

    async def load(self, views: Views) -> None:
        """Read every account from the log, once the views know which there are. Then make the first
        administrator.
        """
        while True:
            try:
                await views.caught_up()
                with views.reading() as reading:
                    ids = user_ids(reading)
                break
            except ViewsUnavailable:
                await asyncio.sleep(_RETRY_S)
        await asyncio.to_thread(self.sign_in.operator.load)
        await asyncio.to_thread(self.people.load, ids)
        accounts = self.people.directory.everybody()
        keep = {account.credential for account in accounts if account.credential is not None}
        await asyncio.to_thread(self.sign_in.passwords.sweep, keep)
        if self.first_admin is not None:
            await self._make_admin(self.first_admin)
        self.known.set()

    async def _make_admin(self, wanted: FirstAdmin) -> None:
        if self.people.directory.by_email(wanted.email) is not None:
            return
        try:
            await self.sign_in.register(wanted.email, "", Role.ADMIN, wanted.password, SYSTEM)
        except CrewlogError as error:
            logger.error("The first administrator could not be made: %s", error)
        else:
            logger.info("made the administrator %s, as the settings name", wanted.email)

    def close(self) -> None:
        self.sign_in.passwords.close()


def build_people(
    log: EventLog,
    clock: Clock,
    data: Path,
    *,
    token: str = "",
    session_secret: str = "",
    secure: Secure = "auto",
    public_url: str = "",
    providers: Sequence[Provider] = (),
    first_admin: FirstAdmin | None = None,
) -> PeopleParts:
    """The parts over one log. `token` is the server's own. Without a secret, cookies are signed
    with the key in the file ``session.key`` in the data directory, made at the first start.
    """
    key = session_secret.encode() or session_key(data / "session.key")
    people = People(log, clock)
    operator = Operator(log, clock)
    cookies = Cookies(key, clock, secure=secure, https=public_url.startswith("https:"))
    return PeopleParts(
        people=people,
        accounts=Accounts(people.directory, operator.sessions, cookies, clock, token),
        sign_in=SignIn(
            people,
            operator,
            PasswordStore(data / "credentials"),
            cookies,
            Attempts(),
            SignInLink(),
            token,
        ),
        oidc=OpenIdConnect(providers, key, public_url),
        first_admin=first_admin,
    )
