"""Finds the crew that a person names: by id, beginning of the id, or number."""

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from api.commands.options import API
from domain.errors import CrewlogError

if TYPE_CHECKING:
    from api.commands.client import Client

_WHOLE_ID = 36
_MOST = 100
_NUMBERED = re.compile(r"(.+?) ?#([0-9]{1,15})")


class NoSuchCrew(CrewlogError):
    """An id, the beginning of one, or a number does not name exactly one crew."""


def resolve_crew(client: "Client", given: str) -> str:
    """The full id of `given`, which is an id, its beginning, or a number such as ``deploy#42``."""
    numbered = _NUMBERED.fullmatch(given)
    if numbered is not None:
        template, number = numbered[1], int(numbered[2])
        found = client.get(f"{API}/crews", template=template, number=number)["items"]
        if not found:
            raise NoSuchCrew(f"There is no crew {given!r}. List them: crewlog crews list")
        return str(found[0]["id"])
    if len(given) >= _WHOLE_ID:
        return quote(given, safe="")
    beginning = given.lower()
    alike = client.get(f"{API}/crews", limit=_MOST, text=beginning)["items"] if beginning else []
    ids = [crew["id"] for crew in alike if crew["id"].startswith(beginning)]
    if len(ids) != 1:
        raise NoSuchCrew(
            f"{len(ids) or 'None'} of the crews begin with {given!r}. List them: crewlog crews list"
        )
    return str(ids[0])
