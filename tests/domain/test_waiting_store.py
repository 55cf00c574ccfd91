"""A slow store: no command blocks the event loop while it waits."""

import asyncio
from collections.abc import Iterator

import pytest

from domain.account.aggregate import Role
from domain.account.commands import EmailTaken, People
from domain.approval.commands import Approvals, Question
from domain.catalogue import CATALOGUE
from domain.crew.commands import Crews
from domain.delivery.aggregate import Delivery, delivery_id
from domain.delivery.commands import Deliveries
from domain.job.commands import IdempotencyKey, Jobs
from domain.log import Context, EventLog, MemoryStore, open_log
from domain.log.store import Page, Query
from domain.redaction import Redactor
from domain.schedule.commands import Schedules, checked_terms
from scheduler.deliveries.announcing import Announcing
from scheduler.policies.promotion import Promotion
from tests.kit.jobs import submitted

WHO = Context(actor="tester")


class Waiting(MemoryStore):
    """Refuses blocking calls on an event loop."""

    waits = True

    def read_blocking(self, query: Query) -> Page:
        _refuse_loop()
        return super().read_blocking(query)

    async def read(self, query: Query) -> Page:
        return await asyncio.to_thread(self.read_blocking, query)

    def checkpoint_blocking(self, name: str) -> int:
        _refuse_loop()
        return super().checkpoint_blocking(name)

    async def checkpoint(self, name: str) -> int:
        return await asyncio.to_thread(self.checkpoint_blocking, name)


def _refuse_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise AssertionError("An event loop waits for the store.")


@pytest.fixture
def log() -> Iterator[EventLog]:
    opened = open_log(Waiting(), redactor=Redactor(), catalogue=CATALOGUE)
    yield opened
    opened.close()


def test_this_store_would_tell(log: EventLog) -> None:
    async def held_up() -> None:
        Jobs(log).load("a")

    with pytest.raises(AssertionError, match="waits for the store"):
        asyncio.run(held_up())


def test_commands_on_jobs_and_approvals(log: EventLog) -> None:
    async def scenario() -> None:
        jobs = Jobs(log)
        approvals = Approvals(log, jobs)
        crews = Crews(log, jobs, approvals)
        policy = Promotion(crews, approvals)
        key = IdempotencyKey("tester", "k", "f")
        made = await jobs.submit("a", submitted(), WHO, key)
        again = await jobs.submit("b", submitted(), WHO, key)
        assert (again.replayed, again.job_id) == (True, made.job_id)
        await jobs.execute("a", lambda job: job.start("here"), WHO)
        asked = await approvals.request("a", 1, Question("May I?"), WHO)
        await approvals.resolve(asked.approval.id, "approved", None, WHO)
        other = await approvals.request("a", 1, Question("And this?"), WHO)
        await approvals.expire(other.approval.id, WHO)
        assert (await approvals.trust("a", WHO))[0] == 0
        seen = await crews.change("a", lambda job, draft: job, WHO)
        assert seen.position == log.head
        for event in await log.read(0):
            await policy.react(event)

    asyncio.run(scenario())


def test_commands_on_schedules(log: EventLog) -> None:
    async def scenario() -> None:
        schedules = Schedules(log)
        terms = checked_terms({"name": "s", "template": "t", "rule": {"cron": "0 7 * * *"}})
        made = await schedules.create(terms, "operator", WHO)
        changed = await schedules.change(made.schedule.id, {"name": "other"}, WHO)
        assert changed.schedule.name == "other"
        same = await schedules.execute(made.schedule.id, lambda schedule: [], WHO)
        assert same.position == changed.position

    asyncio.run(scenario())


def test_deliveries(log: EventLog) -> None:
    async def scenario() -> None:
        submission = await Jobs(log).submit("a", submitted(), WHO)
        rule = Announcing(log, "rule", ("job.queued",), lambda _: [("webhook", "ops")])
        queued = submission.events[1]
        reaction = await rule.react(queued)
        assert reaction is not None
        await log.append(reaction.events, reaction.expected)
        assert await rule.react(queued) is None
        deliveries = Deliveries(log)
        name = delivery_id(queued.id, "webhook", "ops")
        await deliveries.execute(name, lambda delivery: delivery.refuse(404, "No."), WHO)
        await deliveries.execute(name, Delivery.renew, WHO)

    asyncio.run(scenario())


def test_commands_on_accounts(log: EventLog) -> None:
    async def scenario() -> None:
        people = People(log)
        await people.register("ada@example.com", "Ada", Role.USER, WHO)
        with pytest.raises(EmailTaken):
            await people.register("ada@example.com", "Ada", Role.USER, WHO)

    asyncio.run(scenario())
