"""The one way to change the log: a decision is appended, or made again."""

import asyncio
from collections.abc import Iterator

import pytest

from domain.catalogue import CATALOGUE
from domain.decide import TRIES, decide
from domain.draft import Draft
from domain.errors import VersionConflict, WrongState
from domain.job.events import JobCommented, JobMessaged
from domain.log import Context, EventLog, MemoryStore, new_events, open_log
from domain.redaction import Redactor

WHO = Context(actor="tester")
STREAM = "job-a"


@pytest.fixture
def log() -> Iterator[EventLog]:
    opened = open_log(MemoryStore(), redactor=Redactor(), catalogue=CATALOGUE)
    yield opened
    opened.close()


def version(log: EventLog) -> int:
    last = log.blocking.last_of_stream(STREAM)
    return last.version if last is not None else 0


def somebody_else(log: EventLog) -> None:
    """Append as another writer."""
    events = new_events(STREAM, [JobMessaged(text="first")], WHO)
    log.append_blocking(events, {STREAM: version(log)})


def test_what_was_decided_stands_in_the_log(log: EventLog) -> None:
    def decision(draft: Draft) -> str:
        draft.add(STREAM, version(log), [JobCommented(text="one"), JobCommented(text="two")])
        return "done"

    decided = asyncio.run(decide(log, decision, WHO))
    assert decided.outcome == "done"
    assert decided.position == log.head == 2
    assert [event.data["text"] for event in decided.recorded] == ["one", "two"]
    assert {event.actor for event in decided.recorded} == {"tester"}


def test_nothing_to_do_appends_nothing(log: EventLog) -> None:
    decided = asyncio.run(decide(log, lambda draft: 7, WHO))
    assert (decided.outcome, decided.recorded, decided.position) == (7, (), 0)
    assert log.head == 0


@pytest.mark.parametrize("times", [1, 5, TRIES - 1])
def test_it_is_decided_again_about_how_things_are_then(log: EventLog, times: int) -> None:
    seen: list[int] = []

    def decision(draft: Draft) -> int:
        assert not draft, "The draft of an earlier try is gone."
        seen.append(version(log))
        draft.add(STREAM, seen[-1], [JobCommented(text=f"after {seen[-1]}")])
        if len(seen) <= times:
            somebody_else(log)
        return seen[-1]

    decided = asyncio.run(decide(log, decision, WHO))
    assert seen == list(range(times + 1))
    assert decided.outcome == times
    [event] = decided.recorded
    assert event.data["text"] == f"after {times}"
    assert log.head == times + 1


def test_it_gives_up_when_others_are_always_first(log: EventLog) -> None:
    def decision(draft: Draft) -> None:
        draft.add(STREAM, version(log), [JobCommented(text="never")])
        somebody_else(log)

    with pytest.raises(VersionConflict):
        asyncio.run(decide(log, decision, WHO))
    assert log.head == TRIES


def test_a_decision_that_refuses_is_asked_once(log: EventLog) -> None:
    asked = 0

    def decision(draft: Draft) -> None:
        nonlocal asked
        asked += 1
        draft.add(STREAM, 0, [JobCommented(text="no")])
        raise WrongState("It cannot be done.")

    with pytest.raises(WrongState):
        asyncio.run(decide(log, decision, WHO))
    assert (asked, log.head) == (1, 0)


def test_a_long_decision_does_not_hold_up_the_loop(log: EventLog) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()

        def decision(draft: Draft) -> bool:
            # If the decision blocked the loop, this would wait for ever.
            return asyncio.run_coroutine_threadsafe(asyncio.sleep(0, True), loop).result(20)

        assert (await decide(log, decision, WHO, long=True)).outcome

    asyncio.run(scenario())
