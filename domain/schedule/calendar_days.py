"""The calendar days that the date parts of a recurrence rule choose (RFC 5545 section 3.3.10).
Whether a day is chosen does not depend on the days before it.
"""

import calendar
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TypeVar

WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")

_WEEK = 7
_MIDDLE = timedelta(days=3)
"""From the first to the middle day of a week. The middle day decides to which year a week
belongs.
"""


D = TypeVar("D", bound=date)


def week_of(day: D, first: int) -> D:
    """The first day of the day's week, if weeks begin with the weekday `first`."""
    return day - timedelta(days=(day.weekday() - first) % _WEEK)


@dataclass(frozen=True, slots=True)
class CalendarDays:
    """The days that agree with all parts; None for a part that the rule does not have. Numbers
    below 0 count from the end.
    """

    months: frozenset[int] | None
    month_days: frozenset[int] | None
    year_days: frozenset[int] | None
    weeks: frozenset[int] | None
    weekdays: frozenset[tuple[int, int]] | None
    """Number and weekday. The number 0 means every such weekday."""
    in_months: bool
    """Whether the numbers of weekdays count within the month; otherwise within the year."""
    week_begin: int

    @classmethod
    def of(cls, parts: Mapping[str, str]) -> "CalendarDays":
        """From parts that were checked."""

        def numbers(name: str) -> frozenset[int] | None:
            return frozenset(map(int, parts[name].split(","))) if name in parts else None

        days = parts["BYDAY"].split(",") if "BYDAY" in parts else None
        return cls(
            months=numbers("BYMONTH"),
            month_days=numbers("BYMONTHDAY"),
            year_days=numbers("BYYEARDAY"),
            weeks=numbers("BYWEEKNO"),
            weekdays=None if days is None else frozenset(map(_weekday, days)),
            in_months=parts["FREQ"] == "MONTHLY" or "BYMONTH" in parts,
            week_begin=WEEKDAYS.index(parts.get("WKST", "MO")),
        )

    @property
    def every(self) -> bool:
        """Whether every day is chosen."""
        parts = (self.months, self.month_days, self.year_days, self.weeks, self.weekdays)
        return all(part is None for part in parts)

    def __contains__(self, day: date) -> bool:
        if self.months is not None and day.month not in self.months:
            return False
        if self.weekdays is not None and not self._is_weekday(day):
            return False
        if self.month_days is not None:
            length = calendar.monthrange(day.year, day.month)[1]
            if not _is_one(self.month_days, day.day, length):
                return False
        if self.year_days is not None and not _is_one(self.year_days, *_in_year(day)):
            return False
        return self.weeks is None or self._is_week(day)

    def _is_weekday(self, day: date) -> bool:
        assert self.weekdays is not None
        weekday = day.weekday()
        if (0, weekday) in self.weekdays:
            return True
        if self.in_months:
            number, length = day.day, calendar.monthrange(day.year, day.month)[1]
        else:
            number, length = _in_year(day)
        first, last = (number - 1) // _WEEK + 1, -((length - number) // _WEEK + 1)
        return (first, weekday) in self.weekdays or (last, weekday) in self.weekdays

    def _is_week(self, day: date) -> bool:
        """Week 1 is the first one with at least four of its days in the year."""
        assert self.weeks is not None
        middle = week_of(day, self.week_begin) + _MIDDLE
        # The middle of the last week of a year is in the year's last seven days.
        last = week_of(date(middle.year, 12, 28), self.week_begin) + _MIDDLE
        return _is_one(self.weeks, _number_of_week(middle), _number_of_week(last))


def _weekday(text: str) -> tuple[int, int]:
    return int(text[:-2] or 0), WEEKDAYS.index(text[-2:])


def _is_one(chosen: frozenset[int], number: int, length: int) -> bool:
    return number in chosen or number - length - 1 in chosen


def _in_year(day: date) -> tuple[int, int]:
    """The day's number in the year, and the number of days of the year."""
    return day.timetuple().tm_yday, 366 if calendar.isleap(day.year) else 365


def _number_of_week(middle: date) -> int:
    return (middle.timetuple().tm_yday - 1) // _WEEK + 1
