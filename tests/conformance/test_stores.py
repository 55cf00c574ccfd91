"""A store's promises for a batch: judged one by one, written together, with dense positions."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from eventsourcing.persistence import StoredEvent

from domain.catalogue import CATALOGUE
from domain.errors import LogRefused, VersionConflict
from domain.log import MemoryStore
from domain.log.leaf import leaf_hash
from domain.log.sqlite.store import open_sqlite_store
from domain.log.store import Append, Query, Store

STORES: dict[str, Callable[[Path], Store]] = {
    "memory": lambda path: MemoryStore(),
    "sqlite": lambda path: open_sqlite_store(path, catalogue=CATALOGUE, purpose="a test"),
}


@pytest.fixture(params=sorted(STORES))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made = STORES[request.param](tmp_path)
    yield made
    made.close()


def event(stream: str, version: int, text: str = "x") -> StoredEvent:
    return StoredEvent(stream, version, "job.messaged", b'{"text":"%s"}' % text.encode())


def append(
    stream: str, after: int, count: int = 1, checkpoint: tuple[str, int] | None = None
) -> Append:
    events = [event(stream, after + n + 1) for n in range(count)]
    return Append(events, ["tester"] * count, {stream: after}, checkpoint, False)


def test_each_is_judged_as_if_those_before_it_were_written(store: Store) -> None:
    verdicts = store.append(
        [
            append("job-a", 0, 2),
            append("job-a", 0),
            append("job-a", 2),
            Append([], [], {"job-a": 3}, None, False),
            Append([], [], {"job-a": 2}, None, False),
            append("job-b", 1),
            append("job-b", 0),
        ]
    )
    assert [v if isinstance(v, int) else type(v) for v in verdicts] == [
        1,
        VersionConflict,
        3,
        0,
        VersionConflict,
        VersionConflict,
        4,
    ]
    found = store.read_blocking(Query())
    assert [row[:3] for row in found.rows] == [
        (1, "job-a", 1),
        (2, "job-a", 2),
        (3, "job-a", 3),
        (4, "job-b", 1),
    ]
    assert (found.whole, store.head_blocking()) == (True, 4)


def test_a_checkpoint_moves_forward_within_a_batch_too(store: Store) -> None:
    verdicts = store.append(
        [
            append("job-a", 0, checkpoint=("mailer", 5)),
            append("job-b", 0, checkpoint=("mailer", 5)),
            append("job-b", 0, checkpoint=("other", 5)),
            append("job-c", 0, checkpoint=("mailer", 6)),
        ]
    )
    lost = verdicts[1]
    assert isinstance(lost, VersionConflict)
    assert (lost.stream, lost.actual) == ("checkpoint mailer", 5)
    assert [v for v in verdicts if v is not lost] == [1, 2, 3]
    assert store.checkpoint_blocking("mailer") == 6
    assert store.checkpoint_blocking("nobody") == 0


def test_what_lies_beside_an_event_can_be_asked_for(store: Store) -> None:
    store.append(
        [
            Append([event("job-a", 1)], ["ada"], {"job-a": 0}, None, False),
            Append([event("job-a/output", 1)], ["bob"], {"job-a/output": 0}, None, False),
            Append([event("job-b", 1)], ["ada"], {"job-b": 0}, None, False),
        ]
    )

    def positions(query: Query) -> list[int]:
        return [row[0] for row in store.read_blocking(query).rows]

    assert positions(Query(subject="job-a")) == [1, 2]
    assert positions(Query(actor="ada")) == [1, 3]
    assert positions(Query(actor="ada", newest_first=True, limit=1)) == [3]
    assert positions(Query(stream="job-a")) == [1]
    assert positions(Query(stream="job-a", after_version=1)) == []
    assert positions(Query(stream="job-b", after=2)) == [3]
    assert positions(Query(types=("job.queued",))) == []
    assert positions(Query(after=1, before=3)) == [2]
    page = store.read_blocking(Query(after=2, hashed=True))
    assert page.hashes == [leaf_hash("job-b", 1, "job.messaged", b'{"text":"x"}')]


@pytest.mark.parametrize(
    ("asked", "count", "whole"),
    [
        (Query(limit=2), 2, False),
        (Query(limit=4), 4, True),
        (Query(page_bytes=1), 1, False),
        (Query(page_bytes=None), 3, True),
        (Query(limit=1, after=2), 1, False),
    ],
)
def test_a_page_says_whether_it_is_all(store: Store, asked: Query, count: int, whole: bool) -> None:
    store.append([append("job-a", 0, 3)])
    page = store.read_blocking(asked)
    assert (len(page.rows), page.whole) == (min(count, 3), whole)


def test_an_empty_log_is_filled_whole_or_not_at_all(store: Store) -> None:
    def broken() -> Iterator[list[tuple[StoredEvent, str]]]:
        yield [(event("job-a", 1), "ada")]
        raise ValueError("the file is cut")

    with pytest.raises(ValueError, match="cut"):
        store.fill(broken())
    assert store.read_blocking(Query()).rows == []
    assert store.fill([[(event("job-a", 1), "ada")], [(event("job-a", 2), "bob")]]) == 2
    assert store.head_blocking() == 2
    with pytest.raises(LogRefused, match="holds 2 events"):
        store.fill([[(event("job-b", 1), "ada")]])
    assert store.append([append("job-a", 2)]) == [3]


def test_what_it_says_of_itself_is_changed_in_one_step(store: Store) -> None:
    assert store.amend_meta(lambda stored: {**stored, "one": "1"})["one"] == "1"
    store.amend_meta(lambda stored: {**stored, "two": stored["one"] + "2"})
    assert (store.meta()["one"], store.meta()["two"]) == ("1", "12")
