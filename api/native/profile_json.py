"""People as JSON, and the passwords that they choose."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from api.edge.texts import CARRIABLE
from api.people.passwords import LONGEST, SHORTEST
from domain.account.aggregate import Account
from domain.clock import parse_time

ChosenPassword = Annotated[
    str, Field(max_length=LONGEST, json_schema_extra={"minLength": SHORTEST}), CARRIABLE
]
"""A new password. A shorter one is a 400."""


class Profile(BaseModel):
    """A person's own account. `createdAt` is in milliseconds since 1970."""

    id: str
    email: str
    displayName: str
    avatarUrl: str | None
    authProvider: str
    isAdmin: bool
    createdAt: int


def profile_json(account: Account) -> dict[str, Any]:
    return {
        "id": account.id,
        "email": account.email,
        "displayName": account.shown_name,
        "avatarUrl": account.avatar_url,
        "authProvider": account.provider,
        "isAdmin": account.admin,
        "createdAt": round(parse_time(account.created_at).timestamp() * 1000),
    }
