"""An approval as CodePlane's object (`contracts/codeplane.md` §2), with crewlog's additional
fields.
"""

from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from domain.approval.aggregate import ApprovalState
from projections.approvals import approvers_of
from projections.projection import Row


class ApprovalObject(BaseModel):
    """An approval, for the document. Null fields are present, never left out."""

    model_config = ConfigDict(extra="forbid")

    id: str
    jobId: str
    description: str
    proposedAction: str | None
    requiresExplicitApproval: bool = Field(description="Trust in the job does not approve it.")
    approvers: list[str] = Field(
        description="Who may answer, beside administrators. Empty: the owner."
    )
    requestedAt: str = Field(description="ISO 8601 in UTC, like every time.")
    expiresAt: str | None
    state: Literal["pending", "approved", "rejected", "expired", "withdrawn"]
    resolution: Literal["approved", "rejected"] | None
    resolvedAt: str | None
    resolvedBy: str | None
    resolvedByName: str | None
    comment: str | None


def approval_json(row: Row, name_of: Callable[[str], str]) -> dict[str, Any]:
    """The object for a row of the approvals view."""
    resolver = row["resolved_by"]
    answered = row["state"] in (ApprovalState.APPROVED, ApprovalState.REJECTED)
    return {
        "id": row["id"],
        "jobId": row["job_id"],
        "description": row["description"],
        "proposedAction": row["proposed_action"],
        "requiresExplicitApproval": bool(row["explicit"]),
        "approvers": approvers_of(row),
        "requestedAt": row["requested_at"],
        "expiresAt": row["expires_at"],
        "state": row["state"],
        "resolution": row["state"] if answered else None,
        "resolvedAt": row["resolved_at"],
        "resolvedBy": resolver,
        "resolvedByName": name_of(resolver) if resolver is not None else None,
        "comment": row["comment"],
    }
