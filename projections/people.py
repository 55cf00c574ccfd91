"""The people view: one row an account. Who is signed in, and with which tokens, is kept in memory
(`domain/account/commands.py`), which is filled at the start from the ids in this view.
"""

from typing import Any

from sqlalchemy import Column, Integer, String, select

from domain.coverage import types
from domain.log import Recorded
from projections.engine import Reading
from projections.projection import Projection, Row


def _columns() -> tuple[Column[Any], ...]:
    return (
        Column("id", String, primary_key=True),
        Column("position", Integer, nullable=False),
        Column("email", String, nullable=False),
        Column("name", String, nullable=False),
        Column("role", String, nullable=False),
        Column("provider", String, nullable=False),
        Column("avatar_url", String),
        Column("disabled", Integer, nullable=False),
        Column("created_at", String, nullable=False),
        Column("updated_at", String, nullable=False),
        Column("signed_in_at", String),
    )


def _key(event: Recorded) -> str:
    return event.subject.removeprefix("user-")


def _registered(_: Row | None, event: Recorded) -> Row:
    data = event.data
    return {
        "id": _key(event),
        "position": event.position,
        "email": data["email"],
        "name": data["name"],
        "role": data["role"],
        "provider": data["provider"],
        "avatar_url": data["avatar_url"],
        "disabled": 0,
        "created_at": event.at,
        "updated_at": event.at,
        "signed_in_at": None,
    }


def _changed(row: Row | None, event: Recorded, **changes: Any) -> Row | None:
    """None stays None: a stray event makes no account."""
    return None if row is None else {**row, "updated_at": event.at, **changes}


def _signed_in(row: Row | None, event: Recorded) -> Row | None:
    return None if row is None else {**row, "signed_in_at": event.at}


def _refreshed(row: Row | None, event: Recorded) -> Row | None:
    data = event.data
    return _changed(
        row, event, email=data["email"], name=data["name"], avatar_url=data["avatar_url"]
    )


PEOPLE = Projection(
    name="people",
    version=1,
    columns=_columns,
    key=_key,
    folds={
        "user.registered": _registered,
        "user.role_changed": lambda row, event: _changed(row, event, role=event.data["role"]),
        "user.renamed": lambda row, event: _changed(row, event, name=event.data["name"]),
        "user.disabled": lambda row, event: _changed(row, event, disabled=1),
        "user.enabled": lambda row, event: _changed(row, event, disabled=0),
        "user.profile_refreshed": _refreshed,
        "user.signed_in": _signed_in,
    },
    passes_over=types(
        "approval crew email identity job operator request schedule token",
        user="identity_linked password_set sign_in_refused signed_out signed_out_everywhere",
    ),
    births=frozenset({"user.registered"}),
)


def user_ids(reading: Reading) -> list[str]:
    """Every account, oldest first."""
    people = reading.table("people")
    return [row["id"] for row in reading.rows(select(people.c.id).order_by(people.c.position))]


def is_disabled(reading: Reading, owner: str) -> bool:
    """Whether an owner (``user:<id>``) is an account that was disabled."""
    people = reading.table("people")
    account = people.c.id == owner.removeprefix("user:")
    return bool(reading.rows(select(people.c.id).where(account, people.c.disabled == 1)))


def signed_in_times(reading: Reading) -> dict[str, str | None]:
    """When each account was signed in to last, by id."""
    people = reading.table("people")
    rows = reading.rows(select(people.c.id, people.c.signed_in_at))
    return {row["id"]: row["signed_in_at"] for row in rows}
