"""The schedule: what can happen to one, and which commands its state allows.

The schedule's own stream, ``schedule-<id>``, holds its terms and its state. Each of its times has
a sub-stream named by it, ``schedule-<id>/20261122t090000z``: whoever makes that stream first has
dealt with that time, so a time is fired or missed once, whatever crashes or races.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any

import orjson

from domain.clock import format_time, parse_time
from domain.errors import BadInput, NotFound, WrongState
from domain.event import Event
from domain.fact import Fact, drafted
from domain.schedule.recurrence import Rule, parse_rule

FAILURES_TO_PAUSE = 5
"""Firings in a row that made no crew after which a schedule is paused."""


class ScheduleState(StrEnum):
    ACTIVE = "active"
    DISABLED = "disabled"
    """By a person."""
    PAUSED = "paused"
    """By the system, after failures in a row."""
    ENDED = "ended"
    """It has no next time."""


class CatchUp(StrEnum):
    """What becomes of times that were missed, for instance while the server was down."""

    LATEST = "latest"
    """The newest one is fired, once."""
    ALL = "all"
    """Each within a window is fired, in order."""
    NONE = "none"


class Overlap(StrEnum):
    """What a firing does while an earlier crew of the schedule still runs."""

    ALLOW = "allow"
    SKIP = "skip"
    CANCEL = "cancel"
    """The earlier one is cancelled."""


class EndReason(StrEnum):
    NO_MORE_TIMES = "no_more_times"
    END_DATE = "end_date"
    MAX_FIRINGS = "max_firings"


class MissReason(StrEnum):
    SUPERSEDED = "superseded"
    """A later time was fired in its place: catch-up is ``latest``."""
    NOT_CAUGHT_UP = "not_caught_up"
    """Catch-up is ``none``."""
    OUTSIDE_WINDOW = "outside_window"
    TOO_MANY = "too_many"
    """More were missed than are caught up at once."""
    CHANGED = "changed"
    """It had passed and was not due yet, by its jitter, when the rule was replaced by one that does
    not have it."""


class ScheduleNotFound(NotFound):
    def __init__(self, schedule_id: str) -> None:
        super().__init__("Schedule not found")
        self.schedule_id = schedule_id


class ScheduleCreated(Event, type="schedule.created"):
    """Somebody wants a template's crew at certain times. Inputs are kept as they are: no secret may
    be among them.
    """

    name: str
    template: str
    inputs: dict[str, Any]
    rule: dict[str, Any]
    timezone: str
    owner: str
    enabled: bool
    catch_up: CatchUp
    catch_up_window_ms: int
    """How old a missed time may be to be caught up, where all are."""
    overlap: Overlap
    jitter_ms: int
    ends_at: str | None
    """No time after this one is fired."""
    max_firings: int | None
    """By the rule; firings by hand are not counted."""


class ScheduleChanged(Event, type="schedule.changed"):
    """Terms changed: those fields of ``schedule.created`` that now have another value."""

    changes: dict[str, Any]
    since: str | None = None
    """Only times after this count, where it is not now: with another rule, a time that has passed,
    is not due yet, and is one of the new rule's too, is still to be fired."""


class ScheduleEnabled(Event, type="schedule.enabled"):
    """It fires at its times from now on."""


class ScheduleDisabled(Event, type="schedule.disabled"):
    """A person stopped it. Times that pass are not missed."""


class SchedulePaused(Event, type="schedule.paused"):
    """The system stopped it: so many firings in a row made no crew, or the rule cannot be read."""

    reason: str
    failures: int
    """0 where it is the rule."""


class ScheduleEnded(Event, type="schedule.ended"):
    """It has no next time."""

    reason: EndReason


class ScheduleDeleted(Event, type="schedule.deleted"):
    """A tombstone: hidden from every list and look-up. What it made stays."""


class ScheduleFired(Event, type="schedule.fired"):
    """A time has come, or somebody fired it by hand. First of its sub-stream."""

    nominal: str
    """When it should fire; by hand, when it was."""
    due_at: str
    """With the jitter."""
    late_ms: int
    """Real time past `due_at`."""
    firing: int
    """Number of firings by the rule up to this one; 0 by hand."""
    catch_up: bool
    manual: bool


class ScheduleMissed(Event, type="schedule.missed"):
    """Times that were not fired: one, or many in a row as one event. First of the sub-stream of the
    first of them.
    """

    nominal: str
    through: str
    """The last of them."""
    count: int
    reason: MissReason


class ScheduleSpawned(Event, type="schedule.spawned"):
    """The firing made a crew."""

    nominal: str
    crew: str
    jobs: list[str]
    """In dependency order."""
    late_ms: int
    """Real time from when the firing was due until its jobs were there."""
    replaced: list[str]
    """Earlier crews whose end was asked for."""


class ScheduleSkipped(Event, type="schedule.skipped"):
    """The firing made no crew, as the rules want it: ``overlap``, ``deleted``, or
    ``owner_disabled`` for a time at which the account that owns the schedule was disabled.
    """

    nominal: str
    reason: str
    crew: str | None
    """The one that still runs."""


class ScheduleFailed(Event, type="schedule.failed"):
    """The firing could not make a crew: its template is gone, or refuses the inputs."""

    nominal: str
    reason: str
    path: str | None
    """The place of the mistake."""
    manual: bool


@dataclass(frozen=True, slots=True)
class Schedule:
    """The state of one schedule, folded from its own stream. Commands return events and change
    nothing.
    """

    id: str
    version: int = 0
    name: str = ""
    template: str = ""
    inputs: dict[str, Any] = field(default_factory=dict)
    rule: dict[str, Any] = field(default_factory=dict)
    timezone: str = "UTC"
    owner: str = ""
    catch_up: CatchUp = CatchUp.LATEST
    catch_up_window_ms: int = 0
    overlap: Overlap = Overlap.ALLOW
    jitter_ms: int = 0
    ends_at: str | None = None
    max_firings: int | None = None
    state: ScheduleState = ScheduleState.ACTIVE
    since: str = ""
    """Only times after this count: when it was made, enabled, or given another rule."""
    rule_at: str = ""
    """When it was given its rule: what the rule has no start for counts from here."""
    deleted: bool = False

    @property
    def stream(self) -> str:
        return schedule_stream(self.id)

    @property
    def active(self) -> bool:
        return self.state is ScheduleState.ACTIVE and not self.deleted

    @property
    def parsed(self) -> Rule:
        return _parsed(orjson.dumps(self.rule), self.timezone, self.rule_at)

    # Its times

    def next_after(self, after: datetime, firings: int) -> datetime | None:
        """The next time after `after`, if it has one, when it has fired `firings` times."""
        if self.max_firings is not None and firings >= self.max_firings:
            return None
        found = self.parsed.next_after(after)
        if found is None or (self.ends_at is not None and found > parse_time(self.ends_at)):
            return None
        return found

    def end_reason(self, after: datetime, firings: int) -> EndReason:
        """Why there is no time after `after`."""
        if self.max_firings is not None and firings >= self.max_firings:
            return EndReason.MAX_FIRINGS
        more = self.parsed.next_after(after) is not None
        return EndReason.END_DATE if more else EndReason.NO_MORE_TIMES

    def due_at(self, nominal: datetime) -> datetime:
        """The time with its jitter: the same for the same time, and before the next time."""
        if not self.jitter_ms:
            return nominal
        window = self.jitter_ms
        following = self.parsed.next_after(nominal)
        if following is not None:
            window = min(window, (following - nominal) // timedelta(milliseconds=1) - 1)
        digest = hashlib.sha256(f"{self.id}\0{format_time(nominal)}".encode()).digest()
        return nominal + timedelta(milliseconds=int.from_bytes(digest[:8], "big") % (window + 1))

    # Commands

    def change(
        self, changes: Mapping[str, Any], now: datetime, pending: Sequence[datetime] = ()
    ) -> tuple[list[Event], list[ScheduleMissed]]:
        """Take other terms, as `checked_terms` gives them. BadInput where they leave an active
        schedule without a next time.

        `pending` are times that have passed and are still to be fired. Those of them that another
        rule has not got are missed; each with the event that says so, for its own stream.
        """
        other = {name: value for name, value in changes.items() if getattr(self, name) != value}
        if not other:
            return [], []
        event = ScheduleChanged(changes=other)
        after = evolve(self, event, self.version + 1, format_time(now))
        missed: list[ScheduleMissed] = []
        begin = now
        if pending and other.keys() & _RULE:
            just_before = pending[0] - timedelta(microseconds=1)
            if after.parsed.between(just_before, now, len(pending) + 1) == [*pending]:
                event = ScheduleChanged(changes=other, since=format_time(just_before))
                begin = just_before
            else:
                missed = [_missed(moment) for moment in pending]
        if self.active and after.next_after(begin, 0) is None:
            raise BadInput("endsAt" if "ends_at" in other else "rule", "It has no time to come.")
        return [event], missed

    def enable(self, now: datetime, firings: int) -> list[Event]:
        """Fire from the next time on. WrongState when there is none."""
        if self.state is ScheduleState.ACTIVE:
            return []
        if self.next_after(now, firings) is None:
            reason = _ENDED[self.end_reason(now, firings)]
            raise WrongState(f"The schedule has no next time: {reason}")
        return [ScheduleEnabled()]

    def disable(self) -> list[Event]:
        """Fire no more, until enabled."""
        return [] if self.state is ScheduleState.DISABLED else [ScheduleDisabled()]

    def pause(self, reason: str, failures: int) -> list[Event]:
        return [SchedulePaused(reason=reason, failures=failures)] if self.active else []

    def delete(self) -> list[Event]:
        return [ScheduleDeleted()]


_ENDED = {
    EndReason.NO_MORE_TIMES: "its rule has no more times.",
    EndReason.END_DATE: "its end date has passed.",
    EndReason.MAX_FIRINGS: "it has fired as often as it may.",
}

_RULE = frozenset({"rule", "timezone"})
"""Terms that say at which times it fires."""

_TYPED: dict[str, type[StrEnum]] = {"catch_up": CatchUp, "overlap": Overlap}


def _typed(terms: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _TYPED[name](value) if name in _TYPED else value for name, value in terms.items()}


def _created(fact: Fact) -> dict[str, Any]:
    terms = {name: value for name, value in fact.data.items() if name in _TERMS}
    state = ScheduleState.ACTIVE if fact.data["enabled"] else ScheduleState.DISABLED
    return {**_typed(terms), "state": state, "since": fact.at, "rule_at": fact.at}


_TERMS = ScheduleCreated.model_fields.keys() - {"enabled"}


def _changed(fact: Fact) -> dict[str, Any]:
    changes = _typed(fact.data["changes"])
    if changes.keys() & _RULE:
        changes |= {"since": fact.data.get("since") or fact.at, "rule_at": fact.at}
    return changes


_TRANSITIONS: dict[str, Callable[[Fact], dict[str, Any]]] = {
    ScheduleCreated.type: _created,
    ScheduleChanged.type: _changed,
    ScheduleEnabled.type: lambda fact: {"state": ScheduleState.ACTIVE, "since": fact.at},
    ScheduleDisabled.type: lambda _: {"state": ScheduleState.DISABLED},
    SchedulePaused.type: lambda _: {"state": ScheduleState.PAUSED},
    ScheduleEnded.type: lambda _: {"state": ScheduleState.ENDED},
    ScheduleDeleted.type: lambda _: {"deleted": True},
}


def changes_by(fact: Fact) -> dict[str, Any]:
    """What an event of its own stream changes of a schedule, by the field names of `Schedule`."""
    transition = _TRANSITIONS.get(fact.type)
    return {} if transition is None else transition(fact)


def evolve(schedule: Schedule, event: Event, version: int, at: str) -> Schedule:
    """The schedule after one more event of its own stream, which is drafted and not in the log
    yet.
    """
    return moved(schedule, drafted(event, version, at))


def moved(schedule: Schedule, fact: Fact) -> Schedule:
    """The schedule after one more event of its own stream."""
    return replace(schedule, version=fact.version, **changes_by(fact))


def _missed(moment: datetime) -> ScheduleMissed:
    nominal = format_time(moment)
    return ScheduleMissed(nominal=nominal, through=nominal, count=1, reason=MissReason.CHANGED)


@lru_cache(maxsize=4_096)
def _parsed(rule: bytes, timezone: str, made_at: str) -> Rule:
    return parse_rule(orjson.loads(rule), timezone, parse_time(made_at))


def schedule_stream(schedule_id: str) -> str:
    """The stream of the schedule's own events; also its subject."""
    return f"schedule-{schedule_id}"


def firing_stream(schedule_id: str, nominal: datetime, *, manual: bool = False) -> str:
    """The sub-stream of one time. By hand it has microseconds, so it is never one of the rule's."""
    form = "%Y%m%dt%H%M%S.%fz" if manual else "%Y%m%dt%H%M%Sz"
    return f"schedule-{schedule_id}/{nominal.astimezone(UTC).strftime(form)}"


def schedule_id_of(subject: str) -> str | None:
    """The schedule that a subject is about, or None for something else."""
    return subject.removeprefix("schedule-") if subject.startswith("schedule-") else None


def actor_of(schedule_id: str) -> str:
    """Who does what a schedule causes."""
    return f"schedule:{schedule_id}"
