"""The fair queue: which jobs wait for a place, and which one is next."""

from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass

from domain.log import Recorded


@dataclass(slots=True)
class Waiting:
    """A job in the queue."""

    job_id: str
    event: Recorded | None
    """The event that queued it, if this server saw it."""
    owner: str | None = None


class FairQueue:
    """Chooses jobs in the order of queueing, while no owner has more than `owner_capacity` places
    (0: no such limit). A job with an unknown owner is under no such limit.
    """

    def __init__(self, owner_capacity: int) -> None:
        self.owner_capacity = owner_capacity
        self._waiting: dict[str, Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, job_id: str, event: Recorded | None = None, owner: str | None = None) -> None:
        self._waiting[job_id] = Waiting(job_id, event, owner)

    def drop(self, job_id: str) -> None:
        self._waiting.pop(job_id, None)

    def choose(
        self, room: int, owners: Iterable[str | None], busy: Container[str]
    ) -> list[Waiting]:
        """Take up to `room` jobs out of the queue. `owners` has the owner of each place that is
        held. Jobs that are `busy` cannot start yet.
        """
        if room <= 0 or not self._waiting:
            return []
        held = Counter(owners)
        chosen: list[Waiting] = []
        for waiting in self._waiting.values():
            if waiting.job_id not in busy and self._may_start(waiting, held):
                chosen.append(waiting)
                held[waiting.owner] += 1
                if len(chosen) == room:
                    break
        for waiting in chosen:
            del self._waiting[waiting.job_id]
        return chosen

    def _may_start(self, waiting: Waiting, held: "Counter[str | None]") -> bool:
        if not self.owner_capacity:
            return True
        return waiting.owner is None or held[waiting.owner] < self.owner_capacity
