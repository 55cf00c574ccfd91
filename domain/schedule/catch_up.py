"""Which passed times are still fired, and which count as missed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from domain.schedule.aggregate import CatchUp, MissReason

GRACE = timedelta(seconds=60)
"""Up to this age a due time is late and not missed: a restart of the server drops nothing."""

MOST_AT_ONCE = 1_000
"""Most times that are caught up at once."""

EACH = 300
"""Up to this many missed times get an event each. More get one event together."""


class Due(NamedTuple):
    """A time that has passed, and when it was due, which is later by its jitter."""

    nominal: datetime
    due: datetime


@dataclass(frozen=True, slots=True)
class Missed:
    """`count` times from `nominal` to `through` that are not fired."""

    nominal: datetime
    through: datetime
    count: int
    reason: MissReason


@dataclass(frozen=True, slots=True)
class Settled:
    """The decision about the passed times."""

    fire: list[Due]
    missed: list[Missed]


def settle(passed: Sequence[Due], now: datetime, rule: CatchUp, window: timedelta) -> Settled:
    """Divide times that were due, in order, into those to fire and those that were missed."""
    if rule is CatchUp.LATEST:
        return Settled([*passed[-1:]], _missed(passed[:-1], MissReason.SUPERSEDED))
    reach = GRACE if rule is CatchUp.NONE else max(window, GRACE)
    reason = MissReason.NOT_CAUGHT_UP if rule is CatchUp.NONE else MissReason.OUTSIDE_WINDOW
    old = sum(1 for moment in passed if now - moment.due > reach)
    inside = passed[old:]
    excess = max(0, len(inside) - MOST_AT_ONCE)
    missed = _missed(passed[:old], reason) + _missed(inside[:excess], MissReason.TOO_MANY)
    return Settled([*inside[excess:]], missed)


def _missed(moments: Sequence[Due], reason: MissReason) -> list[Missed]:
    if len(moments) > EACH:
        return [Missed(moments[0].nominal, moments[-1].nominal, len(moments), reason)]
    return [Missed(moment.nominal, moment.nominal, 1, reason) for moment in moments]
