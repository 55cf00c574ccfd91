"""The clock: fires schedules at their times. It only appends ``schedule.fired`` and the like.

Its memory is made from the views at each start. It is not needed to fire each time only once: the
time names a sub-stream, and a second append to it fails.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic

from sqlalchemy import select

from domain.clock import Clock, format_time, parse_time, system_clock
from domain.draft import Draft
from domain.errors import BadInput, LogUnavailable, VersionConflict
from domain.log import Context, EventLog, Recorded
from domain.schedule.aggregate import (
    EndReason,
    Schedule,
    ScheduleEnabled,
    ScheduleEnded,
    ScheduleFired,
    ScheduleMissed,
    ScheduleState,
    actor_of,
    changes_by,
    firing_stream,
    is_excused,
    schedule_id_of,
)
from domain.schedule.catch_up import GRACE, Due, Missed, settle
from domain.schedule.commands import fold
from projections.engine import Views
from projections.people import is_disabled
from projections.reading import ViewsUnavailable
from projections.schedules import newest_handled, schedule_of
from scheduler.follower import Follower
from scheduler.policies.timers import Timers

logger = logging.getLogger("crewlog.clock")

_OUTCOMES = ("schedule.spawned", "schedule.skipped", "schedule.failed")
_FOLLOWED = (
    "schedule.created",
    "schedule.changed",
    "schedule.enabled",
    "schedule.disabled",
    "schedule.paused",
    "schedule.ended",
    "schedule.deleted",
    "schedule.fired",
    "schedule.missed",
    *_OUTCOMES,
)
_RETRY_S = 0.5
_CONFLICT_S = 0.05
_BROKEN_S = 60.0
_MOST_PASSED = 500_000
_MOST_AT_ONCE = 2_000
"""More events than one clock that is ahead writes of a schedule's passed times."""
_BREATH_S = 0.01
"""The longest computation without letting other tasks run."""


@dataclass(slots=True)
class _Watched:
    """A schedule, and how far its firings have got."""

    schedule: Schedule
    firings: int = 0
    excused: int = 0
    """Firings that do not count, because the owner was disabled."""
    waits: bool = False
    """Whether it may not fire until it is known which of its firings count."""
    reached: str = ""
    """The last time that was fired or missed."""
    changed_at: str = ""
    """When the schedule's own state last changed."""
    busy: bool = False
    resumed: datetime | None = None
    """Where it goes on after the machine's clock was ahead; None if it was not."""

    @property
    def handled(self) -> datetime:
        """Up to here no time counts, or each was handled."""
        return parse_time(max(self.schedule.begin, self.reached))

    @property
    def used(self) -> int:
        """The firings that count for the most firings."""
        return self.firings - self.excused

    def is_ahead(self, now: datetime) -> bool:
        """Whether a handled time lies in the future, by any span, so that the clock was ahead, and
        it is not known yet where it goes on.
        """
        return self.resumed is None and self.handled > now

    def after(self, now: datetime) -> datetime:
        """The time after which times are still to be handled."""
        if self.resumed is not None and self.resumed >= self.handled:
            self.resumed = None
        if self.resumed is None:
            return now if self.is_ahead(now) else self.handled
        return self.resumed

    def change(self, schedule: Schedule, at: str) -> None:
        """Take the schedule after an event of its own stream."""
        if schedule.since != self.schedule.since:
            # From now on other times count, so where the ones before went on says nothing.
            self.resumed = None
        self.schedule, self.changed_at = schedule, at

    def next(self, now: datetime) -> datetime | None:
        """The first time that is still to be handled. It may have passed."""
        return self.schedule.next_after(self.after(now), self.used)

    def reach(self, nominal: str, firings: int) -> None:
        self.reached = max(self.reached, nominal)
        if self.resumed is not None and parse_time(nominal) < parse_time(self.reached):
            self.resumed = max(self.resumed, parse_time(nominal))
        self.firings = max(self.firings, firings)


class _Breath:
    """Lets other tasks run during a long computation."""

    def __init__(self) -> None:
        self._since = monotonic()

    async def now_and_then(self) -> None:
        if monotonic() - self._since >= _BREATH_S:
            await asyncio.sleep(0)
            self._since = monotonic()


async def _read_rule(schedule: Schedule) -> None:
    """Parse its rule, which is then remembered. Not on the loop: a rule that counts its times is
    walked to the last one. Raises BadInput.
    """
    if schedule.active:
        await asyncio.to_thread(lambda: schedule.parsed)


class ScheduleClock:
    """Watches every schedule of a log. One clock for each log is enough; two do no harm."""

    name = "clock"

    def __init__(
        self,
        log: EventLog,
        views: Views,
        timers: Timers,
        clock: Clock = system_clock,
        *,
        look_s: float = 30.0,
    ) -> None:
        """Every `look_s` seconds it checks whether the wall clock was set back."""
        self._log = log
        self._look_s = look_s
        self._views = views
        self._timers = timers
        self._clock = clock
        self._watched: dict[str, _Watched] = {}
        self.follower = Follower(log, self.name, _FOLLOWED, self._follow, begin=self._take_over)

    async def run(self) -> None:
        """Take over from the views, catch up missed times, then follow the log until cancelled.
        Survives every failure of the log. Start the timers first.
        """
        watching = asyncio.create_task(self._watch_wall_clock(), name="wall clock")
        try:
            await self.follower.run()
        finally:
            watching.cancel()

    async def _watch_wall_clock(self) -> None:
        """Timers are for instants: if the clock is set back, the real times come earlier
        than theirs.
        """
        seen = self._clock()
        while True:
            await asyncio.sleep(self._look_s)
            now = self._clock()
            if now < seen - GRACE:
                logger.warning("The clock was set back: all next times are computed anew.")
                for watched in list(self._watched.values()):
                    if not watched.busy:
                        await self._arm(watched)
            seen = now

    async def _take_over(self) -> int:
        await self._views.caught_up(timeout_s=60.0)
        with self._views.reading() as reading:
            schedules = reading.table("schedules")
            rows = reading.rows(select(schedules).where(schedules.c.deleted == 0))
            position = reading.positions["schedules"]
        breath = _Breath()
        for row in rows:
            watched = _Watched(
                schedule_of(row),
                row["firings"],
                row["excused"],
                reached=row["last_nominal"] or "",
                changed_at=row["updated_at"],
            )
            self._watched[row["id"]] = watched
            await self._arm(watched)
            await breath.now_and_then()
        return position

    async def _follow(self, event: Recorded) -> None:
        schedule_id = schedule_id_of(event.subject)
        if schedule_id is None:
            return
        watched = self._watched.get(schedule_id)
        if watched is None:
            watched = self._watched[schedule_id] = _Watched(Schedule(schedule_id))
        if event.type == "schedule.fired":
            if event.data["manual"]:
                return
            before = watched.reached
            watched.reach(event.data["nominal"], event.data["firing"])
            changed = watched.reached != before
        elif event.type == "schedule.missed":
            before = watched.reached
            watched.reach(event.data["through"], 0)
            changed = watched.reached != before
        elif event.type in _OUTCOMES:
            watched.excused += is_excused(event)
            changed, watched.waits = watched.waits, False
        else:
            watched.waits = False
            changed = event.version > watched.schedule.version
            if changed:
                watched.change(fold(schedule_id, [event], watched.schedule), event.at)
        if changed and not watched.busy:
            await self._arm(watched)
        if watched.schedule.deleted:
            self._watched.pop(schedule_id, None)

    async def _arm(self, watched: _Watched, not_before: datetime | None = None) -> None:
        # A fault in the rule is found and reported by the firing, which is then due at once.
        with contextlib.suppress(Exception):
            await self._reopen(watched)
            await _read_rule(watched.schedule)
            await self._look_back(watched)
        schedule = watched.schedule
        key = schedule.stream
        if not schedule.active or watched.waits:
            self._timers.cancel(key)
            return
        due = self._clock()
        with contextlib.suppress(Exception):
            nominal = watched.next(due)
            due = schedule.due_at(nominal) if nominal is not None else due
        if not_before is not None:
            due = max(due, not_before)

        async def fire() -> None:
            await self._fire(watched)

        self._timers.at(key, due, fire)

    async def _look_back(self, watched: _Watched) -> None:
        """If the clock was ahead: find the last real time that was handled. It goes on from there,
        as if the clock had been right, so that no start of the server loses what came meanwhile.
        """
        now = self._clock()
        schedule = watched.schedule
        if not schedule.active or not watched.is_ahead(now):
            return
        known = [parse_time(schedule.begin), await self._last_real(schedule, now)]
        watched.resumed = max((at for at in known if at is not None and at <= now), default=now)
        logger.warning(
            "The clock was ahead: %s is already at %s. It goes on with the next time after %s.",
            schedule.stream,
            format_time(watched.handled),
            format_time(watched.resumed),
        )

    async def _last_real(self, schedule: Schedule, now: datetime) -> datetime | None:
        """The last time up to now that was handled while the clock was right, since the schedule's
        times count. A clock that was ahead may have recorded times up to now as missed as well.
        """
        own = await self._log.stream(schedule.stream)
        begun = max((event.position for event in own if "since" in changes_by(event)), default=0)
        until = format_time(now)
        with self._views.reading() as reading:
            found = newest_handled(reading, schedule.id, until, after=begun, limit=_MOST_AT_ONCE)
        for nominal, position in found:
            event = await self._log.event_at(position)
            if event is not None and parse_time(event.at) <= now + GRACE:
                return parse_time(nominal)
        return None

    async def _reopen(self, watched: _Watched) -> None:
        """Enable a schedule again that a clock has ended that was ahead, if it has a real time
        left that was not fired.
        """
        schedule, now = watched.schedule, self._clock()
        ended = schedule.state is ScheduleState.ENDED and not schedule.deleted
        if not ended or parse_time(watched.changed_at) <= now:
            return
        nominal = await asyncio.to_thread(schedule.next_after, now, watched.used)
        for _ in range(_MOST_AT_ONCE):
            if nominal is None or not await self._is_fired(watched, nominal):
                break
            nominal = schedule.next_after(nominal, watched.used)
        if nominal is None:
            return
        draft = Draft(Context(actor=actor_of(schedule.id)), self._clock)
        draft.add(schedule.stream, schedule.version, [ScheduleEnabled()])
        try:
            recorded = await self._log.append(draft.events, draft.expected)
        except VersionConflict:  # somebody changed it: the log will tell
            return
        logger.warning(
            "The clock was ahead when it ended %s at %s. It is enabled again and goes on at %s.",
            schedule.stream,
            watched.changed_at,
            format_time(nominal),
        )
        self._take(watched, recorded)

    async def _fire(self, watched: _Watched) -> None:
        """Handle every passed time of one schedule, and set the timer for the next."""
        if watched.busy:
            return
        watched.busy = True
        wait_s = 0.0
        try:
            await self._deal_with_passed(watched)
        except VersionConflict:
            # Somebody else fired it, or changed the schedule: the log will tell.
            wait_s = _CONFLICT_S
        except (LogUnavailable, ViewsUnavailable) as error:
            logger.error("The clock waits for the log: %s", error)
            wait_s = _RETRY_S
        except Exception:
            logger.exception("%s could not be fired", watched.schedule.stream)
            wait_s = _BROKEN_S
        finally:
            watched.busy = False
        await self._arm(watched, self._clock() + timedelta(seconds=wait_s) if wait_s else None)

    async def _deal_with_passed(self, watched: _Watched) -> None:
        schedule = watched.schedule
        if not schedule.active:
            return
        now = self._clock()
        draft = Draft(Context(actor=actor_of(schedule.id)), self._clock)
        # If the schedule has changed without this clock having seen it, the append fails.
        draft.expected[schedule.stream] = schedule.version
        try:
            await _read_rule(schedule)  # fails here, and not in the middle of its times
        except BadInput as error:
            # The rule was valid when it was given. Its zone may be missing on this machine, for
            # example.
            reason = f"This server cannot read its rule: {error}"
            draft.add(schedule.stream, schedule.version, schedule.pause(reason, 0))
            self._take(watched, await self._log.append(draft.events, draft.expected))
            return
        await self._look_back(watched)
        passed, following = await self._passed(watched, now)
        if following is not None and not passed:
            return
        window = timedelta(milliseconds=schedule.catch_up_window_ms)
        settled = settle(passed, now, schedule.catch_up, window)
        fire = settled.fire
        if schedule.max_firings is not None:
            fire = fire[: max(0, schedule.max_firings - watched.used)]
        for missed in settled.missed:
            await self._miss(draft, watched, missed)
        for number, due in enumerate(fire, watched.firings + 1):
            await self._fire_one(draft, watched, due, number, now)
        firings, used = watched.firings + len(fire), watched.used + len(fire)
        last = passed[-1].nominal if passed else watched.after(now)
        if following is None or schedule.next_after(last, used) is None:
            reason = schedule.end_reason(last, used)
            if reason is EndReason.MAX_FIRINGS and await self._may_go_on(watched, fire):
                last = fire[-1].nominal if fire else last
            else:
                draft.add(schedule.stream, schedule.version, [ScheduleEnded(reason=reason)])
        if not draft:
            return
        recorded = await self._log.append(draft.events, draft.expected)
        watched.reach(format_time(last), firings)
        self._take(watched, recorded)

    async def _may_go_on(self, watched: _Watched, fire: Sequence[Due]) -> bool:
        """Whether firings that would be the last may not count, because the owner is disabled. Then
        it waits until each has its outcome.
        """
        watched.waits = True  # an outcome that comes meanwhile ends the wait
        await self._views.caught_up()
        with self._views.reading() as reading:
            waits = is_disabled(reading, watched.schedule.owner)
        if waits and not fire:
            reached = parse_time(watched.reached)
            last = await self._log.last_of_stream(firing_stream(watched.schedule.id, reached))
            waits = last is not None and last.type == ScheduleFired.type
        if not waits:
            watched.waits = False
        return waits

    def _take(self, watched: _Watched, recorded: Sequence[Recorded]) -> None:
        """Fold in what was appended now, before the log reports it."""
        own = [event for event in recorded if event.stream == watched.schedule.stream]
        if own and own[0].version == watched.schedule.version + 1:
            watched.change(fold(watched.schedule.id, own, watched.schedule), own[-1].at)

    async def _passed(self, watched: _Watched, now: datetime) -> tuple[list[Due], datetime | None]:
        """The times that are due, in order, and the one after them."""
        schedule, used = watched.schedule, watched.used
        passed: list[Due] = []
        nominal = watched.next(now)
        breath = _Breath()
        while nominal is not None and (due := schedule.due_at(nominal)) <= now:
            if await self._was_fired(watched, nominal):
                watched.resumed = nominal
            else:
                passed.append(Due(nominal, due))
            if len(passed) >= _MOST_PASSED:
                break
            await breath.now_and_then()
            nominal = schedule.next_after(nominal, used)
        return passed, nominal

    async def _was_fired(self, watched: _Watched, nominal: datetime) -> bool:
        """Whether this time was fired while the clock was ahead. If it was only missed, it
        is fired now.
        """
        return watched.resumed is not None and await self._is_fired(watched, nominal)

    async def _is_fired(self, watched: _Watched, nominal: datetime) -> bool:
        stream = firing_stream(watched.schedule.id, nominal)
        return bool(await self._log.stream(stream, types=(ScheduleFired.type,)))

    async def _version(self, watched: _Watched, nominal: datetime) -> int:
        """The version of a time's stream: 0, unless the clock was ahead and the time was
        recorded as missed. If another clock has fired it meanwhile, the append fails.
        """
        if watched.resumed is None:
            return 0
        last = await self._log.last_of_stream(firing_stream(watched.schedule.id, nominal))
        return last.version if last is not None and last.type == ScheduleMissed.type else 0

    async def _miss(self, draft: Draft, watched: _Watched, missed: Missed) -> None:
        event = ScheduleMissed(
            nominal=format_time(missed.nominal),
            through=format_time(missed.through),
            count=missed.count,
            reason=missed.reason,
        )
        version = await self._version(watched, missed.nominal)
        draft.add(firing_stream(watched.schedule.id, missed.nominal), version, [event])

    async def _fire_one(
        self, draft: Draft, watched: _Watched, moment: Due, number: int, now: datetime
    ) -> None:
        nominal, due = moment
        event = ScheduleFired(
            nominal=format_time(nominal),
            due_at=format_time(due),
            late_ms=max(0, (now - due) // timedelta(milliseconds=1)),
            firing=number,
            catch_up=now - due > GRACE,
            manual=False,
        )
        version = await self._version(watched, nominal)
        draft.add(firing_stream(watched.schedule.id, nominal), version, [event])
