"""The fold of a view as a table: events, and the changes that each makes to its row."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from domain.catalogue import CATALOGUE
from domain.event import Event
from domain.log import Context, Recorded, new_events
from domain.log.envelope import encode_state
from projections.projection import Projection, Row

_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class Step(NamedTuple):
    """An event, and the columns that it changes; for the first event of a row, all that are not
    empty.
    """

    stream: str
    event: Event
    changes: dict[str, Any]


def at(position: int) -> str:
    """The time of the event at this position: a second after the one before."""
    return f"2026-01-01T00:00:{position:02}.000000Z"


def recorded(stream: str, event: Event, position: int, version: int) -> Recorded:
    """The event as read from the log."""
    who = Context(actor="tester")
    [new] = new_events(stream, [event], who, lambda: _BEGIN + timedelta(seconds=position))
    state = encode_state(new, event.model_dump_json().encode(), None)
    return Recorded(position, stream, version, event.type, state, CATALOGUE)


def changed(view: Projection, steps: Sequence[Step]) -> list[dict[str, Any]]:
    """The changes that each event makes to its row; the events are the whole log."""
    rows: dict[Any, Row | None] = {}
    versions: dict[str, int] = {}
    found: list[dict[str, Any]] = []
    for position, step in enumerate(steps, 1):
        version = versions[step.stream] = versions.get(step.stream, 0) + 1
        event = recorded(step.stream, step.event, position, version)
        key = view.key(event)
        before = rows.get(key)
        after = rows[key] = view.folds[event.type](before, event)
        found.append(_difference(before, after))
        assert after is None or after.keys() == {column.name for column in view.columns()}
    return found


def _difference(before: Row | None, after: Row | None) -> dict[str, Any]:
    if after is None:
        return {}
    if before is None:
        return {name: value for name, value in after.items() if value not in (None, 0, "", "[]")}
    return {name: value for name, value in after.items() if value != before[name]}


def check(view: Projection, steps: Sequence[Step]) -> None:
    """Check that the fold equals the table, and that the table has each type of the view."""
    for step, changes in zip(steps, changed(view, steps), strict=True):
        assert changes == step.changes, step.event
    assert {step.event.type for step in steps} == set(view.folds)


def check_strays(view: Projection, steps: Sequence[Step]) -> None:
    """Check that an event about an unknown object makes no row."""
    for step in steps:
        if step.event.type not in view.births:
            event = recorded(step.stream, step.event, 1, 1)
            assert view.folds[event.type](None, event) is None, step.event
