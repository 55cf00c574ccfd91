"""Changes of jobs and approvals as the events of CodePlane (`contracts/codeplane.md` §5.1).

If one event of the log gives several events of CodePlane, only the last one has the position as its
id. Their client keeps plain numbers only, and after a lost connection in between it reads the event
again.
"""

from typing import Any

import orjson

from api.dialects.codeplane.job_json import shown_state
from api.edge.sse import WireForm
from domain.coverage import types
from domain.job.events import JobState, job_id_of
from domain.log import Recorded

TYPES = (
    "job.queued",
    "job.started",
    "job.progressed",
    "job.cancel_requested",
    "job.artifact_stored",
    "job.attempt_ended",
    "job.blocked",
    "job.unblocked",
    "job.redone",
    "job.made_stale",
    "job.stranded",
    "job.freed",
    "job.approval_requested",
    "job.approval_answered",
    "job.commented",
    "job.finished",
    "job.archived",
    "job.deleted",
    "job.submitted",
    "approval.requested",
    "approval.resolved",
    "approval.expired",
    "approval.withdrawn",
)

_PASSED_OVER = types(
    "crew delivery email identity operator request schedule token user",
    job=(
        "artifacts_dropped attempt_lost block_asked lease_expired messaged output output_dropped "
        "paused result_given resumed trusted unarchived"
    ),
)

HEARTBEAT = b"event: session_heartbeat\ndata: {}\n\n"

_STATES = {
    "job.submitted": JobState.HELD,
    "job.queued": JobState.QUEUED,
    "job.started": JobState.RUNNING,
    "job.blocked": JobState.BLOCKED,
    "job.unblocked": JobState.HELD,
    "job.redone": JobState.HELD,
    "job.made_stale": JobState.HELD,
    "job.approval_requested": JobState.WAITING_FOR_APPROVAL,
}

Named = tuple[str, dict[str, Any]]


def _changed(event: Recorded, state: JobState) -> Named:
    return (
        "job_state_changed",
        {
            "jobId": job_id_of(event.subject),
            "previousState": None,
            "newState": shown_state(state, gave_up=bool(event.data.get("gave_up"))),
            "timestamp": event.at,
            "kind": event.type,
        },
    )


def _updated(event: Recorded) -> Named:
    """Another change of the job. The event has a name of crewlog's own, which CodePlane's client
    ignores, so that a board can reload the job.
    """
    fields = {"jobId": job_id_of(event.subject), "timestamp": event.at, "kind": event.type}
    return ("job_updated", fields)


def _finished(event: Recorded) -> list[Named]:
    data = event.data
    state = JobState(data["outcome"])
    fields = {"jobId": job_id_of(event.subject), "timestamp": event.at}
    first: list[Named] = []
    if state is JobState.COMPLETED:
        first = [("job_completed", {**fields, "resolution": None, "prUrl": None})]
    elif state is not JobState.CANCELLED:
        reason = data["reason"] or "The job failed."
        first = [("job_failed", {**fields, "reason": reason})]
    return [*first, _changed(event, state)]


def _approval(event: Recorded) -> list[Named]:
    data = event.data
    fields = {
        "jobId": data["job"],
        "approvalId": event.subject.partition("-")[2],
        "timestamp": event.at,
    }
    if event.type == "approval.requested":
        more = {
            "description": data["description"],
            "proposedAction": data["proposed_action"],
            "requiresExplicitApproval": data["explicit"],
        }
        return [("approval_requested", fields | more)]
    # CodePlane has two answers. Expired and withdrawn become a no with their own kind.
    resolution = data.get("resolution", "rejected")
    state = data.get("resolution", event.type.partition(".")[2])
    return [("approval_resolved", fields | {"resolution": resolution, "state": state})]


def named_events(event: Recorded) -> list[Named]:
    """CodePlane's events for one event of the log."""
    if event.subject.startswith("approval-"):
        return _approval(event)
    if event.type == "job.finished":
        return _finished(event)
    if event.type == "job.archived":
        fields = {"jobId": job_id_of(event.subject), "timestamp": event.at}
        return [("job_archived", fields)]
    if event.type == "job.approval_answered" and not event.data["waiting"]:
        state = JobState.RUNNING if event.data["attempt"] else JobState.HELD
        return [_changed(event, state)]
    moved = _STATES.get(event.type)
    return [_updated(event) if moved is None else _changed(event, moved)]


def _encode(event: Recorded) -> list[bytes]:
    if event.type not in TYPES:
        return []
    named = named_events(event)
    frames = [
        b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(data)) for name, data in named
    ]
    frames[-1] = b"id: %d\n" % event.position + frames[-1]
    return frames


CODEPLANE = WireForm("codeplane", _encode, passes_over=_PASSED_OVER)
"""Frames of CodePlane's event stream."""
