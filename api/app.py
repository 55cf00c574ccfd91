"""The composition root: reads the settings, builds the parts, joins them. Nothing else reads
settings.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version

from fastapi import FastAPI
from pydantic import SecretStr
from starlette.types import ASGIApp

from api import errors, middleware
from api.gitoma_state import StateDirectory, StateFeed
from api.hot import ShortCut
from api.lmstudio import LMStudioHealth, probe
from api.ratelimit import SlidingWindow
from api.routes.analytics import analytics_routes
from api.routes.gitoma import GitomaOptions, command_of, gitoma_routes
from api.routes.health import health_routes
from api.routes.jobs import JobRequest, create_job_of, job_routes
from api.routes.log import log_routes
from api.routes.page import page_routes
from api.routes.projections import projection_routes
from api.security import Security
from api.settings import Settings
from domain.clock import Clock, system_clock
from domain.jobs import Jobs
from domain.log import EventLog, open_sqlite_log
from domain.redaction import Redactor
from projections.engine import Views
from projections.views import PROJECTIONS
from scheduler.dispatcher import Dispatcher
from scheduler.environment import KEPT_SECRETS, SECRET_SUFFIXES
from scheduler.intake import Intake
from scheduler.launch import Launch
from scheduler.local import LocalExecutor, node_name
from scheduler.sealed import SealedSpecs

logger = logging.getLogger("crewlog")

VERSION = version("crewlog")

_SHORTEST_SECRET = 8


@dataclass(frozen=True)
class Parts:
    """Everything that runs in one server process, built and joined. Paths are below the data
    directory.
    """

    settings: Settings
    log: EventLog
    views: Views
    jobs: Jobs
    intake: Intake
    dispatcher: Dispatcher
    executor: LocalExecutor
    states: StateDirectory
    feed: StateFeed
    security: Security
    clock: Clock
    stopping: asyncio.Event

    def close(self) -> None:
        """Let go of the files. For a server that never served; one that did
        closes in its lifespan.
        """
        self.views.close()
        self.log.close()


def secret_values(settings: Settings, environ: Mapping[str, str]) -> list[str]:
    """The server's own secrets: what must never be in the log, wherever it turns up."""
    own = [_plain(settings.token), _plain(settings.github_token)]
    named = [
        value
        for name, value in environ.items()
        if name.upper().endswith(SECRET_SUFFIXES) or name in KEPT_SECRETS
    ]
    return [value for value in (*own, *named) if len(value) >= _SHORTEST_SECRET]


def _plain(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret is not None else ""


def build(settings: Settings, *, clock: Clock = system_clock) -> Parts:
    """Open the data directory and build the parts over it. LogRefused when it
    must not be opened.
    """
    data = settings.data
    environ = dict(os.environ)
    redactor = Redactor(secret_values(settings, environ))
    log = open_sqlite_log(
        data, redactor=redactor, purpose=f"crewlog serve on {settings.host}:{settings.port}"
    )
    try:
        views = Views(data / "views.db", log, PROJECTIONS)
        jobs = Jobs(log, clock)
        sealed = SealedSpecs(data / "sealed")
        spool = data / "spool"
        executor = LocalExecutor(spool, node_name(spool, socket.gethostname() or "local"))
    except BaseException:
        log.close()
        raise
    gitoma = command_of(settings.gitoma_command)
    launch = Launch(
        sealed=sealed,
        base_env=environ,
        keep_env=KEPT_SECRETS,
        secret_env=(),
        default_cwd=str(settings.workdir),
        output_limit=settings.output_limit_bytes,
        hints={
            gitoma[0]: f"The program {gitoma[0]!r} is not here: install gitoma so that it is on "
            "PATH, or set CREWLOG_GITOMA_COMMAND to the command that runs it."
        },
    )
    dispatcher = Dispatcher(
        log, views, jobs, executor, launch, capacity=settings.capacity, clock=clock
    )
    states = StateDirectory(settings.gitoma_state_dir)
    token = _plain(settings.token)
    return Parts(
        settings=settings,
        log=log,
        views=views,
        jobs=jobs,
        intake=Intake(jobs, sealed, redactor),
        dispatcher=dispatcher,
        executor=executor,
        states=states,
        feed=StateFeed(states),
        security=Security(lambda: token),
        clock=clock,
        stopping=asyncio.Event(),
    )


def create_app(parts: Parts) -> FastAPI:
    """The routes over the parts, hot ones first. Wrap it with `edge` to serve it."""
    settings = parts.settings
    app = FastAPI(
        title="crewlog",
        version=VERSION,
        summary="A control plane for jobs, over one log of immutable events.",
        lifespan=lambda _: _lifespan(parts),
        telemetry={"tracing": False, "metrics": False},
        # The framework's own readers of the document fetch their scripts from another host.
        docs_url=None,
        redoc_url=None,
    )
    app.state.security = parts.security
    errors.install(app)

    async def lm_studio() -> LMStudioHealth:
        return await probe(settings.lm_studio_base_url, settings.lm_studio_model)

    job_router = job_routes(
        parts.jobs,
        parts.intake,
        parts.views,
        workdir=settings.workdir,
        default_timeout_s=settings.job_timeout_s,
    )
    app.include_router(job_router)
    app.state.create_job = create_job_of(job_router)
    app.include_router(
        gitoma_routes(
            parts.log,
            parts.jobs,
            parts.intake,
            parts.views,
            parts.states,
            SlidingWindow(settings.gitoma_rate_limit),
            GitomaOptions(
                command=command_of(settings.gitoma_command),
                workdir=settings.workdir,
                timeout_s=settings.gitoma_timeout_s,
                health=lm_studio,
                github_token_set=bool(_plain(settings.github_token)),
            ),
        )
    )
    app.include_router(log_routes(parts.log, parts.jobs))
    app.include_router(projection_routes(parts.log, parts.views))
    app.include_router(analytics_routes(parts.views, parts.clock))
    app.include_router(health_routes(parts.log, parts.views, parts.dispatcher, VERSION))
    app.include_router(
        page_routes(parts.feed, parts.security, settings.ws_allowed_origins, parts.stopping)
    )
    return app


def edge(app: FastAPI, settings: Settings) -> ASGIApp:
    """The app behind its middleware, as it is served."""
    short_cut = ShortCut(
        app,
        path="/api/jobs",
        endpoint=app.state.create_job,
        model=JobRequest,
        security=app.state.security,
    )
    return middleware.install(
        app,
        short_cut,
        allowed_hosts=settings.allowed_hosts,
        cors_origins=settings.cors_origins,
    )


@contextlib.asynccontextmanager
async def _lifespan(parts: Parts) -> AsyncIterator[None]:
    parts.views.start()
    working = [
        asyncio.create_task(parts.dispatcher.run(), name="dispatcher"),
        asyncio.create_task(_poke(parts), name="state feed"),
    ]
    for task in working:
        task.add_done_callback(_report)
    try:
        yield
    finally:
        parts.stopping.set()
        await parts.dispatcher.stop(cancel_jobs=parts.settings.stop_jobs)
        for task in working:
            task.cancel()
        await asyncio.wait(working)
        await parts.executor.close()
        await asyncio.to_thread(parts.close)


async def _poke(parts: Parts) -> None:
    """The state socket shows jobs too, so it is told when one starts or ends."""
    async for _ in parts.log.tail(parts.log.head, types=("job.started", "job.finished")):
        parts.feed.poke()


def _report(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.critical("%s has stopped", task.get_name(), exc_info=task.exception())
