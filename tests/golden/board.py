"""Histories of the board for the golden log: a crew, its approvals, a schedule, and people."""

from domain.account.aggregate import (
    EmailClaimed,
    EmailReleased,
    IdentityClaimed,
    TokenIssued,
    TokenRevoked,
    UserDisabled,
    UserEnabled,
    UserIdentityLinked,
    UserPasswordSet,
    UserProfileRefreshed,
    UserRegistered,
    UserRenamed,
    UserRoleChanged,
    UserSignedIn,
    UserSignedOut,
    UserSignedOutEverywhere,
    UserSignInRefused,
)
from domain.account.operator import OperatorSignedIn, OperatorSignedOut
from domain.approval.aggregate import (
    ApprovalExpired,
    ApprovalRequested,
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
from domain.event import Event
from domain.job.events import (
    AttemptOutcome,
    JobApprovalAnswered,
    JobApprovalRequested,
    JobArtifactsDropped,
    JobArtifactStored,
    JobAttemptEnded,
    JobBlockAsked,
    JobBlocked,
    JobCommented,
    JobFinished,
    JobFreed,
    JobLeaseExpired,
    JobMadeStale,
    JobPlan,
    JobQueued,
    JobRedone,
    JobResultGiven,
    JobStarted,
    JobStranded,
    JobSubmitted,
    JobTrusted,
    JobUnblocked,
    Links,
    Outcome,
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
    ScheduleFired,
    ScheduleMissed,
    SchedulePaused,
    ScheduleSkipped,
    ScheduleSpawned,
)

OWNER = "user:0b0c4a52-6c26-4d5b-9a0b-3f2f3c1d2e4f"


def member(local: str, *parents: str) -> CrewMember:
    return CrewMember(
        id=f"{local}-0123456789abcdef", local=local, title=f"The {local}", parents=list(parents)
    )


def planned(local: str, *parents: str, **plan: object) -> JobSubmitted:
    told = {
        "local": local,
        "template": "nightly/tests",
        "body": "Run them all – ünïcödé ✓",
        "assignee": None,
        "parents": list(parents),
        "workspace": "scratch",
        "max_retries": 1,
        "approval": False,
        "on_reject": "answer",
        "approvers": ["owner", "lead@crew.example"],
        "lease_ms": 60_000,
        "result_schema": {"type": "object", "required": ["passed"]},
        "not_before": "2026-01-02T09:00:00.000000Z",
        **plan,
    }
    return JobSubmitted(
        kind="command",
        label="nightly/tests",
        title=f"The {local}",
        owner=OWNER,
        argv=["make", local],
        cwd="",
        env_names=[],
        sealed=False,
        timeout_ms=0,
        labels=[],
        links=Links(crew="golden", schedule="golden"),
        plan=JobPlan.model_validate(told),
    )


def over(attempt: int, outcome: AttemptOutcome, reason: str) -> JobAttemptEnded:
    return JobAttemptEnded(
        attempt=attempt,
        outcome=outcome,
        exit_code=3,
        reason=reason,
        error_id=None,
        run_ms=20,
        lines=1,
        output_bytes=5,
    )


def done(attempt: int) -> JobFinished:
    return JobFinished(
        attempt=attempt,
        outcome=Outcome.COMPLETED,
        exit_code=0,
        reason="",
        error_id=None,
        run_ms=30,
        lines=1,
        output_bytes=5,
    )


def started(attempt: int) -> JobStarted:
    return JobStarted(attempt=attempt, node="node-1", timeout_ms=0)


def asked(expires_at: str | None) -> ApprovalRequested:
    return ApprovalRequested(
        job="child-0123456789abcdef",
        attempt=1,
        owner=OWNER,
        description="May it be published?",
        proposed_action="make publish",
        explicit=False,
        approvers=["owner"],
        expires_at=expires_at,
    )


def fired(number: int, *, catch_up: bool = False, manual: bool = False) -> ScheduleFired:
    return ScheduleFired(
        nominal=f"2026-01-0{number}T09:00:00.000000Z",
        due_at=f"2026-01-0{number}T09:00:02.000000Z",
        late_ms=4,
        firing=0 if manual else number,
        catch_up=catch_up,
        manual=manual,
    )


ROOT, CHILD = "root-0123456789abcdef", "child-0123456789abcdef"

HISTORIES: dict[str, list[Event]] = {
    "delivery-golden": [
        DeliveryRequested(
            channel="webhook",
            receiver="ops",
            event="01a2b3c4-d5e6-7f80-9a0b-1c2d3e4f5a6b",
            event_position=1,
        ),
        DeliveryPostponed(
            tries=1,
            status=503,
            reason="It answered 503.",
            until="2026-01-02T09:00:01.000000Z",
        ),
        DeliveryFailed(tries=2, status=404, reason="It answered 404."),
        DeliveryRenewed(),
        DeliveryDelivered(tries=1, status=204),
    ],
    "crew-golden": [
        CrewCommitted(
            template="nightly/tests",
            name="Nightly tests",
            inputs={"folder": "/srv/project", "deep": [1, {"a": None}]},
            owner=OWNER,
            schedule="golden",
            nominal="2026-01-01T09:00:00.000000Z",
            not_before=None,
            jobs=[member("root"), member("child", ROOT)],
        )
    ],
    f"job-{ROOT}": [
        planned("root"),
        JobQueued(attempt=1),
        started(1),
        JobLeaseExpired(attempt=1),
        over(1, AttemptOutcome.CRASHED, "The worker gave no sign of life."),
        JobQueued(attempt=2),
        started(2),
        over(2, AttemptOutcome.TIMED_OUT, ""),
        JobBlocked(attempt=2, reason="The time limit passed.", gave_up=True),
        JobCommented(text="Give it more time."),
        JobUnblocked(),
        JobQueued(attempt=3),
        started(3),
        JobResultGiven(attempt=3, result={"passed": 7}),
        JobArtifactStored(
            attempt=3,
            artifact="art-0123456789ab",
            name="report/index.md",
            sha256="ab" * 32,
            size=120,
            mime="text/markdown",
        ),
        JobArtifactsDropped(attempt=3, names=["huge.bin"], reason="It is too large."),
        done(3),
        JobRedone(feedback="Not all of them ran."),
        JobQueued(attempt=4),
    ],
    f"job-{CHILD}": [
        planned("child", ROOT, approval=True),
        JobStranded(parent=ROOT, reason="“The root” gave up."),
        JobFreed(parent=ROOT),
        JobApprovalRequested(attempt=0, approval="golden-1", description="May it start?"),
        JobApprovalAnswered(attempt=0, approval="golden-1", resolution="approved"),
        JobQueued(attempt=1, after={ROOT: 3}),
        started(1),
        JobTrusted(),
        JobBlockAsked(attempt=1, reason="The credentials are gone."),
        over(1, AttemptOutcome.BLOCKED, "The credentials are gone."),
        JobBlocked(attempt=1, reason="The credentials are gone.", gave_up=False),
        JobMadeStale(attempt=1, parent=ROOT),
    ],
    "approval-golden-1": [
        asked(None),
        ApprovalResolved(job=CHILD, resolution="approved", comment="Go on – ✓", by_trust=False),
    ],
    "approval-golden-2": [asked("2026-01-01T10:00:00.000000Z"), ApprovalExpired(job=CHILD)],
    "approval-golden-3": [asked(None), ApprovalWithdrawn(job=CHILD, reason="It has ended.")],
    "schedule-golden": [
        ScheduleCreated(
            name="Every morning",
            template="nightly/tests",
            inputs={"folder": "/srv/project"},
            rule={"cadence": "daily", "at": "09:00"},
            timezone="Europe/Rome",
            owner=OWNER,
            enabled=True,
            catch_up=CatchUp.LATEST,
            catch_up_window_ms=0,
            overlap=Overlap.SKIP,
            jitter_ms=5_000,
            ends_at=None,
            max_firings=100,
        ),
        ScheduleChanged(changes={"name": "Each morning", "jitter_ms": 0}),
        ScheduleDisabled(),
        ScheduleEnabled(),
        SchedulePaused(reason="5 firings in a row made no crew.", failures=5),
        ScheduleEnabled(),
        ScheduleEnded(reason=EndReason.MAX_FIRINGS),
        ScheduleDeleted(),
    ],
    "schedule-golden/20260101t090000z": [
        fired(1),
        ScheduleSpawned(
            nominal="2026-01-01T09:00:00.000000Z",
            crew="golden",
            jobs=[ROOT, CHILD],
            late_ms=9,
            replaced=[],
        ),
    ],
    "schedule-golden/20260102t090000z": [
        fired(2, catch_up=True),
        ScheduleSkipped(nominal="2026-01-02T09:00:00.000000Z", reason="overlap", crew="golden"),
    ],
    "schedule-golden/20260103t090000z": [
        fired(3, manual=True),
        ScheduleFailed(
            nominal="2026-01-03T09:00:00.000000Z",
            reason="It is required.",
            path="inputs.folder",
            manual=True,
        ),
    ],
    "schedule-golden/20260104t090000z": [
        ScheduleMissed(
            nominal="2026-01-04T09:00:00.000000Z",
            through="2026-01-06T09:00:00.000000Z",
            count=3,
            reason=MissReason.SUPERSEDED,
        )
    ],
    "user-0b0c4a52-6c26-4d5b-9a0b-3f2f3c1d2e4f": [
        UserRegistered(
            email="ada@crew.example",
            name="Ada",
            role="user",
            provider="local",
            avatar_url=None,
        ),
        UserPasswordSet(credential="0123456789abcdef"),
        UserRoleChanged(role="admin"),
        UserRenamed(name="Ada L."),
        UserIdentityLinked(
            issuer="https://id.crew.example",
            subject="42",
            email="ada@crew.example",
            provider="google",
        ),
        UserProfileRefreshed(email="ada@crew.example", name="Ada Lovelace", avatar_url=None),
        TokenIssued(
            token_id="golden-token",
            name="ci",
            scopes=["read"],
            hash="cd" * 32,
            expires_at="2027-01-01T00:00:00.000000Z",
        ),
        TokenRevoked(token_id="golden-token"),
        UserDisabled(),
        UserEnabled(),
    ],
    "user-0b0c4a52-6c26-4d5b-9a0b-3f2f3c1d2e4f/sessions": [
        UserSignInRefused(failures=5, wait_ms=30_000, address="192.0.2.1"),
        UserSignedIn(session="golden-session", how="password", address="192.0.2.1"),
        UserSignedOut(session="golden-session"),
        UserSignedOutEverywhere(kept=None),
    ],
    "email-golden": [
        EmailClaimed(user="0b0c4a52-6c26-4d5b-9a0b-3f2f3c1d2e4f"),
        EmailReleased(user="0b0c4a52-6c26-4d5b-9a0b-3f2f3c1d2e4f"),
    ],
    "operator-sessions": [
        OperatorSignedIn(session="golden-session", how="link", address="192.0.2.1"),
        OperatorSignedOut(session="golden-session"),
    ],
    "identity-golden": [IdentityClaimed(user="0b0c4a52-6c26-4d5b-9a0b-3f2f3c1d2e4f")],
}
