"""The people view: one row for each account. Sessions and tokens are kept in memory
(`domain/account/commands.py`), which is filled at the start from the ids in this view.
"""

from typing import Any

from sqlalchemy import Column, Integer, String, select

from domain.account.aggregate import changes_by
from domain.coverage import types
from domain.log import Recorded
from projections.projection import Projection, Row
from projections.reading import Reading


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


def _columns_of(event: Recorded) -> Row:
    """What the event changes of an account, as columns."""
    changes = changes_by(event)
    stored: Row = {}
    if "role" in changes:
        stored["role"] = changes["role"].value
    if "disabled" in changes:
        stored["disabled"] = int(changes["disabled"])
    return changes | stored


def _registered(_: Row | None, event: Recorded) -> Row:
    return {
        "id": _key(event),
        "position": event.position,
        "disabled": 0,
        "updated_at": event.at,
        "signed_in_at": None,
        **_columns_of(event),
    }


def _changed(row: Row | None, event: Recorded) -> Row | None:
    """None stays None: an event without a registration makes no account."""
    return None if row is None else {**row, "updated_at": event.at, **_columns_of(event)}


def _signed_in(row: Row | None, event: Recorded) -> Row | None:
    return None if row is None else {**row, "signed_in_at": event.at}


PEOPLE = Projection(
    name="people",
    version=1,
    columns=_columns,
    key=_key,
    folds={
        "user.registered": _registered,
        "user.role_changed": _changed,
        "user.renamed": _changed,
        "user.disabled": _changed,
        "user.enabled": _changed,
        "user.profile_refreshed": _changed,
        "user.signed_in": _signed_in,
    },
    passes_over=types(
        "approval crew delivery email identity job operator request schedule token",
        user="identity_linked password_set sign_in_refused signed_out signed_out_everywhere",
    ),
    births=frozenset({"user.registered"}),
)


def user_ids(reading: Reading) -> list[str]:
    """Every account, oldest first."""
    people = reading.table("people")
    return [row["id"] for row in reading.rows(select(people.c.id).order_by(people.c.position))]


def is_disabled(reading: Reading, owner: str) -> bool:
    """Whether an owner (``user:<id>``) is a disabled account."""
    people = reading.table("people")
    account = people.c.id == owner.removeprefix("user:")
    return bool(reading.rows(select(people.c.id).where(account, people.c.disabled == 1)))


def signed_in_times(reading: Reading) -> dict[str, str | None]:
    """The time of the last sign-in of each account, by id."""
    people = reading.table("people")
    rows = reading.rows(select(people.c.id, people.c.signed_in_at))
    return {row["id"]: row["signed_in_at"] for row in rows}
