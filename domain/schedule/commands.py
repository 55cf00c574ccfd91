"""Commands on schedules: load the aggregate, let it decide, append what it decided."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from domain.clock import Clock, format_time, parse_time, system_clock
from domain.decide import decide as decided
from domain.draft import Draft
from domain.entropy import uuid4
from domain.errors import BadInput, PreconditionFailed
from domain.event import Event
from domain.folded import FoldedStreams
from domain.log import Context, EventLog, Recorded, new_events
from domain.schedule.aggregate import (
    CatchUp,
    Overlap,
    Schedule,
    ScheduleCreated,
    ScheduleMissed,
    ScheduleNotFound,
    evolve,
    firing_stream,
    moved,
    schedule_stream,
)
from domain.schedule.catch_up import GRACE
from domain.schedule.recurrence import parse_rule

LONGEST_NAME = 200
LONGEST_JITTER_MS = 3_600_000
LONGEST_WINDOW_MS = 31 * 86_400_000
DEFAULT_WINDOW_MS = 86_400_000
MOST_FIRINGS = 1_000_000_000

DEFAULTS: dict[str, Any] = {
    "inputs": {},
    "timezone": "UTC",
    "catch_up": CatchUp.LATEST,
    "catch_up_window_ms": DEFAULT_WINDOW_MS,
    "overlap": Overlap.ALLOW,
    "jitter_ms": 0,
    "ends_at": None,
    "max_firings": None,
}
"""Defaults for the terms of a schedule."""

_MOST_PENDING = 200

Decide = Callable[[Schedule], list[Event]]
"""Pure: it runs in a thread."""


@dataclass(frozen=True, slots=True)
class ChangedSchedule:
    """The schedule after a command, and the position of its newest event."""

    schedule: Schedule
    position: int


class Schedules:
    """The schedules of one log."""

    def __init__(self, log: EventLog, clock: Clock = system_clock) -> None:
        self._log = log
        self._clock = clock
        self._folded = FoldedStreams(log, fold, schedule_stream)

    def find(self, schedule_id: str) -> Schedule:
        """The schedule, folded from its own stream, even if it was deleted. Raises
        ScheduleNotFound.
        """
        schedule = self._folded.latest(schedule_id).state
        if schedule.version == 0:
            raise ScheduleNotFound(schedule_id)
        return schedule

    def load(self, schedule_id: str) -> Schedule:
        """`find`, but a deleted schedule raises ScheduleNotFound."""
        schedule = self.find(schedule_id)
        if schedule.deleted:
            raise ScheduleNotFound(schedule_id)
        return schedule

    async def create(
        self, terms: Mapping[str, Any], owner: str, context: Context, *, enabled: bool = True
    ) -> ChangedSchedule:
        """Make a schedule of terms as `checked_terms` returns them, with `DEFAULTS` for the rest.

        Raises BadInput if a required term is missing or the rule has no time in the future.
        """
        for name in ("name", "template", "rule"):
            if name not in terms:
                raise BadInput("templateId" if name == "template" else name, "This is required.")
        now = self._clock()
        created = ScheduleCreated(owner=owner, enabled=enabled, **{**DEFAULTS, **terms})
        schedule_id = uuid4()
        schedule = evolve(Schedule(schedule_id), created, 1, format_time(now))
        await asyncio.to_thread(_require_time, schedule, now)
        events = new_events(schedule.stream, [created], context, self._clock)
        recorded = await self._log.append(events, {schedule.stream: 0})
        return ChangedSchedule(fold(schedule_id, recorded), recorded[-1].position)

    async def change(
        self,
        schedule_id: str,
        terms: Mapping[str, Any],
        context: Context,
        *,
        if_match: int | None = None,
    ) -> ChangedSchedule:
        """Change terms; the next time is computed anew. A time that has passed and was not due yet
        is fired if the new rule has it too; otherwise it is missed, with an event. Raises
        ScheduleNotFound, BadInput.
        """

        def decide(schedule: Schedule, draft: Draft) -> None:
            now = self._clock()
            changes = checked_terms(terms, schedule)
            events, missed = schedule.change(changes, now, self._pending(schedule, now))
            _add(draft, schedule, events, missed)

        return await self._append(schedule_id, decide, context, if_match)

    def _pending(self, schedule: Schedule, now: datetime) -> list[datetime]:
        """Passed times that are not yet fired or missed: their jitter has not passed, or the clock
        has not got to them.
        """
        passed = [parse_time(kept.nominal) for kept in schedule.kept]
        longest = timedelta(milliseconds=schedule.jitter_ms) + GRACE
        begin = max([parse_time(schedule.since), now - longest, *passed])
        try:
            if schedule.active:
                passed += schedule.parsed.between(begin, now, _MOST_PENDING)
        except BadInput:  # this server cannot read the rule, so it has no times
            return []
        return [
            moment
            for moment in passed
            if self._log.blocking.first_of_stream(firing_stream(schedule.id, moment)) is None
        ]

    async def enable(
        self, schedule_id: str, firings: int, context: Context, *, if_match: int | None = None
    ) -> ChangedSchedule:
        """Let it fire from its next time on. `firings` is how often it has fired. A time that had
        passed before it was disabled, and is not due yet, is fired, too; if it was due meanwhile,
        it is missed, with an event. Raises WrongState if it has no next time.
        """

        def decide(schedule: Schedule, draft: Draft) -> None:
            now = self._clock()
            events, missed = schedule.enable(now, firings, self._pending(schedule, now))
            _add(draft, schedule, events, missed)

        return await self._append(schedule_id, decide, context, if_match)

    async def disable(
        self, schedule_id: str, context: Context, *, if_match: int | None = None
    ) -> ChangedSchedule:
        """Let it fire no more until it is enabled."""
        return await self.execute(
            schedule_id,
            lambda schedule: schedule.disable(self._pending(schedule, self._clock())),
            context,
            if_match=if_match,
        )

    async def execute(
        self, schedule_id: str, decide: Decide, context: Context, *, if_match: int | None = None
    ) -> ChangedSchedule:
        """Let the schedule decide and append its events. Decides again if another writer was first.

        Raises ScheduleNotFound, what `decide` raises, and PreconditionFailed if `if_match` is not
        the present version.
        """

        def drafted(schedule: Schedule, draft: Draft) -> None:
            draft.add(schedule.stream, schedule.version, decide(schedule))

        return await self._append(schedule_id, drafted, context, if_match)

    async def _append(
        self,
        schedule_id: str,
        decide: Callable[[Schedule, Draft], None],
        context: Context,
        if_match: int | None,
    ) -> ChangedSchedule:
        def decision(draft: Draft) -> Schedule:
            schedule = self.load(schedule_id)
            if if_match is not None and schedule.version != if_match:
                raise PreconditionFailed(
                    f"The schedule is at version {schedule.version}, not {if_match}: read it again."
                )
            decide(schedule, draft)
            return schedule

        # Finding the next time of a rule may take long.
        schedule, recorded = await decided(self._log, decision, context, self._clock, long=True)
        if not recorded:
            return ChangedSchedule(schedule, await self._log.last_about(schedule.stream))
        own = [event for event in recorded if event.stream == schedule.stream]
        return ChangedSchedule(fold(schedule_id, own, schedule), recorded[-1].position)


def _add(
    draft: Draft, schedule: Schedule, events: Sequence[Event], missed: Sequence[ScheduleMissed]
) -> None:
    draft.add(schedule.stream, schedule.version, events)
    for one in missed:
        draft.add(firing_stream(schedule.id, parse_time(one.nominal)), 0, [one])


def _require_time(schedule: Schedule, now: datetime) -> None:
    if schedule.next_after(now, 0) is None:
        path = "rule" if schedule.parsed.next_after(now) is None else "endsAt"
        raise BadInput(path, "It has no next time.")


def fold(
    schedule_id: str, events: Sequence[Recorded], schedule: Schedule | None = None
) -> Schedule:
    """The schedule after these events of its own stream."""
    schedule = schedule or Schedule(schedule_id)
    for recorded in events:
        schedule = moved(schedule, recorded)
    return schedule


def checked_terms(given: Mapping[str, Any], now: Schedule | None = None) -> dict[str, Any]:
    """Terms by the field names of ``schedule.created``, checked and in their stored form. `now` is
    the schedule to change. Raises BadInput with the place, in the spelling of the API.
    """
    terms = dict(given)
    if "name" in terms and not 1 <= len(terms["name"].strip()) <= LONGEST_NAME:
        raise BadInput("name", f"A name has 1 to {LONGEST_NAME} characters.")
    if "rule" in terms or "timezone" in terms:
        rule = terms.get("rule", now.rule if now else {})
        timezone = terms.get("timezone", now.timezone if now else DEFAULTS["timezone"])
        spec = parse_rule(rule, timezone).spec
        if "rule" in terms:
            terms["rule"] = spec
    if "catch_up" in terms:
        terms["catch_up"] = _choice(CatchUp, terms["catch_up"], "catchUp")
    if "overlap" in terms:
        terms["overlap"] = _choice(Overlap, terms["overlap"], "overlap")
    _check_range(terms, "catch_up_window_ms", "catchUp", 1_000, LONGEST_WINDOW_MS)
    _check_range(terms, "jitter_ms", "jitterS", 0, LONGEST_JITTER_MS)
    _check_range(terms, "max_firings", "maxFirings", 1, MOST_FIRINGS)
    if terms.get("ends_at") is not None:
        terms["ends_at"] = format_time(_moment(terms["ends_at"]))
    return terms


def _choice(kind: type[CatchUp] | type[Overlap], given: Any, path: str) -> CatchUp | Overlap:
    try:
        return kind(given)
    except ValueError:
        raise BadInput(path, f"It must be one of {', '.join(kind)}.") from None


def _check_range(terms: Mapping[str, Any], name: str, path: str, least: int, most: int) -> None:
    value = terms.get(name)
    if value is not None and not least <= value <= most:
        seconds = name.endswith("_ms")
        shown = (least / 1000, most / 1000) if seconds else (least, most)
        unit = " seconds" if seconds else ""
        raise BadInput(path, f"It must be between {shown[0]:g} and {shown[1]:g}{unit}.")


def _moment(text: Any) -> datetime:
    try:
        return parse_time(text)
    except (TypeError, ValueError, OverflowError):
        raise BadInput(
            "endsAt", "It must be an ISO 8601 time with its offset, such as 2026-12-31T00:00:00Z."
        ) from None
