"""The job board's API over the parts."""

from starlette.types import ASGIApp

from api.assembly.native import schedule_actions
from api.dialects.board.app import board_app
from api.parts import VERSION, Parts


def assemble(parts: Parts) -> ASGIApp:
    settings = parts.settings
    return board_app(
        parts.log,
        parts.jobs,
        parts.crews,
        parts.crew_intake,
        schedule_actions(parts),
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
