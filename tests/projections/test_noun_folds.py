"""The changes of each event in rows of approvals, crews, people, schedules and deliveries."""

import pytest

from domain.account.aggregate import (
    UserDisabled,
    UserEnabled,
    UserProfileRefreshed,
    UserRegistered,
    UserRenamed,
    UserRoleChanged,
    UserSignedIn,
)
from domain.approval.aggregate import (
    ApprovalExpired,
    ApprovalResolved,
    ApprovalWithdrawn,
)
from domain.crew.events import CrewCommitted, CrewMember
from domain.delivery.aggregate import (
    DeliveryDelivered,
    DeliveryFailed,
    DeliveryPostponed,
    DeliveryRenewed,
    DeliveryRequested,
)
from domain.schedule.aggregate import (
    CatchUp,
    EndReason,
    MissReason,
    Overlap,
    ScheduleChanged,
    ScheduleCreated,
    ScheduleDeleted,
    ScheduleDisabled,
    ScheduleEnabled,
    ScheduleEnded,
    ScheduleFailed,
    ScheduleMissed,
    SchedulePaused,
    ScheduleSkipped,
    ScheduleSpawned,
)
from projections.approvals import APPROVALS
from projections.crews import CREWS
from projections.deliveries import DELIVERIES
from projections.people import PEOPLE
from projections.projection import Projection
from projections.schedules import FIRINGS, SCHEDULES
from tests.kit.approvals import requested
from tests.kit.schedules import fired
from tests.projections.folding import Step, at, check, check_strays

A_TIME = "schedule-s/a"
B_TIME = "schedule-s/b"
BY_HAND = "schedule-s/by-hand"
D_TIME = "schedule-s/d"
E_TIME = "schedule-s/e"


APPROVALS_STEPS: list[Step] = [
    Step(
        "approval-a",
        requested(
            attempt=1,
            description="May I?",
            proposed_action="rm",
            explicit=True,
            approvers=["owner"],
            expires_at=at(9),
        ),
        {
            "id": "a",
            "position": 1,
            "proposed_action": "rm",
            "requested_at": at(1),
            "requested_by": "tester",
            "job_id": "j",
            "attempt": 1,
            "owner": "operator",
            "description": "May I?",
            "explicit": 1,
            "expires_at": at(9),
            "state": "pending",
            "approvers": '["owner"]',
        },
    ),
    Step(
        "approval-a",
        ApprovalResolved(job="j", resolution="rejected", comment="no", by_trust=False),
        {
            "comment": "no",
            "resolved_at": at(2),
            "resolved_by": "tester",
            "wait_ms": 1000,
            "state": "rejected",
        },
    ),
    Step(
        "approval-b",
        requested(),
        {
            "id": "b",
            "position": 3,
            "requested_at": at(3),
            "requested_by": "tester",
            "job_id": "j",
            "owner": "operator",
            "description": "And?",
            "state": "pending",
        },
    ),
    Step(
        "approval-b",
        ApprovalResolved(job="j", resolution="approved", comment=None, by_trust=True),
        {
            "resolved_at": at(4),
            "resolved_by": "tester",
            "by_trust": 1,
            "wait_ms": 1000,
            "state": "approved",
        },
    ),
    Step(
        "approval-c",
        requested(),
        {
            "id": "c",
            "position": 5,
            "requested_at": at(5),
            "requested_by": "tester",
            "job_id": "j",
            "owner": "operator",
            "description": "And?",
            "state": "pending",
        },
    ),
    Step(
        "approval-c",
        ApprovalExpired(job="j"),
        {"resolved_at": at(6), "resolved_by": "tester", "wait_ms": 1000, "state": "expired"},
    ),
    Step(
        "approval-d",
        requested(),
        {
            "id": "d",
            "position": 7,
            "requested_at": at(7),
            "requested_by": "tester",
            "job_id": "j",
            "owner": "operator",
            "description": "And?",
            "state": "pending",
        },
    ),
    Step(
        "approval-d",
        ApprovalWithdrawn(job="j", reason="The job is being cancelled."),
        {
            "comment": "The job is being cancelled.",
            "resolved_at": at(8),
            "resolved_by": "tester",
            "wait_ms": 1000,
            "state": "withdrawn",
        },
    ),
]

CREWS_STEPS: list[Step] = [
    Step(
        "crew-c",
        CrewCommitted(
            template="t",
            name="T",
            inputs={"a": 1},
            owner="operator",
            schedule="s",
            nominal=at(0),
            not_before=None,
            jobs=[CrewMember(id="j", local="l", title="one", parents=[])],
        ),
        {
            "id": "c",
            "position": 1,
            "template": "t",
            "name": "T",
            "inputs": '{"a":1}',
            "owner": "operator",
            "schedule": "s",
            "nominal": at(0),
            "created_at": at(1),
            "members": '[{"id":"j","local":"l","title":"one","parents":[]}]',
        },
    ),
]

PEOPLE_STEPS: list[Step] = [
    Step(
        "user-u",
        UserRegistered(
            email="ada@crew.example", name="Ada", role="user", provider="local", avatar_url=None
        ),
        {
            "id": "u",
            "position": 1,
            "updated_at": at(1),
            "email": "ada@crew.example",
            "name": "Ada",
            "provider": "local",
            "role": "user",
            "created_at": at(1),
        },
    ),
    Step("user-u", UserRoleChanged(role="admin"), {"updated_at": at(2), "role": "admin"}),
    Step("user-u", UserRenamed(name="Ada L."), {"updated_at": at(3), "name": "Ada L."}),
    Step(
        "user-u",
        UserProfileRefreshed(
            email="al@crew.example", name="A. L.", avatar_url="https://crew.example/a.png"
        ),
        {
            "updated_at": at(4),
            "email": "al@crew.example",
            "name": "A. L.",
            "avatar_url": "https://crew.example/a.png",
        },
    ),
    Step("user-u", UserDisabled(), {"disabled": 1, "updated_at": at(5)}),
    Step("user-u", UserEnabled(), {"disabled": 0, "updated_at": at(6)}),
    Step(
        "user-u/sessions",
        UserSignedIn(session="0", how="password", address=None),
        {"signed_in_at": at(7)},
    ),
]

SCHEDULES_STEPS: list[Step] = [
    Step(
        "schedule-s",
        ScheduleCreated(
            name="S",
            template="t",
            inputs={"a": 1},
            rule={"cron": "0 7 * * *"},
            timezone="UTC",
            owner="operator",
            enabled=True,
            catch_up=CatchUp.LATEST,
            catch_up_window_ms=1_000,
            overlap=Overlap.SKIP,
            jitter_ms=5,
            ends_at=None,
            max_firings=9,
        ),
        {
            "id": "s",
            "position": 1,
            "version": 1,
            "created_at": at(1),
            "updated_at": at(1),
            "name": "S",
            "template": "t",
            "inputs": '{"a":1}',
            "rule": '{"cron":"0 7 * * *"}',
            "timezone": "UTC",
            "owner": "operator",
            "catch_up": "latest",
            "catch_up_window_ms": 1000,
            "overlap": "skip",
            "jitter_ms": 5,
            "max_firings": 9,
            "state": "active",
            "since": at(1),
            "rule_at": at(1),
        },
    ),
    Step(
        "schedule-s",
        ScheduleChanged(changes={"name": "S2", "overlap": "allow", "inputs": {}}),
        {"version": 2, "updated_at": at(2), "name": "S2", "inputs": "{}", "overlap": "allow"},
    ),
    Step(
        "schedule-s",
        ScheduleChanged(changes={"rule": {"cron": "0 8 * * *"}}),
        {
            "version": 3,
            "updated_at": at(3),
            "rule": '{"cron":"0 8 * * *"}',
            "since": at(3),
            "rule_at": at(3),
        },
    ),
    Step(
        "schedule-s",
        ScheduleChanged(changes={"timezone": "Europe/Berlin"}, since=at(0)),
        {
            "version": 4,
            "updated_at": at(4),
            "timezone": "Europe/Berlin",
            "since": at(0),
            "rule_at": at(4),
        },
    ),
    Step(
        A_TIME,
        fired(at(0), due_at=at(1), late_ms=3, catch_up=True),
        {"last_nominal": at(0), "firings": 1, "last_run_at": at(5)},
    ),
    Step(
        A_TIME,
        ScheduleSpawned(nominal=at(0), crew="c", jobs=["j"], late_ms=4, replaced=[]),
        {"last_outcome": "spawned"},
    ),
    Step(
        B_TIME,
        fired(at(5), firing=2),
        {"last_nominal": at(5), "firings": 2, "last_run_at": at(7)},
    ),
    Step(
        B_TIME,
        ScheduleSkipped(nominal=at(5), reason="overlap", crew="c"),
        {"skipped": 1, "last_outcome": "skipped"},
    ),
    Step(
        BY_HAND,
        fired(at(4), firing=0, manual=True),
        {"last_run_at": at(9)},
    ),
    Step(
        BY_HAND,
        ScheduleFailed(nominal=at(4), reason="It is gone.", path="template", manual=True),
        {"last_outcome": "failed", "last_error": "It is gone."},
    ),
    Step(
        D_TIME,
        fired(at(6), firing=3),
        {"last_nominal": at(6), "firings": 3, "last_run_at": at(11)},
    ),
    Step(
        D_TIME,
        ScheduleFailed(nominal=at(6), reason="It is required.", path="inputs.a", manual=False),
        {"failures": 1, "last_error": "It is required."},
    ),
    Step(
        E_TIME,
        ScheduleMissed(nominal=at(7), through=at(9), count=3, reason=MissReason.SUPERSEDED),
        {"last_nominal": at(9), "missed": 3},
    ),
    Step(
        "schedule-s", ScheduleDisabled(), {"version": 5, "updated_at": at(14), "state": "disabled"}
    ),
    Step(
        "schedule-s",
        ScheduleEnabled(),
        {"version": 6, "failures": 0, "updated_at": at(15), "state": "active", "since": at(15)},
    ),
    Step(
        "schedule-s",
        SchedulePaused(reason="Five in a row.", failures=5),
        {"version": 7, "state_reason": "Five in a row.", "updated_at": at(16), "state": "paused"},
    ),
    Step(
        "schedule-s",
        ScheduleEnabled(),
        {
            "version": 8,
            "state_reason": None,
            "updated_at": at(17),
            "state": "active",
            "since": at(17),
        },
    ),
    Step(
        "schedule-s",
        ScheduleEnded(reason=EndReason.MAX_FIRINGS),
        {"version": 9, "state_reason": "max_firings", "updated_at": at(18), "state": "ended"},
    ),
    Step("schedule-s", ScheduleDeleted(), {"version": 10, "updated_at": at(19), "deleted": 1}),
]

FIRINGS_STEPS: list[Step] = [
    Step(
        A_TIME,
        fired(at(0), due_at=at(1), late_ms=3, catch_up=True),
        {
            "stream": A_TIME,
            "position": 1,
            "schedule": "s",
            "nominal": at(0),
            "count": 1,
            "due_at": at(1),
            "fired_at": at(1),
            "late_ms": 3,
            "firing": 1,
            "catch_up": 1,
        },
    ),
    Step(
        A_TIME,
        ScheduleSpawned(nominal=at(0), crew="c", jobs=["j"], late_ms=4, replaced=[]),
        {"outcome": "spawned", "crew": "c", "jobs": '["j"]', "spawn_late_ms": 4},
    ),
    Step(
        B_TIME,
        fired(at(5), firing=2),
        {
            "stream": B_TIME,
            "position": 3,
            "schedule": "s",
            "nominal": at(5),
            "count": 1,
            "due_at": at(5),
            "fired_at": at(3),
            "firing": 2,
        },
    ),
    Step(
        B_TIME,
        ScheduleSkipped(nominal=at(5), reason="overlap", crew="c"),
        {"outcome": "skipped", "reason": "overlap"},
    ),
    Step(
        BY_HAND,
        fired(at(4), firing=0, manual=True),
        {
            "stream": BY_HAND,
            "position": 5,
            "schedule": "s",
            "nominal": at(4),
            "count": 1,
            "due_at": at(4),
            "fired_at": at(5),
            "manual": 1,
        },
    ),
    Step(
        BY_HAND,
        ScheduleFailed(nominal=at(4), reason="It is gone.", path="template", manual=True),
        {"outcome": "failed", "reason": "It is gone.", "path": "template"},
    ),
    Step(
        D_TIME,
        fired(at(6), firing=3),
        {
            "stream": D_TIME,
            "position": 7,
            "schedule": "s",
            "nominal": at(6),
            "count": 1,
            "due_at": at(6),
            "fired_at": at(7),
            "firing": 3,
        },
    ),
    Step(
        D_TIME,
        ScheduleFailed(nominal=at(6), reason="It is required.", path="inputs.a", manual=False),
        {"outcome": "failed", "reason": "It is required.", "path": "inputs.a"},
    ),
    Step(
        E_TIME,
        ScheduleMissed(nominal=at(7), through=at(9), count=3, reason=MissReason.SUPERSEDED),
        {
            "stream": E_TIME,
            "position": 9,
            "schedule": "s",
            "nominal": at(7),
            "through": at(9),
            "count": 3,
            "outcome": "missed",
            "reason": "superseded",
        },
    ),
]

DELIVERIES_STEPS: list[Step] = [
    Step(
        "delivery-d",
        DeliveryRequested(channel="webhook", receiver="ops", event="e", event_position=7),
        {
            "id": "d",
            "position": 1,
            "requested_at": at(1),
            "updated_at": at(1),
            "channel": "webhook",
            "receiver": "ops",
            "event": "e",
            "event_position": 7,
            "state": "pending",
            "due_at": at(1),
        },
    ),
    Step(
        "delivery-d",
        DeliveryPostponed(tries=1, status=503, reason="It answered 503.", until=at(9)),
        {
            "status": 503,
            "reason": "It answered 503.",
            "updated_at": at(2),
            "tries": 1,
            "due_at": at(9),
        },
    ),
    Step(
        "delivery-d",
        DeliveryFailed(tries=2, status=404, reason="It answered 404."),
        {
            "status": 404,
            "reason": "It answered 404.",
            "updated_at": at(3),
            "state": "failed",
            "tries": 2,
            "due_at": None,
        },
    ),
    Step(
        "delivery-d",
        DeliveryRenewed(),
        {"updated_at": at(4), "state": "pending", "tries": 0, "due_at": at(4)},
    ),
    Step(
        "delivery-d",
        DeliveryDelivered(tries=1, status=204),
        {
            "status": 204,
            "reason": None,
            "updated_at": at(5),
            "state": "delivered",
            "tries": 1,
            "due_at": None,
        },
    ),
]


TABLES: list[tuple[Projection, list[Step]]] = [
    (APPROVALS, APPROVALS_STEPS),
    (CREWS, CREWS_STEPS),
    (PEOPLE, PEOPLE_STEPS),
    (SCHEDULES, SCHEDULES_STEPS),
    (FIRINGS, FIRINGS_STEPS),
    (DELIVERIES, DELIVERIES_STEPS),
]


def name(value: object) -> str:
    return value.name if isinstance(value, Projection) else ""


@pytest.mark.parametrize(("view", "steps"), TABLES, ids=name)
def test_the_fold_is_what_the_table_says(view: Projection, steps: list[Step]) -> None:
    check(view, steps)


@pytest.mark.parametrize(("view", "steps"), TABLES, ids=name)
def test_a_stray_event_makes_no_row(view: Projection, steps: list[Step]) -> None:
    check_strays(view, steps)
