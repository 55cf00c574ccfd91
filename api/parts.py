"""The parts of a server: made from the settings, over the data directory, and joined."""

import asyncio
import os
import shlex
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from pydantic import SecretStr

from api.dialects.gitoma.command import command_of
from api.dialects.gitoma.state_files import StateDirectory, StateFeed
from api.dialects.gitoma.state_jobs import StateJobs
from api.edge.security import Principal, Security
from api.edge.worker_tokens import WorkerTokens, load_key
from api.native.health import Health
from api.people.oidc import GOOGLE, Provider
from api.people.parts import FirstAdmin, PeopleParts, build_people
from api.settings import SHORTEST_SECRET, Settings
from domain.approval.commands import Approvals
from domain.catalogue import CATALOGUE
from domain.clock import Clock, system_clock
from domain.crew.commands import Crews
from domain.delivery.commands import Deliveries
from domain.job.commands import Jobs
from domain.log import EventLog, open_sqlite_log
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

VERSION = version("crewlog")

_TRUSTED_S = 0.2
"""Seconds after which a changed template is noticed at the latest."""


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
    """The unfinished lines of running jobs."""
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
    """Tasks that should run as long as the server, and have failed."""

    def name_of(self, who: str) -> str:
        """The name to show for an actor or an owner."""
        return self.people.people.directory.name_of(who)

    def email_of(self, principal: Principal) -> str | None:
        """The e-mail address by which a template names this principal."""
        account = self.people.people.directory.find(principal.user_id or "")
        return account.email if account is not None else None

    def owner_by_email(self, email: str) -> str:
        """The owner of a person's things. For an unknown address: an owner who owns nothing."""
        account = self.people.people.directory.by_email(email)
        return f"user:{account.id}" if account is not None else email

    @property
    def health(self) -> Health:
        return Health(self.log, self.views, self.dispatcher, self.followers, self.stopped, VERSION)

    @property
    def followers(self) -> tuple[tuple[str, Follower], ...]:
        """Every follower of the log, with its kind."""
        return (
            ("dispatcher", self.dispatcher.follower),
            *(("policy", following.follower) for following in self.followings),
            ("clock", self.schedule_clock.follower),
            ("deadlines", self.deadlines.follower),
            ("deliveries", self.sender.follower),
        )

    def close(self) -> None:
        """Close the files of a server that never served. One that did closes them in its
        lifespan.
        """
        self.people.close()
        self.views.close()
        self.log.close()


def secret_values(settings: Settings, environ: Mapping[str, str]) -> list[str]:
    """The server's own secrets, which must never appear in the log."""
    own = [
        plain(settings.token),
        plain(settings.github_token),
        plain(settings.admin_password),
        plain(settings.session_secret),
        *(provider.client_secret for provider in providers_of(settings)),
    ]
    named = [
        value
        for name, value in environ.items()
        if name.upper().endswith(SECRET_SUFFIXES) or name in KEPT_SECRETS
    ]
    return [value for value in (*own, *named) if len(value) >= SHORTEST_SECRET]


def plain(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret is not None else ""


def providers_of(settings: Settings) -> list[Provider]:
    """The OpenID Connect providers of the settings. Google needs both its id and its secret."""
    found = [
        Provider(
            name=name,
            label=provider.label or name,
            discovery_url=f"{provider.issuer.rstrip('/')}/.well-known/openid-configuration",
            client_id=provider.client_id,
            client_secret=plain(provider.client_secret),
        )
        for name, provider in settings.oidc.items()
        if name != GOOGLE
    ]
    secret = plain(settings.google_client_secret)
    if settings.google_client_id and secret:
        discovery_url = settings.google_discovery_url
        google = Provider(GOOGLE, "Google", discovery_url, settings.google_client_id, secret)
        found.insert(0, google)
    return found


def people_of(settings: Settings, log: EventLog, clock: Clock) -> PeopleParts:
    """The parts for people, as the settings say."""
    password = plain(settings.admin_password)
    wanted = settings.admin_email and password
    return build_people(
        log,
        clock,
        settings.data,
        token=plain(settings.token),
        session_secret=plain(settings.session_secret),
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
    """Open the data directory and build the parts over it. Raises LogRefused if it must not be
    opened. `url` is where the server listens. `environ` is the environment at the start of the
    server, if `os.environ` is another one by now.
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
        executor = LocalExecutor(data / "spool")
        artifacts = ArtifactStore(data / "artifacts", limit_bytes=settings.artifact_limit_bytes)
        workspaces = workspaces_of(settings, artifacts, environ)
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
    worker_env = worker_env_of(tokens, url, data)
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
        security=security_of(settings, people, tokens),
        people=people,
        clock=clock,
        stopping=asyncio.Event(),
    )


def workspaces_of(
    settings: Settings, artifacts: ArtifactStore, environ: Mapping[str, str]
) -> LocalWorkspaces:
    """Where attempts work on this node. `environ` is the base of their environment."""
    gitoma = command_of(settings.gitoma_command)
    return LocalWorkspaces(
        node_name(settings.data / "spool", socket.gethostname() or "local"),
        AttemptFolders(settings.data / "attempts"),
        artifacts,
        env=environ,
        keep_env=KEPT_SECRETS,
        default_cwd=str(settings.workdir),
        hints={
            gitoma[0]: f"The program {gitoma[0]!r} is missing: install gitoma so that it is on "
            "PATH, or set CREWLOG_GITOMA_COMMAND to the command that runs it."
        },
    )


def worker_env_of(
    tokens: WorkerTokens, url: str, data: Path
) -> Callable[[str, int], dict[str, str]]:
    """The variables with which an attempt reaches this server and the next one."""

    def worker_env(job_id: str, attempt: int) -> dict[str, str]:
        return {
            "CREWLOG_URL": url,
            "CREWLOG_SERVER_FILE": str(data / "server.json"),
            "CREWLOG_WORKER_TOKEN": tokens.issue(job_id, attempt),
        }

    return worker_env


def security_of(settings: Settings, people: PeopleParts, tokens: WorkerTokens) -> Security:
    token = plain(settings.token)
    security = Security(lambda: token, people.accounts, settings.cors_origins)
    security.worker = tokens.principal
    return security


def drivers_of(command: Driver) -> Drivers:
    """The driver of each kind of job. A template's agent and gitoma are programs that run as any
    other command does.
    """
    return {"command": command, "agent": command, "gitoma": command}


def agent_of(settings: Settings) -> Callable[[str], tuple[str, ...]]:
    """How the agent of a name is run. The command is empty if no agents can be run."""
    words = shlex.split(settings.agent_command)
    return lambda name: tuple(word.replace("{assignee}", name) for word in words)
