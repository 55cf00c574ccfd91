"""The state machine of jobs: what each event changes.

The aggregate and the jobs view fold with the same transitions, so each state is written down once.
Each of the two keeps what only it needs beside them.
"""

from collections.abc import Callable
from typing import Any, Protocol

from domain.fact import Fact
from domain.job.events import AttemptOutcome, JobState


class Standing(Protocol):
    """What a transition reads of the job before the event."""

    @property
    def state(self) -> JobState: ...

    @property
    def active(self) -> bool: ...

    @property
    def failures(self) -> int: ...

    @property
    def pending(self) -> tuple[str, ...]: ...


Changes = dict[str, Any]
"""New values by the field names of `Job`."""

Transition = Callable[[Standing, Fact], Changes]


def changes_by(fact: Fact, before: Standing) -> Changes:
    """What an event of the job's own stream changes; empty for an event without effect."""
    transition = TRANSITIONS.get(fact.type)
    return {} if transition is None else transition(before, fact)


_STANDS_STILL: Changes = {"active": False, "pending": ()}
_HELD_AGAIN: Changes = {
    "state": JobState.HELD,
    "failures": 0,
    "gave_up": False,
    **_STANDS_STILL,
}
_AFRESH: Changes = {"given": None, "finished_at": None, "cancel_requested_at": None}


def _queued(*_: object) -> Changes:
    return {
        "state": JobState.QUEUED,
        "cancel_requested_at": None,
        "finished_at": None,
        "stranded_by": None,
        **_STANDS_STILL,
    }


def _started(_: Standing, fact: Fact) -> Changes:
    return {
        "state": JobState.RUNNING,
        "attempt": fact.data["attempt"],
        "node": fact.data["node"],
        "started_at": fact.at,
        "active": True,
        "given": None,
    }


def _attempt_ended(before: Standing, fact: Fact) -> Changes:
    failed = fact.data["outcome"] != AttemptOutcome.BLOCKED
    return {"failures": before.failures + failed, **_STANDS_STILL}


def _finished(_: Standing, fact: Fact) -> Changes:
    return {
        "state": JobState(fact.data["outcome"]),
        "finished_at": fact.at,
        "gave_up": False,
        **_STANDS_STILL,
    }


def _blocked(_: Standing, fact: Fact) -> Changes:
    return {"state": JobState.BLOCKED, "gave_up": fact.data["gave_up"], **_STANDS_STILL}


def _asked(before: Standing, fact: Fact) -> Changes:
    pending = (*before.pending, fact.data["approval"])
    return {"state": JobState.WAITING_FOR_APPROVAL, "pending": pending}


def _answered(before: Standing, fact: Fact) -> Changes:
    pending = tuple(approval for approval in before.pending if approval != fact.data["approval"])
    if pending or before.state is not JobState.WAITING_FOR_APPROVAL:
        return {"pending": pending}
    state = JobState.RUNNING if before.active else JobState.HELD
    return {"pending": pending, "state": state}


TRANSITIONS: dict[str, Transition] = {
    "job.submitted": lambda *_: {"state": JobState.HELD},
    "job.queued": _queued,
    "job.started": _started,
    "job.cancel_requested": lambda _, fact: {"cancel_requested_at": fact.at},
    "job.paused": lambda *_: {"state": JobState.PAUSED},
    "job.resumed": lambda *_: {"state": JobState.RUNNING},
    "job.attempt_ended": _attempt_ended,
    "job.finished": _finished,
    "job.blocked": _blocked,
    "job.unblocked": lambda *_: _HELD_AGAIN,
    "job.redone": lambda *_: _HELD_AGAIN | _AFRESH,
    "job.made_stale": lambda *_: _HELD_AGAIN | _AFRESH,
    "job.stranded": lambda _, fact: {"stranded_by": fact.data["parent"]},
    "job.freed": lambda *_: {"stranded_by": None},
    "job.result_given": lambda _, fact: {"given": fact.data["result"]},
    "job.approval_requested": _asked,
    "job.approval_answered": _answered,
    "job.archived": lambda _, fact: {"archived_at": fact.at},
    "job.unarchived": lambda *_: {"archived_at": None},
    "job.deleted": lambda *_: {"deleted": True},
}
"""These events change the job's state."""

OF_NO_CONSEQUENCE = frozenset(
    {
        "job.artifact_stored",
        "job.artifacts_dropped",
        "job.attempt_lost",
        "job.block_asked",
        "job.commented",
        "job.lease_expired",
        "job.messaged",
        "job.output",
        "job.output_dropped",
        "job.progressed",
        "job.trusted",
    }
)
"""These events leave the job's state as it was."""
