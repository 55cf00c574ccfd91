"""An approval as JSON."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.edge.security import NameOf
from domain.approval.commands import RESOLUTIONS
from projections.approvals import approvers_of
from projections.projection import Row

ApprovalStateName = Literal["pending", "approved", "rejected", "expired", "withdrawn"]


class ApprovalObject(BaseModel):
    """An approval. Null fields are present, never left out. Times are ISO 8601 in UTC."""

    model_config = ConfigDict(extra="forbid")

    id: str
    jobId: str
    attempt: int = Field(description="0 if it was asked before the first attempt.")
    description: str
    proposedAction: str | None
    explicit: bool = Field(description="Trust in the job does not approve it.")
    approvers: list[str] = Field(
        description="Who may answer, beside administrators. Empty: the owner."
    )
    ownerId: str
    state: ApprovalStateName
    resolution: Literal["approved", "rejected"] | None
    requestedAt: str
    requestedBy: str
    requestedByName: str
    expiresAt: str | None
    resolvedAt: str | None
    resolvedBy: str | None
    resolvedByName: str | None
    trusted: bool = Field(description="Trust in the job approved it.")
    comment: str | None
    waitMs: int | None
    position: int = Field(description="The position in the log of its request.")


def approval_json(row: Row, name_of: NameOf) -> dict[str, Any]:
    """The object for a row of the approvals view."""
    resolver = row["resolved_by"]
    return {
        "id": row["id"],
        "jobId": row["job_id"],
        "attempt": row["attempt"],
        "description": row["description"],
        "proposedAction": row["proposed_action"],
        "explicit": bool(row["explicit"]),
        "approvers": approvers_of(row),
        "ownerId": row["owner"],
        "state": row["state"],
        "resolution": row["state"] if row["state"] in RESOLUTIONS else None,
        "requestedAt": row["requested_at"],
        "requestedBy": row["requested_by"],
        "requestedByName": name_of(row["requested_by"]),
        "expiresAt": row["expires_at"],
        "resolvedAt": row["resolved_at"],
        "resolvedBy": resolver,
        "resolvedByName": name_of(resolver) if resolver is not None else None,
        "trusted": bool(row["by_trust"]),
        "comment": row["comment"],
        "waitMs": row["wait_ms"],
        "position": row["position"],
    }
