"""The job board's API as an application of its own (`contracts/board.md`)."""

from collections.abc import Collection

from fastapi import FastAPI

from api.dialects.board.artifact import artifact_routes
from api.dialects.board.auth import auth_routes
from api.dialects.board.clearing import clearing_routes
from api.dialects.board.crews import crew_routes
from api.dialects.board.dispatcher import dispatcher_routes
from api.dialects.board.feedback import feedback_routes
from api.dialects.board.jobs import job_routes
from api.dialects.board.refusals import refusal
from api.dialects.board.schedules import schedule_routes
from api.dialects.board.stream import stream_routes
from api.dialects.board.templates import template_routes
from api.edge.applications import application
from api.edge.security import NameOf, Security
from api.native.schedule_actions import ScheduleActions
from api.people.oidc import OpenIdConnect
from api.people.sign_in import SignIn
from domain.clock import Clock
from domain.crew.commands import Crews
from domain.job.commands import Jobs
from domain.log import EventLog
from projections.engine import Views
from scheduler.crews import CrewIntake
from scheduler.dispatch.dispatcher import Dispatcher
from scheduler.drivers.unfinished import Unfinished
from scheduler.templates import Catalog
from scheduler.workspaces.artifacts import ArtifactStore

DOCUMENT = "/openapi/board.json"
"""The path of the OpenAPI document beside those of others. At an address of its own it is
``/openapi.json``.
"""


def board_app(
    log: EventLog,
    jobs: Jobs,
    crews: Crews,
    crew_intake: CrewIntake,
    schedules: ScheduleActions,
    catalog: Catalog,
    dispatcher: Dispatcher,
    unfinished: Unfinished,
    views: Views,
    artifacts: ArtifactStore,
    sign_in: SignIn,
    oidc: OpenIdConnect,
    security: Security,
    *,
    may_register: Collection[str],
    name_of: NameOf,
    clock: Clock,
    version: str,
) -> FastAPI:
    routers = (
        auth_routes(sign_in, oidc, security, may_register=may_register),
        clearing_routes(jobs, views),
        job_routes(jobs, views, name_of),
        crew_routes(crew_intake, views),
        feedback_routes(jobs, crews, views, name_of),
        stream_routes(log, jobs, unfinished),
        artifact_routes(views, artifacts),
        schedule_routes(schedules, views),
        template_routes(catalog, clock),
        dispatcher_routes(dispatcher, clock),
    )
    summary = "The API of the job board, over crewlog."
    return application("The job board", summary, version, security, routers, refusal, also=DOCUMENT)
