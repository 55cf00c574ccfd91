"""The ways in over the parts, where the board, whose they are, is switched off: the page needs
them.
"""

from fastapi import APIRouter

from api.dialects.board.auth import auth_routes
from api.parts import Parts


def routes(parts: Parts) -> APIRouter:
    people = parts.people
    return auth_routes(
        people.sign_in, people.oidc, parts.security, may_register=parts.settings.oidc_allow
    )
