"""Every event class that a log may hold, by its stored name, in one place.

Whatever opens a log is handed this list, so what a log knows does not depend on imports. Add each
new event class here; a test compares the list with the classes that exist.
"""

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
from domain.account.operator import (
    OperatorSignedIn,
    OperatorSignedOut,
)
from domain.approval.aggregate import (
    ApprovalExpired,
    ApprovalRequested,
    ApprovalResolved,
    ApprovalWithdrawn,
)
from domain.crew.events import (
    CrewCommitted,
)
from domain.delivery.aggregate import (
    DeliveryDelivered,
    DeliveryFailed,
    DeliveryPostponed,
    DeliveryRenewed,
    DeliveryRequested,
)
from domain.event import Catalogue, Event
from domain.idempotency import (
    RequestAccepted,
)
from domain.job.events import (
    JobApprovalAnswered,
    JobApprovalRequested,
    JobArchived,
    JobArtifactsDropped,
    JobArtifactStored,
    JobAttemptEnded,
    JobAttemptLost,
    JobBlockAsked,
    JobBlocked,
    JobCancelRequested,
    JobCommented,
    JobDeleted,
    JobFinished,
    JobFreed,
    JobLeaseExpired,
    JobMadeStale,
    JobMessaged,
    JobOutput,
    JobOutputDropped,
    JobPaused,
    JobProgressed,
    JobQueued,
    JobRedone,
    JobResultGiven,
    JobResumed,
    JobStarted,
    JobStranded,
    JobSubmitted,
    JobTrusted,
    JobUnarchived,
    JobUnblocked,
)
from domain.schedule.aggregate import (
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


def catalogue_of(*classes: type[Event]) -> Catalogue:
    """Raises ValueError if two classes have the same stored name."""
    by_name: dict[str, type[Event]] = {}
    for kind in classes:
        if kind.type in by_name:
            raise ValueError(f"Two event classes have the stored name {kind.type!r}.")
        by_name[kind.type] = kind
    return by_name


CATALOGUE = catalogue_of(
    OperatorSignedIn,
    OperatorSignedOut,
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
    UserSignInRefused,
    UserSignedIn,
    UserSignedOut,
    UserSignedOutEverywhere,
    ApprovalExpired,
    ApprovalRequested,
    ApprovalResolved,
    ApprovalWithdrawn,
    CrewCommitted,
    DeliveryDelivered,
    DeliveryFailed,
    DeliveryPostponed,
    DeliveryRenewed,
    DeliveryRequested,
    RequestAccepted,
    JobApprovalAnswered,
    JobApprovalRequested,
    JobArchived,
    JobArtifactStored,
    JobArtifactsDropped,
    JobAttemptEnded,
    JobAttemptLost,
    JobBlockAsked,
    JobBlocked,
    JobCancelRequested,
    JobCommented,
    JobDeleted,
    JobFinished,
    JobFreed,
    JobLeaseExpired,
    JobMadeStale,
    JobMessaged,
    JobOutput,
    JobOutputDropped,
    JobPaused,
    JobProgressed,
    JobQueued,
    JobRedone,
    JobResultGiven,
    JobResumed,
    JobStarted,
    JobStranded,
    JobSubmitted,
    JobTrusted,
    JobUnarchived,
    JobUnblocked,
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
"""All event classes."""
