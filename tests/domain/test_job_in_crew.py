"""A job with a plan: which command leads to which state (`contracts/board.md` §5.1). On any walk,
the jobs view folds the same state as the aggregate.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.catalogue import CATALOGUE
from domain.clock import system_clock
from domain.errors import CrewlogError, JobAlreadyEnded, StaleAttempt, WrongState
from domain.event import Event
from domain.job.aggregate import Job, evolve
from domain.job.events import (
    ENDED,
    AttemptOutcome,
    JobApprovalAnswered,
    JobAttemptEnded,
    JobBlocked,
    JobFinished,
    JobFreed,
    JobMadeStale,
    JobProgressed,
    JobQueued,
    JobRedone,
    JobStarted,
    JobState,
    JobStranded,
    JobSubmitted,
    JobUnblocked,
    Links,
    Outcome,
)
from domain.log import Context, Recorded, new_events
from domain.log.envelope import encode_state
from projections.jobs import JOBS
from projections.projection import Row
from tests.kit.jobs import finished, plan, submitted

AT = "2026-01-01T00:00:00.000000Z"
RETRIES = 2


def in_crew(**changes: Any) -> JobSubmitted:
    return submitted(
        links=Links(crew="c"),
        plan=plan(**{"parents": ["parent"], "max_retries": RETRIES} | changes),
    )


def left(attempt: int, outcome: Outcome = Outcome.COMPLETED, code: int | None = 0) -> JobFinished:
    """The end of an attempt, as the runner reports it."""
    return finished(attempt, outcome, exit_code=code)


def crashed(job: Job) -> list[Event]:
    return job.end_attempt(left(job.attempt, Outcome.FAILED, 1))


@dataclass
class Walk:
    """A job with its history and its row in the jobs view."""

    job: Job = field(default_factory=lambda: Job("j"))
    row: Row | None = None
    history: list[Event] = field(default_factory=list)

    def take(self, events: list[Event]) -> None:
        for event in events:
            self.job = evolve(self.job, event, self.job.version + 1, AT)
            self.row = JOBS.folds[event.type](self.row, recorded(event, self.job.version))
            self.history.append(event)

    def do(self, *commands: Callable[[Job], list[Event]]) -> Job:
        for command in commands:
            self.take(command(self.job))
        return self.job


def recorded(event: Event, version: int) -> Recorded:
    """The event as read from the log."""
    [new] = new_events("job-j", [event], Context(actor="tester"), system_clock)
    state = encode_state(new, event.model_dump_json().encode(), None)
    return Recorded(version, "job-j", version, event.type, state, CATALOGUE)


def begun(**changes: Any) -> Walk:
    walk = Walk()
    walk.take([in_crew(**changes)])
    return walk


def running(**changes: Any) -> Walk:
    walk = begun(**changes)
    walk.do(Job.queue, start)
    return walk


def start(job: Job) -> list[Event]:
    return job.start("n")


def column(job: Job) -> str:
    """Its column on the board, by the rules of `contracts/board.md` §5.1."""
    if job.archived:
        return "archived"
    if job.active:
        return "running"
    if job.state in (JobState.HELD, JobState.WAITING_FOR_APPROVAL):
        return "todo"
    if job.state is JobState.QUEUED:
        return "ready"
    return "done" if job.state is JobState.COMPLETED else "blocked"


COMMANDS: dict[str, Callable[[Job], list[Event]]] = {
    "queue": lambda job: job.queue({"parent": 1}),
    "start": start,
    "complete": lambda job: job.end_attempt(left(job.attempt)),
    "crash": crashed,
    "time out": lambda job: job.end_attempt(left(job.attempt, Outcome.TIMED_OUT, None)),
    "end cancelled": lambda job: job.end_attempt(left(job.attempt, Outcome.CANCELLED, -15)),
    "bad result": lambda job: job.end_attempt(left(job.attempt), "It does not fit."),
    "late": lambda job: job.end_attempt(left(job.attempt - 1)),
    "lose": lambda job: job.lose_attempt(job.attempt, "gone", "e"),
    "progress": lambda job: job.report(
        JobProgressed(attempt=job.attempt, fraction=None, text="half")
    ),
    "give": lambda job: job.give_result(job.attempt, {"n": 1}),
    "ask block": lambda job: job.ask_block(job.attempt, "Which one?"),
    "expire lease": lambda job: job.expire_lease(job.attempt),
    "cancel": lambda job: job.request_cancel("r"),
    "fail": lambda job: [] if job.active else job.fail("r"),
    "unblock": Job.unblock,
    "redo": lambda job: job.redo("Again."),
    "make stale": lambda job: job.make_stale("parent"),
    "strand": lambda job: job.strand("parent", "It gave up."),
    "free": lambda job: job.free("parent"),
    "ask": lambda job: job.wait_for(f"a{job.version}", "May I?"),
    "approve": lambda job: job.answer(min(job.pending, default=""), "approved"),
    "reject": lambda job: job.answer(min(job.pending, default=""), "rejected"),
    "block held": lambda job: [] if job.active else job.block_held("Approval rejected."),
    "trust": Job.trust,
    "comment": lambda job: job.comment("c"),
    "message": lambda job: job.message("m"),
    "archive": Job.archive,
    "unarchive": Job.unarchive,
    "delete": Job.delete,
}

_ENDINGS = {"complete", "crash", "time out", "end cancelled", "bad result", "lose"}
_BACK = {"redo", "make stale"}
_STOPS = {"cancel", "fail", "delete"}

MOVES: dict[tuple[str, str], set[str]] = {
    ("todo", "ready"): {"queue"},
    ("ready", "running"): {"start"},
    ("running", "done"): _ENDINGS - {"end cancelled"},
    ("running", "blocked"): _ENDINGS | {"make stale"},
    ("running", "ready"): {"crash", "time out", "bad result", "lose"},
    ("running", "todo"): {"make stale"},
    ("ready", "todo"): {"make stale"},
    ("ready", "blocked"): _STOPS | {"block held"},
    ("todo", "blocked"): _STOPS | {"block held"},
    ("blocked", "todo"): _BACK | {"unblock"},
    ("done", "todo"): _BACK,
    ("todo", "archived"): {"archive"},
    ("ready", "archived"): {"archive"},
    ("blocked", "archived"): {"archive"},
    ("done", "archived"): {"archive"},
    ("archived", "done"): {"unarchive"},
    ("archived", "blocked"): {"unarchive"},
}
"""The commands that lead from one column to another."""

walks = st.lists(st.sampled_from(sorted(COMMANDS)), max_size=60)
plans = st.fixed_dictionaries(
    {
        "on_reject": st.sampled_from(["answer", "fail"]),
        "approval": st.booleans(),
        "max_retries": st.integers(0, RETRIES),
    }
)


def steps(walk: Walk, names: list[str]) -> Iterator[tuple[str, Job, Job]]:
    """The accepted commands, each with the job before and after."""
    for name in names:
        before = walk.job
        try:
            events = COMMANDS[name](before)
        except CrewlogError:
            continue
        walk.take(events)
        yield name, before, walk.job


def likely(seed: list[str]) -> list[str]:
    """A walk in which attempts start often, so that most commands apply."""
    return [name for step in seed for name in ("queue", "start", step)]


@settings(max_examples=300, deadline=None)
@given(plans, walks, st.booleans())
def test_no_walk_leaves_the_documented_ways(
    planned: dict[str, Any], names: list[str], often: bool
) -> None:
    walk = begun(**planned)
    for name, before, after in steps(walk, likely(names) if often else names):
        way = (column(before), column(after))
        if way[0] != way[1]:
            assert name in MOVES.get(way, set()), f"{name}: {way[0]} became {way[1]}"
        assert not (after.deleted and after.active)
        assert not (after.archived and after.active)
        assert not after.pending or after.state is JobState.WAITING_FOR_APPROVAL
        assert after.attempt - before.attempt == (name == "start")
        assert after.active or after.state is not JobState.RUNNING


@settings(max_examples=300, deadline=None)
@given(plans, walks)
def test_every_attempt_ends_once_and_no_more_fail_than_were_allowed(
    planned: dict[str, Any], names: list[str]
) -> None:
    walk = begun(**planned)
    for _ in steps(walk, likely(names)):
        pass
    ends: dict[int, int] = {}
    failures, holding = 0, 0
    for event in walk.history:
        if isinstance(event, JobStarted):
            assert not holding, "Two attempts hold the job."
            holding = event.attempt
        elif isinstance(event, (JobAttemptEnded, JobFinished, JobMadeStale)) and holding:
            ends[holding] = ends.get(holding, 0) + 1
            holding = 0
        if isinstance(event, (JobUnblocked, JobRedone, JobMadeStale)):
            failures = 0
        elif isinstance(event, JobAttemptEnded):
            failures += event.outcome is not AttemptOutcome.BLOCKED
            assert failures <= planned["max_retries"] + 1
    started = [event.attempt for event in walk.history if isinstance(event, JobStarted)]
    assert started == list(range(1, len(started) + 1))
    assert set(ends.values()) <= {1}
    assert set(started) - set(ends) == ({holding} if holding else set())
    assert walk.job.active == bool(holding)


@settings(max_examples=300, deadline=None)
@given(plans, walks, st.booleans())
def test_the_jobs_view_and_the_aggregate_agree_along_any_walk(
    planned: dict[str, Any], names: list[str], often: bool
) -> None:
    walk = begun(**planned)
    for name, _, job in steps(walk, likely(names) if often else names):
        row = walk.row
        assert row is not None
        shown = {
            "state": row["state"],
            "attempt": row["attempt"],
            "active": bool(row["active"]),
            "pending": tuple(orjson.loads(row["pending"])),
            "failures": row["failures"],
            "gave_up": bool(row["gave_up"]),
            "stranded_by": row["stranded_by"],
            "cancel_requested": row["cancel_requested_at"] is not None,
            "archived": row["archived_at"] is not None,
            "deleted": bool(row["deleted"]),
            "given": row["result"] and orjson.loads(row["result"]),
            "version": row["version"],
        }
        assert shown == {field: getattr(job, field) for field in shown}, name


@settings(max_examples=200, deadline=None)
@given(plans, walks)
def test_a_cancel_that_was_taken_is_not_forgotten(
    planned: dict[str, Any], names: list[str]
) -> None:
    """The job ends, and no other attempt starts unless a person asks for it."""
    walk = begun(**planned)
    wanted = False
    before = walk.job
    for name, _, job in steps(walk, likely(names)):
        wanted = (wanted or name == "cancel") and name not in ("redo", "unblock")
        if name == "make stale" and before.state is JobState.COMPLETED:
            # It completed before the cancel took effect, and now starts anew.
            wanted = False
        if wanted and not job.ended:
            assert job.active, f"After {name} it is {job.state}."
        before = job


# Single transitions


def test_a_failure_is_tried_again_until_the_retries_are_used_up() -> None:
    walk = running()
    for attempt in (1, 2):
        assert [type(e) for e in crashed(walk.job)] == [JobAttemptEnded, JobQueued]
        walk.do(crashed, start)
        assert walk.job.attempt == attempt + 1
    ended, blocked = crashed(walk.job)
    assert isinstance(ended, JobAttemptEnded)
    assert ended.outcome is AttemptOutcome.CRASHED
    assert blocked == JobBlocked(attempt=3, reason="Exit code 1.", gave_up=True)
    walk.take([ended, blocked])
    assert (walk.job.state, walk.job.gave_up, walk.job.failures) == (JobState.BLOCKED, True, 3)


def test_an_unblocked_job_has_all_its_retries_again() -> None:
    walk = running(max_retries=0)
    walk.do(crashed, Job.unblock)
    assert (walk.job.state, walk.job.failures, walk.job.gave_up) == (JobState.HELD, 0, False)
    walk.do(Job.queue, start, crashed)
    assert walk.job.state is JobState.BLOCKED


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (left(1, Outcome.FAILED, -9), "Killed by signal 9."),
        (left(1, Outcome.TIMED_OUT, None), "The time limit passed."),
        (left(1, Outcome.FAILED, None), "It could not be run."),
    ],
)
def test_a_job_that_gave_up_says_why(end: JobFinished, reason: str) -> None:
    blocked = running(max_retries=0).job.end_attempt(end)[-1]
    assert isinstance(blocked, JobBlocked)
    assert blocked.reason == reason


def test_what_the_worker_said_counts_more_than_how_it_left() -> None:
    walk = running()
    walk.do(lambda job: job.give_result(1, {"n": 1}))
    [end] = crashed(walk.job)
    assert isinstance(end, JobFinished)
    assert end.outcome is Outcome.COMPLETED

    walk = running()
    walk.do(lambda job: job.ask_block(1, "Which one?"))
    walk.do(lambda job: job.end_attempt(left(1)))
    assert (walk.job.state, walk.job.gave_up) == (JobState.BLOCKED, False)


def test_the_last_result_counts_and_a_new_attempt_begins_without_one() -> None:
    walk = running()
    walk.do(lambda job: job.give_result(1, {"n": 1}), lambda job: job.give_result(1, {"n": 2}))
    assert walk.job.given == {"n": 2}
    walk.do(lambda job: job.end_attempt(left(1)), lambda job: job.redo(""))
    assert walk.job.given is None


def test_a_cancelled_attempt_that_fails_first_is_not_tried_again() -> None:
    """The process may end by itself between the cancel and the signal."""
    walk = running()
    walk.do(lambda job: job.request_cancel("r"), crashed)
    assert walk.job.state is JobState.CANCELLED


def test_a_cancelled_attempt_that_was_blocked_first_is_not_blocked() -> None:
    walk = running()
    walk.do(lambda job: job.ask_block(1, "Which one?"), lambda job: job.request_cancel("r"))
    walk.do(lambda job: job.end_attempt(left(1)))
    assert walk.job.state is JobState.CANCELLED


def test_a_job_that_is_being_cancelled_ends_when_a_parent_is_done_again() -> None:
    walk = running()
    walk.do(lambda job: job.request_cancel("r"), lambda job: job.make_stale("parent"))
    assert (walk.job.state, walk.job.active) == (JobState.CANCELLED, False)


def test_a_stale_attempt_is_fenced() -> None:
    walk = running()
    walk.do(lambda job: job.make_stale("parent"))
    for late in ("complete", "give", "ask block", "expire lease", "progress"):
        with pytest.raises(StaleAttempt):
            COMMANDS[late](walk.job)
    walk.do(Job.queue, start)
    with pytest.raises(StaleAttempt):
        walk.job.give_result(1, {})
    assert walk.job.attempt == 2


@pytest.mark.parametrize("away", [Job.archive, Job.delete])
def test_a_job_off_the_board_is_not_made_stale_and_not_redone_by_its_parents(
    away: Callable[[Job], list[Event]],
) -> None:
    walk = running()
    walk.do(lambda job: job.end_attempt(left(1)), away)
    assert walk.job.make_stale("parent") == []


def test_guards_of_people_in_every_column() -> None:
    """Unblock: only blocked. Redo: ended or blocked. Archive, delete: all but running."""
    todo, ready, runs = begun().job, begun(), running().job
    ready.do(Job.queue)
    gave_up, done, failed = running(max_retries=0), running(), begun()
    gave_up.do(crashed)
    done.do(lambda job: job.end_attempt(left(1)))
    failed.do(lambda job: job.fail("r"))
    there = {
        "todo": todo,
        "ready": ready.job,
        "running": runs,
        "blocked": gave_up.job,
        "done": done.job,
        "failed": failed.job,
    }
    allowed = {
        "unblock": {"blocked"},
        "redo": {"blocked", "done", "failed"},
        "archive": set(there) - {"running"},
        "delete": set(there) - {"running"},
    }
    for name, columns in allowed.items():
        for where, job in there.items():
            if where in columns:
                assert COMMANDS[name](job), f"{name} of {where}"
            else:
                with pytest.raises(WrongState):
                    COMMANDS[name](job)


@pytest.mark.parametrize("away", [Job.archive, Job.delete])
def test_a_job_off_the_board_is_neither_redone_nor_unblocked_nor_queued(
    away: Callable[[Job], list[Event]],
) -> None:
    walk = running()
    walk.do(lambda job: job.end_attempt(left(1)), away)
    for refused in (lambda job: job.redo(""), Job.unblock, Job.queue, start):
        with pytest.raises(WrongState):
            refused(walk.job)


def test_whoever_waits_without_hope_is_told_once_and_let_go_again() -> None:
    walk = begun()
    walk.do(lambda job: job.strand("parent", "It gave up."))
    assert walk.job.strand("other", "It failed.") == []
    assert walk.job.stranded_by == "parent"
    assert walk.job.free("parent") == [JobFreed(parent="parent")]
    walk.do(Job.queue)
    assert walk.job.stranded_by is None
    assert walk.job.strand("parent", "r") == [JobStranded(parent="parent", reason="r")]


def test_a_rejection_ends_the_job_only_where_the_template_says_so() -> None:
    for on_reject, state in (("answer", JobState.COMPLETED), ("fail", JobState.FAILED)):
        walk = running(on_reject=on_reject)
        walk.do(
            lambda job: job.wait_for("a", "May I?"),
            lambda job: job.answer("a", "rejected"),
            lambda job: job.end_attempt(left(1)),
        )
        assert walk.job.state is state


def test_an_answer_says_how_many_more_are_waited_for() -> None:
    walk = running()
    walk.do(lambda job: job.wait_for("a", "?"), lambda job: job.wait_for("b", "?"))
    walk.do(lambda job: job.answer("b", "approved"), lambda job: job.answer("a", "rejected"))
    answers = [event for event in walk.history if isinstance(event, JobApprovalAnswered)]
    assert [(event.approval, event.waiting) for event in answers] == [("b", 1), ("a", 0)]
    old = {"attempt": 1, "approval": "a", "resolution": "approved"}
    assert JobApprovalAnswered.upcast(old, 1) == {**old, "waiting": 0}


def test_all_that_is_asked_must_be_answered() -> None:
    walk = running()
    walk.do(lambda job: job.wait_for("a", "?"), lambda job: job.wait_for("b", "?"))
    walk.do(lambda job: job.answer("a", "approved"))
    assert walk.job.state is JobState.WAITING_FOR_APPROVAL
    walk.do(lambda job: job.answer("b", "expired"))
    assert (walk.job.state, walk.job.answer("b", "approved")) == (JobState.RUNNING, [])


def test_an_end_is_an_end_for_workers() -> None:
    walk = running()
    walk.do(lambda job: job.end_attempt(left(1)))
    assert walk.job.state in ENDED
    with pytest.raises(JobAlreadyEnded):
        walk.job.give_result(1, {})
