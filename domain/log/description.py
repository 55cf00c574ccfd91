"""What a log says about itself: its id, its format, and the newest schema of each event type in it.
A version that does not know one of these refuses the log.
"""

from collections.abc import Mapping

import orjson

from domain.errors import LogRefused
from domain.event import Catalogue, schemas
from domain.log.envelope import uuid7

FORMAT = 2
"""The format of a log. Format 2 keeps a leaf hash beside each event. A log of a higher format is
refused and not changed.
"""


def described(stored: Mapping[str, str], catalogue: Catalogue) -> dict[str, str]:
    """The description to write, from the one that is there so far."""
    ours = orjson.loads(stored.get("schemas", "{}")) | schemas(catalogue)
    return {
        **stored,
        "id": stored.get("id") or uuid7(),
        "format": str(FORMAT),
        "schemas": orjson.dumps(ours, option=orjson.OPT_SORT_KEYS).decode(),
    }


def refuse_newer(stored: Mapping[str, str], catalogue: Catalogue, name: str) -> None:
    """Raises LogRefused if a newer version wrote to the log of that name."""
    if int(stored.get("format", "0")) > FORMAT:
        raise LogRefused(
            f"The log {name} has format {stored['format']}; this version of crewlog reads up "
            f"to {FORMAT}. A newer version wrote it: use that one. Nothing was changed."
        )
    ours = schemas(catalogue)
    for kind, number in orjson.loads(stored.get("schemas", "{}")).items():
        if number > ours.get(kind, number):
            raise LogRefused(
                f"The log {name} holds {kind} events of schema {number}; this version of crewlog "
                f"reads up to {ours[kind]}. A newer version wrote it: use that one. "
                "Nothing was changed."
            )
