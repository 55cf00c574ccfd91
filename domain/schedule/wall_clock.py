"""Wall-clock times and the instants they mean: zones, gaps and overlaps.

When a zone's clocks are put forward, some local times never come (a gap). When they are put back,
some come twice (an overlap). This module decides which instant such a local time means, for every
kind of rule.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from domain.errors import BadInput

_SECOND = timedelta(seconds=1)
_LONGEST_NAME = 64
_NO_ZONES = frozenset({"Factory", "localtime", "posixrules"})
"""Files beside the zones: "not set yet", this machine's own zone, and the one for old TZ
variables.
"""


@lru_cache(maxsize=1_024)
def zone_of(name: str, path: str = "timezone") -> ZoneInfo:
    """The IANA time zone of that name. Raises BadInput at `path` if there is none."""
    # The other two trees count leap seconds or are copies of the first.
    other_tree = name.startswith(("right/", "posix/"))
    if name and len(name) <= _LONGEST_NAME and not other_tree and name not in _NO_ZONES:
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass
    raise BadInput(path, "This is not a time zone: use a name such as Europe/Berlin or UTC.")


def local_of(moment: datetime, zone: ZoneInfo) -> datetime:
    """The wall clock's time at an instant: naive, with `fold` 1 in an overlap's second pass."""
    return moment.astimezone(zone).replace(tzinfo=None)


def passes_of(local: datetime, zone: ZoneInfo) -> tuple[datetime, ...]:
    """The instants at which a wall clock shows this time: none in a gap, two in an overlap."""
    first = local.replace(tzinfo=zone, fold=0)
    second = local.replace(tzinfo=zone, fold=1)
    before, after = first.utcoffset(), second.utcoffset()
    if before == after:
        return (first.astimezone(UTC),)
    assert before is not None
    assert after is not None
    if before < after:
        return ()
    return first.astimezone(UTC), second.astimezone(UTC)


def instant_of(local: datetime, zone: ZoneInfo) -> datetime:
    """The one instant that a naive local time means: in an overlap the first pass, in a gap the
    first minute after it.
    """
    found = passes_of(local, zone)
    return found[0] if found else end_of_gap(local, zone)


def end_of_gap(local: datetime, zone: ZoneInfo) -> datetime:
    """The instant, on a whole minute, at which the gap around `local` ends."""
    # PEP 495: in a gap, fold 1 uses the offset after the gap and so gives an instant before it.
    before = local.replace(tzinfo=zone, fold=1).astimezone(UTC)
    after = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    change = change_between(before, after, zone)
    return change if change.second == 0 else change.replace(second=0) + timedelta(minutes=1)


def change_between(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """The second in (`before`, `after`] from which the offset differs from that at `before`.

    The offset must change exactly once between the two.
    """
    offset = before.astimezone(zone).utcoffset()
    early = before.replace(microsecond=0)
    late = after.replace(microsecond=0)
    while late - early > _SECOND:
        middle = early + timedelta(seconds=(late - early) // _SECOND // 2)
        if middle.astimezone(zone).utcoffset() == offset:
            early = middle
        else:
            late = middle
    return late
