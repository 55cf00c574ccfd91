"""Sequences of naive local times, as if clocks were never put forward or back.

`domain.schedule.recurrence` turns them into instants of a time zone.
"""

import calendar
import copy
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Protocol

from cronsim import CronSim, CronSimError

from domain.errors import BadInput

_DAY = timedelta(days=1)
_LONGEST_TEXT = 1_000
_NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


class LocalTimes(Protocol):
    """A sequence of naive local times, in order."""

    def after(self, local: datetime) -> datetime | None:
        """The first strictly later one; None if there are no more."""
        ...


@dataclass(frozen=True, slots=True)
class Weekly:
    """On weekdays (0 is Monday) at a time of day."""

    days: frozenset[int]
    at: time

    def after(self, local: datetime) -> datetime | None:
        found = datetime.combine(local, self.at)
        if found <= local:
            found += _DAY
        while found.weekday() not in self.days:
            found += _DAY
        return found


@dataclass(frozen=True, slots=True)
class Monthly:
    """On a day of the month at a time of day. In shorter months: on the last day."""

    day: int
    at: time

    def after(self, local: datetime) -> datetime | None:
        found = self._in(local.year, local.month)
        if found > local:
            return found
        return self._in(local.year + local.month // 12, local.month % 12 + 1)

    def _in(self, year: int, month: int) -> datetime:
        last = calendar.monthrange(year, month)[1]
        return datetime.combine(datetime(year, month, min(self.day, last)), self.at)


@dataclass(frozen=True, slots=True)
class Steps:
    """Every `minutes`, which divide the day, from `begin` minutes after midnight on."""

    minutes: int
    begin: int

    def after(self, local: datetime) -> datetime | None:
        now = local.hour * 60 + local.minute
        minute = ((now - self.begin) // self.minutes + 1) * self.minutes + self.begin
        return datetime.combine(local, time()) + timedelta(minutes=minute)


@dataclass(frozen=True, slots=True)
class Cron:
    """A crontab's five fields, as Debian's cron reads them."""

    simulated: CronSim
    text: str
    every_hour: bool
    """Whether its hour field allows every hour."""

    @classmethod
    def parse(cls, text: str) -> "Cron":
        """Raises BadInput at ``rule.cron`` for text that crontab would refuse."""
        fields = _NICKNAMES.get(text.lower(), text)
        if len(text) > _LONGEST_TEXT or len(fields.split()) != 5:
            raise BadInput(
                "rule.cron", "It needs five fields: minute, hour, day of month, month, weekday."
            )
        try:
            simulated = CronSim(fields, datetime(2000, 1, 1))
            explained = simulated.explain()
        except (CronSimError, ValueError, IndexError) as error:
            raise BadInput("rule.cron", f"This is not a cron rule: {error}.") from None
        cron = cls(simulated, explained, simulated.hours == set(range(24)))
        if cron.after(datetime(2026, 1, 1)) is None:
            raise BadInput("rule.cron", "There is no such day.")
        return cron

    def after(self, local: datetime) -> datetime | None:
        # Parsing costs more than searching: the parsed rule is set to where the search begins.
        simulated = copy.copy(self.simulated)
        simulated.dt = local.replace(microsecond=0)
        return next(simulated, None)
