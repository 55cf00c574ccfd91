"""Signing in, over the parts, if the board is switched off: its routes for signing in are the
board's, and the page needs them.
"""

from fastapi import APIRouter

from api.dialects.board.auth import auth_routes
from api.parts import Parts


def routes(parts: Parts) -> APIRouter:
    people = parts.people
    return auth_routes(
        people.sign_in, people.oidc, parts.security, may_register=parts.settings.oidc_allow
    )
