"""The times of rules: five cadences, cron, RRULE and once, through all gaps and overlaps."""

import time as stopwatch
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import islice, pairwise
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from dateutil.rrule import rrulestr
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from domain.errors import BadInput
from domain.schedule.recurrence import parse_rule
from domain.schedule.recurring import Recurring
from domain.schedule.wall_clock import change_between, instant_of, local_of, passes_of, zone_of

BERLIN = "Europe/Berlin"
BEGIN, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
NO_ZONES = {"Factory", "localtime", "posixrules"}
ZONES = sorted(
    name for name in available_timezones() - NO_ZONES if not name.startswith(("right/", "posix/"))
)


def times(
    rule: dict[str, Any],
    after: str,
    count: int = 4,
    zone: str = BERLIN,
    anchor: datetime = BEGIN,
) -> list[str]:
    """The next times, as wall-clock times of the zone."""
    moment = datetime.fromisoformat(after)
    parsed = parse_rule(rule, zone, anchor)
    found = parsed.between(moment, datetime(2150, 1, 1, tzinfo=UTC), count)
    return [t.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M %z") for t in found]


@cache
def changes(zone: str) -> tuple[datetime, ...]:
    """The instants in 2026 and 2027 at which a zone's clocks change."""
    info = zone_of(zone)
    step = timedelta(days=10)
    found = []
    moment = BEGIN
    while moment < END:
        if moment.astimezone(info).utcoffset() != (moment + step).astimezone(info).utcoffset():
            found.append(change_between(moment, moment + step, info))
        moment += step
    return tuple(found)


# The five cadences


def test_daily() -> None:
    assert times({"cadence": "daily"}, "2026-06-01T07:00Z", 2) == [
        "2026-06-02 09:00 +0200",
        "2026-06-03 09:00 +0200",
    ]
    assert times({"cadence": "daily", "at": "23:59"}, "2026-06-01T07:00Z", 1) == [
        "2026-06-01 23:59 +0200"
    ]


@pytest.mark.parametrize("days", ["mon,wed,fri", "1,3,5", [1, 3, 5], ["Monday", "wed", 5]])
def test_weekly(days: Any) -> None:
    assert times({"cadence": "weekly", "days": days}, "2026-06-01T07:00Z", 3) == [
        "2026-06-03 09:00 +0200",
        "2026-06-05 09:00 +0200",
        "2026-06-08 09:00 +0200",
    ]


def test_monthly_on_a_day_that_short_months_lack_is_their_last() -> None:
    assert times({"cadence": "monthly", "dayOfMonth": 31}, "2028-01-30T00:00Z", 4) == [
        "2028-01-31 09:00 +0100",
        "2028-02-29 09:00 +0100",
        "2028-03-31 09:00 +0200",
        "2028-04-30 09:00 +0200",
    ]
    for day in (29, 30, 31):
        rule = {"cadence": "monthly", "dayOfMonth": day}
        assert len(times(rule, "2026-01-01T00:00Z", 24, "UTC")) == 24
        assert "2026-02-28 09:00 +0000" in times(rule, "2026-01-01T00:00Z", 2, "UTC")


def test_hourly_counts_from_local_midnight() -> None:
    rule = {"cadence": "hourly", "everyHours": 6}
    hours = [shown[11:16] for shown in times(rule, "2026-06-01T00:00Z", 4)]
    assert hours == ["06:00", "12:00", "18:00", "00:00"]
    hours = [shown[11:16] for shown in times({**rule, "at": "01:30"}, "2026-06-01T00:00Z", 4)]
    assert hours == ["07:30", "13:30", "19:30", "01:30"]


def test_hours_that_do_not_divide_the_day_are_real_time_apart() -> None:
    rule = parse_rule({"cadence": "hourly", "everyHours": 7}, BERLIN, BEGIN)
    found = rule.between(datetime(2026, 10, 24, tzinfo=UTC), END, 30)
    assert {b - a for a, b in pairwise(found)} == {timedelta(hours=7)}


def test_minutely_keeps_its_rhythm_through_gap_and_overlap() -> None:
    rule = parse_rule({"cadence": "minutely", "everyMinutes": 15}, BERLIN)
    for change in changes(BERLIN):
        found = rule.between(change - timedelta(hours=3), change + timedelta(hours=3), 24)
        assert {b - a for a, b in pairwise(found)} == {15 * MINUTE}


# Gaps and overlaps


def test_a_time_in_a_gap_fires_at_the_next_minute_that_there_is() -> None:
    for rule in (
        {"cadence": "daily", "at": "02:30"},
        {"cron": "30 2 * * *"},
        {"rrule": "FREQ=DAILY;BYHOUR=2;BYMINUTE=30"},
        {"cron": "*/10 2 * * *"},
    ):
        found = times(rule, "2026-03-28T12:00Z", 2)
        assert found[0] == "2026-03-29 03:00 +0200", rule
        assert found[1].startswith("2026-03-30 02:"), rule


def test_a_time_in_an_overlap_fires_once_in_the_first_pass() -> None:
    for rule in (
        {"cadence": "daily", "at": "02:30"},
        {"cron": "30 2 * * *"},
        {"rrule": "FREQ=DAILY;BYHOUR=2;BYMINUTE=30"},
    ):
        assert times(rule, "2026-10-24T12:00Z", 2) == [
            "2026-10-25 02:30 +0200",
            "2026-10-26 02:30 +0100",
        ], rule


@pytest.mark.parametrize(
    "rule", [{"cadence": "hourly"}, {"cron": "0 * * * *"}, {"rrule": "FREQ=HOURLY;BYMINUTE=0"}]
)
def test_every_hour_is_every_real_hour(rule: dict[str, Any]) -> None:
    assert times(rule, "2026-10-24T22:30Z", 4) == [
        "2026-10-25 01:00 +0200",
        "2026-10-25 02:00 +0200",
        "2026-10-25 02:00 +0100",
        "2026-10-25 03:00 +0100",
    ]
    # Within the first pass, the second pass is still to come.
    assert times(rule, "2026-10-25T00:30Z", 1) == ["2026-10-25 02:00 +0100"]
    assert times(rule, "2026-03-29T00:30Z", 2) == [
        "2026-03-29 03:00 +0200",
        "2026-03-29 04:00 +0200",
    ]


def test_every_zone_has_its_gaps_and_overlaps_found() -> None:
    with_changes = [zone for zone in ZONES if changes(zone)]
    assert len(ZONES) > 400
    assert len(with_changes) > 150


def rules_at(local: datetime) -> list[dict[str, Any]]:
    """A daily rule in three languages."""
    return [
        {"cadence": "daily", "at": f"{local:%H:%M}"},
        {"cron": f"{local.minute} {local.hour} * * *"},
        {"rrule": f"FREQ=DAILY;BYHOUR={local.hour};BYMINUTE={local.minute}"},
    ]


def test_in_every_zone_a_gap_fires_at_the_next_minute_and_an_overlap_once() -> None:
    begin = stopwatch.process_time()
    checked = 0
    for zone in ZONES:
        info = zone_of(zone)
        for change in changes(zone):
            before = local_of(change - MINUTE, info) + MINUTE
            after = local_of(change, info).replace(fold=0)
            low, high = sorted((before, after))
            middle = (low + (high - low) / 2).replace(second=0, fold=0)
            expected = change if after > before else passes_of(middle, info)[0]
            day = timedelta(hours=25)
            for rule in rules_at(middle):
                parsed = parse_rule(rule, zone, change - 2 * day)
                found = parsed.between(change - timedelta(hours=12), change + 2 * day, 9)
                assert found[0] == expected, (zone, rule, change)
                apart = [later - earlier for earlier, later in pairwise(found)]
                assert min(apart) >= timedelta(hours=20), (zone, rule, change)
                checked += 1
    assert checked > 1_000
    assert stopwatch.process_time() - begin < 60


def test_in_every_zone_short_months_fire_on_their_last_day() -> None:
    expected = [date(2027, 1, 31), date(2027, 2, 28), date(2027, 3, 31), date(2027, 4, 30)]
    for zone in ZONES:
        rule = parse_rule({"cadence": "monthly", "dayOfMonth": 31, "at": "12:00"}, zone)
        found = rule.between(datetime(2027, 1, 15, tzinfo=UTC), END, 4)
        assert [local_of(moment, zone_of(zone)).date() for moment in found] == expected
        assert {local_of(moment, zone_of(zone)).time() for moment in found} == {time(12)}


def test_an_ordinary_time_in_every_zone_is_that_time() -> None:
    for zone in ZONES:
        info = zone_of(zone)
        local = datetime(2026, 7, 15, 12, 34)
        assert local_of(instant_of(local, info), info) == local


# Cron, RRULE, once


def test_cron_is_the_crontab_that_people_know() -> None:
    assert times({"cron": "0 0 * * 1"}, "2026-06-01T07:00Z", 1)[0][:10] == "2026-06-08"  # Monday
    assert times({"cron": "0 0 * * 7"}, "2026-06-01T07:00Z", 1)[0][:10] == "2026-06-07"  # Sunday
    either = [shown[:10] for shown in times({"cron": "0 0 13 * 5"}, "2026-06-01T07:00Z", 3)]
    assert either == ["2026-06-05", "2026-06-12", "2026-06-13"]
    assert times({"cron": "0 0 * * MON#1"}, "2026-06-02T07:00Z", 1)[0][:10] == "2026-07-06"
    assert times({"cron": "@daily"}, "2026-06-01T07:00Z", 1) == ["2026-06-02 00:00 +0200"]


@pytest.mark.parametrize(
    "rule",
    [
        "DTSTART;VALUE=DATE:20261122\nRRULE:FREQ=DAILY;BYHOUR=1,2,3",
        "DTSTART:20261122\nRRULE:FREQ=DAILY;BYHOUR=1",
        "DTSTART:20261122\nRRULE:FREQ=HOURLY;BYMINUTE=30",
        "DTSTART:20261122T090000\nDTSTART:20261122T170000\nRRULE:FREQ=DAILY",
        "DTSTART:20261122T090000\nDTSTART:20261122T090000\nRRULE:FREQ=DAILY",
        "DTSTART;VALUE=DATE:20261122T091500\nRRULE:FREQ=DAILY",
        "DTSTART;VALUE=DATE-TIME:20261122\nRRULE:FREQ=DAILY",
        "DTSTART;VALUE=PERIOD:20261122T091500\nRRULE:FREQ=DAILY",
        "DTSTART;VALUE=DATE;VALUE=DATE:20261122\nRRULE:FREQ=DAILY",
        "DTSTART;FOO=BAR:20261122T090000\nRRULE:FREQ=DAILY",
        "DTSTART;TZID=Europe/Berlin;TZID=Europe/Berlin:20261122T090000\nRRULE:FREQ=DAILY",
        "DTSTART;TZID=Europe/Berlin:20261122T090000Z\nRRULE:FREQ=DAILY",
        "DTSTART;TZID=Europe/Berlin:20261122\nRRULE:FREQ=DAILY",
        "DTSTART;TZID:20261122T090000\nRRULE:FREQ=DAILY",
        "DTſTART:20261122T090000\nRRULE:FREQ=DAILY",
        *(
            f"FREQ=DAILY;UNTIL={until}"
            for until in (
                "2027111",
                "2026122",
                "202712",
                "20261202T0900",
                "20261202ZZ",
                "20271202Z",
                "20271202T000000ZZ",
                "20271202T90000",
                "２０２７０１０１",
            )
        ),
        "FREQ=DAILY;BYDAY=ſU",
        "FREQ=DAıLY",
        "RRULE:FREQ=WEEKLY;WKST=ſU",
    ],
)
def test_a_rule_that_is_not_of_rfc_5545_is_refused_at_its_place(rule: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_rule({"rrule": rule}, BERLIN, BEGIN)
    assert refused.value.path == "rule.rrule"
    assert refused.value.reason.endswith(".")


@pytest.mark.parametrize(
    "rule",
    [
        "DTSTART;VALUE=DATE:20261122\nRRULE:FREQ=DAILY",
        "DTSTART:20261122\nRRULE:FREQ=DAILY;UNTIL=20270101",
        "dtstart;value=date-time;tzid=Europe/Berlin:20261122t090000\nrrule:freq=daily;byhour=9",
        "DTSTART:20261122T090000Z\nRRULE:FREQ=DAILY;UNTIL=20270101T090000Z",
        "RRULE:FREQ=DAILY;UNTIL=20270101T090000\nDTSTART:20261122T090000",
    ],
)
def test_the_forms_of_a_start_and_of_an_end_are_taken(rule: str) -> None:
    assert parse_rule({"rrule": rule}, BERLIN, BEGIN).next_after(BEGIN) is not None


def test_rrules_follow_rfc_5545() -> None:
    last_friday = {"rrule": "FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=17;BYMINUTE=0"}
    assert times(last_friday, "2026-06-01T07:00Z", 2) == [
        "2026-06-26 17:00 +0200",
        "2026-07-31 17:00 +0200",
    ]
    thrice = {"rrule": "DTSTART:20260601T100000\nRRULE:FREQ=DAILY;INTERVAL=2;COUNT=3"}
    found = ["2026-06-01 10:00 +0200", "2026-06-03 10:00 +0200", "2026-06-05 10:00 +0200"]
    assert times(thrice, "2026-06-01T07:00Z", 9) == found
    assert times(thrice, "2026-06-03T08:00Z", 9) == found[2:]
    until = {"rrule": "DTSTART:20260601T100000\nRRULE:FREQ=DAILY;UNTIL=20260603T080000Z"}
    assert len(times(until, "2026-06-01T07:00Z", 9)) == 3
    zulu = {"rrule": "DTSTART:20260601T100000Z\nRRULE:FREQ=WEEKLY"}
    assert times(zulu, "2026-06-01T07:00Z", 1) == ["2026-06-01 12:00 +0200"]
    made = datetime(2026, 6, 1, 7, 12, 13, tzinfo=UTC)
    assert times({"rrule": "FREQ=DAILY"}, "2026-06-01T07:12:13Z", 1, anchor=made) == [
        "2026-06-01 09:13 +0200"
    ]


EVERY_DAY, EVERY_HOUR, EVERY_MINUTE = (
    "MO,TU,WE,TH,FR,SA,SU",
    ",".join(map(str, range(24))),
    ",".join(map(str, range(60))),
)


@pytest.mark.parametrize(
    "rule",
    [
        f"FREQ=YEARLY;BYDAY={EVERY_DAY};BYHOUR={EVERY_HOUR};BYMINUTE={EVERY_MINUTE}",
        f"FREQ=MONTHLY;BYDAY={EVERY_DAY};BYHOUR={EVERY_HOUR};BYMINUTE={EVERY_MINUTE};BYSETPOS=-1",
        f"FREQ=WEEKLY;BYDAY={EVERY_DAY};BYHOUR={EVERY_HOUR};BYMINUTE={EVERY_MINUTE};INTERVAL=50",
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO",
        "FREQ=MONTHLY;BYDAY=53MO",
        "FREQ=YEARLY;BYWEEKNO=53;BYDAY=SU",
        "FREQ=MINUTELY;COUNT=10000",
        "FREQ=MINUTELY;INTERVAL=999;BYHOUR=3;BYMINUTE=7",
        "FREQ=HOURLY;INTERVAL=97;BYMONTH=2;BYMONTHDAY=28",
        "FREQ=WEEKLY;BYDAY=MO;BYSETPOS=" + ",".join(map(str, range(2, 200))),
    ],
)
def test_no_legal_rule_takes_long_to_walk(rule: str) -> None:
    """Some rules once took seconds for ten times, and minutes to find that there are none."""
    begin = stopwatch.process_time()
    for _ in range(5):
        parsed = parse_rule({"rrule": rule}, BERLIN, BEGIN)
        parsed.between(BEGIN + timedelta(days=300), datetime(2190, 1, 1, tzinfo=UTC), 20)
    assert stopwatch.process_time() - begin < 10


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("DTSTART:20260101T090000 FREQ=DAILY;COUNT=2000", "2031-06-23T09:00"),
        ("DTSTART:20260101T090000 FREQ=DAILY;COUNT=10000", "2053-05-18T09:00"),
        ("DTSTART:20220101T090000 FREQ=DAILY;COUNT=5000", "2035-09-09T09:00"),
        ("DTSTART:20260105T090000 FREQ=WEEKLY;COUNT=2000", "2064-04-28T09:00"),
        ("DTSTART:20140106T090000 FREQ=WEEKLY;COUNT=1000", "2033-02-28T09:00"),
        ("DTSTART:20260101T090000 FREQ=MONTHLY;BYDAY=1MO,-1MO;COUNT=400", "2042-08-25T09:00"),
        ("DTSTART:20260101T090000 FREQ=MONTHLY;BYDAY=MO,TU;BYSETPOS=-1;COUNT=300", None),
        ("DTSTART:20260101T090000 FREQ=YEARLY;COUNT=20", "2045-01-01T09:00"),
        ("DTSTART:20260101T090000 FREQ=YEARLY;INTERVAL=9;COUNT=15", "2152-01-01T09:00"),
        ("DTSTART:20260101T090000 FREQ=HOURLY;BYHOUR=3;BYMINUTE=0;COUNT=2000", None),
        ("DTSTART:20260101T090000 FREQ=DAILY;INTERVAL=900;COUNT=40", None),
        ("DTSTART:20260101T090000 FREQ=MINUTELY;INTERVAL=1000;BYHOUR=3;COUNT=2000", None),
    ],
)
def test_a_rule_that_counts_has_as_many_times_as_it_says(text: str, last: str | None) -> None:
    """However far the last one is from the start: only a gap between two of them is bounded."""
    count = int(text.rpartition("=")[2])
    rule = parse_rule({"rrule": text}, "UTC")
    found = list(islice(rule.times_after(datetime(2000, 1, 1, tzinfo=UTC)), count + 1))
    library = list(rrulestr(text.replace(" ", "\nRRULE:")))
    assert len(found) == len(library) == count
    assert [moment.replace(tzinfo=None) for moment in found] == library
    if last is not None:
        assert found[-1] == datetime.fromisoformat(last).replace(tzinfo=UTC)


def test_a_rule_that_counts_ends_with_a_gap_of_more_than_ten_years() -> None:
    rule = parse_rule({"rrule": "DTSTART:20260101T090000 FREQ=YEARLY;INTERVAL=11;COUNT=9"}, "UTC")
    assert len(list(rule.times_after(BEGIN))) == 1
    rule = parse_rule({"rrule": "DTSTART:20260101T090000 FREQ=YEARLY;COUNT=10000"}, "UTC")
    assert len(list(rule.times_after(BEGIN))) == 2200 - 2026


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=WEEKLY;COUNT=10000",
        "FREQ=YEARLY;BYWEEKNO=20;COUNT=10000",
        "FREQ=MONTHLY;BYDAY=-1MO;BYMONTHDAY=31;COUNT=10000",
        "FREQ=YEARLY;BYDAY=53MO;COUNT=10000",
        "FREQ=YEARLY;INTERVAL=9;COUNT=10000",
        "FREQ=DAILY;INTERVAL=1000;COUNT=10000",
        "FREQ=MINUTELY;INTERVAL=7;BYHOUR=3;BYMINUTE=7;COUNT=10000",
        "FREQ=MINUTELY;INTERVAL=2;BYHOUR=3;BYMINUTE=7,9;BYYEARDAY=366;COUNT=10000",
        "FREQ=HOURLY;INTERVAL=97;BYHOUR=3;COUNT=10000",
        "FREQ=MONTHLY;BYDAY=MO;BYMONTHDAY=13;BYSETPOS=1;COUNT=10000",
    ],
)
def test_no_rule_takes_long_to_count(rule: str) -> None:
    begin = stopwatch.process_time()
    parse_rule({"rrule": f"DTSTART:19700101T030700 {rule}"}, BERLIN, BEGIN)
    assert stopwatch.process_time() - begin < 2


FREQUENCIES = ("MINUTELY", "HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY")
"""The FREQ values of RFC 5545 section 3.3.10, without SECONDLY."""

NOT_BESIDE = {
    "BYWEEKNO": {"MINUTELY", "HOURLY", "DAILY", "WEEKLY", "MONTHLY"},
    "BYYEARDAY": {"DAILY", "WEEKLY", "MONTHLY"},
    "BYMONTHDAY": {"WEEKLY"},
}
"""The FREQ values beside which that section's table forbids a part."""

RANGES = {
    "BYMONTH": (1, 12, False),
    "BYWEEKNO": (1, 53, True),
    "BYYEARDAY": (1, 366, True),
    "BYMONTHDAY": (1, 31, True),
    "BYHOUR": (0, 23, False),
    "BYMINUTE": (0, 59, False),
    "BYSETPOS": (1, 366, True),
}
"""Smallest and largest value, and whether negative values are allowed."""


@pytest.mark.parametrize("frequency", FREQUENCIES)
@pytest.mark.parametrize("part", RANGES)
def test_values_that_rfc_5545_rules_out_are_refused(frequency: str, part: str) -> None:
    least, most, signed = RANGES[part]
    wrong = [str(least - 1), str(most + 1), "", "x", "1_5", " 1", "1,", "1;2", "--1", "0x1", "1.0"]
    wrong += [f"-{most + 1}", "-0", "+0"] if signed else ["-1", "+1"]
    for value in wrong:
        rule = f"FREQ={frequency};{part}={value};BYHOUR=9" if part != "BYHOUR" else value
        rule = f"FREQ={frequency};BYHOUR={value}" if part == "BYHOUR" else rule
        with pytest.raises(BadInput) as refused:
            parse_rule({"rrule": rule}, "UTC", BEGIN)
        assert refused.value.path == "rule.rrule", rule


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(FREQUENCIES), st.sampled_from([*RANGES, "BYDAY"]), st.data())
def test_a_part_is_taken_exactly_where_the_table_of_rfc_5545_has_it(
    frequency: str, part: str, data: st.DataObject
) -> None:
    numbered = False
    if part == "BYDAY":
        numbered = data.draw(st.booleans())
        of_month = str(data.draw(st.sampled_from([1, 2, -1, -2]))) if numbered else ""
        value = of_month + data.draw(st.sampled_from(EVERY_DAY.split(",")))
    else:
        least, most, signed = RANGES[part]
        number = data.draw(st.integers(least, most if part != "BYSETPOS" else 1))
        value = f"-{number}" if signed and data.draw(st.booleans()) else str(number)
    fits = frequency not in NOT_BESIDE.get(part, ())
    if numbered:
        fits = frequency in ("MONTHLY", "YEARLY")
    # BYMONTH is allowed beside every frequency, and gives BYSETPOS a set.
    rule = {"rrule": f"FREQ={frequency};{part}={value};BYMONTH=1,2,3,4,5,6,7,8,9,10,11,12"}
    if part == "BYMONTH":
        rule = {"rrule": f"FREQ={frequency};BYMONTH={value}"}
    if fits:
        parse_rule(rule, "UTC", BEGIN)
    else:
        with pytest.raises(BadInput) as refused:
            parse_rule(rule, "UTC", BEGIN)
        assert refused.value.path == "rule.rrule"


def ours(text: str, at: datetime, count: int) -> list[datetime]:
    rule = Recurring.parse(text, "UTC", ZoneInfo("UTC"), BEGIN)
    return [found for found in islice(rule.times_from(at), count + 1_500) if found > at][:count]


PARTS = st.fixed_dictionaries(
    {"FREQ": st.sampled_from(["DAILY", "WEEKLY", "MONTHLY", "YEARLY"])},
    optional={
        "INTERVAL": st.sampled_from(["1", "2", "3", "7"]),
        "BYMONTH": st.sampled_from(["1", "2,3", "12", "6,7,8"]),
        "BYMONTHDAY": st.sampled_from(["1", "15,-1", "-31", "29"]),
        "BYYEARDAY": st.sampled_from(["1", "-1", "60,100,-100"]),
        "BYWEEKNO": st.sampled_from(["1", "20", "-1", "53"]),
        "BYDAY": st.sampled_from(["MO", "SA,SU", "1MO", "-1FR", "2TU,-2WE"]),
        "BYHOUR": st.sampled_from(["0", "9,17", "23"]),
        "BYMINUTE": st.sampled_from(["0", "15,45"]),
        "BYSETPOS": st.sampled_from(["1", "-1", "2", "1,-1"]),
        "WKST": st.sampled_from(["MO", "SU", "WE"]),
    },
)


@settings(max_examples=150, deadline=None)
@given(PARTS, st.integers(0, 900))
def test_rules_by_the_day_or_slower_are_those_of_dateutil(parts: dict[str, str], day: int) -> None:
    text = ";".join(f"{name}={value}" for name, value in parts.items())
    try:
        Recurring.parse(text, "UTC", ZoneInfo("UTC"), BEGIN)
    except BadInput:
        assume(False)
    # Beside BYWEEKNO, the standard defaults BYDAY to the start's day, dateutil to the whole week.
    assume("BYWEEKNO" not in parts or "BYDAY" in parts)
    start = BEGIN.replace(tzinfo=None) + timedelta(minutes=1)
    at = start + timedelta(days=day)
    last = at + timedelta(days=1_200)
    library = rrulestr(f"RRULE:{text};BYSECOND=0", dtstart=start).between(at, last)
    found = [moment for moment in ours(text, at, 2_000) if moment < last]
    assert found[:20] == library[:20]


def test_an_old_rule_by_the_minute_is_as_fast_as_a_new_one() -> None:
    rule = parse_rule({"rrule": "DTSTART:19900101T000000\nRRULE:FREQ=MINUTELY;INTERVAL=7"}, "UTC")
    begin = stopwatch.process_time()
    found = rule.between(datetime(2026, 6, 1, tzinfo=UTC), END, 100)
    assert (found[-1] - datetime(1990, 1, 1, tzinfo=UTC)) % timedelta(minutes=7) == timedelta(0)
    assert stopwatch.process_time() - begin < 5


def test_once() -> None:
    assert times({"once": "2026-06-01T10:00"}, "2026-06-01T07:00Z") == ["2026-06-01 10:00 +0200"]
    assert times({"once": "2026-06-01T10:00Z"}, "2026-06-01T07:00Z") == ["2026-06-01 12:00 +0200"]
    assert times({"once": "2026-03-29T02:30"}, "2026-01-01T07:00Z") == ["2026-03-29 03:00 +0200"]
    assert times({"once": "2026-06-01T10:00"}, "2026-06-01T08:00Z") == []


@pytest.mark.parametrize(
    ("rule", "path"),
    [
        ({}, "rule"),
        ({"cadence": "daily", "cron": "* * * * *"}, "rule"),
        ({"cadence": "yearly"}, "rule.cadence"),
        ({"cadence": ["daily"]}, "rule.cadence"),
        ({"cadence": "daily", "at": "24:00"}, "rule.at"),
        ({"cadence": "daily", "at": "9"}, "rule.at"),
        ({"cadence": "daily", "at": 9}, "rule.at"),
        ({"cadence": "daily", "att": "09:00"}, "rule.att"),
        ({"cadence": "weekly"}, "rule.days"),
        ({"cadence": "weekly", "days": []}, "rule.days"),
        ({"cadence": "weekly", "days": [1, 8]}, "rule.days[1]"),
        ({"cadence": "weekly", "days": [True]}, "rule.days[0]"),
        ({"cadence": "weekly", "days": "mon,xyz"}, "rule.days[1]"),
        ({"cadence": "monthly", "dayOfMonth": 32}, "rule.dayOfMonth"),
        ({"cadence": "monthly", "dayOfMonth": "1"}, "rule.dayOfMonth"),
        ({"cadence": "hourly", "everyHours": 25}, "rule.everyHours"),
        ({"cadence": "minutely", "everyMinutes": 60}, "rule.everyMinutes"),
        ({"cadence": "minutely", "everyMinutes": True}, "rule.everyMinutes"),
        ({"cron": "* * * *"}, "rule.cron"),
        ({"cron": "0 * * * * *"}, "rule.cron"),
        ({"cron": "61 * * * *"}, "rule.cron"),
        ({"cron": "0 0 30 2 *"}, "rule.cron"),
        ({"cron": 5}, "rule.cron"),
        ({"rrule": "FREQ=SECONDLY"}, "rule.rrule"),
        ({"rrule": "FREQ=DAILY;BYSECOND=1"}, "rule.rrule"),
        ({"rrule": "INTERVAL=1"}, "rule.rrule"),
        ({"rrule": "FREQ=DAILY;INTERVAL=0"}, "rule.rrule"),
        ({"rrule": "FREQ=DAILY;COUNT=99999999"}, "rule.rrule"),
        ({"rrule": "FREQ=DAILY;COUNT=2;UNTIL=20270101"}, "rule.rrule"),
        ({"rrule": "FREQ=DAILY;BYHOUR=77"}, "rule.rrule"),
        ({"rrule": "FREQ=MINUTELY;BYMONTH=2;BYMONTHDAY=30"}, "rule.rrule"),
        ({"rrule": "DTSTART;TZID=Asia/Tokyo:20260101T000000\nRRULE:FREQ=DAILY"}, "rule.rrule"),
        ({"rrule": "RDATE:20260101T000000\nRRULE:FREQ=DAILY"}, "rule.rrule"),
        ({"rrule": "FREQ=DAILY;UNTIL=tomorrow"}, "rule.rrule"),
        ({"once": "tomorrow"}, "rule.once"),
        ({"once": "9999-12-31T23:59:59-12:00"}, "rule.once"),
        ({"once": "2026-12-22\ud83d09:00"}, "rule.once"),
        ({"once": "2026-12-22\x0009:00"}, "rule.once"),
        ({"rrule": "DTSTART;FOO=\ud83d:20261222T090000\nRRULE:FREQ=DAILY"}, "rule.rrule"),
        ({"rrule": "DTSTART;FOO=a\x00b:20261222T090000\nRRULE:FREQ=DAILY"}, "rule.rrule"),
        ({"cron": "0 7 * * \ud83d"}, "rule.cron"),
        ({"cadence": "daily", "\ud800": 1}, "rule.\\ud800"),
    ],
)
def test_a_rule_that_cannot_be_names_the_mistake(rule: dict[str, Any], path: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_rule(rule, BERLIN)
    assert refused.value.path == path


@pytest.mark.parametrize(
    "zone",
    [
        *("", "Mars/Base", "../etc/passwd", "Europe", "right/UTC", "x\0y"),
        *("Factory", "localtime", "posixrules"),
    ],
)
def test_an_unknown_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_rule({"cadence": "daily"}, zone)
    assert refused.value.path == "timezone"


def test_rules_say_what_they_are() -> None:
    sentences: dict[str, dict[str, Any]] = {
        "Every day at 09:00 (UTC).": {"cadence": "daily"},
        "Every Monday and Friday at 07:05 (UTC).": {
            "cadence": "weekly",
            "days": [5, 1],
            "at": "7:05",
        },
        "On day 31 of every month, or the last day of a shorter one, at 09:00 (UTC).": {
            "cadence": "monthly",
            "dayOfMonth": 31,
        },
        "Every 6 hours (UTC).": {"cadence": "hourly", "everyHours": 6},
        "Every minute (UTC).": {"cadence": "minutely"},
        "At 09:00 on Monday through Friday (UTC).": {"cron": "0 9 * * 1-5"},
        "Once at 2026-06-01 10:00 (UTC).": {"once": "2026-06-01T10:00"},
    }
    for sentence, rule in sentences.items():
        assert parse_rule(rule, "UTC").describe() == sentence


RULES = st.one_of(
    st.builds(
        lambda at: {"cadence": "daily", "at": f"{at:%H:%M}"},
        st.times(),
    ),
    st.builds(
        lambda days, at: {"cadence": "weekly", "days": sorted(days), "at": f"{at:%H:%M}"},
        st.sets(st.integers(1, 7), min_size=1),
        st.times(),
    ),
    st.builds(
        lambda day: {"cadence": "monthly", "dayOfMonth": day},
        st.integers(1, 31),
    ),
    st.builds(lambda n: {"cadence": "hourly", "everyHours": n}, st.integers(1, 24)),
    st.builds(lambda n: {"cadence": "minutely", "everyMinutes": n}, st.integers(1, 59)),
    st.sampled_from(
        [
            {"cron": "*/7 * * * *"},
            {"cron": "0 2,3 * * *"},
            {"cron": "30 */2 1,15 * 1"},
            {"rrule": "FREQ=HOURLY;INTERVAL=5"},
            {"rrule": "FREQ=MINUTELY;INTERVAL=45;BYDAY=SU"},
            {"rrule": "FREQ=WEEKLY;INTERVAL=2;BYDAY=SU;BYHOUR=2;BYMINUTE=0,30"},
            {"rrule": "FREQ=YEARLY"},
        ]
    ),
)
MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC))


@settings(max_examples=150, deadline=None)
@given(RULES, st.sampled_from([z for z in ZONES if changes(z)]), MOMENTS, st.data())
def test_times_increase_and_none_lies_between(
    rule: dict[str, Any], zone: str, moment: datetime, data: st.DataObject
) -> None:
    """From any moment between two consecutive times, the later one is the next."""
    near = data.draw(st.sampled_from([moment, *changes(zone)]))
    after = near - timedelta(minutes=data.draw(st.integers(0, 180)))
    parsed = parse_rule(rule, zone, BEGIN)
    first = parsed.next_after(after)
    assert first is not None
    assert first > after
    second = parsed.next_after(first)
    assert second is not None
    assert second > first
    for begin, end in ((after, first), (first, second)):
        share = data.draw(st.integers(0, 999)) / 1000
        assert parsed.next_after(begin + (end - begin) * share) == end
    assert parsed.next_after(first - timedelta(microseconds=1)) == first
    again = parse_rule(parsed.spec, zone, BEGIN)
    assert again.next_after(after) == first


@pytest.mark.parametrize("until", ["99991231", "99991231T235959", "99991231T235959Z", "99991230"])
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Pacific/Kiritimati"])
def test_a_rule_may_go_on_to_the_last_day_of_the_calendar(until: str, zone: str) -> None:
    given = {"rrule": f"FREQ=DAILY;UNTIL={until}"}
    now = datetime(2026, 11, 29, tzinfo=UTC)
    if until.endswith("Z") and zone == "Pacific/Kiritimati":
        with pytest.raises(BadInput):  # there it is the first day of the year 10000
            parse_rule(given, zone, now)
    else:
        found = parse_rule(given, zone, now).next_after(now)
        assert found is not None
        assert found - now <= timedelta(days=1)
