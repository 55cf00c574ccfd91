"""The schedule: its events, and the commands that its state allows.

The schedule's own stream, ``schedule-<id>``, holds its terms and its state. Each of its times has a
sub-stream with the time in its name, ``schedule-<id>/20261122t090000z``. The first append to that
stream decides about the time, so it is fired or missed once, whatever crashes or races.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from domain.clock import format_time, parse_time
from domain.errors import BadInput, NotFound, WrongState
from domain.event import Event
from domain.fact import Fact, drafted
from domain.schedule.recurrence import Rule, parse_rule

FAILURES_TO_PAUSE = 5
"""A schedule is paused after this many firings in a row that made no crew."""

OWNER_DISABLED = "owner_disabled"
"""Why a firing is skipped whose schedule's owner is disabled."""


class ScheduleState(StrEnum):
    ACTIVE = "active"
    DISABLED = "disabled"
    """A person disabled it."""
    PAUSED = "paused"
    """The system paused it, after failures in a row."""
    ENDED = "ended"
    """It has no next time."""


class CatchUp(StrEnum):
    """What happens to times that were missed, for example while the server was down."""

    LATEST = "latest"
    """Fire the newest one, once."""
    ALL = "all"
    """Fire each one within a window, in order."""
    NONE = "none"


class Overlap(StrEnum):
    """What a firing does if an earlier crew of the schedule still runs."""

    ALLOW = "allow"
    SKIP = "skip"
    CANCEL = "cancel"
    """Cancel the earlier crew."""


class EndReason(StrEnum):
    NO_MORE_TIMES = "no_more_times"
    END_DATE = "end_date"
    MAX_FIRINGS = "max_firings"


class MissReason(StrEnum):
    SUPERSEDED = "superseded"
    """A later time was fired instead: catch-up is ``latest``."""
    NOT_CAUGHT_UP = "not_caught_up"
    """Catch-up is ``none``."""
    OUTSIDE_WINDOW = "outside_window"
    TOO_MANY = "too_many"
    """More times were missed than are caught up at once."""
    CHANGED = "changed"
    """The time had passed and was not due yet, because of its jitter, when another rule without
    this time replaced the rule.
    """
    DISABLED = "disabled"
    """The time had passed and was not due yet, because of its jitter, when the schedule was
    disabled, and it was not enabled before the time was due.
    """


class ScheduleNotFound(NotFound):
    def __init__(self, schedule_id: str) -> None:
        super().__init__("Schedule not found")
        self.schedule_id = schedule_id


class ScheduleCreated(Event, type="schedule.created"):
    """A schedule was made. Inputs are stored as they are, so they must not contain secrets."""

    name: str
    template: str
    inputs: dict[str, Any]
    rule: dict[str, Any]
    timezone: str
    owner: str
    enabled: bool
    catch_up: CatchUp
    catch_up_window_ms: int
    """How old a missed time may be to be caught up, if all are caught up."""
    overlap: Overlap
    jitter_ms: int
    ends_at: str | None
    """No time after this is fired."""
    max_firings: int | None
    """Counts firings by the rule, and neither those by hand nor those that were skipped because the
    owner was disabled.
    """


class PendingTime(BaseModel):
    """A time that has passed and is still to be fired."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    nominal: str
    due_at: str


class ScheduleChanged(Event, type="schedule.changed"):
    """Terms changed: the fields of ``schedule.created`` that have a new value."""

    changes: dict[str, Any]
    since: str | None = None
    """Only in logs of earlier versions: times up to this one do not count."""
    pending: list[PendingTime] = Field(default_factory=list)
    """Times that have passed and were not due yet, or not at this time, and are still to be fired.
    Of the others of a new rule, those up to now do not count.
    """


class ScheduleEnabled(Event, type="schedule.enabled"):
    """It fires at its times from now on."""

    pending: list[PendingTime] = Field(default_factory=list)
    """Times that passed before it was disabled, and are still to be fired."""


class ScheduleDisabled(Event, type="schedule.disabled"):
    """A person disabled it. Times that pass meanwhile do not count as missed."""

    pending: list[PendingTime] = Field(default_factory=list)
    """Times that have passed and were not due yet: they are fired if it is enabled before that."""


class SchedulePaused(Event, type="schedule.paused"):
    """The system paused it: several firings in a row made no crew, or the rule cannot be read."""

    reason: str
    failures: int
    """0 if the rule is the reason."""


class ScheduleEnded(Event, type="schedule.ended"):
    """It has no next time."""

    reason: EndReason


class ScheduleDeleted(Event, type="schedule.deleted"):
    """A tombstone: hidden from every list and look-up. The jobs that it made stay."""


class ScheduleFired(Event, type="schedule.fired"):
    """A time has come, or a person fired it by hand. First event of its sub-stream."""

    nominal: str
    """When it should fire; for a firing by hand, when it was."""
    due_at: str
    """With the jitter."""
    late_ms: int
    """Real time after `due_at`."""
    firing: int
    """Number of firings by the rule up to this one; 0 for a firing by hand."""
    catch_up: bool
    manual: bool


class ScheduleMissed(Event, type="schedule.missed"):
    """Times that were not fired: one, or several in a row as one event. First event of the
    sub-stream of the first of them.
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
    """Real time from when the firing was due until its jobs existed."""
    replaced: list[str]
    """Earlier crews that the firing cancelled."""


class ScheduleSkipped(Event, type="schedule.skipped"):
    """The firing made no crew, by rule: ``overlap``, ``deleted``, or ``owner_disabled`` if the
    schedule's owner was disabled at that time.
    """

    nominal: str
    reason: str
    crew: str | None
    """The crew that still runs."""


class ScheduleFailed(Event, type="schedule.failed"):
    """The firing could not make a crew: its template does not exist any more, or refuses the
    inputs.
    """

    nominal: str
    reason: str
    path: str | None
    """The place of the mistake."""
    manual: bool


@dataclass(frozen=True, slots=True)
class Schedule:
    """The state of one schedule, folded from its own stream. Commands return events and
    change nothing.
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
    """Only times after this count: the time when it was made, enabled, or given another rule."""
    kept: tuple[PendingTime, ...] = ()
    """Earlier times that count all the same: they had passed, and were still to be fired, when its
    terms changed, or it was disabled.
    """
    rule_at: str = ""
    """When it got its rule. Rules without a start of their own count from here."""
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

    @property
    def begin(self) -> str:
        """Only times after this are to be handled."""
        if not self.kept:
            return self.since
        return min(self.since, format_time(parse_time(self.kept[0].nominal) - _MOMENT))

    def next_after(self, after: datetime, firings: int) -> datetime | None:
        """The next time after `after` for a schedule with this many firings that count; None if
        there is none.
        """
        if self.max_firings is not None and firings >= self.max_firings:
            return None
        found = self._next(after)
        if found is None or (self.ends_at is not None and found > parse_time(self.ends_at)):
            return None
        return found

    def _next(self, after: datetime) -> datetime | None:
        if self.kept and after < parse_time(self.since):
            for kept in self.kept:
                if parse_time(kept.nominal) > after:
                    return parse_time(kept.nominal)
            if after >= parse_time(self.begin):
                after = parse_time(self.since)
        return self.parsed.next_after(after)

    def has(self, moment: datetime) -> bool:
        """Whether this is a time of its rule."""
        return self.parsed.next_after(moment - _MOMENT) == moment

    def end_reason(self, after: datetime, firings: int) -> EndReason:
        """Why there is no time after `after`."""
        if self.max_firings is not None and firings >= self.max_firings:
            return EndReason.MAX_FIRINGS
        more = self._next(after) is not None
        return EndReason.END_DATE if more else EndReason.NO_MORE_TIMES

    def due_at(self, nominal: datetime) -> datetime:
        """The time with its jitter: always the same for one time, and before the next time."""
        text = format_time(nominal)
        for kept in self.kept:
            if kept.nominal == text:
                return parse_time(kept.due_at)
        return self._jittered(nominal)

    def _jittered(self, nominal: datetime) -> datetime:
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
        """Take other terms, as `checked_terms` returns them. Raises BadInput if an active schedule
        would have no next time.

        `pending` are times that have passed and are still to be fired. Those that the new rule does
        not have are missed. Returns for each of these the event for its own stream. If the jitter
        becomes shorter, none gets late by that.
        """
        other = {name: value for name, value in changes.items() if getattr(self, name) != value}
        if not other:
            return [], []
        event = ScheduleChanged(changes=other)
        after = evolve(self, event, self.version + 1, format_time(now))
        missed: list[ScheduleMissed] = []
        kept = [*pending]
        if pending and other.keys() & _RULE:
            kept = [moment for moment in pending if after.has(moment)]
            changed = [moment for moment in pending if moment not in kept]
            missed = [_missed(moment, MissReason.CHANGED) for moment in changed]
        if kept and other.keys() & {*_RULE, "jitter_ms"}:
            times = [self._pending_in(after, moment, now) for moment in kept]
            event = ScheduleChanged(changes=other, pending=times)
        if self.active and other.keys() & {*_RULE, "ends_at"} and not after.goes_on(kept, now):
            raise BadInput("endsAt" if "ends_at" in other else "rule", "It has no next time.")
        return [event], missed

    def _pending_in(self, after: "Schedule", moment: datetime, now: datetime) -> PendingTime:
        """A time that is still to be fired, after a change: never late by the change, and before
        the next time.
        """
        due = self.due_at(moment)
        if due > now:
            if after.jitter_ms != self.jitter_ms:
                due = after._jittered(moment)
            following = after.parsed.next_after(now)
            if following is not None:
                due = min(due, following - timedelta(milliseconds=1))
            due = max(due, now)
        return PendingTime(nominal=format_time(moment), due_at=format_time(due))

    def goes_on(self, pending: Sequence[datetime], now: datetime) -> bool:
        """Whether it has a time left: one of these that are still to be fired, or a later one."""
        ends = None if self.ends_at is None else parse_time(self.ends_at)
        if any(ends is None or moment <= ends for moment in pending):
            return True
        return self.next_after(now, 0) is not None

    def enable(
        self, now: datetime, firings: int, pending: Sequence[datetime] = ()
    ) -> tuple[list[Event], list[ScheduleMissed]]:
        """Fire from the next time on. Raises WrongState if there is none.

        `pending` are times that had passed before it was disabled, and were not fired. Those that
        were due meanwhile are missed. Returns for each of these the event for its own stream.
        """
        if self.state is ScheduleState.ACTIVE:
            return [], []
        used_up = self.max_firings is not None and firings >= self.max_firings
        if self.next_after(now, firings) is None and (used_up or not pending):
            reason = _ENDED[self.end_reason(now, firings)]
            raise WrongState(f"The schedule has no next time: {reason}")
        kept = [moment for moment in pending if self.due_at(moment) >= now]
        missed = [_missed(moment, MissReason.DISABLED) for moment in pending if moment not in kept]
        return [ScheduleEnabled(pending=self._as_pending(kept))], missed

    def disable(self, pending: Sequence[datetime] = ()) -> list[Event]:
        """Stop firing, until it is enabled. `pending` are times that have passed and are still to
        be fired.
        """
        if self.state is ScheduleState.DISABLED:
            return []
        return [ScheduleDisabled(pending=self._as_pending(pending))]

    def _as_pending(self, moments: Sequence[datetime]) -> list[PendingTime]:
        return [
            PendingTime(nominal=format_time(moment), due_at=format_time(self.due_at(moment)))
            for moment in moments
        ]

    def pause(self, reason: str, failures: int) -> list[Event]:
        return [SchedulePaused(reason=reason, failures=failures)] if self.active else []

    def delete(self) -> list[Event]:
        return [ScheduleDeleted()]


_ENDED = {
    EndReason.NO_MORE_TIMES: "its rule has no more times.",
    EndReason.END_DATE: "its end date has passed.",
    EndReason.MAX_FIRINGS: "it has fired as often as it may.",
}

_MOMENT = timedelta(microseconds=1)
_RULE = frozenset({"rule", "timezone"})
"""The terms that decide at which times it fires."""

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
    kept = _kept(fact)
    if changes.keys() & _RULE:
        since = fact.data.get("since") or fact.at
        changes |= {"since": since, "rule_at": fact.at, "kept": kept}
    return changes | {"kept": kept} if kept else changes


def _kept(fact: Fact) -> tuple[PendingTime, ...]:
    return tuple(PendingTime.model_validate(time) for time in fact.data.get("pending", ()))


_TRANSITIONS: dict[str, Callable[[Fact], dict[str, Any]]] = {
    ScheduleCreated.type: _created,
    ScheduleChanged.type: _changed,
    ScheduleEnabled.type: lambda fact: {
        "state": ScheduleState.ACTIVE,
        "since": fact.at,
        "kept": _kept(fact),
    },
    ScheduleDisabled.type: lambda fact: {"state": ScheduleState.DISABLED, "kept": _kept(fact)},
    SchedulePaused.type: lambda _: {"state": ScheduleState.PAUSED},
    ScheduleEnded.type: lambda _: {"state": ScheduleState.ENDED},
    ScheduleDeleted.type: lambda _: {"deleted": True},
}


def changes_by(fact: Fact) -> dict[str, Any]:
    """What an event of the schedule's stream changes, by the field names of `Schedule`."""
    transition = _TRANSITIONS.get(fact.type)
    return {} if transition is None else transition(fact)


def is_excused(fact: Fact) -> bool:
    """Whether an event says that a firing does not count for the most firings."""
    return fact.type == ScheduleSkipped.type and fact.data["reason"] == OWNER_DISABLED


def evolve(schedule: Schedule, event: Event, version: int, at: str) -> Schedule:
    """The schedule after one more event of its own stream, which is drafted and not yet in
    the log.
    """
    return moved(schedule, drafted(event, version, at))


def moved(schedule: Schedule, fact: Fact) -> Schedule:
    """The schedule after one more event of its own stream."""
    return replace(schedule, version=fact.version, **changes_by(fact))


def _missed(moment: datetime, reason: MissReason) -> ScheduleMissed:
    nominal = format_time(moment)
    return ScheduleMissed(nominal=nominal, through=nominal, count=1, reason=reason)


@lru_cache(maxsize=4_096)
def _parsed(rule: bytes, timezone: str, made_at: str) -> Rule:
    return parse_rule(orjson.loads(rule), timezone, parse_time(made_at))


def schedule_stream(schedule_id: str) -> str:
    """The stream of the schedule's own events; also its subject."""
    return f"schedule-{schedule_id}"


def firing_stream(schedule_id: str, nominal: datetime, *, manual: bool = False) -> str:
    """The sub-stream of one time. A firing by hand has microseconds in it, so it never equals a
    time of the rule.
    """
    form = "%Y%m%dt%H%M%S.%fz" if manual else "%Y%m%dt%H%M%Sz"
    return f"schedule-{schedule_id}/{nominal.astimezone(UTC).strftime(form)}"


def schedule_id_of(subject: str) -> str | None:
    """The schedule that a subject is about; None for a subject of another kind."""
    return subject.removeprefix("schedule-") if subject.startswith("schedule-") else None


def actor_of(schedule_id: str) -> str:
    """The actor of everything that a schedule causes."""
    return f"schedule:{schedule_id}"
