"""Every read model."""

from projections.analytics import ANALYTICS
from projections.approvals import APPROVALS
from projections.artifacts import ARTIFACTS
from projections.attempts import ATTEMPTS
from projections.comments import COMMENTS
from projections.crews import CREWS
from projections.deliveries import DELIVERIES
from projections.jobs import JOBS
from projections.output import OUTPUT
from projections.people import PEOPLE
from projections.projection import Projection
from projections.schedules import FIRINGS, SCHEDULES
from projections.timeline import TIMELINE

PROJECTIONS: tuple[Projection, ...] = (
    JOBS,
    TIMELINE,
    OUTPUT,
    ANALYTICS,
    ATTEMPTS,
    COMMENTS,
    ARTIFACTS,
    APPROVALS,
    CREWS,
    PEOPLE,
    SCHEDULES,
    FIRINGS,
    DELIVERIES,
)
"""A page of the log is folded into them in this order."""
