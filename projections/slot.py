"""One projection in the engine: its live table, the table that replaces it, and its state."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from projections.counting import Counting
from projections.filling import CannotFold, Filling
from projections.projection import Projection

logger = logging.getLogger("crewlog.projections")


@dataclass(frozen=True, slots=True)
class ProjectionStatus:
    """The state of one projection. `progress` is 0 to 1; `rebuild_matched` belongs to the last
    rebuild, if any.
    """

    name: str
    version: int
    position: int
    lag: int
    status: str
    progress: float
    digest: str
    unknown_events: int
    rebuild_matched: bool | None
    failure: str | None


class Slot:
    """One projection: its live filling, if any, and the one that will replace it."""

    def __init__(self, projection: Projection) -> None:
        self.projection = projection
        self.live: Filling | None = None
        self.next: Filling | None = None
        self.outdated = False
        """The live filling is of another version, and stays only until the next one is full."""
        self.matched: bool | None = None
        self.counting: Counting | None = None
        """Checks, before the live table is replaced, whether it holds what was written to it."""

    @property
    def failure(self) -> CannotFold | None:
        """Why it cannot be read; None if it can, or will be once it is full."""
        shown = self.live or self.next
        return shown.failure if shown is not None else None

    def take(self, live: Filling | None, following: Filling | None) -> None:
        """Hold these from now on. Other threads read meanwhile, and always find one of the two."""
        self.stop_counting()
        if live is None:
            self.next, self.live = following, None
        else:
            self.live, self.next = live, following

    def stop_counting(self) -> None:
        if self.counting is not None:
            self.counting.stop()
            self.counting = None

    def fillings(self) -> Iterator[Filling]:
        for filling in (self.live, self.next):
            if filling is not None:
                yield filling

    def status(self, head: int, *, requested: bool) -> ProjectionStatus:
        """The state of the projection, with the log at `head`. `requested`: whether a
        rebuild will begin.
        """
        filling = self.next
        rebuilding = filling is not None or requested
        shown_filling = self.live or filling
        assert shown_filling is not None
        shown = shown_filling.committed
        at = filling.committed.position if filling is not None else 0
        failure = next((f.failure for f in self.fillings() if f.failure), None)
        return ProjectionStatus(
            name=self.projection.name,
            version=self.projection.version,
            position=shown.position,
            lag=max(0, head - shown.position),
            status="failed" if failure else "rebuilding" if rebuilding else "live",
            progress=round(at / head, 4) if rebuilding and head else 1.0,
            digest=shown.digest,
            unknown_events=shown.unknown,
            rebuild_matched=self.matched,
            failure=str(failure) if failure is not None else None,
        )

    def compare(self) -> None:
        """Whether the live filling holds the same as the new one, and what was written to it. Both
        are at the same position, and the live rows have been counted.
        """
        live, ready, counting = self.live, self.next, self.counting
        assert live is not None
        assert ready is not None
        assert counting is not None
        self.matched = live.digest == ready.digest and counting.matched is True
        if counting.cause is not None:
            logger.error(
                "%s: the rows of the live table cannot be counted: %s",
                self.projection.name,
                counting.cause,
            )
        elif not counting.matched:
            logger.error(
                "%s: the live table does not hold what was written to it", self.projection.name
            )
        elif not self.matched:
            logger.error(
                "%s: the rebuilt digest %s differs from the live one %s at position %d",
                self.projection.name,
                ready.digest,
                live.digest,
                ready.position,
            )
