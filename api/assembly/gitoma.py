"""gitoma's API over the parts."""

from starlette.types import ASGIApp

from api.assembly.lm_studio import lm_studio
from api.dialects.gitoma.app import gitoma_app
from api.dialects.gitoma.command import command_of
from api.dialects.gitoma.dispatches import Dispatches
from api.edge.rate_limit import SlidingWindow
from api.parts import VERSION, Parts, plain


def assemble(parts: Parts) -> ASGIApp:
    settings = parts.settings
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
        health=lm_studio(settings),
        github_token_set=bool(plain(settings.github_token)),
        socket_origins=settings.ws_allowed_origins,
        stopping=parts.stopping,
        version=VERSION,
    )
