"""The schedules view, one row for each schedule, and the firings view, one row for each time
that came.
"""

from collections.abc import Callable
from typing import Any

import orjson
from sqlalchemy import Column, Integer, String, func, select

from domain.coverage import types
from domain.errors import InvalidCursor
from domain.job.events import ENDED, JobState
from domain.log import Recorded
from domain.schedule.aggregate import (
    CatchUp,
    Overlap,
    PendingTime,
    Schedule,
    ScheduleNotFound,
    ScheduleState,
    changes_by,
    is_excused,
    schedule_id_of,
)
from projections.projection import Projection, Row
from projections.reading import Reading

_OPEN = sorted(set(JobState) - ENDED - {JobState.BLOCKED})
_JSON = ("inputs", "rule")
_TERMS = (
    "name",
    "template",
    "timezone",
    "owner",
    "catch_up",
    "catch_up_window_ms",
    "overlap",
    "jitter_ms",
    "ends_at",
    "max_firings",
)


def _schedule_columns() -> tuple[Column[Any], ...]:
    return (
        Column("id", String, primary_key=True),
        Column("position", Integer, nullable=False),
        Column("version", Integer, nullable=False),
        Column("name", String, nullable=False),
        Column("template", String, nullable=False),
        Column("inputs", String, nullable=False),
        Column("rule", String, nullable=False),
        Column("timezone", String, nullable=False),
        Column("owner", String, nullable=False),
        Column("catch_up", String, nullable=False),
        Column("catch_up_window_ms", Integer, nullable=False),
        Column("overlap", String, nullable=False),
        Column("jitter_ms", Integer, nullable=False),
        Column("ends_at", String),
        Column("max_firings", Integer),
        Column("state", String, nullable=False),
        Column("state_reason", String),
        Column("since", String, nullable=False),
        Column("kept", String, nullable=False),
        Column("rule_at", String, nullable=False),
        Column("last_nominal", String),
        Column("firings", Integer, nullable=False),
        Column("excused", Integer, nullable=False),
        Column("missed", Integer, nullable=False),
        Column("skipped", Integer, nullable=False),
        Column("failures", Integer, nullable=False),
        Column("last_run_at", String),
        Column("last_outcome", String),
        Column("last_error", String),
        Column("created_at", String, nullable=False),
        Column("updated_at", String, nullable=False),
        Column("deleted", Integer, nullable=False),
    )


def _id(event: Recorded) -> str:
    return schedule_id_of(event.subject) or event.subject


_STORED: dict[str, Callable[[Any], Any]] = {
    "inputs": lambda inputs: orjson.dumps(inputs).decode(),
    "rule": lambda rule: orjson.dumps(rule).decode(),
    "catch_up": lambda catch_up: catch_up.value,
    "overlap": lambda overlap: overlap.value,
    "state": lambda state: state.value,
    "deleted": int,
    "kept": lambda kept: orjson.dumps([time.model_dump() for time in kept]).decode(),
}
"""The stored form of the schedule's fields that are not stored as they are."""


def _columns_of(event: Recorded) -> Row:
    """What the event changes of a schedule, as columns."""
    return {
        name: _STORED[name](value) if name in _STORED else value
        for name, value in changes_by(event).items()
    }


def _created(_: Row | None, event: Recorded) -> Row:
    return {
        "id": _id(event),
        "position": event.position,
        "version": event.version,
        "state_reason": None,
        "kept": "[]",
        "last_nominal": None,
        "firings": 0,
        "excused": 0,
        "missed": 0,
        "skipped": 0,
        "failures": 0,
        "last_run_at": None,
        "last_outcome": None,
        "last_error": None,
        "created_at": event.at,
        "updated_at": event.at,
        "deleted": 0,
        **_columns_of(event),
    }


def _moved(row: Row | None, event: Recorded) -> Row | None:
    """The row after an event of the schedule's own stream. None stays None: an event without a
    creation makes no schedule.
    """
    if row is None:
        return None
    changes = _columns_of(event)
    after = {**row, "version": event.version, "updated_at": event.at, **changes}
    if "state" in changes:
        after["state_reason"] = event.data.get("reason")
    if event.type == "schedule.enabled":
        after["failures"] = 0
    return after


def _fired(row: Row | None, event: Recorded) -> Row | None:
    if row is None:
        return None
    data = event.data
    row = {**row, "last_run_at": event.at}
    if data["manual"]:
        return row
    return {**row, **_reached(row, data["nominal"]), "firings": row["firings"] + 1}


def _reached(row: Row, nominal: str) -> Row:
    return {"last_nominal": max(nominal, row["last_nominal"] or nominal)}


def _missed(row: Row | None, event: Recorded) -> Row | None:
    if row is None:
        return None
    data = event.data
    return {**row, **_reached(row, data["through"]), "missed": row["missed"] + data["count"]}


def _spawned(row: Row | None, _: Recorded) -> Row | None:
    if row is None:
        return None
    return {**row, "last_outcome": "spawned", "last_error": None, "failures": 0}


def _skipped(row: Row | None, event: Recorded) -> Row | None:
    if row is None:
        return None
    return {
        **row,
        "last_outcome": "skipped",
        "skipped": row["skipped"] + 1,
        "excused": row["excused"] + is_excused(event),
    }


def _failed(row: Row | None, event: Recorded) -> Row | None:
    if row is None:
        return None
    data = event.data
    return {
        **row,
        "last_outcome": "failed",
        "last_error": data["reason"],
        # A failed firing by hand is seen by the person at once, so it does not count for the
        # schedule.
        "failures": row["failures"] + (not data["manual"]),
    }


SCHEDULES = Projection(
    name="schedules",
    version=3,
    columns=_schedule_columns,
    key=_id,
    folds={
        "schedule.created": _created,
        "schedule.changed": _moved,
        "schedule.enabled": _moved,
        "schedule.disabled": _moved,
        "schedule.paused": _moved,
        "schedule.ended": _moved,
        "schedule.deleted": _moved,
        "schedule.fired": _fired,
        "schedule.missed": _missed,
        "schedule.spawned": _spawned,
        "schedule.skipped": _skipped,
        "schedule.failed": _failed,
    },
    passes_over=types(
        "approval crew delivery email identity job operator request token user",
    ),
    births=frozenset({"schedule.created"}),
    indexes=(("deleted", "position"), ("owner", "position")),
)


def _firing_columns() -> tuple[Column[Any], ...]:
    return (
        Column("stream", String, primary_key=True),
        Column("position", Integer, nullable=False),
        Column("schedule", String, nullable=False),
        Column("nominal", String, nullable=False),
        Column("through", String),
        Column("count", Integer, nullable=False),
        Column("due_at", String),
        Column("fired_at", String),
        Column("late_ms", Integer),
        Column("firing", Integer),
        Column("catch_up", Integer, nullable=False),
        Column("manual", Integer, nullable=False),
        Column("outcome", String),
        Column("crew", String),
        Column("jobs", String, nullable=False),
        Column("spawn_late_ms", Integer),
        Column("reason", String),
        Column("path", String),
    )


def _firing(event: Recorded, **fields: Any) -> Row:
    return {
        "stream": event.stream,
        "position": event.position,
        "schedule": _id(event),
        "nominal": event.data["nominal"],
        "through": None,
        "count": 1,
        "due_at": None,
        "fired_at": None,
        "late_ms": None,
        "firing": None,
        "catch_up": 0,
        "manual": 0,
        "outcome": None,
        "crew": None,
        "jobs": "[]",
        "spawn_late_ms": None,
        "reason": None,
        "path": None,
        **fields,
    }


def _firing_begun(_: Row | None, event: Recorded) -> Row:
    data = event.data
    return _firing(
        event,
        due_at=data["due_at"],
        fired_at=event.at,
        late_ms=data["late_ms"],
        firing=data["firing"],
        catch_up=int(data["catch_up"]),
        manual=int(data["manual"]),
    )


def _firing_missed(_: Row | None, event: Recorded) -> Row:
    data = event.data
    return _firing(
        event,
        through=data["through"],
        count=data["count"],
        outcome="missed",
        reason=data["reason"],
    )


def _firing_spawned(row: Row | None, event: Recorded) -> Row | None:
    if row is None:
        return None
    data = event.data
    return {
        **row,
        "outcome": "spawned",
        "crew": data["crew"],
        "jobs": orjson.dumps(data["jobs"]).decode(),
        "spawn_late_ms": data["late_ms"],
    }


def _firing_skipped(row: Row | None, event: Recorded) -> Row | None:
    if row is None:
        return None
    return {**row, "outcome": "skipped", "reason": event.data["reason"]}


def _firing_failed(row: Row | None, event: Recorded) -> Row | None:
    if row is None:
        return None
    data = event.data
    return {**row, "outcome": "failed", "reason": data["reason"], "path": data["path"]}


FIRINGS = Projection(
    name="firings",
    version=1,
    columns=_firing_columns,
    key=lambda event: event.stream,
    folds={
        "schedule.fired": _firing_begun,
        "schedule.missed": _firing_missed,
        "schedule.spawned": _firing_spawned,
        "schedule.skipped": _firing_skipped,
        "schedule.failed": _firing_failed,
    },
    passes_over=types(
        "approval crew delivery email identity job operator request token user",
        schedule="changed created deleted disabled enabled ended paused",
    ),
    births=frozenset({"schedule.fired", "schedule.missed"}),
    indexes=(("schedule", "position"), ("schedule", "outcome", "position")),
)


def find_schedule(reading: Reading, schedule_id: str) -> Row:
    """The row of one schedule. Raises ScheduleNotFound for an unknown or deleted one."""
    schedules = reading.table("schedules")
    rows = reading.rows(
        select(schedules).where(schedules.c.id == schedule_id, schedules.c.deleted == 0)
    )
    if not rows:
        raise ScheduleNotFound(schedule_id)
    return rows[0]


def list_schedules(
    reading: Reading,
    *,
    owner: str | None = None,
    cursor: str | None = None,
    limit: int | None = None,
) -> tuple[list[Row], bool]:
    """All schedules, or those of one owner, newest first, and whether there are more. The cursor is
    the id of the last one on the page before. Raises InvalidCursor for an unknown one.
    """
    schedules = reading.table("schedules")
    own = schedules.c.id.is_not(None) if owner is None else schedules.c.owner == owner
    statement = select(schedules).where(schedules.c.deleted == 0, own)
    if cursor is not None:
        # One that was deleted since is still a cursor.
        seen = reading.rows(select(schedules.c.position).where(schedules.c.id == cursor, own))
        if not seen:
            raise InvalidCursor("The cursor is not a schedule of this server.")
        statement = statement.where(schedules.c.position < seen[0]["position"])
    statement = statement.order_by(schedules.c.position.desc())
    if limit is None:
        return reading.rows(statement), False
    rows = reading.rows(statement.limit(limit + 1))
    return rows[:limit], len(rows) > limit


def list_firings(
    reading: Reading, schedule_id: str, *, before: int | None = None, limit: int
) -> tuple[list[Row], bool]:
    """The newest firings first, and whether there are more. `before` is the position of the last
    one on the page before.
    """
    firings = reading.table("firings")
    statement = select(firings).where(firings.c.schedule == schedule_id)
    if before is not None:
        statement = statement.where(firings.c.position < before)
    rows = reading.rows(statement.order_by(firings.c.position.desc()).limit(limit + 1))
    return rows[:limit], len(rows) > limit


def newest_handled(
    reading: Reading, schedule_id: str, until: str, *, after: int, limit: int
) -> list[tuple[str, int]]:
    """The times up to `until` that were fired or missed after a position, and the positions of
    their events, newest first.
    """
    firings = reading.table("firings")
    last = func.coalesce(firings.c.through, firings.c.nominal).label("last")
    rows = reading.rows(
        select(last, firings.c.position)
        .where(
            firings.c.schedule == schedule_id,
            firings.c.position > after,
            firings.c.manual == 0,
            last <= until,
        )
        .order_by(firings.c.position.desc())
        .limit(limit)
    )
    return [(row["last"], row["position"]) for row in rows]


def open_crews(reading: Reading, schedule_id: str) -> list[str]:
    """The crews of a schedule with a job that may still go on, newest first."""
    jobs = reading.table("jobs")
    newest = func.max(jobs.c.position)
    rows = reading.rows(
        select(jobs.c.crew, newest)
        .where(
            jobs.c.schedule == schedule_id,
            jobs.c.state.in_(_OPEN),
            jobs.c.stranded_by.is_(None),
        )
        .group_by(jobs.c.crew)
        .order_by(newest.desc())
    )
    return [row["crew"] for row in rows]


def used_firings(row: Row) -> int:
    """The firings of a schedule that count for its most firings."""
    return int(row["firings"] - row["excused"])


def schedule_of(row: Row) -> Schedule:
    """The aggregate, made of its row."""
    terms = {name: row[name] for name in _TERMS}
    terms |= {"catch_up": CatchUp(row["catch_up"]), "overlap": Overlap(row["overlap"])}
    return Schedule(
        id=row["id"],
        version=row["version"],
        **terms,
        **{name: orjson.loads(row[name]) for name in _JSON},
        state=ScheduleState(row["state"]),
        since=row["since"],
        kept=tuple(PendingTime.model_validate(time) for time in orjson.loads(row["kept"])),
        rule_at=row["rule_at"],
        deleted=bool(row["deleted"]),
    )
