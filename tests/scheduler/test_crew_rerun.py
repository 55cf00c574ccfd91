"""The promises of a rerun: the inputs that were given, and one day in all of the new crew."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from domain.log import SYSTEM
from scheduler.crews import CrewSubmission, Occasion
from scheduler.templates.catalog import Catalog
from scheduler.templates.faults import SUFFIX
from scheduler.templates.plan import CrewPlan
from tests.scheduler.schedule_world import OneJob, World
from tests.scheduler.simulated import SimulatedTimers

LINE = "Pacific/Kiritimati"
"""UTC+14: at noon in UTC it is the next day."""

TEMPLATE = """
name: dated
inputs:
  who: {default: 'of {{ today }}'}
  deep: {default: {days: ['{{ nominal[:10] }}']}}
  same: {default: fixed}
jobs:
  - {id: a, title: 'On {{ today }} {{ who }} {{ deep.days[0] }} {{ same }}', argv: [echo]}
"""


class OfFolder(OneJob):
    """The templates of a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._catalog = Catalog([folder])

    def render(
        self, template_id: str, inputs: dict[str, Any], *, at: datetime, nominal: datetime
    ) -> CrewPlan:
        return self._catalog.render(template_id, inputs, at=at, nominal=nominal)


@pytest.mark.parametrize("by_schedule", [False, True])
def test_a_rerun_has_one_day_in_the_zone_of_its_crew(tmp_path: Path, by_schedule: bool) -> None:
    folder = tmp_path / "templates"
    folder.mkdir()
    (folder / f"dated{SUFFIX}").write_text(TEMPLATE)

    async def playing() -> None:
        timers = SimulatedTimers(datetime(2026, 11, 29, 11, tzinfo=UTC))
        world = World(tmp_path, timers, timers.clock, OfFolder(folder))
        occasion = Occasion("user:ann", SYSTEM)
        async with world.running():

            def title(made: CrewSubmission) -> str:
                return world.jobs.load(made.job_ids[0]).title

            if by_schedule:
                rule = {"once": "2026-11-29T12:00Z"}
                await world.schedule(rule, template="dated", timezone=LINE)
                await timers.advance(timedelta(hours=1))
                await world.settled()
            else:
                plan = world.crews.plan("dated", {}, timezone=LINE)
                await world.crews.commit(plan, occasion)
            [crew] = world.events("crew.committed")
            await timers.advance(timedelta(days=2))
            crew_id = crew.subject.removeprefix("crew-")
            again = await world.crews.rerun(crew_id, {}, occasion, None)
            assert title(again) == "On 2026-12-02 of 2026-12-02 2026-12-02 fixed"
            await timers.advance(timedelta(days=1))
            third = await world.crews.rerun(again.crew_id, {"same": "x"}, occasion, None)
            assert title(third) == "On 2026-12-03 of 2026-12-03 2026-12-03 x"
            utc = await world.crews.rerun(third.crew_id, {"who": "Grace"}, occasion, "UTC")
            assert title(utc) == "On 2026-12-02 Grace 2026-12-02 x"
            given = await world.crews.rerun(utc.crew_id, {}, occasion, None)
            assert title(given) == "On 2026-12-02 Grace 2026-12-02 x"

    asyncio.run(playing())
