"""Recurrence rules of RFC 5545, as rows of local times."""

import re
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from itertools import groupby, islice
from zoneinfo import ZoneInfo

from domain.errors import BadInput
from domain.schedule.calendar_days import WEEKDAYS, CalendarDays, week_of
from domain.schedule.wall_clock import local_of

LONGEST_TEXT = 1_000
MOST_COUNTED = 10_000

_DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)
_HORIZON = timedelta(days=3_653)
"""A rule without a time in this long is taken to have none: searching on could take for ever."""
_MOST_DAYS = 1_100
"""Matching days after which the search for such a rule stops; no interval is longer."""
_LAST = datetime(2200, 1, 3)
"""Nothing is searched for after this: no rule has a time then, in any zone."""
_LONGEST_STEP = timedelta(days=366)
_MINUTES_A_DAY = 1_440

_START = re.compile(r"DTSTART((?:;[^:;]+)*):(\S+)", re.IGNORECASE)
_MOMENT = re.compile(r"[0-9]{8}(?:T[0-9]{6}Z?)?")
"""A DATE or a DATE-TIME."""
_STEPS = {
    "MINUTELY": timedelta(minutes=1),
    "HOURLY": timedelta(hours=1),
    "DAILY": _DAY,
    "WEEKLY": 7 * _DAY,
}
_BY_DAYS = frozenset({"MONTHLY", "YEARLY", "WEEKLY"})
"""Frequencies with a step of several days."""
_ALL = frozenset(_BY_DAYS | _STEPS.keys())

_DATES = frozenset({"BYWEEKNO", "BYYEARDAY", "BYMONTHDAY", "BYDAY"})
_TIMES = frozenset({"BYHOUR", "BYMINUTE"})
_WEEKDAY = re.compile(r"(?:[-+]?([0-9]{1,2}))?(MO|TU|WE|TH|FR|SA|SU)")
_NUMBER = re.compile(r"([-+]?)([0-9]{1,3})")


@dataclass(frozen=True, slots=True)
class _By:
    """The values of a part ``BY...`` (RFC 5545 section 3.3.10), and the FREQs that allow it."""

    least: int
    most: int
    signed: bool = False
    """Negative values count from the end: -1 is the last."""
    beside: frozenset[str] = _ALL


BY: Mapping[str, _By] = {
    "BYMONTH": _By(1, 12),
    "BYWEEKNO": _By(1, 53, signed=True, beside=frozenset({"YEARLY"})),
    "BYYEARDAY": _By(1, 366, signed=True, beside=frozenset({"YEARLY", "HOURLY", "MINUTELY"})),
    "BYMONTHDAY": _By(1, 31, signed=True, beside=_ALL - {"WEEKLY"}),
    "BYHOUR": _By(0, 23),
    "BYMINUTE": _By(0, 59),
    "BYSETPOS": _By(1, 366, signed=True),
}
"""The parts that take numbers. BYDAY is the other one."""

_PARTS = frozenset({"FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", "BYDAY", *BY})


@dataclass(frozen=True, slots=True)
class Recurring:
    """One rule from its start. `parse` makes it.

    It goes day by day, and within a day along a table of minutes: a walk through every hour and
    minute could block the server for seconds.
    """

    text: str
    frequency: str
    interval: int
    start: datetime
    """Its steps count from here, and what it does not say for itself is taken from here."""
    begins: bool
    """Whether it has no time before its start. A rule that names no start and counts nothing goes
    on in both directions: its schedule knows from when on its times count, and the clock that set
    the start may have been ahead.
    """
    days: CalendarDays
    """The days on which it may have a time."""
    minutes: tuple[int, ...]
    """The minutes of such a day, in order, including those of steps that its interval leaves
    out.
    """
    allowed: frozenset[int]
    """The same minutes, as a set."""
    positions: frozenset[int] | None
    """The positions of BYSETPOS, if they count the times of several days."""
    until: datetime | None
    """Its last time at most. A rule that counts its times has its last one here."""
    every_hour: bool

    @classmethod
    def parse(cls, text: str, timezone: str, zone: ZoneInfo, anchor: datetime) -> "Recurring":
        """Raises BadInput at ``rule.rrule``. Without DTSTART the rule starts with the first minute
        after `anchor`.
        """
        if len(text) > LONGEST_TEXT:
            raise _refused(f"It is longer than {LONGEST_TEXT} characters.")
        begun = local_of(anchor, zone).replace(second=0, microsecond=0, fold=0)
        named, parts = _read(text, timezone, zone)
        start = begun + _MINUTE if named is None else named
        frequency = parts["FREQ"]
        interval = _whole(parts, "INTERVAL", 1, 1_000)
        count = _whole(parts, "COUNT", 0, MOST_COUNTED)
        until = _until(parts, zone)
        _check(parts)
        minutes = _minutes(parts, start)
        chosen = _values(parts, "BYSETPOS") if frequency in _BY_DAYS else None
        recurring = cls(
            text=";".join(f"{name}={value}" for name, value in parts.items()),
            frequency=frequency,
            interval=interval,
            start=start,
            begins=named is not None or count > 0,
            days=CalendarDays.of(_dated(parts, start)),
            minutes=minutes,
            allowed=frozenset(minutes),
            positions=None if chosen is None else frozenset(chosen),
            until=until,
            every_hour="BYHOUR" not in parts
            and (frequency == "MINUTELY" or (frequency == "HOURLY" and interval == 1)),
        )
        if frequency not in _BY_DAYS and replace(recurring, until=None).never:
            raise _refused("It has no time in ten years: there is no such day or step.")
        if count:
            # Only the last one is kept: thousands of times for each of many rules fill the memory.
            last = deque(islice(recurring.times_from(start), count), maxlen=1)
            return replace(recurring, until=last[0] if last else start - _MINUTE)
        return recurring

    @property
    def never(self) -> bool:
        """Whether it has no time within ten years of its start."""
        return next(self.times_from(self.start), None) is None

    def after(self, local: datetime) -> datetime | None:
        """The first strictly later one; None if there is none within ten years."""
        return next((found for found in self.times_from(local) if found > local), None)

    def times_from(self, local: datetime) -> Iterator[datetime]:
        """Its times from the minute of `local` on, or from somewhat earlier, until there is none
        within ten years of the one before.
        """
        begin = max(self.start, local) if self.begins else local
        while begin < _LAST:
            found = None
            for found in self._near_times_from(begin):
                yield found
            if found is None:
                return
            # The bounds of a search are for a gap between two times, not for the whole rule.
            begin = found + _MINUTE

    def _near_times_from(self, begin: datetime) -> Iterator[datetime]:
        """Its times within the bounds of one search."""
        end = begin + _HORIZON
        if self.until is not None:
            end = min(end, self.until)
        if self.positions is not None:
            yield from self._chosen_from(begin, end)
            return
        days = self._days_from(begin, end)
        for day in days if self.frequency in _BY_DAYS else islice(days, _MOST_DAYS):
            minutes = self._minutes_on(day)
            first = 0
            if day <= begin:
                first = bisect_left(minutes, begin.hour * 60 + begin.minute)
            for minute in minutes[first:]:
                moment = day + timedelta(minutes=minute)
                if moment > end:
                    return
                yield moment

    def _chosen_from(self, begin: datetime, end: datetime) -> Iterator[datetime]:
        """The times that BYSETPOS chooses in each step. The step of `begin` is examined as a
        whole.
        """
        assert self.positions is not None
        whole = self._days_from(self._step_begin(begin), end + _LONGEST_STEP)
        for _, days in groupby(whole, self._step):
            step = list(days)
            length = len(step) * len(self.minutes)
            places = {at - 1 if at > 0 else length + at for at in self.positions}
            for place in sorted(place for place in places if 0 <= place < length):
                day, minute = divmod(place, len(self.minutes))
                moment = step[day] + timedelta(minutes=self.minutes[minute])
                if moment > end:
                    return
                if moment >= begin:
                    yield moment

    def _days_from(self, begin: datetime, end: datetime) -> Iterator[datetime]:
        """Its days, at midnight, from the day of `begin` on."""
        day = datetime.combine(begin, time())
        every = self.days.every
        while day <= end:
            if not self._is_step(day):
                day = self._next_step(day)
                continue
            if every or day in self.days:
                yield day
            day += _DAY

    def _is_step(self, day: datetime) -> bool:
        """Whether the interval includes the step of this day."""
        if self.interval == 1 or self.frequency not in _BY_DAYS:
            return True
        return (self._step(day) - self._step(self.start)) % self.interval == 0

    def _step(self, day: datetime) -> int:
        """The number of the week, month or year of this day."""
        if self.frequency == "WEEKLY":
            return week_of(day, self.days.week_begin).toordinal() // 7
        return day.year if self.frequency == "YEARLY" else day.year * 12 + day.month

    def _step_begin(self, day: datetime) -> datetime:
        day = datetime.combine(day, time())
        if self.frequency == "WEEKLY":
            return week_of(day, self.days.week_begin)
        return day.replace(day=1, month=1 if self.frequency == "YEARLY" else day.month)

    def _next_step(self, day: datetime) -> datetime:
        begin = self._step_begin(day)
        if self.frequency == "WEEKLY":
            return begin + 7 * _DAY
        # A month or a year after the first day of one is in the next, whatever their lengths.
        return self._step_begin(begin + (31 if self.frequency == "MONTHLY" else 366) * _DAY)

    def _minutes_on(self, day: datetime) -> Sequence[int]:
        """The minutes of a day, without the steps that the interval leaves out."""
        if self.interval == 1 or self.frequency in _BY_DAYS:
            return self.minutes
        passed = (day.date() - self.start.date()).days
        if self.frequency == "DAILY":
            return () if passed % self.interval else self.minutes
        if self.frequency == "HOURLY":
            # The steps are whole hours, so its minutes may be before those of the start.
            since = passed * 24 - self.start.hour
            return [m for m in self.minutes if (since + m // 60) % self.interval == 0]
        since = passed * _MINUTES_A_DAY - self.start.hour * 60 - self.start.minute
        steps = range(-since % self.interval, _MINUTES_A_DAY, self.interval)
        if len(self.minutes) < len(steps):  # a small interval, and few minutes that may be
            return [m for m in self.minutes if m in steps]
        return [m for m in steps if m in self.allowed]


def _values(parts: Mapping[str, str], name: str) -> list[int] | None:
    return [int(value) for value in parts[name].split(",")] if name in parts else None


def _minutes(parts: dict[str, str], start: datetime) -> tuple[int, ...]:
    """The minutes of a day on which the rule may have a time, in order."""
    frequency = parts["FREQ"]
    every_hour, every_minute = frequency in ("HOURLY", "MINUTELY"), frequency == "MINUTELY"
    hours = _values(parts, "BYHOUR") or (range(24) if every_hour else [start.hour])
    minutes = _values(parts, "BYMINUTE") or (range(60) if every_minute else [start.minute])
    hours, minutes = sorted(set(hours)), sorted(set(minutes))
    positions = _values(parts, "BYSETPOS")
    if positions and every_minute:
        _chosen([0], positions)  # a step is one time, so that is the one to choose
    elif positions and every_hour:
        minutes = _chosen(minutes, positions)
    times = [hour * 60 + minute for hour in hours for minute in minutes]
    return tuple(_chosen(times, positions) if positions and frequency == "DAILY" else times)


def _chosen(times: Sequence[int], positions: Sequence[int]) -> list[int]:
    """The times at these positions; positions count from 1 or, from the end, from -1."""
    places = {at - 1 if at > 0 else len(times) + at for at in positions}
    chosen = [times[at] for at in sorted(places) if 0 <= at < len(times)]
    if not chosen:
        raise _refused("BYSETPOS chooses no time: a step has fewer times than that.")
    return chosen


def _dated(parts: dict[str, str], start: datetime) -> dict[str, str]:
    """The parts, with the dates that a weekly or slower rule takes from its start."""
    if parts["FREQ"] not in _BY_DAYS:
        return parts
    given = _DATES & parts.keys()
    if parts["FREQ"] == "WEEKLY" or given == {"BYWEEKNO"}:
        return {"BYDAY": WEEKDAYS[start.weekday()]} | parts
    if given:
        return parts
    dates = {"BYMONTHDAY": str(start.day)}
    return dates | ({"BYMONTH": str(start.month)} if parts["FREQ"] == "YEARLY" else {}) | parts


def _check(parts: Mapping[str, str]) -> None:
    """Refuse what RFC 5545 section 3.3.10 forbids: it is unclear when such a rule would fire."""
    frequency = parts["FREQ"]
    for name in parts.keys() & BY.keys():
        by = BY[name]
        if frequency not in by.beside:
            raise _refused(f"{name} cannot stand beside FREQ={frequency} (RFC 5545, 3.3.10).")
        for value in parts[name].split(","):
            found = _NUMBER.fullmatch(value)
            signed = found is not None and found[1] != ""
            if found is None or (signed and not by.signed):
                raise _refused(_numbers(name, by))
            if not by.least <= int(found[2]) <= by.most:
                raise _refused(_numbers(name, by))
    if parts.get("WKST", "MO") not in WEEKDAYS:
        raise _refused("WKST must be one of MO, TU, WE, TH, FR, SA and SU.")
    if "BYDAY" in parts:
        _check_days(parts)
    others = (BY.keys() | {"BYDAY"}) - {"BYSETPOS"}
    if "BYSETPOS" in parts and not others & parts.keys():
        raise _refused("BYSETPOS needs another BY... beside it (RFC 5545, 3.3.10).")


def _numbers(name: str, by: _By) -> str:
    signed = f", or -{by.most} to -{by.least} to count from the end" if by.signed else ""
    return f"{name} takes numbers from {by.least} to {by.most}{signed}."


def _check_days(parts: Mapping[str, str]) -> None:
    for value in parts["BYDAY"].split(","):
        found = _WEEKDAY.fullmatch(value)
        if found is None or (found[1] is not None and not 1 <= int(found[1]) <= 53):
            raise _refused("BYDAY takes days like MO, and beside MONTHLY or YEARLY 1MO or -1FR.")
        if found[1] is not None:
            if parts["FREQ"] not in ("MONTHLY", "YEARLY"):
                raise _refused("A number before a day needs FREQ=MONTHLY or YEARLY.")
            if "BYWEEKNO" in parts:
                raise _refused("A number before a day cannot stand beside BYWEEKNO.")


def _refused(reason: str) -> BadInput:
    return BadInput("rule.rrule", reason)


def _read(text: str, timezone: str, zone: ZoneInfo) -> tuple[datetime | None, dict[str, str]]:
    """The start, in local time, if it names one, and the parts of the rule in capitals."""
    if not text.isascii():
        # Some letters become others in capitals: a long s would be an S.
        raise _refused("It may have ASCII characters only.")
    start, date, parts = None, False, None
    for line in text.replace("\\n", "\n").split():
        begins = _START.fullmatch(line)
        if begins is not None and start is None:
            date = "T" not in begins[2].upper()
            start = _start(begins[1], begins[2], timezone, zone)
        elif parts is None and line.upper().startswith(("RRULE:", "FREQ=")):
            parts = _parts(line.upper().removeprefix("RRULE:"))
        else:
            raise _refused("It must be one RRULE, with at most one DTSTART before it.")
    if parts is None:
        raise _refused("It has no rule: write one such as FREQ=WEEKLY;BYDAY=MO.")
    if date and not parts.keys().isdisjoint(_TIMES):
        raise _refused("BYHOUR and BYMINUTE cannot stand beside a DTSTART without a time of day.")
    return start, parts


def _parts(rule: str) -> dict[str, str]:
    parts: dict[str, str] = {}
    for part in rule.rstrip(";").split(";"):
        name, equals, value = part.partition("=")
        if name == "BYSECOND" or part == "FREQ=SECONDLY":
            raise _refused("A rule cannot recur by the second: the smallest step is a minute.")
        if not (equals and value) or name not in _PARTS or name in parts:
            raise _refused("A part of it is unknown, empty or given twice.")
        parts[name] = value
    if parts.get("FREQ") not in _ALL:
        raise _refused("FREQ must be YEARLY, MONTHLY, WEEKLY, DAILY, HOURLY or MINUTELY.")
    if "COUNT" in parts and "UNTIL" in parts:
        raise _refused("COUNT and UNTIL do not go together (RFC 5545 section 3.3.10).")
    return parts


def _start(parameters: str, value: str, timezone: str, zone: ZoneInfo) -> datetime:
    value = value.upper()
    seen: set[str] = set()
    for parameter in filter(None, parameters.split(";")):
        name, _, given = parameter.partition("=")
        name = name.upper()
        if name not in ("TZID", "VALUE") or name in seen:
            raise _refused("DTSTART takes the parameters TZID and VALUE, each once.")
        seen.add(name)
        if name == "VALUE" and given.upper() != ("DATE-TIME" if "T" in value else "DATE"):
            raise _refused("The VALUE of DTSTART must be DATE or DATE-TIME, as its value is.")
        if name == "TZID" and given != timezone:
            raise _refused("The TZID of DTSTART is not the schedule's time zone.")
    if "TZID" in seen and ("T" not in value or value.endswith("Z")):
        raise _refused("TZID cannot stand beside a DTSTART with Z or without a time of day.")
    start = _local(value, zone)
    if not 1970 <= start.year < 2200:
        raise _refused("DTSTART must be between 1970 and 2200.")
    return start.replace(second=0)


def _until(parts: dict[str, str], zone: ZoneInfo) -> datetime | None:
    if "UNTIL" not in parts:
        return None
    until = _local(parts["UNTIL"], zone)
    return until if "T" in parts["UNTIL"] else until.replace(hour=23, minute=59, second=59)


def _local(value: str, zone: ZoneInfo) -> datetime:
    """A date or time of RFC 5545 as local time. One with Z is converted."""
    try:
        if _MOMENT.fullmatch(value) is None:  # strptime guesses what is missing
            raise ValueError
        moment = datetime.strptime(value.rstrip("Z"), "%Y%m%dT%H%M%S" if "T" in value else "%Y%m%d")
        return local_of(moment.replace(tzinfo=UTC), zone) if value.endswith("Z") else moment
    except (ValueError, OverflowError):
        raise _refused("A time in it does not have the form 20261122T090000 or 20261122.") from None


def _whole(parts: dict[str, str], name: str, default: int, most: int) -> int:
    if name not in parts:
        return default
    value = parts[name]
    if not (value.isascii() and value.isdigit() and len(value) < 10 and 1 <= int(value) <= most):
        raise _refused(f"{name} must be a whole number from 1 to {most}.")
    return int(value)
