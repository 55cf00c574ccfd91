"""The deliveries view: events to send, their receivers, and the outcomes."""

from typing import Any

from sqlalchemy import Column, Integer, String, select

from domain.coverage import types
from domain.delivery.aggregate import (
    DeliveryNotFound,
    DeliveryState,
    changes_by,
    delivery_id_of,
)
from domain.log import Recorded
from projections.projection import Projection, Row
from projections.reading import Reading


def _columns() -> tuple[Column[Any], ...]:
    return (
        Column("id", String, primary_key=True),
        Column("position", Integer, nullable=False),
        Column("channel", String, nullable=False),
        Column("receiver", String, nullable=False),
        Column("event", String, nullable=False),
        Column("event_position", Integer, nullable=False),
        Column("state", String, nullable=False),
        Column("tries", Integer, nullable=False),
        Column("due_at", String),
        Column("status", Integer),
        Column("reason", String),
        Column("requested_at", String, nullable=False),
        Column("updated_at", String, nullable=False),
    )


def _key(event: Recorded) -> str:
    return delivery_id_of(event.subject) or event.subject


def _columns_of(event: Recorded) -> Row:
    changes = changes_by(event)
    if "state" in changes:
        changes["state"] = changes["state"].value
    return changes


def _requested(_: Row | None, event: Recorded) -> Row:
    return {
        "id": _key(event),
        "position": event.position,
        "status": None,
        "reason": None,
        "requested_at": event.at,
        "updated_at": event.at,
        **_columns_of(event),
    }


def _moved(row: Row | None, event: Recorded) -> Row | None:
    """None stays None: an event without an earlier request makes no delivery."""
    return None if row is None else {**row, "updated_at": event.at, **_columns_of(event)}


DELIVERIES = Projection(
    name="deliveries",
    version=1,
    columns=_columns,
    key=_key,
    folds={
        "delivery.requested": _requested,
        "delivery.postponed": _moved,
        "delivery.delivered": _moved,
        "delivery.failed": _moved,
        "delivery.renewed": _moved,
    },
    passes_over=types(
        "approval crew email identity job operator request schedule token user",
    ),
    births=frozenset({"delivery.requested"}),
    indexes=(("state", "position"), ("position",)),
)


def find_delivery(reading: Reading, delivery_id: str) -> Row:
    """The row of one delivery. Raises DeliveryNotFound."""
    deliveries = reading.table("deliveries")
    rows = reading.rows(select(deliveries).where(deliveries.c.id == delivery_id))
    if not rows:
        raise DeliveryNotFound(delivery_id)
    return rows[0]


def list_deliveries(
    reading: Reading, *, state: str | None = None, before: int | None = None, limit: int
) -> tuple[list[Row], bool]:
    """The newest deliveries first, and whether there are more. `before` is the position of the last
    one on the page before.
    """
    deliveries = reading.table("deliveries")
    statement = select(deliveries)
    if state is not None:
        statement = statement.where(deliveries.c.state == state)
    if before is not None:
        statement = statement.where(deliveries.c.position < before)
    rows = reading.rows(statement.order_by(deliveries.c.position.desc()).limit(limit + 1))
    return rows[:limit], len(rows) > limit


def pending_deliveries(reading: Reading) -> list[Row]:
    """Deliveries that are still to be sent, oldest first, as ``id`` and ``due_at``."""
    deliveries = reading.table("deliveries")
    return reading.rows(
        select(deliveries.c.id, deliveries.c.due_at)
        .where(deliveries.c.state == DeliveryState.PENDING.value)
        .order_by(deliveries.c.position)
    )
