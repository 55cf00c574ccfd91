"""Crews as JSON."""

from typing import Any

import orjson

from api.edge.security import NameOf
from api.edge.short_forms import brief
from projections.crews import state_of
from projections.projection import Row


def crew_json(row: Row, counts: dict[str, int], name_of: NameOf) -> dict[str, Any]:
    """A crew; `state` follows from its jobs, which `counts` has by state."""
    return {
        "id": row["id"],
        "name": row["name"],
        "templateId": row["template"],
        "inputs": orjson.loads(row["inputs"]),
        "state": state_of(counts),
        "counts": counts,
        "ownerId": row["owner"],
        "owner": name_of(row["owner"]),
        "scheduleId": row["schedule"],
        "nominalAt": row["nominal"],
        "scheduledAt": row["not_before"],
        "createdAt": row["created_at"],
        "jobIds": [member["id"] for member in orjson.loads(row["members"])],
        "position": row["position"],
    }


def crew_brief(row: Row, counts: dict[str, int], name_of: NameOf) -> dict[str, Any]:
    """A crew as lists show it: inputs that are long are shortened, and `shortened` names them."""
    crew = crew_json(row, counts, name_of)
    crew["inputs"], whole = brief(crew["inputs"])
    return {**crew, "shortened": [] if whole else ["inputs"]}
