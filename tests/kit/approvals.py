"""Events of approvals, with defaults for the fields that a test does not need."""

from typing import Any

from domain.approval.aggregate import ApprovalRequested


def requested(**changes: Any) -> ApprovalRequested:
    """A question before the first attempt of the operator's job ``j``."""
    fields: dict[str, Any] = {
        "job": "j",
        "attempt": 0,
        "owner": "operator",
        "description": "And?",
        "proposed_action": None,
        "explicit": False,
        "approvers": [],
        "expires_at": None,
    }
    return ApprovalRequested(**fields | changes)
