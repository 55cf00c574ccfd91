"""When a schedule fires: five cadences, cron, RFC 5545 and a single time, in any time zone.

Rules follow the wall clock. A time in a gap fires at the first minute after the gap. A time in an
overlap fires once, in the first pass. A rule that repeats at least hourly keeps its rhythm through
both passes instead (docs/schedules.md). Everything here is pure: nothing reads a clock.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from domain.errors import BadInput, carriable
from domain.schedule.local_times import Cron, LocalTimes, Monthly, Steps, Weekly
from domain.schedule.recurring import Recurring
from domain.schedule.wall_clock import change_between, instant_of, local_of, passes_of, zone_of

FIRST = datetime(2000, 1, 1, tzinfo=UTC)
"""The start of rules without an anchor."""

LAST = datetime(2200, 1, 1, tzinfo=UTC)
"""No rule has a time after this."""

CADENCES = ("daily", "weekly", "monthly", "hourly", "minutely")

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_DEFAULT_TIME = time(9, 0)
_MINUTES_A_DAY = 1_440
_KEYS = {"cadence", "at", "days", "dayOfMonth", "everyHours", "everyMinutes"}
_SPELLINGS = {
    "day_of_month": "dayOfMonth",
    "every_hours": "everyHours",
    "every_minutes": "everyMinutes",
}


class Instants(Protocol):
    """A sequence of instants."""

    def after(self, moment: datetime) -> datetime | None:
        """The first strictly later one, in UTC; None if there are no more."""
        ...


@dataclass(frozen=True, slots=True)
class Rule:
    """When something recurs. `parse_rule` makes it."""

    spec: dict[str, Any]
    """The rule in its shortest JSON. `parse_rule` makes an equal rule of it."""
    timezone: str
    text: str
    instants: Instants

    def next_after(self, after: datetime) -> datetime | None:
        """The first time strictly after `after` (aware), in UTC; None if there are no more."""
        if after.tzinfo is None:
            raise ValueError("A time needs a zone: naive datetimes are refused.")
        if after >= LAST:
            return None
        found = self.instants.after(after.astimezone(UTC))
        return found if found is not None and found < LAST else None

    def between(self, after: datetime, until: datetime, limit: int) -> list[datetime]:
        """The first `limit` times in (`after`, `until`]."""
        found: list[datetime] = []
        for moment in self.times_after(after):
            if moment > until or len(found) >= limit:
                break
            found.append(moment)
        return found

    def times_after(self, after: datetime) -> Iterator[datetime]:
        """All times after `after`, in order. Many rules have no end."""
        moment = self.next_after(after)
        while moment is not None:
            yield moment
            moment = self.next_after(moment)

    def describe(self) -> str:
        """The rule as an English sentence."""
        return f"{self.text} ({self.timezone})."


@dataclass(frozen=True, slots=True)
class _Once:
    moment: datetime

    def after(self, moment: datetime) -> datetime | None:
        return self.moment if self.moment > moment else None


@dataclass(frozen=True, slots=True)
class _EverySoLong:
    """A step of real time, whatever wall clocks do."""

    start: datetime
    step: timedelta

    def after(self, moment: datetime) -> datetime | None:
        return self.start + ((moment - self.start) // self.step + 1) * self.step


@dataclass(frozen=True, slots=True)
class _OnWallClock:
    """Each local time means one instant."""

    times: LocalTimes
    zone: ZoneInfo

    def after(self, moment: datetime) -> datetime | None:
        local = self.times.after(local_of(moment, self.zone))
        while local is not None:
            instant = instant_of(local, self.zone)
            if instant > moment:
                return instant
            local = self.times.after(local)
        return None


@dataclass(frozen=True, slots=True)
class _InBothPasses:
    """Every time that a wall clock shows: never in a gap, twice in an overlap."""

    times: LocalTimes
    zone: ZoneInfo

    def after(self, moment: datetime) -> datetime | None:
        now = local_of(moment, self.zone)
        again = self._in_second_pass(now, moment)
        local = self.times.after(now)
        while local is not None:
            later = [instant for instant in passes_of(local, self.zone) if instant > moment]
            if later:
                return min(later[0], again) if again is not None else later[0]
            local = self.times.after(local)
        return again

    def _in_second_pass(self, now: datetime, moment: datetime) -> datetime | None:
        """From within a first pass: the first time of the second pass, which begins before
        `now`.
        """
        passes = passes_of(now, self.zone)
        if len(passes) < 2 or now.fold:
            return None
        change = change_between(moment, passes[1], self.zone)
        begin = local_of(change, self.zone).replace(fold=0)
        local = self.times.after(begin - timedelta(microseconds=1))
        # Every time after `now` in the second pass comes earlier in the first pass.
        return None if local is None or local > now else passes_of(local, self.zone)[1]


def parse_rule(rule: dict[str, Any], timezone: str, anchor: datetime = FIRST) -> Rule:
    """A rule from its JSON (docs/schedules.md). `anchor` is when it was made: rules without a start
    of their own count from there.

    Raises BadInput with the place of the mistake.
    """
    zone = zone_of(timezone)
    given = {_SPELLINGS.get(key, key): value for key, value in rule.items() if value is not None}
    kinds = [kind for kind in ("cadence", "cron", "rrule", "once") if kind in given]
    if len(kinds) != 1:
        raise BadInput("rule", "It must have exactly one of cadence, cron, rrule and once.")
    kind = kinds[0]
    allowed = _KEYS if kind == "cadence" else {kind}
    for key in given:
        if key not in allowed:
            raise BadInput(f"rule.{key[:40]}", f"A rule with {kind} has no such part.")
    if kind == "cadence":
        return _cadence(given, timezone, zone, anchor)
    text = given[kind]
    if not isinstance(text, str):
        raise BadInput(f"rule.{kind}", "It must be text.")
    # The text is kept as it was given, and its readers pass over some parts of it.
    if carriable(text) != text:
        raise BadInput(f"rule.{kind}", "A NUL or a lone surrogate is not allowed here.")
    if kind == "cron":
        return _cron(text.strip(), timezone, zone)
    if kind == "rrule":
        return _rrule(text.strip(), timezone, zone, anchor)
    return _once(text.strip(), timezone, zone)


def _cadence(given: dict[str, Any], timezone: str, zone: ZoneInfo, anchor: datetime) -> Rule:
    cadence = given["cadence"]
    if cadence not in CADENCES:
        raise BadInput("rule.cadence", f"It must be one of {', '.join(CADENCES)}.")
    at = _time(given.get("at"))
    shown = f"{at:%H:%M}"
    if cadence == "daily":
        spec = {"cadence": cadence, "at": shown}
        times: LocalTimes = Weekly(frozenset(range(7)), at)
        return Rule(spec, timezone, f"Every day at {shown}", _OnWallClock(times, zone))
    if cadence == "weekly":
        days = _days(given.get("days"))
        spec = {"cadence": cadence, "at": shown, "days": [day + 1 for day in days]}
        text = f"Every {_listed([_DAYS[day] for day in days])} at {shown}"
        return Rule(spec, timezone, text, _OnWallClock(Weekly(frozenset(days), at), zone))
    if cadence == "monthly":
        day = _number(given, "dayOfMonth", 31)
        spec = {"cadence": cadence, "at": shown, "dayOfMonth": day}
        short = ", or the last day of a shorter one," if day > 28 else ""
        text = f"On day {day} of every month{short} at {shown}"
        return Rule(spec, timezone, text, _OnWallClock(Monthly(day, at), zone))
    return _steps(given, timezone, zone, anchor)


def _steps(given: dict[str, Any], timezone: str, zone: ZoneInfo, anchor: datetime) -> Rule:
    """Hourly and minutely: from local midnight if the step divides the day, otherwise in
    real time.
    """
    hourly = given["cadence"] == "hourly"
    name, unit = ("everyHours", "hour") if hourly else ("everyMinutes", "minute")
    every = _number(given, name, 24 if hourly else 59)
    spec: dict[str, Any] = {"cadence": given["cadence"], name: every}
    text = f"Every {unit}" if every == 1 else f"Every {every} {unit}s"
    begin = time()
    if hourly and "at" in given:
        begin = _time(given["at"])
        spec["at"] = f"{begin:%H:%M}"
        text += f", counted from {begin:%H:%M}"
    minutes = every * 60 if hourly else every
    if _MINUTES_A_DAY % minutes:
        start = instant_of(datetime.combine(local_of(anchor, zone), begin), zone)
        return Rule(spec, timezone, text, _EverySoLong(start, timedelta(minutes=minutes)))
    times = Steps(minutes, (begin.hour * 60 + begin.minute) % minutes)
    instants = _InBothPasses(times, zone) if minutes <= 60 else _OnWallClock(times, zone)
    return Rule(spec, timezone, text, instants)


def _cron(text: str, timezone: str, zone: ZoneInfo) -> Rule:
    cron = Cron.parse(text)
    hourly = cron.every_hour
    instants = _InBothPasses(cron, zone) if hourly else _OnWallClock(cron, zone)
    return Rule({"cron": text}, timezone, cron.text, instants)


def _rrule(text: str, timezone: str, zone: ZoneInfo, anchor: datetime) -> Rule:
    recurring = Recurring.parse(text, timezone, zone, anchor)
    hourly = recurring.every_hour
    instants = _InBothPasses(recurring, zone) if hourly else _OnWallClock(recurring, zone)
    sentence = f"By the recurrence rule {recurring.text}"
    return Rule({"rrule": text}, timezone, sentence, instants)


def _once(text: str, timezone: str, zone: ZoneInfo) -> Rule:
    try:
        moment = datetime.fromisoformat(text).replace(microsecond=0)
        if moment.tzinfo is None:
            moment = instant_of(moment, zone)
        moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadInput("rule.once", "It must be an ISO 8601 time, like 2026-11-22T09:00.") from None
    if not FIRST <= moment < LAST:
        raise BadInput("rule.once", f"It must be between {FIRST.year} and {LAST.year}.")
    shown = local_of(moment, zone)
    sentence = f"Once at {shown:%Y-%m-%d %H:%M}"
    return Rule({"once": text}, timezone, sentence, _Once(moment))


def _time(given: Any) -> time:
    if given is None:
        return _DEFAULT_TIME
    hours, colon, minutes = given.partition(":") if isinstance(given, str) else ("", "", "")
    if colon and _digits(hours, 1) and _digits(minutes, 2):
        hour, minute = int(hours), int(minutes)
        if hour < 24 and minute < 60:
            return time(hour, minute)
    raise BadInput("rule.at", "It must be a time of day as HH:MM, from 00:00 to 23:59.")


def _digits(text: str, least: int) -> bool:
    return text.isascii() and text.isdigit() and least <= len(text) <= 2


def _number(given: dict[str, Any], name: str, most: int) -> int:
    number = given.get(name, 1)
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= most:
        raise BadInput(f"rule.{name}", f"It must be a whole number from 1 to {most}.")
    return number


def _days(given: Any) -> list[int]:
    """Weekdays from 0, in order. Given as 1 to 7 or by name, in a list or with commas."""
    items: Iterable[Any] = given if isinstance(given, list) else ()
    if isinstance(given, str):
        items = [item for item in given.split(",") if item.strip()]
    days = {_day(item, f"rule.days[{place}]") for place, item in enumerate(items)}
    if not days:
        raise BadInput("rule.days", "A weekly rule names at least one day, as in mon,wed,fri.")
    return sorted(days)


def _day(given: Any, path: str) -> int:
    text = str(given).strip().lower()
    if not isinstance(given, bool):
        if text in ("1", "2", "3", "4", "5", "6", "7"):
            return int(text) - 1
        for number, name in enumerate(_DAYS):
            if len(text) >= 3 and name.lower().startswith(text):
                return number
    raise BadInput(path, "A day is 1 (Monday) to 7 (Sunday), or a name like mon.")


def _listed(names: list[str]) -> str:
    if len(names) == 7:
        return "day"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
