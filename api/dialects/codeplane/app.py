"""CodePlane's API as an application of its own (`contracts/codeplane.md`), as far as it is
built.
"""

from pathlib import Path

from starlette.types import ASGIApp

from api.dialects.codeplane.approval_routes import approval_routes
from api.dialects.codeplane.artifacts import artifact_routes
from api.dialects.codeplane.event_routes import event_routes
from api.dialects.codeplane.jobs import job_routes
from api.dialects.codeplane.timeline import timeline_routes
from api.edge.applications import application
from api.edge.owners import Owners
from api.edge.security import EmailOf, NameOf, Security
from api.edge.short_cut import ShortCut, Takers, endpoint_named
from api.native.job_requests import NewJob
from domain.approval.commands import Approvals
from domain.job.commands import Jobs
from domain.log import EventLog
from projections.engine import Views
from scheduler.intake import Intake
from scheduler.workspaces.artifacts import ArtifactStore

DOCUMENT = "/openapi/codeplane.json"
"""The path of the OpenAPI document beside those of others. At an address of its own it is
``/openapi.json``.
"""


def codeplane_app(
    log: EventLog,
    jobs: Jobs,
    intake: Intake,
    approvals: Approvals,
    views: Views,
    artifacts: ArtifactStore,
    security: Security,
    *,
    email_of: EmailOf,
    name_of: NameOf,
    workdir: Path,
    default_timeout_s: int,
    version: str,
) -> ASGIApp:
    """The application, behind the short cut for creating jobs."""
    job_router = job_routes(
        jobs, intake, views, workdir=workdir, default_timeout_s=default_timeout_s
    )
    routers = (
        job_router,
        timeline_routes(views),
        approval_routes(log, jobs, approvals, views, email_of=email_of, name_of=name_of),
        artifact_routes(views, artifacts),
        event_routes(log, jobs, Owners(log), email_of),
    )
    summary = "The API of CodePlane, as far as crewlog speaks it."
    app = application("CodePlane", summary, version, security, routers, also=DOCUMENT)
    takers: Takers = {"/api/jobs": (NewJob, endpoint_named("create_job", job_router))}
    return ShortCut(app, takers, security)
