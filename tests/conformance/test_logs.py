"""The suite that every store of the log passes. A new store joins STORES."""

import asyncio
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.catalogue import CATALOGUE
from domain.errors import VersionConflict
from domain.job.events import (
    JobMessaged,
    JobProgressed,
)
from domain.log import (
    Context,
    EventLog,
    MemoryStore,
    NewEvent,
    Recorded,
    new_events,
    open_log,
    open_sqlite_log,
)
from domain.log.envelope import PAGE_BYTES
from domain.log.reads import BlockingReads
from domain.log.recent import RecentEvents
from domain.redaction import Redactor

Open = Callable[[Path], EventLog]
"""Opens the log at a path as a new process would, with everything that was committed."""


def sqlite(path: Path) -> EventLog:
    return open_sqlite_log(path, redactor=Redactor(), catalogue=CATALOGUE)


_MEMORIES: dict[Path, MemoryStore] = {}


def memory(path: Path) -> EventLog:
    store = _MEMORIES.setdefault(path, MemoryStore())
    return open_log(store, redactor=Redactor(), catalogue=CATALOGUE)


STORES: dict[str, Open] = {"sqlite": sqlite, "memory": memory}

WHO = Context(actor="tester", request_id="r-1", cause="c-1")


@pytest.fixture(params=sorted(STORES))
def opens(request: pytest.FixtureRequest) -> Open:
    return STORES[request.param]


@pytest.fixture
def log(opens: Open, tmp_path: Path) -> Iterator[EventLog]:
    opened = opens(tmp_path)
    yield opened
    opened.close()


def messages(stream: str, *texts: str) -> list[NewEvent]:
    return new_events(stream, [JobMessaged(text=text) for text in texts], WHO)


def texts(events: "list[Recorded]") -> list[str]:
    return [event.data["text"] for event in events]


def put(log: EventLog, stream: str, after: int, *words: str) -> list[Recorded]:
    return list(log.append_blocking(messages(stream, *words), {stream: after}))


async def take(
    log: EventLog, count: int, after: int = 0, subject: str | None = None
) -> list[Recorded]:
    """The first `count` events of a tail."""
    found: list[Recorded] = []
    async for page in log.tail(after, subject):
        found += page
        if len(found) >= count:
            return found
    return found


def test_positions_are_dense_and_versions_count_within_the_stream(log: EventLog) -> None:
    put(log, "job-a", 0, "one", "two")
    put(log, "job-b", 0, "three")
    put(log, "job-a", 2, "four")
    assert [(e.position, e.stream, e.version) for e in log.blocking.read(0)] == [
        (1, "job-a", 1),
        (2, "job-a", 2),
        (3, "job-b", 1),
        (4, "job-a", 3),
    ]
    assert log.head == 4


def test_the_envelope_comes_back_whole(log: EventLog) -> None:
    new = messages("job-a", "hello")
    log.append_blocking(new, {"job-a": 0})
    found = log.blocking.event_at(1)
    assert found is not None
    assert (found.id, found.at, found.type, found.schema) == (
        new[0].id,
        new[0].at,
        "job.messaged",
        1,
    )
    assert (found.actor, found.request_id, found.cause) == ("tester", "r-1", "c-1")
    assert found.event() == JobMessaged(text="hello")
    assert found.as_json()["data"] == {"text": "hello"}


def test_a_wrong_expectation_fails_its_own_command_alone(log: EventLog) -> None:
    put(log, "job-a", 0, "one")

    async def race() -> list[object]:
        return await asyncio.gather(
            *(log.append(messages("job-a", f"try {n}"), {"job-a": 1}) for n in range(20)),
            *(log.append(messages(f"job-{n}", "mine"), {f"job-{n}": 0}) for n in range(20)),
            return_exceptions=True,
        )

    answers = asyncio.run(race())
    conflicts = [answer for answer in answers if isinstance(answer, VersionConflict)]
    assert len(conflicts) == 19
    assert {c.stream for c in conflicts} == {"job-a"}
    assert log.head == 1 + 1 + 20
    assert [e.position for e in log.blocking.read(0)] == list(range(1, 23))


def test_an_append_is_all_or_nothing_across_streams(log: EventLog) -> None:
    put(log, "job-a", 0, "one")
    both = [*messages("job-b", "new"), *messages("job-a", "late")]
    with pytest.raises(VersionConflict):
        log.append_blocking(both, {"job-b": 0, "job-a": 0})
    assert log.head == 1
    assert log.blocking.stream("job-b") == []


def test_a_stream_that_is_only_checked_fences_the_append(log: EventLog) -> None:
    put(log, "job-a", 0, "one")
    put(log, "job-a", 1, "two")
    with pytest.raises(VersionConflict) as caught:
        log.append_blocking(messages("job-a/output", "x"), {"job-a/output": 0, "job-a": 1})
    assert (caught.value.stream, caught.value.actual) == ("job-a", 2)
    log.append_blocking(messages("job-a/output", "x"), {"job-a/output": 0, "job-a": 2})


@pytest.mark.parametrize("expected", [1, 2, 7])
def test_an_expectation_ahead_of_the_stream_is_a_conflict_and_makes_no_gap(
    log: EventLog, expected: int
) -> None:
    with pytest.raises(VersionConflict):
        put(log, "job-a", expected, "too early")
    assert log.head == 0


def test_conflicts_are_judged_from_the_disk_after_a_restart(opens: Open, tmp_path: Path) -> None:
    first = opens(tmp_path)
    put(first, "job-a", 0, "one", "two")
    first.close()
    again = opens(tmp_path)
    try:

        async def both() -> tuple[object, object]:
            return await asyncio.gather(
                again.append(messages("job-a", "stale"), {"job-a": 0}),
                again.append(messages("job-b", "fine"), {"job-b": 0}),
                return_exceptions=True,
            )

        answers = asyncio.run(both())
        assert isinstance(answers[0], VersionConflict)
        assert answers[0].actual == 2
        assert again.head == 3
        assert again.blocking.event_at(3) is not None
    finally:
        again.close()


def test_an_unstated_stream_is_refused_before_anything_is_written(log: EventLog) -> None:
    with pytest.raises(ValueError, match="must state the version"):
        log.append_blocking(messages("job-a", "x"), {})
    assert log.head == 0


@pytest.mark.parametrize(
    "name", ["", "job", "job-", "job-a b", "job-a/", "job-ä", "job-a/b/c", "Job-a"]
)
def test_a_bad_stream_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a stream name"):
        messages(name, "x")


def test_a_checkpoint_is_stored_with_its_events_or_not_at_all(log: EventLog) -> None:
    assert log.blocking.checkpoint("mailer") == 0
    log.append_blocking(messages("job-a", "one"), {"job-a": 0}, checkpoint=("mailer", 5))
    assert log.blocking.checkpoint("mailer") == 5
    with pytest.raises(VersionConflict):
        log.append_blocking(messages("job-a", "two"), {"job-a": 0}, checkpoint=("mailer", 6))
    assert log.blocking.checkpoint("mailer") == 5


@pytest.mark.parametrize("position", [4, 5])
def test_a_checkpoint_only_moves_forward_so_an_effect_happens_once(
    log: EventLog, position: int
) -> None:
    log.append_blocking(messages("job-a", "one"), {"job-a": 0}, checkpoint=("mailer", 5))
    with pytest.raises(VersionConflict):
        log.append_blocking(messages("job-b", "x"), {"job-b": 0}, checkpoint=("mailer", position))
    assert log.head == 1


def test_a_checkpoint_survives_a_restart(opens: Open, tmp_path: Path) -> None:
    log = opens(tmp_path)
    log.append_blocking(messages("job-a", "one"), {"job-a": 0}, checkpoint=("mailer", 5))
    log.close()
    again = opens(tmp_path)
    try:
        with pytest.raises(VersionConflict):
            again.append_blocking(messages("job-b", "x"), {"job-b": 0}, checkpoint=("mailer", 5))
        again.append_blocking([], {}, checkpoint=("mailer", 6))
        assert again.blocking.checkpoint("mailer") == 6
    finally:
        again.close()


def test_reads_are_by_subject_type_actor_and_bounds(log: EventLog) -> None:
    put(log, "job-a", 0, "one")
    log.append_blocking(
        new_events("job-a/output", [JobProgressed(attempt=1, fraction=None, text="p")], WHO),
        {"job-a/output": 0},
    )
    put(log, "job-b", 0, "two")
    log.append_blocking(
        new_events("job-b", [JobMessaged(text="by other")], Context(actor="other")), {"job-b": 1}
    )
    assert [e.position for e in log.blocking.read(0, subject="job-a")] == [1, 2]
    assert [e.position for e in log.blocking.read(0, types=["job.progressed"])] == [2]
    assert [e.position for e in log.blocking.read(1, limit=2)] == [2, 3]
    assert [e.position for e in log.blocking.read(0, actor="other")] == [4]
    assert [e.position for e in log.blocking.read(0, before=3)] == [1, 2]
    assert log.blocking.read(0, subject="job-") == []


@pytest.mark.parametrize("filters", [{"types": ["job.progressed"]}, {"actor": "rare"}])
def test_a_page_with_a_rare_filter_does_bounded_work_and_still_ends(
    log: EventLog, filters: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("domain.log.reads._SCAN", 10)
    put(log, "job-a", 0, *(f"{n}" for n in range(45)))
    rare = new_events(
        "job-b", [JobProgressed(attempt=1, fraction=None, text="p")], Context(actor="rare")
    )
    log.append_blocking(rare, {"job-b": 0})
    put(log, "job-c", 0, *(f"{n}" for n in range(25)))
    found, after, pages = [], 0, 0
    while True:
        page, following = log.blocking.page(after, 5, **filters)
        found += page
        pages += 1
        if following is None:
            break
        assert following > after
        after = following
    assert [e.position for e in found] == [46]
    assert pages == 8


def test_pages_without_a_filter_are_full_and_end_at_the_head(log: EventLog) -> None:
    put(log, "job-a", 0, *(f"{n}" for n in range(7)))
    first, following = log.blocking.page(0, 4)
    assert ([e.position for e in first], following) == ([1, 2, 3, 4], 4)
    rest, following = log.blocking.page(4, 4)
    assert ([e.position for e in rest], following) == ([5, 6, 7], None)
    assert log.blocking.page(4, 3)[1] is None


LARGE = 1024 * 1024
MOST = PAGE_BYTES + 2 * LARGE
"""The largest page of large events: it ends with the event that fills it."""


def test_pages_hold_all_that_is_committed_also_what_readers_are_not_told_yet(log: EventLog) -> None:
    put(log, "job-a", 0, "one", "two")
    untold = BlockingReads(log._store, RecentEvents(0), CATALOGUE)

    assert untold._reads.head == 0
    assert [texts(page) for page in untold.pages(subject="job-a")] == [["one", "two"]]


def put_large(log: EventLog) -> None:
    """Thirty events: each third one has another subject, and two thirds have a MiB or more."""
    for n in range(10):
        put(log, "job-a", 2 * n, "x" * (LARGE + n), "small")
        put(log, "job-b", n, "y" * (LARGE + n))


def checked(page: list[Recorded]) -> list[Recorded]:
    assert sum(len(event.state) for event in page) <= MOST
    return page


@pytest.fixture(params=["near", "far"])
def large(request: pytest.FixtureRequest, opens: Open, tmp_path: Path) -> Iterator[EventLog]:
    """A log with large events: partly in memory (near), or only on disk (far)."""
    log = opens(tmp_path)
    put_large(log)
    if request.param == "far":
        log.close()
        log = opens(tmp_path)
    yield log
    log.close()


FILTERS: list[dict[str, Any]] = [
    {},
    {"subject": "job-a"},
    {"types": ["job.messaged"]},
    {"actor": "tester"},
    {"before": 26},
]


@pytest.mark.parametrize("filters", FILTERS)
def test_a_page_is_bounded_by_bytes_and_leaves_nothing_out(
    large: EventLog, filters: dict[str, Any]
) -> None:
    chosen = [
        n
        for n in range(1, 31)
        if ("subject" not in filters or n % 3) and n < filters.get("before", 31)
    ]
    found: list[Recorded] = []
    following: int | None = 0
    while following is not None:
        page, following = large.blocking.page(following, 1_000, **filters)
        found += checked(page)
    assert [e.position for e in found] == chosen
    found = []
    while page := checked(
        large.blocking.read(found[-1].position if found else 0, 1_000, **filters)
    ):
        found += page
    assert [e.position for e in found] == chosen


def test_walks_over_large_events_are_bounded_and_whole(large: EventLog) -> None:
    pages = [checked(page) for page in large.blocking.pages()]
    assert [e.position for page in pages for e in page] == list(range(1, 31))
    assert len(pages) > 4

    async def followed(
        after: int, subject: str | None, types: tuple[str, ...], last: int
    ) -> list[int]:
        found: list[int] = []
        tail = large.tail(after, subject, types, 1_000)
        while not found or found[-1] < last:
            found += [e.position for e in checked(await anext(tail))]
        return found

    for after in (0, 13, 22, 26):
        rest = list(range(after + 1, 31))
        assert asyncio.run(followed(after, None, (), 30)) == rest
        assert asyncio.run(followed(after, None, ("job.messaged",), 30)) == rest
        about = [n for n in rest if n % 3]
        assert asyncio.run(followed(after, "job-a", (), 29)) == about


@pytest.mark.parametrize("subject", [None, "job-a"])
def test_a_tail_may_ask_for_smaller_pages_that_its_readers_share(
    large: EventLog, subject: str | None, request: pytest.FixtureRequest
) -> None:
    """A stalled reader holds at most one such page, and twenty of them share it."""

    async def followed() -> list[list[Recorded]]:
        tail = large.tail(0, subject, limit=1_000, page_bytes=LARGE // 2)
        pages: list[list[Recorded]] = []
        while not pages or pages[-1][-1].position < 29:
            pages.append(await anext(tail))
        return pages

    async def together() -> list[list[list[Recorded]]]:
        return await asyncio.gather(*(followed() for _ in range(20)))

    first, *others = asyncio.run(together())
    for page in first:
        assert sum(len(event.state) for event in page[:-1]) < LARGE // 2
    expected = [n for n in range(1, 31) if subject is None or n % 3]
    assert [e.position for page in first for e in page][:20] == expected[:20]
    # In memory, the events are shared. The last page depends on where the log ended then.
    for pages in others if request.node.callspec.params["large"] == "far" else ():
        assert all(ours is theirs for ours, theirs in zip(first[:-1], pages[:-1], strict=True))


@pytest.mark.parametrize("before", [1, 2, 15, 30, 31])
@pytest.mark.parametrize("subject", [None, "job-a"])
def test_a_tail_ends_at_a_position(large: EventLog, subject: str | None, before: int) -> None:
    async def followed(after: int) -> list[int]:
        tail = large.tail(after, subject, limit=4, before=before)
        return [e.position async for page in tail for e in page]

    for after in (0, 14, 25):
        chosen = [n for n in range(after + 1, before) if subject is None or n % 3]
        assert asyncio.run(followed(after)) == chosen


def test_a_tail_ends_at_a_position_that_is_to_come(log: EventLog) -> None:
    """Even if the event there has another subject."""
    put(log, "job-a", 0, "one")

    async def scenario() -> list[int]:
        async def followed() -> list[int]:
            tail = log.tail(0, "job-a", before=4)
            return [e.position async for page in tail for e in page]

        following = asyncio.create_task(followed())
        await asyncio.sleep(0)
        await log.append(messages("job-a", "two"), {"job-a": 1})
        await log.append(messages("job-b", "three"), {"job-b": 0})
        async with asyncio.timeout(30):
            return await following

    assert asyncio.run(scenario()) == [1, 2]


def test_a_tail_catches_up_from_disk_and_goes_live_with_no_gap(opens: Open, tmp_path: Path) -> None:
    before = opens(tmp_path)
    put(before, "job-a", 0, *(f"{n}" for n in range(700)))
    before.close()
    log = opens(tmp_path)

    async def scenario() -> list[Recorded]:
        reading = asyncio.create_task(take(log, 900))
        for n in range(200):
            await log.append(messages("job-b", f"live {n}"), {"job-b": n})
        return await reading

    try:
        assert [e.position for e in asyncio.run(scenario())] == list(range(1, 901))
    finally:
        log.close()


def test_a_tail_of_a_subject_sees_its_sub_streams_and_nothing_else(log: EventLog) -> None:
    async def scenario() -> list[Recorded]:
        reading = asyncio.create_task(take(log, 60, subject="job-a"))
        for n in range(30):
            await log.append(messages("job-a", "own"), {"job-a": n})
            await log.append(messages("job-b", "foreign"), {"job-b": n})
            await log.append(messages("job-a/output", "sub"), {"job-a/output": n})
        return await reading

    found = asyncio.run(scenario())
    assert {e.subject for e in found} == {"job-a"}
    assert len(found) == 60
    assert [e.position for e in found] == sorted(e.position for e in found)


def test_a_reader_slower_than_the_window_in_memory_loses_nothing(
    opens: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("domain.log.recent.RecentEvents.__init__.__defaults__", (16, 1 << 20))
    log = opens(tmp_path)

    async def scenario() -> list[int]:
        seen: list[int] = []
        tail = log.tail(0, limit=5)
        for n in range(20):
            words = [f"{n}-{m}" for m in range(10)]
            await log.append(messages("job-a", *words), {"job-a": n * 10})
            if n % 3 == 0:
                seen += [e.position for e in await anext(tail)]
        while len(seen) < 200:
            seen += [e.position for e in await anext(tail)]
        return seen

    try:
        assert asyncio.run(scenario()) == list(range(1, 201))
    finally:
        log.close()


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_readers_that_disconnect_anywhere_see_each_event_once(
    opens: Open, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Writers and readers at once; each reader may drop at any time and resume at its cursor."""
    log = opens(tmp_path_factory.mktemp("log"))
    total = 120
    seed = data.draw(st.integers(0, 2**32))
    subjects = data.draw(
        st.lists(st.sampled_from([None, "job-0", "job-1"]), min_size=1, max_size=4)
    )

    async def reader(subject: str | None, dice: random.Random) -> list[Recorded]:
        seen: list[Recorded] = []
        goal = total if subject is None else total // 4
        while len(seen) < goal:
            tail = log.tail(seen[-1].position if seen else 0, subject, limit=dice.randint(1, 9))
            for _ in range(dice.randint(1, 4)):
                page = await anext(tail)
                keep = page[: dice.randint(1, len(page))]
                seen += keep
                if len(keep) < len(page) or len(seen) >= goal:
                    break
        return seen

    async def writer(stream: str, dice: random.Random) -> None:
        for version in range(total // 4):
            await log.append(messages(stream, f"{version}"), {stream: version})
            if dice.random() < 0.3:
                await asyncio.sleep(0)

    async def scenario() -> list[list[Recorded]]:
        readers = [
            asyncio.create_task(reader(subject, random.Random(seed + n)))
            for n, subject in enumerate(subjects)
        ]
        await asyncio.gather(*(writer(f"job-{n}", random.Random(seed - n)) for n in range(4)))
        return list(await asyncio.gather(*readers))

    try:
        for subject, seen in zip(subjects, asyncio.run(scenario()), strict=True):
            expected = [e for e in log.blocking.read(0, total) if subject in (None, e.subject)]
            assert [e.position for e in seen] == [e.position for e in expected]
    finally:
        log.close()


def test_the_log_keeps_its_name(opens: Open, tmp_path: Path) -> None:
    log = opens(tmp_path)
    name = log.id
    log.close()
    again = opens(tmp_path)
    assert again.id == name
    again.close()


def test_nothing_is_appended_to_a_closed_log(opens: Open, tmp_path: Path) -> None:
    log = opens(tmp_path)
    log.close()
    from domain.errors import LogUnavailable

    with pytest.raises(LogUnavailable):
        put(log, "job-a", 0, "x")


def test_credentials_are_gone_before_they_are_stored(log: EventLog) -> None:
    put(log, "job-a", 0, "cloning https://user:hunter2@example.com/x.git")
    assert texts(log.blocking.read(0)) == ["cloning https://REDACTED@example.com/x.git"]
