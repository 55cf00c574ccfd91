"""The requests of ``/schedules``, and the terms that they mean."""

import re
from typing import Annotated, Any

from pydantic import Field

from api.edge.texts import CARRIABLE, Body
from domain.errors import BadInput
from domain.schedule.aggregate import CatchUp

_WINDOW = re.compile(r"([0-9]{1,9})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

Text = Annotated[str, Field(max_length=1_000), CARRIABLE]
RuleSpec = Annotated[
    dict[str, Any],
    Field(
        max_length=10,
        description="A cadence (daily, weekly, monthly, hourly, minutely), or cron, rrule, once.",
    ),
]
CatchUpSpec = Annotated[
    str | dict[str, Any],
    Field(description='"latest", "none", {"all": "24h"} or {"mode": "all", "windowS": 86400}.'),
]


class Terms(Body):
    """The terms that can be changed. Fields that are left out do not change."""

    name: Text | None = None
    inputs: dict[str, Any] | None = None
    rule: RuleSpec | None = None
    timezone: Text | None = None
    catch_up: CatchUpSpec | None = None
    overlap: Text | None = None
    jitter_s: Annotated[float, Field(ge=0, le=1e9)] | None = None
    ends_at: Text | None = Field(None, description="ISO 8601; null: no end.")
    max_firings: Annotated[int, Field(ge=-(2**53), le=2**53)] | None = None


class NewSchedule(Terms):
    """A new schedule."""

    template: Annotated[str, Field(min_length=1, max_length=1_000), CARRIABLE]
    enabled: bool = True


class RulePreview(Body):
    """A rule that is not saved yet."""

    rule: RuleSpec
    timezone: Text | None = None
    n: Annotated[int, Field(ge=1, le=100)] = 10


def terms_of(body: Terms) -> dict[str, Any]:
    """The terms in a body, by the field names of ``schedule.created``. Raises BadInput for
    an invalid one.
    """
    given = body.model_fields_set
    terms: dict[str, Any] = {}
    for name in ("name", "inputs", "rule", "timezone", "overlap"):
        if getattr(body, name) is not None:
            terms[name] = getattr(body, name)
    if "name" in terms:
        terms["name"] = terms["name"].strip()
    if body.catch_up is not None:
        terms |= _catch_up(body.catch_up)
    if body.jitter_s is not None:
        terms["jitter_ms"] = round(body.jitter_s * 1000)
    for name in ("ends_at", "max_firings"):
        if name in given:
            terms[name] = getattr(body, name)
    return terms


def _catch_up(given: str | dict[str, Any]) -> dict[str, Any]:
    if isinstance(given, str):
        return {"catch_up": given}
    if "all" in given:
        return {"catch_up": CatchUp.ALL, "catch_up_window_ms": _window_ms(given["all"])}
    terms: dict[str, Any] = {"catch_up": str(given.get("mode", ""))}
    window = given.get("windowS", given.get("window_s"))
    if window is not None:
        terms["catch_up_window_ms"] = _window_ms(window)
    return terms


def _window_ms(given: Any) -> int:
    """A time span: seconds, or text such as 90m, 24h, 7d."""
    if isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given <= 1e9:
        return round(given * 1000)
    found = _WINDOW.fullmatch(given.strip()) if isinstance(given, str) else None
    if found is None:
        raise BadInput(
            "catchUp", "A window must be a number of seconds, or such as 90m, 24h or 7d."
        )
    return int(found[1]) * _SECONDS[found[2]] * 1000
