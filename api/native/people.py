"""``/users`` for administrators, and ``/crewlog/v1/tokens`` for everybody's own."""

import secrets
from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import Field

from api.edge.answers import json_bytes, position_header
from api.edge.security import ADMIN, USER_TOKEN_PREFIX, Admin, Authenticated, Principal
from api.edge.texts import CARRIABLE, Body
from api.native.problems import SECURED, documented
from api.native.profile_json import ChosenPassword, Profile, profile_json
from api.people.sessions import token_hash
from api.people.sign_in import SignIn
from domain.account.aggregate import Account, Role, Token, TokenIssued, TokenNotFound
from domain.account.commands import LONGEST_EMAIL, Decide, EmailTaken, Person
from domain.clock import Clock, format_time
from domain.entropy import uuid4
from domain.errors import WrongState
from domain.event import Event
from domain.log import Context
from projections.engine import Views
from projections.people import signed_in_times

Name = Annotated[str, Field(max_length=200), CARRIABLE]
RoleName = Literal["user", "admin"]
Scope = Literal["read", "write", "admin"]

STRONGER = "A token may do no more than who issues it."
LONGER = "A token may live no longer than the one that issues it."
NO_ACCOUNT = "The server's token has no account: issue tokens for a person."


class NewUser(Body):
    """Somebody who may sign in; without a password, only through a provider."""

    email: Annotated[
        str,
        Field(
            max_length=LONGEST_EMAIL,
            json_schema_extra={"pattern": r"^[^@\s\x00-\x20]{1,64}@[^@\s\x00-\x20]+$"},
        ),
        CARRIABLE,
    ]
    name: Name = ""
    role: RoleName = "user"
    password: ChosenPassword | None = None


class UserChange(Body):
    """What is left out stays."""

    name: Name | None = None
    role: RoleName | None = None


class NewPassword(Body):
    password: ChosenPassword


def _to_read() -> list[Scope]:
    return ["read"]


class NewToken(Body):
    """What a token is for, and what it may do; it expires after so many days, or never."""

    name: Annotated[str, Field(min_length=1, max_length=100), CARRIABLE]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=3)] = Field(
        default_factory=_to_read
    )
    expires_in_days: Annotated[int, Field(ge=1, le=3_650)] | None = 90


class User(Profile):
    """An account as administrators see it. Times in ISO 8601, but for `createdAt`."""

    role: RoleName
    disabled: bool
    hasPassword: bool
    identities: list[dict[str, str]]
    separatedAddresses: list[str] = Field(
        description="Other addresses that versions up to 0.2 took for this one."
    )
    sessions: int
    signedInAt: str | None = None


def user_json(account: Account) -> dict[str, Any]:
    return {
        **profile_json(account),
        "role": account.role.value,
        "disabled": account.disabled,
        "hasPassword": account.credential is not None,
        "identities": [
            {"issuer": issuer, "subject": subject} for issuer, subject in sorted(account.identities)
        ],
        "separatedAddresses": list(account.separated),
        "sessions": len(account.sessions),
    }


def token_json(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "scopes": sorted(token.scopes),
        "createdAt": token.created_at,
        "expiresAt": token.expires_at,
    }


def _shown(person: Person, status: int = 200) -> Response:
    return json_bytes(user_json(person.account), status, position_header(person.position))


def user_routes(sign_in: SignIn, views: Views, clock: Clock) -> APIRouter:
    """Accounts, for administrators. Another's, for anybody else, are a 403: all of it is."""
    router = APIRouter(prefix="/users", tags=["people"], responses=SECURED)
    people = sign_in.people
    directory = people.directory
    tokens = _Tokens(sign_in, clock)

    def known(user_id: str) -> Account:
        sign_in.require_ready()
        return directory.get(user_id)

    async def execute(
        user_id: str, decide: Decide, principal: Principal, request: Request
    ) -> Response:
        known(user_id)
        return _shown(await people.execute(user_id, decide, principal.context(request)))

    @router.get("", summary="Everybody")
    async def users(principal: Admin) -> Response:
        sign_in.require_ready()
        await views.caught_up()
        with views.reading() as reading:
            signed_in = signed_in_times(reading)
        shown = [
            {**user_json(account), "signedInAt": signed_in.get(account.id)}
            for account in directory.everybody()
        ]
        return json_bytes({"users": shown})

    @router.post(
        "", status_code=201, summary="Make an account", response_model=User,
        responses=documented(409),
    )  # fmt: skip
    async def add(body: NewUser, request: Request, principal: Admin) -> Response:
        sign_in.require_ready()
        if directory.by_email(body.email) is not None:
            raise EmailTaken
        person = await sign_in.register(
            body.email, body.name, Role(body.role), body.password, principal.context(request)
        )
        response = _shown(person, 201)
        response.headers["Location"] = f"/crewlog/v1/users/{person.account.id}"
        return response

    @router.get("/{user_id}", summary="One", response_model=User, responses=documented(404))
    async def user(user_id: str, principal: Admin) -> Response:
        return json_bytes(user_json(known(user_id)))

    @router.patch(
        "/{user_id}", summary="Change name or role", response_model=User, responses=documented(404)
    )
    async def change(
        user_id: str, body: UserChange, request: Request, principal: Admin
    ) -> Response:
        def decide(account: Account) -> list[Event]:
            renamed = account.rename(body.name.strip()) if body.name is not None else []
            promoted = account.change_role(Role(body.role)) if body.role is not None else []
            return [*renamed, *promoted]

        return await execute(user_id, decide, principal, request)

    @router.post(
        "/{user_id}/disable", summary="Stop an account at once", response_model=User,
        responses=documented(404),
    )  # fmt: skip
    async def disable(user_id: str, request: Request, principal: Admin) -> Response:
        """Its sessions end for good; its tokens rest until it is enabled."""
        return await execute(user_id, Account.disable, principal, request)

    @router.post(
        "/{user_id}/enable", summary="Let an account go on", response_model=User,
        responses=documented(404),
    )  # fmt: skip
    async def enable(user_id: str, request: Request, principal: Admin) -> Response:
        return await execute(user_id, Account.enable, principal, request)

    @router.post(
        "/{user_id}/password", summary="Set a password", response_model=User,
        responses=documented(404),
    )  # fmt: skip
    async def password(
        user_id: str, body: NewPassword, request: Request, principal: Admin
    ) -> Response:
        """Ends every session of the account, but that of who asks."""
        known(user_id)
        context = principal.context(request)
        return _shown(
            await sign_in.set_password(user_id, body.password, context, principal.session)
        )

    @router.delete(
        "/{user_id}/sessions", summary="End every session", response_model=User,
        responses=documented(404),
    )  # fmt: skip
    async def end_sessions(user_id: str, request: Request, principal: Admin) -> Response:
        return await execute(user_id, Account.sign_out_everywhere, principal, request)

    @router.get("/{user_id}/tokens", summary="Their tokens", responses=documented(404))
    async def list_tokens(user_id: str, principal: Admin) -> Response:
        return tokens.all_of(known(user_id))

    @router.post(
        "/{user_id}/tokens", status_code=201, summary="Issue them a token",
        responses=documented(404, 409),
    )  # fmt: skip
    async def issue_token(
        user_id: str, body: NewToken, request: Request, principal: Admin
    ) -> Response:
        return await tokens.issue(known(user_id), body, principal, request)

    @router.delete(
        "/{user_id}/tokens/{token_id}", summary="Revoke a token", responses=documented(404)
    )
    async def revoke_token(
        user_id: str, token_id: str, request: Request, principal: Admin
    ) -> Response:
        return await tokens.revoke(known(user_id), token_id, principal.context(request))

    return router


def token_routes(sign_in: SignIn, clock: Clock) -> APIRouter:
    """One's own API tokens."""
    router = APIRouter(prefix="/tokens", tags=["people"], responses=SECURED)
    directory = sign_in.people.directory
    tokens = _Tokens(sign_in, clock)

    def own(principal: Principal) -> Account | None:
        return None if principal.user_id is None else directory.get(principal.user_id)

    @router.get("", summary="My tokens")
    async def list_tokens(principal: Authenticated) -> Response:
        """Not what they are: that was shown once."""
        return tokens.all_of(own(principal))

    @router.post("", status_code=201, summary="Issue a token", responses=documented(409))
    async def issue_token(body: NewToken, request: Request, principal: Authenticated) -> Response:
        """`token` is in this answer and nowhere else. It may do what its scopes say, and no more
        than who issues it.
        """
        account = own(principal)
        if account is None:
            raise HTTPException(409, NO_ACCOUNT)
        return await tokens.issue(account, body, principal, request)

    @router.delete("/{token_id}", summary="Revoke a token", responses=documented(404))
    async def revoke_token(token_id: str, request: Request, principal: Authenticated) -> Response:
        account = own(principal)
        if account is None:
            raise TokenNotFound(token_id)
        return await tokens.revoke(account, token_id, principal.context(request))

    return router


class _Tokens:
    """What both doors to tokens have in common."""

    def __init__(self, sign_in: SignIn, clock: Clock) -> None:
        self._people = sign_in.people
        self._clock = clock

    def all_of(self, account: Account | None) -> Response:
        """Those that are not revoked, newest first."""
        tokens = account.tokens.values() if account is not None else ()
        held = [token for token in tokens if self._people.directory.stands(token)]
        return json_bytes({"tokens": [token_json(token) for token in reversed(held)]})

    async def issue(
        self, account: Account, body: NewToken, principal: Principal, request: Request
    ) -> Response:
        scopes = set(body.scopes) | {"read"}
        if not scopes <= principal.scopes or (ADMIN in scopes and not principal.admin):
            raise HTTPException(403, STRONGER)
        if ADMIN in scopes and not account.admin:
            raise WrongState("Only a token of an administrator can have the scope admin.")
        given = f"{USER_TOKEN_PREFIX}{secrets.token_urlsafe(32)}"
        days = body.expires_in_days
        expires = None if days is None else format_time(self._clock() + timedelta(days=days))
        issuer = self._token_of(principal)
        if issuer is not None and issuer.expires_at is not None:
            if "expires_in_days" not in body.model_fields_set:
                expires = min(expires or issuer.expires_at, issuer.expires_at)
            elif expires is None or expires > issuer.expires_at:
                raise HTTPException(403, LONGER)
        issued = TokenIssued(
            token_id=uuid4(),
            name=body.name,
            scopes=sorted(scopes),
            hash=token_hash(given),
            expires_at=expires,
            issuer=issuer.id if issuer is not None else None,
        )
        person, token = await self._people.issue_token(
            account.id, issued, principal.context(request)
        )
        answer = {**token_json(token), "token": given}
        return json_bytes(answer, 201, position_header(person.position))

    def _token_of(self, principal: Principal) -> Token | None:
        """The token with which somebody asks; None for a session and the server's own token."""
        kind, _, token_id = principal.actor.partition(":")
        if kind != "token" or principal.user_id is None:
            return None
        return self._people.directory.get(principal.user_id).tokens.get(token_id)

    async def revoke(self, account: Account, token_id: str, context: Context) -> Response:
        person = await self._people.revoke_token(account.id, token_id, context)
        return json_bytes({"ok": True}, headers=position_header(person.position))
