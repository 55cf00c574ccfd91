"""Approvals: requested once, answered at most once, always together with the effect on the job."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from domain.approval.aggregate import AlreadyResolved, ApprovalNotFound, ApprovalState
from domain.approval.commands import Approvals, Question
from domain.catalogue import CATALOGUE
from domain.clock import format_time
from domain.draft import Draft
from domain.errors import Invalid, JobAlreadyEnded, StaleAttempt, WrongState
from domain.job.aggregate import LONGEST_TEXT, Job
from domain.job.commands import Jobs
from domain.job.events import (
    JobState,
    JobSubmitted,
)
from domain.log import Context, Recorded, open_sqlite_log
from domain.redaction import Redactor
from tests.kit.jobs import finished, plan, submitted

WHO = Context(actor="tester")


def planned(**changes: Any) -> JobSubmitted:
    return submitted(owner="user:ann", plan=plan(**{"approvers": ["owner"]} | changes))


class Desk:
    """Jobs and their approvals, over a log."""

    def __init__(self, folder: Path) -> None:
        self.now = datetime.now(UTC)
        self.log = open_sqlite_log(folder, redactor=Redactor(), catalogue=CATALOGUE)
        self.jobs = Jobs(self.log, lambda: self.now)
        self.approvals = Approvals(self.log, self.jobs, lambda: self.now)

    async def running(self, job_id: str = "j", **plan: Any) -> str:
        """A job whose first attempt runs."""
        await self.jobs.submit(job_id, planned(**plan), WHO)
        await self.do(job_id, lambda job: job.start("here"))
        return job_id

    async def do(self, job_id: str, command: Callable[[Job], list[Any]]) -> None:
        await self.jobs.execute(job_id, command, WHO)

    async def ask(self, job_id: str = "j", attempt: int = 1, **fields: Any) -> str:
        question = Question(**{"description": "May I?", **fields})
        return (await self.approvals.request(job_id, attempt, question, WHO)).approval.id

    async def answer(self, approval_id: str, resolution: str = "approved") -> None:
        await self.approvals.resolve(approval_id, resolution, None, WHO)

    async def end(self, job_id: str = "j") -> None:
        await self.do(job_id, lambda job: job.end_attempt(finished(job.attempt)))

    def state(self, job_id: str = "j") -> JobState:
        return self.jobs.load(job_id).state

    def of(self, approval_id: str) -> ApprovalState:
        return self.approvals.load(approval_id).state

    def events(self, *types: str) -> list[Recorded]:
        found = (event for page in self.log.blocking.pages() for event in page)
        return [event for event in found if event.type in types]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "log")
    yield made
    made.log.close()


def play(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def test_the_question_and_the_wait_are_one_append_and_so_are_answer_and_going_on(
    desk: Desk,
) -> None:
    async def scenario() -> None:
        await desk.running()
        asked = await desk.ask(proposed_action="rm -r", expires_at="2030-01-01T00:00:00.000000Z")
        assert desk.state() is JobState.WAITING_FOR_APPROVAL
        shown = desk.approvals.load(asked)
        assert (shown.job, shown.attempt, shown.owner) == ("j", 1, "user:ann")
        assert (shown.approvers, shown.state) == (("owner",), "pending")
        await desk.answer(asked, "rejected")
        assert (desk.state(), desk.of(asked)) == (JobState.RUNNING, "rejected")
        pairs = desk.events(
            "approval.requested",
            "job.approval_requested",
            "approval.resolved",
            "job.approval_answered",
        )
        positions = [event.position for event in pairs]
        assert positions[1] == positions[0] + 1
        assert positions[3] == positions[2] + 1

    play(scenario())


@pytest.mark.parametrize("first", ["approved", "rejected", "expired", "withdrawn"])
def test_there_is_only_one_answer(desk: Desk, first: str) -> None:
    async def scenario() -> None:
        await desk.running()
        asked = await desk.ask()
        if first == "expired":
            await desk.approvals.expire(asked, WHO)
        elif first == "withdrawn":
            await desk.end()
            draft = Draft(WHO)
            desk.approvals.withdraw(desk.jobs.load("j"), draft)
            await desk.log.append(draft.events, draft.expected)
        else:
            await desk.answer(asked, first)
        head = desk.log.head
        with pytest.raises(AlreadyResolved, match=first):
            await desk.answer(asked)
        await desk.approvals.expire(asked, WHO)
        assert desk.of(asked) == first
        assert desk.log.head == head

    play(scenario())


def test_of_two_who_answer_at_once_one_is_told_so(desk: Desk) -> None:
    async def scenario() -> None:
        await desk.running()
        asked = await desk.ask()
        answers = [desk.answer(asked, word) for word in ("approved", "rejected") * 3]
        told = await asyncio.gather(*answers, return_exceptions=True)
        assert told.count(None) == 1
        assert sum(isinstance(one, AlreadyResolved) for one in told) == 5
        assert len(desk.events("approval.resolved")) == 1

    play(scenario())


def test_an_answer_after_its_time_is_refused_whatever_timers_did(desk: Desk) -> None:
    async def scenario() -> None:
        await desk.running()
        end = desk.now + timedelta(seconds=3)
        asked = await desk.ask(expires_at=format_time(end))
        other = await desk.ask(expires_at=format_time(end + timedelta(seconds=1)))
        desk.now = end
        for _ in range(2):
            with pytest.raises(AlreadyResolved, match="expired"):
                await desk.answer(asked)
        assert desk.of(asked) == "expired"
        assert desk.jobs.load("j").pending == (other,)
        await desk.answer(other)
        assert (desk.of(other), desk.state()) == ("approved", JobState.RUNNING)

    play(scenario())


def test_an_answer_after_a_cancel_was_asked_for_is_refused(desk: Desk) -> None:
    async def scenario() -> None:
        await desk.running()
        asked = await desk.ask()
        await desk.do("j", lambda job: job.request_cancel("No more."))
        with pytest.raises(AlreadyResolved, match="withdrawn"):
            await desk.answer(asked)
        assert desk.of(asked) == "withdrawn"
        assert desk.events("approval.resolved") == []
        with pytest.raises(WrongState, match="being cancelled"):
            await desk.ask()

    play(scenario())


def test_an_answer_when_whoever_asked_has_ended_is_refused(desk: Desk) -> None:
    async def scenario() -> None:
        await desk.running()
        asked = await desk.ask()
        await desk.end()
        with pytest.raises(AlreadyResolved, match="withdrawn"):
            await desk.answer(asked)
        assert desk.of(asked) == "withdrawn"

    play(scenario())


def test_trust_that_comes_too_late_answers_nothing(desk: Desk) -> None:
    async def scenario() -> None:
        await desk.running()
        asked = await desk.ask(expires_at=format_time(desk.now + timedelta(seconds=1)))
        waiting = await desk.ask()
        desk.now += timedelta(seconds=1)
        assert (await desk.approvals.trust("j", WHO))[0] == 1
        assert (desk.of(asked), desk.of(waiting)) == ("expired", "approved")
        explicit = await desk.ask(explicit=True)
        await desk.do("j", lambda job: job.request_cancel("No more."))
        assert (await desk.approvals.trust("j", WHO))[0] == 0
        with pytest.raises(AlreadyResolved, match="withdrawn"):
            await desk.answer(explicit)

    play(scenario())


def test_only_the_current_attempt_asks(desk: Desk) -> None:
    async def scenario() -> None:
        await desk.running()
        with pytest.raises(StaleAttempt):
            await desk.ask(attempt=2)
        await desk.end()
        with pytest.raises(JobAlreadyEnded):
            await desk.ask()
        assert desk.events("approval.requested") == []

    play(scenario())


def test_a_question_needs_words_and_not_too_many(desk: Desk) -> None:
    async def scenario() -> None:
        await desk.running()
        for description in ("", " ", "x" * (LONGEST_TEXT + 1)):
            with pytest.raises(Invalid):
                await desk.ask(description=description)
        await desk.ask(description="x" * LONGEST_TEXT)

    play(scenario())


def test_an_answer_is_yes_or_no(desk: Desk) -> None:
    async def scenario() -> None:
        await desk.running()
        asked = await desk.ask()
        for word in ("expired", "maybe", ""):
            with pytest.raises(Invalid):
                await desk.answer(asked, word)
        assert desk.of(asked) == "pending"

    play(scenario())


def test_trust_answers_all_that_waits_and_all_to_come_but_the_explicit(desk: Desk) -> None:
    async def scenario() -> None:
        await desk.running()
        asked = [await desk.ask(), await desk.ask(explicit=True), await desk.ask()]
        count, changed = await desk.approvals.trust("j", WHO)
        assert (count, changed.job.trusted) == (2, True)
        assert [desk.of(one).value for one in asked] == ["approved", "pending", "approved"]
        assert desk.state() is JobState.WAITING_FOR_APPROVAL
        await desk.answer(asked[1])
        assert desk.of(await desk.ask()) == "approved"
        assert desk.of(await desk.ask(explicit=True)) == "pending"
        resolved = desk.events("approval.resolved")
        assert [e.data["by_trust"] for e in resolved] == [True, True, False, True]
        assert (await desk.approvals.trust("j", WHO))[0] == 0

    play(scenario())


def test_the_questions_of_a_deleted_job_are_not_there(desk: Desk) -> None:
    async def scenario() -> None:
        await desk.running()
        asked = await desk.ask()
        await desk.answer(asked)
        await desk.end()
        await desk.do("j", Job.delete)
        with pytest.raises(ApprovalNotFound):
            desk.approvals.load(asked)
        with pytest.raises(ApprovalNotFound):
            await desk.answer(asked)

    play(scenario())


def test_an_answer_survives_that_the_log_is_closed(tmp_path: Path) -> None:
    first = Desk(tmp_path / "log")

    async def ask() -> str:
        await first.running()
        return await first.ask()

    asked = asyncio.run(ask())
    first.log.close()
    again = Desk(tmp_path / "log")
    try:
        assert again.state() is JobState.WAITING_FOR_APPROVAL
        asyncio.run(again.answer(asked))
        assert (again.state(), again.of(asked)) == (JobState.RUNNING, "approved")
    finally:
        again.log.close()
