"""The composition root: reads the settings, builds the parts, joins them. Nothing else reads
settings.
"""

import asyncio
import contextlib
import logging
import os
import shlex
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version

from fastapi import APIRouter, FastAPI
from pydantic import SecretStr
from starlette.types import ASGIApp

from api.addresses import Addresses
from api.dialects import BOARD, CODEPLANE, GITOMA
from api.dialects.board.app import board_app
from api.dialects.board.auth import auth_routes
from api.dialects.codeplane.app import codeplane_app
from api.dialects.gitoma.app import UNCOMPRESSED, gitoma_app
from api.dialects.gitoma.dispatches import Dispatches, command_of
from api.dialects.gitoma.state_files import StateDirectory, StateFeed
from api.dialects.gitoma.state_jobs import StateJobs
from api.edge import middleware
from api.edge.applications import application
from api.edge.owners import Owners
from api.edge.rate_limit import SlidingWindow
from api.edge.security import Principal, Security
from api.edge.worker_tokens import WorkerTokens, load_key
from api.native.analytics import analytics_routes
from api.native.app import mounted, native_app
from api.native.approvals import approval_routes
from api.native.artifacts import artifact_routes
from api.native.board import board_routes
from api.native.crews import crew_routes
from api.native.deliveries import delivery_routes
from api.native.dispatcher import dispatcher_routes
from api.native.events import event_routes
from api.native.health import Health, health_routes, probe_routes
from api.native.job_actions import JobActions
from api.native.job_streams import JobStreams
from api.native.jobs import job_routes
from api.native.lmstudio import LMStudioHealth, probe
from api.native.log import log_routes
from api.native.people import token_routes, user_routes
from api.native.projections import projection_routes
from api.native.schedule_actions import ScheduleActions
from api.native.schedules import schedule_routes
from api.native.system import system_routes
from api.native.templates import template_routes
from api.native.worker import worker_routes
from api.page.routes import page_routes
from api.people.oidc import GOOGLE, Provider
from api.people.parts import FirstAdmin, PeopleParts, build_people
from api.people.sessions import RollingSessions
from api.settings import SHORTEST_SECRET, Settings
from domain.approval.commands import Approvals
from domain.catalogue import CATALOGUE
from domain.clock import Clock, system_clock
from domain.crew.commands import Crews
from domain.delivery.commands import Deliveries
from domain.job.commands import Jobs
from domain.log import EventLog, Recorded, open_sqlite_log
from domain.redaction import Redactor
from domain.schedule.commands import Schedules
from projections.engine import Views
from projections.views import PROJECTIONS
from scheduler.crews import CrewIntake
from scheduler.deliveries.sender import Sender
from scheduler.deliveries.webhook import Webhooks
from scheduler.dispatch.assignments import Assignments
from scheduler.dispatch.dispatcher import Dispatcher
from scheduler.dispatch.sealed import SealedSpecs
from scheduler.drivers.command import CommandDriver
from scheduler.drivers.contract import Driver, Drivers
from scheduler.drivers.unfinished import Unfinished
from scheduler.executors.local import LocalExecutor
from scheduler.follower import Follower
from scheduler.intake import Intake, Sealing
from scheduler.policies.clock import ScheduleClock
from scheduler.policies.deadlines import Deadlines
from scheduler.policies.lease import Leases
from scheduler.policies.policy import Following
from scheduler.policies.promotion import Promotion
from scheduler.policies.spawner import Spawner
from scheduler.policies.timers import ApsTimers, Timers
from scheduler.templates import SHIPPED, Catalog
from scheduler.workspaces.artifacts import ArtifactStore
from scheduler.workspaces.attempt_folder import AttemptFolders
from scheduler.workspaces.environment import KEPT_SECRETS, SECRET_SUFFIXES
from scheduler.workspaces.local import LocalWorkspaces, node_name

logger = logging.getLogger("crewlog")

VERSION = version("crewlog")

_READING_S = 2.0
_TRUSTED_S = 0.2
"""A template that was changed is seen at the latest so many seconds after."""


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
    unfinished: Unfinished
    """The lines that running jobs have begun and not ended."""
    executor: LocalExecutor
    crews: Crews
    approvals: Approvals
    crew_intake: CrewIntake
    catalog: Catalog
    artifacts: ArtifactStore
    leases: Leases
    timers: Timers
    followings: tuple[Following, ...]
    schedules: Schedules
    spawner: Spawner
    schedule_clock: ScheduleClock
    deadlines: Deadlines
    deliveries: Deliveries
    sender: Sender
    states: StateDirectory
    feed: StateFeed
    security: Security
    people: PeopleParts
    clock: Clock
    stopping: asyncio.Event
    stopped: list[str] = field(default_factory=list)
    """What was to run as long as the server, and has failed."""

    def name_of(self, who: str) -> str:
        """What people read for an actor or an owner."""
        return self.people.people.directory.name_of(who)

    def email_of(self, principal: Principal) -> str | None:
        """The address by which a template names whoever this is."""
        account = self.people.people.directory.find(principal.user_id or "")
        return account.email if account is not None else None

    def owner_by_email(self, email: str) -> str:
        """The owner of a person's things; for an address that nobody has, an owner of nothing."""
        account = self.people.people.directory.by_email(email)
        return f"user:{account.id}" if account is not None else email

    @property
    def followers(self) -> tuple[tuple[str, Follower], ...]:
        """Every reader of the log that makes something happen, with its kind."""
        return (
            ("dispatcher", self.dispatcher.follower),
            *(("policy", following.follower) for following in self.followings),
            ("clock", self.schedule_clock.follower),
            ("deadlines", self.deadlines.follower),
            ("deliveries", self.sender.follower),
        )

    def close(self) -> None:
        """Let go of the files. For a server that never served; one that did
        closes in its lifespan.
        """
        self.people.close()
        self.views.close()
        self.log.close()


def secret_values(settings: Settings, environ: Mapping[str, str]) -> list[str]:
    """The server's own secrets: what must never be in the log, wherever it turns up."""
    own = [
        _plain(settings.token),
        _plain(settings.github_token),
        _plain(settings.admin_password),
        _plain(settings.session_secret),
        *(provider.client_secret for provider in providers_of(settings)),
    ]
    named = [
        value
        for name, value in environ.items()
        if name.upper().endswith(SECRET_SUFFIXES) or name in KEPT_SECRETS
    ]
    return [value for value in (*own, *named) if len(value) >= SHORTEST_SECRET]


def _plain(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret is not None else ""


def providers_of(settings: Settings) -> list[Provider]:
    """The OpenID Connect providers that the settings name; Google with both its id and secret."""
    found = [
        Provider(
            name=name,
            label=said.label or name,
            discovery_url=f"{said.issuer.rstrip('/')}/.well-known/openid-configuration",
            client_id=said.client_id,
            client_secret=_plain(said.client_secret),
        )
        for name, said in settings.oidc.items()
        if name != GOOGLE
    ]
    secret = _plain(settings.google_client_secret)
    if settings.google_client_id and secret:
        discovery_url = settings.google_discovery_url
        google = Provider(GOOGLE, "Google", discovery_url, settings.google_client_id, secret)
        found.insert(0, google)
    return found


def people_of(settings: Settings, log: EventLog, clock: Clock) -> PeopleParts:
    """The parts that know people, as the settings want them."""
    password = _plain(settings.admin_password)
    wanted = settings.admin_email and password
    return build_people(
        log,
        clock,
        settings.data,
        token=_plain(settings.token),
        session_secret=_plain(settings.session_secret),
        secure=settings.session_cookie_secure,
        public_url=settings.public_url,
        providers=providers_of(settings),
        first_admin=FirstAdmin(settings.admin_email, password) if wanted else None,
    )


def build(
    settings: Settings,
    environ: Mapping[str, str] | None = None,
    *,
    url: str = "",
    clock: Clock = system_clock,
) -> Parts:
    """Open the data directory and build the parts over it. LogRefused when it
    must not be opened. `url` is where the server listens; `environ` is the environment that it was
    begun with, if that is not what `os.environ` is now.
    """
    data = settings.data
    environ = dict(os.environ if environ is None else environ)
    redactor = Redactor(secret_values(settings, environ))
    log = open_sqlite_log(
        data,
        redactor=redactor,
        catalogue=CATALOGUE,
        purpose=f"crewlog serve on {settings.host}:{settings.port}",
    )
    try:
        views = Views(data / "views.db", log, PROJECTIONS)
        jobs = Jobs(log, clock)
        sealed = SealedSpecs(data / "sealed")
        spool = data / "spool"
        executor = LocalExecutor(spool)
        node = node_name(spool, socket.gethostname() or "local")
        folders = AttemptFolders(data / "attempts")
        artifacts = ArtifactStore(data / "artifacts", limit_bytes=settings.artifact_limit_bytes)
        people = people_of(settings, log, clock)
    except BaseException:
        log.close()
        raise
    approvals = Approvals(log, jobs, clock)
    crews = Crews(log, jobs, approvals, clock)
    sealing = Sealing(sealed, redactor)
    catalog = Catalog((*settings.templates, data / "templates", SHIPPED), trusted_s=_TRUSTED_S)
    crew_intake = CrewIntake(
        log, jobs, crews, catalog, sealing, agent_command=agent_of(settings), clock=clock
    )
    leases = Leases()
    tokens = WorkerTokens(load_key(data / "worker.key"))

    def worker_env(job_id: str, attempt: int) -> dict[str, str]:
        return {
            "CREWLOG_URL": url,
            "CREWLOG_SERVER_FILE": str(data / "server.json"),
            "CREWLOG_WORKER_TOKEN": tokens.issue(job_id, attempt),
        }

    gitoma = command_of(settings.gitoma_command)
    workspaces = LocalWorkspaces(
        node,
        folders,
        artifacts,
        env=environ,
        keep_env=KEPT_SECRETS,
        default_cwd=str(settings.workdir),
        hints={
            gitoma[0]: f"The program {gitoma[0]!r} is not here: install gitoma so that it is on "
            "PATH, or set CREWLOG_GITOMA_COMMAND to the command that runs it."
        },
    )
    assignments = Assignments(sealed, settings.output_limit_bytes, crews.parents, worker_env)
    unfinished = Unfinished()
    dispatcher = Dispatcher(
        log,
        views,
        jobs,
        executor,
        workspaces,
        assignments,
        drivers_of(CommandDriver(log, jobs, unfinished, clock)),
        capacity=settings.capacity,
        owner_capacity=settings.owner_capacity,
        leases=leases,
        clock=clock,
    )
    timers = ApsTimers()
    schedules = Schedules(log, clock)
    deliveries = Deliveries(log, clock)
    spawner = Spawner(log, views, schedules, crew_intake, clock)
    followings = (
        Following(log, Promotion(crews, approvals, clock)),
        Following(log, spawner),
    )
    states = StateDirectory(settings.gitoma_state_dir, StateJobs(views).of)
    token = _plain(settings.token)
    security = Security(lambda: token, people.accounts, settings.cors_origins)
    security.worker = tokens.principal
    return Parts(
        settings=settings,
        log=log,
        views=views,
        jobs=jobs,
        intake=Intake(jobs, sealing),
        dispatcher=dispatcher,
        unfinished=unfinished,
        executor=executor,
        crews=crews,
        approvals=approvals,
        crew_intake=crew_intake,
        catalog=catalog,
        artifacts=artifacts,
        leases=leases,
        timers=timers,
        followings=followings,
        schedules=schedules,
        spawner=spawner,
        schedule_clock=ScheduleClock(log, views, timers, clock),
        deadlines=Deadlines(log, views, crews, approvals, timers, clock),
        deliveries=deliveries,
        sender=Sender(log, views, deliveries, {"webhook": Webhooks({})}, timers, clock),
        states=states,
        feed=StateFeed(states),
        security=security,
        people=people,
        clock=clock,
        stopping=asyncio.Event(),
    )


def drivers_of(command: Driver) -> Drivers:
    """The driver of each kind of job. The agent of a template and gitoma are programs that are run
    as any other command is.
    """
    return {"command": command, "agent": command, "gitoma": command}


def agent_of(settings: Settings) -> Callable[[str], tuple[str, ...]]:
    """How an agent of a name is run: an empty command where none can be."""
    words = shlex.split(settings.agent_command)
    return lambda name: tuple(word.replace("{assignee}", name) for word in words)


def create_app(parts: Parts) -> Addresses:
    """The applications over the parts, each at its addresses. Wrap it with `edge` to serve it."""
    wanted = {*parts.settings.dialects, *(door.dialect for door in parts.settings.listen)}
    built = {name: make(parts) for name, make in _DIALECTS.items() if name in wanted}
    return Addresses(built, _others(parts), main=parts.settings.dialects)


def _gitoma(parts: Parts) -> ASGIApp:
    settings = parts.settings

    async def lm_studio() -> LMStudioHealth:
        return await probe(settings.lm_studio_base_url, settings.lm_studio_model)

    dispatches = Dispatches(
        parts.intake,
        SlidingWindow(settings.gitoma_rate_limit),
        command_of(settings.gitoma_command),
        settings.workdir,
        settings.gitoma_timeout_s,
    )
    return gitoma_app(
        parts.log,
        parts.jobs,
        parts.views,
        parts.states,
        parts.feed,
        dispatches,
        parts.security,
        health=lm_studio,
        github_token_set=bool(_plain(settings.github_token)),
        socket_origins=settings.ws_allowed_origins,
        stopping=parts.stopping,
        version=VERSION,
    )


def _codeplane(parts: Parts) -> ASGIApp:
    settings = parts.settings
    return codeplane_app(
        parts.log,
        parts.jobs,
        parts.intake,
        parts.approvals,
        parts.views,
        parts.artifacts,
        parts.security,
        email_of=parts.email_of,
        name_of=parts.name_of,
        workdir=settings.workdir,
        default_timeout_s=settings.job_timeout_s,
        version=VERSION,
    )


def _board(parts: Parts) -> ASGIApp:
    settings = parts.settings
    return board_app(
        parts.log,
        parts.jobs,
        parts.crews,
        parts.crew_intake,
        _schedule_actions(parts),
        parts.catalog,
        parts.dispatcher,
        parts.unfinished,
        parts.views,
        parts.artifacts,
        parts.people.sign_in,
        parts.people.oidc,
        parts.security,
        may_register=settings.oidc_allow,
        name_of=parts.name_of,
        clock=parts.clock,
        version=VERSION,
    )


def _sign_in(parts: Parts) -> APIRouter:
    """The ways in, which the page needs also where the board is switched off."""
    people = parts.people
    return auth_routes(
        people.sign_in, people.oidc, parts.security, may_register=parts.settings.oidc_allow
    )


_DIALECTS: dict[str, Callable[[Parts], ASGIApp]] = {
    GITOMA: _gitoma,
    CODEPLANE: _codeplane,
    BOARD: _board,
}


def _others(parts: Parts) -> FastAPI:
    """What is at the main address beside the dialects: the native API, the page, health."""
    # Attempts outlive an upgrade, and those that 0.2.0 started ask where it listened.
    routers = [
        _worker(parts, at="/api"),
        probe_routes(_health(parts)),
        page_routes(parts.security),
    ]
    if BOARD not in parts.settings.dialects:
        routers.append(_sign_in(parts))
    summary = "A control plane for jobs, over one log of immutable events."
    app = application("crewlog", summary, VERSION, parts.security, routers, document=None)
    app.router.lifespan_context = lambda _: _lifespan(parts)
    app.router.routes.insert(0, mounted(_native(parts)))
    return app


def _worker(parts: Parts, at: str = "") -> APIRouter:
    return worker_routes(
        parts.log,
        parts.jobs,
        parts.crews,
        parts.approvals,
        beat=parts.leases.beat,
        stopping=parts.stopping,
        clock=parts.clock,
        name_of=parts.name_of,
        at=at,
    )


def _schedule_actions(parts: Parts) -> ScheduleActions:
    return ScheduleActions(
        parts.schedules,
        parts.spawner,
        parts.crew_intake,
        parts.views,
        timezone=parts.settings.timezone,
        clock=parts.clock,
    )


def _health(parts: Parts) -> Health:
    return Health(
        parts.log,
        parts.views,
        parts.dispatcher,
        parts.followers,
        parts.stopped,
        VERSION,
    )


def _native(parts: Parts) -> FastAPI:
    """The native API over the parts."""
    sign_in = parts.people.sign_in
    owners = Owners(parts.log)
    named = parts.settings.model_fields_set & {"lm_studio_base_url", "lm_studio_model"}
    streams = JobStreams(parts.log, parts.jobs, parts.unfinished)
    routers = (
        job_routes(
            parts.log,
            parts.intake,
            JobActions(parts.jobs, parts.crews),
            streams,
            parts.views,
            parts.name_of,
            parts.owner_by_email,
            workdir=parts.settings.workdir,
            default_timeout_s=parts.settings.job_timeout_s,
        ),
        crew_routes(
            parts.crews, parts.crew_intake, parts.views, parts.name_of, parts.owner_by_email
        ),
        approval_routes(
            parts.log, parts.jobs, parts.approvals, parts.views, parts.email_of, parts.name_of
        ),
        schedule_routes(_schedule_actions(parts)),
        template_routes(parts.catalog, parts.clock),
        artifact_routes(parts.views, parts.artifacts),
        board_routes(parts.views, parts.email_of, parts.name_of, parts.clock),
        event_routes(parts.log, owners, parts.email_of, tuple(CATALOGUE)),
        dispatcher_routes(parts.dispatcher, parts.clock),
        health_routes(_health(parts)),
        log_routes(parts.log, parts.jobs, owners, streams),
        _worker(parts),
        user_routes(sign_in, parts.views, parts.clock),
        token_routes(sign_in, parts.clock),
        projection_routes(parts.log, parts.views),
        delivery_routes(parts.deliveries, parts.views),
        analytics_routes(parts.views, parts.clock, parts.email_of),
        system_routes(lm_studio=bool(named)),
    )
    return native_app(routers, parts.security, VERSION)


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
    # Who is there before the server listens is let in by its first request.
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
