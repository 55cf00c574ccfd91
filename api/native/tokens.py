"""``/tokens``: the person's own; ``/users/{user_id}/tokens``: for administrators."""

import secrets
from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.edge.answers import json_bytes, position_header
from api.edge.security import ADMIN, USER_TOKEN_PREFIX, Admin, Authenticated, Principal
from api.edge.texts import CARRIABLE, Body
from api.native.pages import Page, page
from api.native.problems import SECURED, documented
from api.people.sessions import token_hash
from api.people.sign_in import SignIn
from domain.account.aggregate import Account, Token, TokenIssued, TokenNotFound
from domain.clock import Clock, format_time
from domain.entropy import uuid4
from domain.errors import WrongState
from domain.log import Context

Scope = Literal["read", "write", "admin"]

STRONGER = "A token may do no more than its issuer."
LONGER = "A token may not live longer than the token that issues it."
NO_ACCOUNT = "The server's token has no account: issue tokens for a person."


def _to_read() -> list[Scope]:
    return ["read"]


class NewToken(Body):
    """The token's name and scopes, and the number of days after which it expires; null: never."""

    name: Annotated[str, Field(min_length=1, max_length=100), CARRIABLE]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=3)] = Field(
        default_factory=_to_read
    )
    expires_in_days: Annotated[int, Field(ge=1, le=3_650)] | None = 90


class TokenObject(BaseModel):
    """A token without its value, which is shown once."""

    model_config = ConfigDict(extra="forbid")

    id: str
    name: str
    scopes: list[Scope]
    createdAt: str
    expiresAt: str | None


class IssuedToken(TokenObject):
    token: str = Field(description="The value. It is in no other answer.")


def token_json(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "scopes": sorted(token.scopes),
        "createdAt": token.created_at,
        "expiresAt": token.expires_at,
    }


def token_routes(sign_in: SignIn, clock: Clock) -> APIRouter:
    router = APIRouter(tags=["people"], responses=SECURED)
    tokens = _Tokens(sign_in, clock)
    _add_own(router, tokens)
    _add_of_others(router, tokens)
    return router


def _add_own(router: APIRouter, tokens: "_Tokens") -> None:
    def own(principal: Principal) -> Account | None:
        return None if principal.user_id is None else tokens.holder(principal.user_id)

    @router.get("/tokens", summary="My tokens", response_model=Page[TokenObject])
    async def list_tokens(principal: Authenticated) -> Response:
        """Without their values, which were shown once."""
        return tokens.all_of(own(principal))

    @router.post(
        "/tokens",
        status_code=201,
        summary="Issue a token",
        response_model=IssuedToken,
        responses=documented(409),
    )
    async def issue_token(body: NewToken, request: Request, principal: Authenticated) -> Response:
        """`token` is in no other answer. It may do what its scopes allow, and no more than
        its issuer.
        """
        account = own(principal)
        if account is None:
            raise HTTPException(409, NO_ACCOUNT)
        return await tokens.issue(account, body, principal, request)

    @router.delete("/tokens/{token_id}", summary="Revoke a token", responses=documented(404))
    async def revoke_token(token_id: str, request: Request, principal: Authenticated) -> Response:
        account = own(principal)
        if account is None:
            raise TokenNotFound(token_id)
        return await tokens.revoke(account, token_id, principal.context(request))


def _add_of_others(router: APIRouter, tokens: "_Tokens") -> None:
    @router.get(
        "/users/{user_id}/tokens",
        summary="Their tokens",
        response_model=Page[TokenObject],
        responses=documented(404),
    )
    async def list_tokens(user_id: str, principal: Admin) -> Response:
        return tokens.all_of(tokens.known(user_id))

    @router.post(
        "/users/{user_id}/tokens", status_code=201, summary="Issue them a token",
        response_model=IssuedToken, responses=documented(404, 409),
    )  # fmt: skip
    async def issue_token(
        user_id: str, body: NewToken, request: Request, principal: Admin
    ) -> Response:
        return await tokens.issue(tokens.known(user_id), body, principal, request)

    @router.delete(
        "/users/{user_id}/tokens/{token_id}", summary="Revoke a token", responses=documented(404)
    )
    async def revoke_token(
        user_id: str, token_id: str, request: Request, principal: Admin
    ) -> Response:
        return await tokens.revoke(tokens.known(user_id), token_id, principal.context(request))


class _Tokens:
    """The shared part of both sets of token routes."""

    def __init__(self, sign_in: SignIn, clock: Clock) -> None:
        self._sign_in = sign_in
        self._people = sign_in.people
        self._clock = clock

    def holder(self, user_id: str) -> Account:
        return self._people.directory.get(user_id)

    def known(self, user_id: str) -> Account:
        """The account of another person, once the accounts are read from the log."""
        self._sign_in.require_ready()
        return self.holder(user_id)

    def all_of(self, account: Account | None) -> Response:
        """The tokens that are not revoked, newest first."""
        tokens = account.tokens.values() if account is not None else ()
        held = [token for token in tokens if self._people.directory.stands(token)]
        return page([token_json(token) for token in reversed(held)])

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
        """The token of this request; None for a session and for the server's own token."""
        kind, _, token_id = principal.actor.partition(":")
        if kind != "token" or principal.user_id is None:
            return None
        return self._people.directory.get(principal.user_id).tokens.get(token_id)

    async def revoke(self, account: Account, token_id: str, context: Context) -> Response:
        person = await self._people.revoke_token(account.id, token_id, context)
        return json_bytes({"ok": True}, headers=position_header(person.position))
