"""CodePlane's API over the parts."""

from starlette.types import ASGIApp

from api.dialects.codeplane.app import codeplane_app
from api.parts import VERSION, Parts


def assemble(parts: Parts) -> ASGIApp:
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
