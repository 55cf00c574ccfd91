"""Every read model that there is."""

from projections.analytics import ANALYTICS
from projections.jobs import JOBS
from projections.output import OUTPUT
from projections.projection import Projection
from projections.timeline import TIMELINE

PROJECTIONS: tuple[Projection, ...] = (JOBS, TIMELINE, OUTPUT, ANALYTICS)
