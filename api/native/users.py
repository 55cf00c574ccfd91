"""``/users``: accounts, for administrators."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field

from api.edge.answers import json_bytes, position_header
from api.edge.security import Admin, Principal
from api.edge.texts import CARRIABLE, Body
from api.native.pages import Page, page
from api.native.problems import SECURED, documented
from api.native.profile_json import ChosenPassword, Profile, profile_json
from api.people.sign_in import SignIn
from domain.account.aggregate import Account, Role
from domain.account.commands import LONGEST_EMAIL, Decide, EmailTaken, Person
from domain.event import Event
from projections.engine import Views
from projections.people import signed_in_times

Name = Annotated[str, Field(max_length=200), CARRIABLE]
RoleName = Literal["user", "admin"]


class NewUser(Body):
    """A person who may sign in; without a password, only through a provider."""

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
    """Fields that are left out do not change."""

    name: Name | None = None
    role: RoleName | None = None


class NewPassword(Body):
    password: ChosenPassword


class User(Profile):
    """An account as administrators see it. Times are ISO 8601, except `createdAt`."""

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


def _shown(person: Person, status: int = 200) -> Response:
    return json_bytes(user_json(person.account), status, position_header(person.position))


def user_routes(sign_in: SignIn, views: Views) -> APIRouter:
    """For a person who is not an administrator each route is a 403."""
    router = APIRouter(prefix="/users", tags=["people"], responses=SECURED)
    accounts = _Accounts(sign_in)
    _add_reading(router, accounts, views)
    _add_making(router, accounts)
    _add_changing(router, accounts)
    return router


class _Accounts:
    """The accounts, once they are read from the log."""

    def __init__(self, sign_in: SignIn) -> None:
        self.sign_in = sign_in
        self.directory = sign_in.people.directory

    def known(self, user_id: str) -> Account:
        self.sign_in.require_ready()
        return self.directory.get(user_id)

    async def execute(
        self, user_id: str, decide: Decide, principal: Principal, request: Request
    ) -> Response:
        self.known(user_id)
        people = self.sign_in.people
        return _shown(await people.execute(user_id, decide, principal.context(request)))


def _add_reading(router: APIRouter, accounts: _Accounts, views: Views) -> None:
    @router.get("", summary="Everybody", response_model=Page[User])
    async def users(principal: Admin) -> Response:
        """All accounts, on one page."""
        accounts.sign_in.require_ready()
        await views.caught_up()
        with views.reading() as reading:
            signed_in = signed_in_times(reading)
        everybody = accounts.directory.everybody()
        return page([{**user_json(one), "signedInAt": signed_in.get(one.id)} for one in everybody])

    @router.get("/{user_id}", summary="One", response_model=User, responses=documented(404))
    async def user(user_id: str, principal: Admin) -> Response:
        return json_bytes(user_json(accounts.known(user_id)))


def _add_making(router: APIRouter, accounts: _Accounts) -> None:
    @router.post(
        "", status_code=201, summary="Make an account", response_model=User,
        responses=documented(409),
    )  # fmt: skip
    async def add(body: NewUser, request: Request, principal: Admin) -> Response:
        sign_in = accounts.sign_in
        sign_in.require_ready()
        if accounts.directory.by_email(body.email) is not None:
            raise EmailTaken
        person = await sign_in.register(
            body.email, body.name, Role(body.role), body.password, principal.context(request)
        )
        response = _shown(person, 201)
        response.headers["Location"] = f"/crewlog/v1/users/{person.account.id}"
        return response


def _add_changing(router: APIRouter, accounts: _Accounts) -> None:
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

        return await accounts.execute(user_id, decide, principal, request)

    @router.post(
        "/{user_id}/disable", summary="Stop an account at once", response_model=User,
        responses=documented(404),
    )  # fmt: skip
    async def disable(user_id: str, request: Request, principal: Admin) -> Response:
        """Its sessions end for good. Its tokens do not work until it is enabled."""
        return await accounts.execute(user_id, Account.disable, principal, request)

    @router.post(
        "/{user_id}/enable", summary="Let an account go on", response_model=User,
        responses=documented(404),
    )  # fmt: skip
    async def enable(user_id: str, request: Request, principal: Admin) -> Response:
        return await accounts.execute(user_id, Account.enable, principal, request)

    @router.post(
        "/{user_id}/password", summary="Set a password", response_model=User,
        responses=documented(404),
    )  # fmt: skip
    async def password(
        user_id: str, body: NewPassword, request: Request, principal: Admin
    ) -> Response:
        """Ends every session of the account, except the caller's."""
        accounts.known(user_id)
        context = principal.context(request)
        return _shown(
            await accounts.sign_in.set_password(user_id, body.password, context, principal.session)
        )

    @router.delete(
        "/{user_id}/sessions", summary="End every session", response_model=User,
        responses=documented(404),
    )  # fmt: skip
    async def end_sessions(user_id: str, request: Request, principal: Admin) -> Response:
        return await accounts.execute(user_id, Account.sign_out_everywhere, principal, request)
