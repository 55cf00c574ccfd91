"""The composition root: builds the parts as the settings say, and joins the applications over them.
No other part reads settings.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from functools import partial
from importlib import import_module

from fastapi import FastAPI
from starlette.types import ASGIApp

from api.addresses import Addresses
from api.dialects import BOARD, DIALECTS
from api.dialects.gitoma import UNCOMPRESSED
from api.dialects.gitoma.state_files import StateFeed
from api.edge import middleware
from api.edge.applications import application, mounted
from api.edge.on_demand import OnDemand
from api.native.health import probe_routes
from api.page.routes import page_routes
from api.parts import VERSION, Parts
from api.people.sessions import RollingSessions
from domain.log import EventLog, Recorded
from scheduler.follower import Follower

logger = logging.getLogger("crewlog")

_READING_S = 2.0


def create_app(parts: Parts, made: Callable[[], object] = lambda: None) -> Addresses:
    """The applications over the parts, each at its addresses. Wrap it with `edge` to serve it.
    `made` is called whenever one of them has been made.
    """
    wanted = {*parts.settings.dialects, *(door.dialect for door in parts.settings.listen)}
    assembled = partial(_assembled, parts=parts, made=made)
    dialects = {name: assembled(name) for name in DIALECTS if name in wanted}
    others = _others(parts, worker=assembled("worker"))
    return Addresses(dialects, assembled("native"), others, main=parts.settings.dialects)


def _assembled(name: str, parts: Parts, made: Callable[[], object]) -> OnDemand:
    """The application that `api/assembly/NAME.py` joins. Its code is loaded at its first
    request.
    """

    def make() -> ASGIApp:
        app: ASGIApp = import_module(f"api.assembly.{name}").assemble(parts)
        return app

    return OnDemand(make, made)


def _others(parts: Parts, worker: ASGIApp) -> FastAPI:
    """The rest of the main address: the page, health, signing in."""
    routers = [probe_routes(parts.health), page_routes(parts.security)]
    if BOARD not in parts.settings.dialects:
        routers.append(import_module("api.assembly.sign_in").routes(parts))
    summary = "A control plane for jobs, over one log of immutable events."
    app = application("crewlog", summary, VERSION, parts.security, routers, document=None)
    app.router.lifespan_context = lambda _: _lifespan(parts)
    # Attempts outlive an upgrade: those that 0.2.0 started ask at the old address.
    app.router.routes.append(mounted("/api", worker))
    return app


def edge(app: ASGIApp, parts: Parts) -> ASGIApp:
    """The application behind its middleware, as it is served."""
    settings, people = parts.settings, parts.people
    return middleware.install(
        RollingSessions(app, people.sign_in.cookies, people.accounts),
        allowed_hosts=settings.allowed_hosts,
        cors_origins=settings.cors_origins,
        uncompressed=UNCOMPRESSED,
    )


@contextlib.asynccontextmanager
async def _lifespan(parts: Parts) -> AsyncIterator[None]:
    parts.views.start()
    reading = asyncio.create_task(parts.people.load(parts.views), name="people")
    parts.timers.start()
    working = [
        reading,
        asyncio.create_task(parts.dispatcher.run(), name="dispatcher"),
        asyncio.create_task(parts.deadlines.run(), name="deadlines"),
        asyncio.create_task(parts.schedule_clock.run(), name="schedules"),
        asyncio.create_task(parts.sender.run(), name="deliveries"),
        asyncio.create_task(_poking(parts.log, parts.feed).run(), name="state feed"),
        *(
            asyncio.create_task(following.run(), name=f"policy {following.follower.name}")
            for following in parts.followings
        ),
    ]
    for task in working:
        task.add_done_callback(partial(_report, parts.stopped))
    # People are loaded before the server listens, so that its first request can be let in.
    await asyncio.wait({reading}, timeout=_READING_S)
    try:
        yield
    finally:
        parts.stopping.set()
        await parts.dispatcher.stop(cancel_jobs=parts.settings.stop_jobs)
        for task in working:
            task.cancel()
        await asyncio.wait(working)
        parts.timers.stop()
        await parts.executor.close()
        await asyncio.to_thread(parts.close)


def _poking(log: EventLog, feed: StateFeed) -> Follower:
    """The state socket shows jobs too, so it is told when one starts or ends."""

    async def poke(_: Recorded) -> None:
        feed.poke()

    return Follower(log, "state feed", ("job.started", "job.finished"), poke, begin=log.newest)


def _report(stopped: list[str], task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and task.exception() is not None:
        stopped.append(task.get_name())
        logger.critical("%s has stopped", task.get_name(), exc_info=task.exception())
