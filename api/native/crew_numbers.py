"""The numbers of new crews, as the view gives them, without waiting for the view."""

from collections.abc import Sequence

from domain.log import EventLog, Recorded
from domain.log.envelope import PAGE_BYTES
from projections.crews import find_crew, newest_number
from projections.engine import Views
from scheduler.crews import CrewSubmission

_NEAR = 2_000
"""So many events away, a known number is near enough to count from."""


class CrewNumbers:
    """A crew's number is its place among the crews of its template, in the order of the log. So it
    follows from any known number and the crews in between: to wait for the view, or to read it for
    each crew, would take longer than all else.
    """

    def __init__(self, log: EventLog, views: Views) -> None:
        self._log = log
        self._views = views
        self._known: dict[str, tuple[int, int]] = {}
        """For each template a position, and the number of its crews up to there."""

    async def of(self, submission: CrewSubmission) -> int:
        """The number of a crew that was just committed. Raises ViewsUnavailable if it must be read
        and cannot be.
        """
        committed = submission.events[0]
        template: str = committed.data["template"]
        number = self._counted(committed, template)
        if number is None:
            self._read(template)
            number = self._counted(committed, template)
        if number is None:
            await self._views.caught_up(goal=committed.position)
            return self._of_view(submission)
        self._known[template] = (committed.position, number)
        return number

    def _counted(self, committed: Recorded, template: str) -> int | None:
        """Counted from the known number, by what is in memory; None if that is not enough."""
        if template not in self._known:
            return None
        position, number = self._known[template]
        low, high = sorted((position, committed.position))
        near = self._log.read_near(low, _NEAR, None, PAGE_BYTES)
        if near is None or near[1] < high:
            return None
        between = len(_crews_of(template, near[0], committed.type, high))
        return number + between if position < committed.position else number - between

    def _read(self, template: str) -> None:
        with self._views.reading() as reading:
            number, position = newest_number(reading, template)
        self._known[template] = (position, number)

    def _of_view(self, submission: CrewSubmission) -> int:
        with self._views.reading() as reading:
            return int(find_crew(reading, submission.crew_id)["number"])


def _crews_of(template: str, events: Sequence[Recorded], type_: str, last: int) -> list[Recorded]:
    return [
        event
        for event in events
        if event.type == type_ and event.position <= last and event.data["template"] == template
    ]
