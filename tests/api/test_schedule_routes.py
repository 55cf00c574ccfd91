"""``/api/schedules`` over the real parts: the promises of each request."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import httpx2
import pytest
from fastapi import FastAPI, Request

from api.dialects.board.schedules import schedule_routes
from api.edge import errors
from api.edge.security import OPERATOR, Authenticated, Principal
from api.native.schedule_actions import ScheduleActions
from domain.clock import format_time
from domain.log import SYSTEM, new_events
from domain.schedule.aggregate import ScheduleChanged
from tests.scheduler.schedule_world import START, World, minutes, simulated
from tests.scheduler.simulated import SimulatedTimers

Json = dict[str, Any]
DAILY: Json = {"name": "nightly", "templateId": "one", "rule": {"cadence": "daily"}}


class Caller:
    """Sends requests to the routes as one principal."""

    def __init__(self, http: httpx2.AsyncClient, who: str) -> None:
        self._http = http
        self._who = who

    def by(self, who: str) -> "Caller":
        return Caller(self._http, who)

    async def ask(self, method: str, path: str = "", body: Any = None, **headers: str) -> Any:
        return await self._http.request(
            method, f"/api/schedules{path}", json=body, headers={"x-who": self._who, **headers}
        )

    async def answer(self, status: int, method: str, path: str = "", body: Any = None) -> Json:
        answer = await self.ask(method, path, body)
        assert answer.status_code == status, answer.text
        if method in ("POST", "PATCH", "DELETE") and status < 300 and path != "/preview":
            assert int(answer.headers["x-event-position"]) > 0
        found: Json = answer.json()
        return found

    async def made(self, **fields: Any) -> Json:
        found: Json = (await self.answer(201, "POST", "", {**DAILY, **fields}))["schedule"]
        return found


async def principal_of(request: Request) -> Principal:
    """A header names the principal, because sign-in is not tested here."""
    who = request.headers["x-who"]
    return OPERATOR if who == "operator" else Principal(actor=who, owner=who)


def play(
    directory: Path, story: Callable[[World, SimulatedTimers, Caller], Awaitable[None]]
) -> None:
    async def playing() -> None:
        world, timers = simulated(directory)
        app = FastAPI()
        errors.install(app, errors.detailed, errors.Refusal)

        @app.middleware("http")
        async def numbered(request: Request, following: Any) -> Any:
            request.state.request_id = "a-request"
            return await following(request)

        actions = ScheduleActions(
            world.schedules,
            world.spawner,
            world.crews,
            world.views,
            timezone="Europe/Berlin",
            clock=timers.clock,
        )
        app.include_router(schedule_routes(actions, world.views))
        app.dependency_overrides[get_args(Authenticated)[1].dependency] = principal_of
        transport = httpx2.ASGITransport(app)
        async with (
            world.running(),
            httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http,
        ):
            await story(world, timers, Caller(http, "user:ann"))

    asyncio.run(playing())


def test_a_schedule_is_made_shown_and_listed(tmp_path: Path) -> None:
    async def story(world: World, timers: SimulatedTimers, ann: Caller) -> None:
        made = await ann.made(inputs={"repo": "x"}, catchUp={"all": "2h"}, jitterS=1.5)
        assert made == {
            "id": made["id"],
            "name": "nightly",
            "template": "one",
            "templateId": "one",
            "inputs": {"repo": "x"},
            "rule": {"cadence": "daily", "at": "09:00"},
            "ruleText": "Every day at 09:00 (Europe/Berlin).",
            "timezone": "Europe/Berlin",
            "enabled": True,
            "state": "active",
            "stateReason": None,
            "nextRunAt": "2026-01-01T08:00:00.000000Z",
            "lastRunAt": None,
            "lastOutcome": None,
            "lastError": None,
            "failuresInARow": 0,
            "firings": 0,
            "missed": 0,
            "skipped": 0,
            "catchUp": {"mode": "all", "windowS": 7200.0},
            "overlap": "allow",
            "jitterS": 1.5,
            "endsAt": None,
            "maxFirings": None,
            "ownerId": "user:ann",
            "createdAt": format_time(START),
            "updatedAt": format_time(START),
            "version": 1,
            "shortened": [],
        }
        assert (await ann.answer(200, "GET", f"/{made['id']}"))["schedule"] == made
        body: Json = {
            "name": "n",
            "template": "one",
            "rule": {"cron": "0 5 * * *"},
            "catch_up": "none",
        }
        second = (await ann.answer(201, "POST", "", body))["schedule"]
        assert (second["templateId"], second["catchUp"]) == ("one", "none")
        listed = (await ann.answer(200, "GET"))["schedules"]
        assert [item["id"] for item in listed] == [second["id"], made["id"]]

    play(tmp_path, story)


def test_a_rule_that_cannot_be_read_here_is_shown_among_the_others(tmp_path: Path) -> None:
    """The rule was valid on the machine where it was made."""

    async def story(world: World, timers: SimulatedTimers, ann: Caller) -> None:
        good = await ann.made()
        bad = await ann.made(name="from afar")
        subject = f"schedule-{bad['id']}"
        change = ScheduleChanged(changes={"timezone": "Crew/Base"})
        moved = new_events(subject, [change], SYSTEM, timers.clock)
        await world.log.append(moved, {subject: bad["version"]})
        await world.followed()
        shown = (await ann.answer(200, "GET"))["schedules"]
        assert [one["id"] for one in shown] == [bad["id"], good["id"]]
        assert shown[0]["nextRunAt"] is None
        assert "cannot read" in shown[0]["ruleText"]
        assert shown[1]["nextRunAt"] == good["nextRunAt"]
        off = (await ann.answer(200, "POST", f"/{bad['id']}/disable"))["schedule"]
        assert off["enabled"] is False
        refused = await ann.answer(400, "POST", f"/{bad['id']}/enable")
        assert refused["path"] == "timezone"
        mended = await ann.answer(200, "PATCH", f"/{bad['id']}", {"timezone": "Europe/Berlin"})
        assert "cannot read" not in mended["schedule"]["ruleText"]

    play(tmp_path, story)


def test_what_is_anothers_is_not_there(tmp_path: Path) -> None:
    async def story(world: World, timers: SimulatedTimers, ann: Caller) -> None:
        path = f"/{(await ann.made())['id']}"
        bob, operator = ann.by("user:bob"), ann.by("operator")
        verbs = [
            ("GET", ""),
            ("PATCH", ""),
            ("DELETE", ""),
            *(("POST", f"/{verb}") for verb in ("enable", "disable", "run-now")),
            *(("GET", f"/{part}") for part in ("jobs", "preview", "firings")),
        ]
        for method, part in verbs:
            body: Json | None = {} if method == "PATCH" else None
            foreign = await bob.answer(404, method, path + part, body)
            assert foreign == await bob.answer(404, method, "/none" + part, body)
        assert (await bob.answer(200, "GET"))["schedules"] == []
        assert len((await operator.answer(200, "GET"))["schedules"]) == 1
        assert (await operator.answer(200, "GET", "?mine=true"))["schedules"] == []
        assert (await operator.answer(200, "GET", path))["schedule"]["ownerId"] == "user:ann"
        assert len(world.events("schedule.created")) == world.log.head

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("fields", "status", "path"),
    [
        ({"name": " "}, 400, "name"),
        ({"name": None}, 400, "name"),
        ({"templateId": None}, 400, "templateId"),
        ({"templateId": "gone"}, 404, None),
        ({"templateId": "broken"}, 400, "inputs.repo"),
        ({"rule": None}, 400, "rule"),
        ({"rule": {"cadence": "daily", "at": "25:00"}}, 400, "rule.at"),
        ({"rule": {"once": "2025-12-31T00:00"}}, 400, "rule"),
        ({"timezone": "Mars/Base"}, 400, "timezone"),
        ({"catchUp": "sometimes"}, 400, "catchUp"),
        ({"catchUp": {"all": "a while"}}, 400, "catchUp"),
        ({"catchUp": {"all": "99d"}}, 400, "catchUp"),
        ({"overlap": "never"}, 400, "overlap"),
        ({"jitterS": 3601}, 400, "jitterS"),
        ({"endsAt": "soon"}, 400, "endsAt"),
        ({"endsAt": "2025-12-31T00:00:00Z"}, 400, "endsAt"),
        ({"maxFirings": 0}, 400, "maxFirings"),
    ],
)
def test_a_mistake_is_named_and_nothing_is_made(
    tmp_path: Path, fields: Json, status: int, path: str | None
) -> None:
    async def story(world: World, timers: SimulatedTimers, ann: Caller) -> None:
        refused = await ann.answer(status, "POST", "", {**DAILY, **fields})
        assert refused.get("path") == path
        assert world.log.head == 0

    play(tmp_path, story)


def test_terms_change_and_the_next_time_with_them(tmp_path: Path) -> None:
    async def story(world: World, timers: SimulatedTimers, ann: Caller) -> None:
        path = f"/{(await ann.made(maxFirings=5))['id']}"
        changed = await ann.answer(200, "PATCH", path, {"rule": {"cron": "30 * * * *"}})
        assert changed["schedule"]["nextRunAt"] == format_time(START + minutes(30))
        assert changed["schedule"]["maxFirings"] == 5
        changed = await ann.answer(200, "PATCH", path, {"maxFirings": None, "name": "other"})
        assert (changed["schedule"]["maxFirings"], changed["schedule"]["name"]) == (None, "other")
        (first, second) = world.events("schedule.changed")
        assert first.data["changes"] == {"rule": {"cron": "30 * * * *"}}
        assert second.data["changes"] == {"max_firings": None, "name": "other"}
        before = world.log.head
        await ann.answer(200, "PATCH", path, {"name": "other"})
        assert world.log.head == before
        for body, place in (
            ({"templateId": "other"}, "templateId"),
            ({"enabled": False}, "enabled"),
            ({"timezone": "Nowhere"}, "timezone"),
            ({"endsAt": "2026-01-01T00:00:00Z"}, "endsAt"),
        ):
            assert (await ann.answer(400, "PATCH", path, body))["path"] == place
        stale = await ann.ask("PATCH", path, {"name": "third"}, **{"If-Match": '"1"'})
        assert stale.status_code == 412
        assert world.log.head == before

    play(tmp_path, story)


def test_disable_clears_the_next_time_and_enable_brings_it_back(tmp_path: Path) -> None:
    async def story(world: World, timers: SimulatedTimers, ann: Caller) -> None:
        path = f"/{(await ann.made())['id']}"
        off = (await ann.answer(200, "POST", f"{path}/disable"))["schedule"]
        assert (off["enabled"], off["state"], off["nextRunAt"]) == (False, "disabled", None)
        on = (await ann.answer(200, "POST", f"{path}/enable"))["schedule"]
        assert (on["state"], on["nextRunAt"]) == ("active", "2026-01-01T08:00:00.000000Z")

    play(tmp_path, story)


def test_its_history_and_its_jobs_are_shown_and_stay_when_it_is_deleted(tmp_path: Path) -> None:
    async def story(world: World, timers: SimulatedTimers, ann: Caller) -> None:
        path = f"/{(await ann.made())['id']}"
        await world.followed()
        for _ in range(3):
            await timers.advance(timedelta(days=1))
            await world.settled()
        page = await ann.answer(200, "GET", f"{path}/firings?limit=2")
        assert [item["nominal"][:10] for item in page["items"]] == ["2026-01-03", "2026-01-02"]
        rest = await ann.answer(200, "GET", f"{path}/firings?before={page['cursor']}")
        assert (len(rest["items"]), rest["hasMore"]) == (1, False)
        item = rest["items"][0]
        assert (item["outcome"], item["lateMs"], item["firing"]) == ("spawned", 0, 1)
        jobs = await ann.answer(200, "GET", f"{path}/jobs")
        assert len(jobs["jobs"]) == 3
        assert item["jobIds"] == [jobs["jobs"][2]["id"]]
        shown = (await ann.answer(200, "GET", path))["schedule"]
        assert (shown["firings"], shown["lastOutcome"]) == (3, "spawned")
        assert await ann.answer(200, "DELETE", path) == {"ok": True}
        await ann.answer(404, "GET", path)
        await ann.answer(404, "DELETE", path)
        assert world.jobs.load(item["jobIds"][0]).owner == "user:ann"

    play(tmp_path, story)


def test_run_now_makes_a_crew_or_says_why_not(tmp_path: Path) -> None:
    async def story(world: World, timers: SimulatedTimers, ann: Caller) -> None:
        path = f"/{(await ann.made(enabled=False))['id']}"
        made = await ann.answer(201, "POST", f"{path}/run-now")
        assert world.jobs.load(made["jobIds"][0]).links.crew == made["crewId"]
        world.templates.refused = True
        timers.now += minutes(1)
        refused = await ann.answer(400, "POST", f"{path}/run-now")
        assert refused["path"] == "inputs.repo"
        firings = (await ann.answer(200, "GET", f"{path}/firings"))["items"]
        assert [item["outcome"] for item in firings] == ["failed", "spawned"]
        assert all(item["manual"] for item in firings)
        shown = (await ann.answer(200, "GET", path))["schedule"]
        assert (shown["state"], shown["lastError"]) == ("disabled", "It is missing.")

    play(tmp_path, story)


def test_the_next_times_are_shown_before_and_after_saving(tmp_path: Path) -> None:
    async def story(world: World, timers: SimulatedTimers, ann: Caller) -> None:
        rule = {"cron": "0 12 * * *"}
        expected = ["2026-01-01T11:00:00.000000Z", "2026-01-02T11:00:00.000000Z"]
        shown = await ann.answer(200, "POST", "/preview", {"rule": rule, "n": 2})
        assert shown == {
            "times": expected,
            "ruleText": "At 12:00 every day (Europe/Berlin).",
            "timezone": "Europe/Berlin",
        }
        path = f"/{(await ann.made(rule=rule, maxFirings=2))['id']}"
        assert (await ann.answer(200, "GET", f"{path}/preview?n=9"))["times"] == expected
        wrong = {"rule": {"cron": "x"}}
        assert (await ann.answer(400, "POST", "/preview", wrong))["path"] == "rule.cron"
        await ann.answer(422, "GET", f"{path}/preview?n=101")

    play(tmp_path, story)


def test_a_rule_that_rfc_5545_rules_out_is_refused_at_its_place(tmp_path: Path) -> None:
    async def story(world: World, timers: SimulatedTimers, ann: Caller) -> None:
        for text in (
            "FREQ=MONTHLY;BYMONTHDAY=0",
            "FREQ=WEEKLY;BYDAY=1MO",
            "FREQ=MONTHLY;BYWEEKNO=20",
        ):
            rule = {"rrule": text}
            assert (await ann.answer(400, "POST", "/preview", {"rule": rule}))[
                "path"
            ] == "rule.rrule"
            wanted = {"name": "x", "templateId": "one", "rule": rule}
            assert (await ann.answer(400, "POST", "", wanted))["path"] == "rule.rrule"

    play(tmp_path, story)
