"""Recurrence rules of RFC 5545, as rows of local times."""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from dateutil.rrule import rrule, rrulestr

from domain.errors import BadInput
from domain.wall_clock import local_of

LONGEST_TEXT = 1_000
MOST_COUNTED = 10_000

_DAY = timedelta(days=1)
_HORIZON = timedelta(days=3_653)
"""A rule without a time in so long has none: to look on could take for ever."""
_MOST_DAYS = 1_100
"""Days of its own on which such a rule is looked for; no interval is longer."""

_START = re.compile(r"DTSTART((?:;[^:;]+)*):(\d{8}(?:T\d{6}Z?)?)", re.IGNORECASE)
_STEPS = {
    "MINUTELY": timedelta(minutes=1),
    "HOURLY": timedelta(hours=1),
    "DAILY": _DAY,
    "WEEKLY": 7 * _DAY,
}
_DATES = frozenset({"BYWEEKNO", "BYYEARDAY", "BYMONTHDAY", "BYDAY", "BYEASTER"})
_PARTS = _DATES | {
    *("FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST"),
    *("BYMONTH", "BYHOUR", "BYMINUTE", "BYSETPOS"),
}


@dataclass(frozen=True, slots=True)
class Recurring:
    """One rule from its start. Made by `parse`."""

    text: str
    frequency: str
    interval: int
    rule: rrule
    days: rrule | None
    """The days of a rule by the day or faster; `rule` is then what it does on any day."""
    start: datetime
    until: datetime | None
    counted: tuple[datetime, ...] | None
    """All its times, where it counts them."""
    every_hour: bool

    @classmethod
    def parse(cls, text: str, timezone: str, zone: ZoneInfo, anchor: datetime) -> "Recurring":
        """BadInput at ``rule.rrule``. Without DTSTART it starts with the first minute after
        `anchor`.
        """
        if len(text) > LONGEST_TEXT:
            raise _refused(f"It is longer than {LONGEST_TEXT} characters.")
        begun = local_of(anchor, zone).replace(second=0, microsecond=0, fold=0)
        start, parts = _read(text, timezone, zone, begun + timedelta(minutes=1))
        said = ";".join(f"{name}={value}" for name, value in parts.items())
        frequency = parts["FREQ"]
        interval = _whole(parts, "INTERVAL", 1, 1_000)
        count = _whole(parts, "COUNT", 0, MOST_COUNTED)
        try:
            rule, days = _rules(parts, start)
            recurring = cls(
                text=said,
                frequency=frequency,
                interval=interval,
                rule=rule,
                days=days,
                start=start,
                until=_until(parts, zone),
                counted=None,
                every_hour="BYHOUR" not in parts
                and (frequency == "MINUTELY" or (frequency == "HOURLY" and interval == 1)),
            )
            if days is not None and next(iter(days), None) is None:
                raise _refused("There is no such day.")
            if count:
                return recurring._counting(count)
            recurring.after(start)
        except BadInput:
            raise
        except Exception as error:
            # The library lets whatever it trips over escape.
            raise _refused(f"It is no rule: {error}.") from None
        return recurring

    def _counting(self, count: int) -> "Recurring":
        counted = tuple(islice(self._from(self.start), count))
        return Recurring(
            self.text,
            self.frequency,
            self.interval,
            self.rule,
            self.days,
            self.start,
            self.until,
            counted,
            self.every_hour,
        )

    def after(self, local: datetime) -> datetime | None:
        """The first strictly later one; None when there is none within ten years."""
        if self.counted is not None:
            place = bisect_right(self.counted, local)
            return self.counted[place] if place < len(self.counted) else None
        return next((found for found in self._from(local) if found > local), None)

    def _from(self, local: datetime) -> Iterator[datetime]:
        """Its times from about `local` on, not later."""
        end = max(self.start, local) + _HORIZON
        if self.until is not None:
            end = min(end, self.until)
        if self.days is None:
            yield from self.rule.replace(dtstart=self._anew(local), until=end)
            return
        midnight = datetime.combine(max(self.start, local), time())
        days = self.days.replace(dtstart=midnight, until=end)
        for day in islice(days, _MOST_DAYS):
            begin = self._first_on(day)
            if begin < day + _DAY:
                last = min(end, day + _DAY - timedelta(minutes=1))
                yield from self.rule.replace(dtstart=begin, until=last)

    def _first_on(self, day: datetime) -> datetime:
        """The first step at or after the beginning of a day."""
        if self.frequency == "DAILY":
            passed = (day.date() - self.start.date()).days
            first = day if passed % self.interval == 0 else day + _DAY
            return max(first, self.start)
        step = _STEPS[self.frequency] * self.interval
        # The steps of a rule by the hour are whole hours: its minutes may come before the start's.
        base = self.start.replace(minute=0) if self.frequency == "HOURLY" else self.start
        return max(base + max(0, -((base - day) // step)) * step, self.start)

    def _anew(self, local: datetime) -> datetime:
        """A start from which the rule goes on as from its own, so that nobody walks there from its
        own: a rule by the minute, a year old, takes a second for that.
        """
        if local <= self.start:
            return self.start
        if self.frequency in _STEPS:
            step = _STEPS[self.frequency] * self.interval
            return self.start + (local - self.start) // step * step
        months = 12 if self.frequency == "YEARLY" else 1
        passed = (local.year - self.start.year) * 12 + local.month - self.start.month
        steps = passed // (months * self.interval) - 1
        if steps < 1:
            return self.start
        first = 0 if self.frequency == "YEARLY" else self.start.month - 1
        year, month = divmod(self.start.year * 12 + first + steps * months * self.interval, 12)
        return self.start.replace(year=year, month=month + 1, day=1)


def _rules(parts: dict[str, str], start: datetime) -> tuple[rrule, rrule | None]:
    """The rule without its end, saying itself what it would take from its start.

    One by the day or faster is taken apart into its days and its times on any day: a walk by the
    minute to a day that never comes would not end.
    """
    frequency = parts["FREQ"]
    kept = {name: value for name, value in parts.items() if name not in ("COUNT", "UNTIL")}
    if frequency != "MINUTELY":
        kept.setdefault("BYMINUTE", str(start.minute))
        if frequency != "HOURLY":
            kept.setdefault("BYHOUR", str(start.hour))
    if frequency not in ("DAILY", "HOURLY", "MINUTELY"):
        if not _DATES & kept.keys() and frequency != "WEEKLY":
            kept["BYMONTHDAY"] = str(start.day)
            if frequency == "YEARLY":
                kept.setdefault("BYMONTH", str(start.month))
        return _parsed(kept, start), None
    if "BYSETPOS" in kept and frequency != "DAILY":
        raise _refused("BYSETPOS needs FREQ=DAILY or slower.")
    dates = {name: kept.pop(name) for name in [*kept] if name in _DATES or name == "BYMONTH"}
    if any(character.isdigit() for character in dates.get("BYDAY", "")):
        raise _refused("A number before a day needs FREQ=MONTHLY or YEARLY.")
    if not _DATES & dates.keys():
        dates["BYMONTHDAY"] = ",".join(map(str, range(1, 32)))
    days = {"FREQ": "YEARLY", "WKST": kept.get("WKST", "MO"), "BYHOUR": "0", "BYMINUTE": "0"}
    return _parsed(kept, start), _parsed({**days, **dates}, datetime.combine(start, time()))


def _parsed(parts: dict[str, str], start: datetime) -> rrule:
    rule = rrulestr(
        "RRULE:" + ";".join(f"{name}={value}" for name, value in parts.items()), dtstart=start
    )
    assert isinstance(rule, rrule)
    return rule


def _refused(reason: str) -> BadInput:
    return BadInput("rule.rrule", reason)


def _read(
    text: str, timezone: str, zone: ZoneInfo, default: datetime
) -> tuple[datetime, dict[str, str]]:
    """The start, in local time, and the parts of the rule in capitals."""
    start, parts = default, None
    for line in text.replace("\\n", "\n").split():
        begins = _START.fullmatch(line)
        if begins is not None:
            start = _start(begins[1], begins[2], timezone, zone)
        elif parts is None and line.upper().startswith(("RRULE:", "FREQ=")):
            parts = _parts(line.upper().removeprefix("RRULE:"))
        else:
            raise _refused("It takes one RRULE and, before it, one DTSTART.")
    if parts is None:
        raise _refused("It takes a rule, like FREQ=WEEKLY;BYDAY=MO.")
    return start, parts


def _parts(rule: str) -> dict[str, str]:
    parts: dict[str, str] = {}
    for part in rule.rstrip(";").split(";"):
        name, equals, value = part.partition("=")
        if name == "BYSECOND" or part == "FREQ=SECONDLY":
            raise _refused("Nothing recurs by the second: a minute is the least.")
        if not (equals and value) or name not in _PARTS or name in parts:
            raise _refused("A part of it is unknown, empty or given twice.")
        parts[name] = value
    if parts.get("FREQ") not in ("YEARLY", "MONTHLY", *_STEPS):
        raise _refused("FREQ is YEARLY, MONTHLY, WEEKLY, DAILY, HOURLY or MINUTELY.")
    if "COUNT" in parts and "UNTIL" in parts:
        raise _refused("COUNT and UNTIL do not go together (RFC 5545 section 3.3.10).")
    return parts


def _start(parameters: str, value: str, timezone: str, zone: ZoneInfo) -> datetime:
    for parameter in filter(None, parameters.split(";")):
        name, _, given = parameter.partition("=")
        if name.upper() == "TZID" and given != timezone:
            raise _refused("The TZID of DTSTART is not the schedule's time zone.")
    start = _local(value.upper(), zone)
    if not 1970 <= start.year < 2200:
        raise _refused("DTSTART must lie between 1970 and 2200.")
    return start.replace(second=0)


def _until(parts: dict[str, str], zone: ZoneInfo) -> datetime | None:
    if "UNTIL" not in parts:
        return None
    until = _local(parts["UNTIL"], zone)
    return until if "T" in parts["UNTIL"] else until + _DAY - timedelta(seconds=1)


def _local(value: str, zone: ZoneInfo) -> datetime:
    """A date or time of RFC 5545 as local time; one with Z is converted."""
    try:
        moment = datetime.strptime(value.rstrip("Z"), "%Y%m%dT%H%M%S" if "T" in value else "%Y%m%d")
        return local_of(moment.replace(tzinfo=UTC), zone) if value.endswith("Z") else moment
    except (ValueError, OverflowError):
        raise _refused("A time in it is not like 20261122T090000.") from None


def _whole(parts: dict[str, str], name: str, default: int, most: int) -> int:
    if name not in parts:
        return default
    value = parts[name]
    if not (value.isascii() and value.isdigit() and len(value) < 10 and 1 <= int(value) <= most):
        raise _refused(f"{name} is a whole number from 1 to {most}.")
    return int(value)
