"""The native API over the parts."""

from fastapi import APIRouter
from starlette.types import ASGIApp

from api.assembly.lm_studio import lm_studio
from api.assembly.worker import worker_of
from api.edge.owners import Owners
from api.native.analytics import analytics_routes
from api.native.app import native_app
from api.native.approvals import approval_routes
from api.native.artifacts import artifact_routes
from api.native.board import board_routes
from api.native.crews import crew_routes
from api.native.deliveries import delivery_routes
from api.native.dispatcher import dispatcher_routes
from api.native.events import event_routes
from api.native.health import health_routes
from api.native.job_actions import JobActions
from api.native.job_streams import JobStreams
from api.native.jobs import job_routes
from api.native.log import log_routes
from api.native.projections import projection_routes
from api.native.schedule_actions import ScheduleActions
from api.native.schedules import schedule_routes
from api.native.system import system_routes
from api.native.templates import template_routes
from api.native.tokens import token_routes
from api.native.users import user_routes
from api.parts import VERSION, Parts, plain
from domain.catalogue import CATALOGUE


def assemble(parts: Parts) -> ASGIApp:
    sign_in = parts.people.sign_in
    owners = Owners(parts.log)
    streams = JobStreams(parts.log, parts.jobs, parts.unfinished)
    jobs = job_routes(
        parts.log,
        parts.intake,
        JobActions(parts.jobs, parts.crews),
        streams,
        parts.views,
        parts.name_of,
        parts.owner_by_email,
        workdir=parts.settings.workdir,
        default_timeout_s=parts.settings.job_timeout_s,
    )
    crews = crew_routes(
        parts.log,
        parts.crews,
        parts.crew_intake,
        parts.views,
        parts.name_of,
        parts.owner_by_email,
    )
    others = (
        approval_routes(
            parts.log, parts.jobs, parts.approvals, parts.views, parts.email_of, parts.name_of
        ),
        schedule_routes(schedule_actions(parts)),
        template_routes(parts.catalog, parts.clock),
        artifact_routes(parts.views, parts.artifacts),
        board_routes(parts.views, parts.email_of, parts.name_of, parts.clock),
        event_routes(parts.log, owners, parts.email_of, tuple(CATALOGUE)),
        dispatcher_routes(parts.dispatcher, parts.clock),
        health_routes(parts.health),
        log_routes(parts.log, parts.jobs, owners, streams),
        worker_of(parts),
        user_routes(sign_in, parts.views),
        token_routes(sign_in, parts.clock),
        projection_routes(parts.log, parts.views),
        delivery_routes(parts.deliveries, parts.views),
        analytics_routes(parts.views, parts.clock, parts.email_of),
        system_of(parts),
    )
    return native_app(jobs, crews, others, parts.security, VERSION)


def schedule_actions(parts: Parts) -> ScheduleActions:
    return ScheduleActions(
        parts.schedules,
        parts.spawner,
        parts.crew_intake,
        parts.views,
        timezone=parts.settings.timezone,
        clock=parts.clock,
    )


def system_of(parts: Parts) -> APIRouter:
    settings = parts.settings
    # By default an LM Studio is only looked for: gitoma's health says whether there is one.
    named = settings.model_fields_set & {"lm_studio_base_url", "lm_studio_model"}
    return system_routes(
        dialects=settings.dialects,
        github_token_set=bool(plain(settings.github_token)),
        lm_studio=lm_studio(settings) if named else None,
        repositories=parts.feed.subscribe,
    )
