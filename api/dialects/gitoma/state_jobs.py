"""Finds the job that wrote each of gitoma's state files: the files do not say, and gitoma writes
nothing when it is cancelled.
"""

import re
import threading
from collections.abc import Collection
from dataclasses import dataclass

import orjson

from domain.job.events import JobState
from projections.engine import Views
from projections.jobs import jobs_of_ids, jobs_of_kind
from projections.projection import Row
from projections.reading import ViewsUnavailable

_repository = re.compile(r"https://github\.com/([^/]+)/([^/]+?)(?:\.git)?/?").fullmatch
_WITHOUT_STATE = "analyze"


@dataclass(frozen=True, slots=True)
class StateJob:
    """A job that writes a state file. `accounted_for`: an attempt holds it, or it was cancelled, so
    a state without changes is no sign of a crash.
    """

    id: str
    accounted_for: bool


class StateJobs:
    """The newest job of each state file, from the jobs view.

    It reads only jobs that were submitted since its last look. Blocks on the disk. Thread-safe.
    """

    def __init__(self, views: Views) -> None:
        self._views = views
        self._newest: dict[str, str] = {}
        self._seen = 0
        self._lock = threading.Lock()

    def of(self, names: Collection[str]) -> dict[str, StateJob]:
        """The jobs of these state files, by the file's name. Without deleted jobs; empty while the
        view is being built.
        """
        try:
            with self._lock, self._views.reading() as reading:
                for row in jobs_of_kind(reading, "gitoma", after=self._seen):
                    name = _state_file_of(orjson.loads(row["argv"]))
                    if name is not None and row["label"] != _WITHOUT_STATE:
                        self._newest[name] = row["id"]
                self._seen = reading.positions["jobs"]
                known = {name: self._newest[name] for name in names if name in self._newest}
                rows = jobs_of_ids(reading, list(known.values()))
        except ViewsUnavailable:
            return {}
        jobs = {row["id"]: _state_job(row) for row in rows if not row["deleted"]}
        return {name: jobs[job_id] for name, job_id in known.items() if job_id in jobs}


def _state_job(row: Row) -> StateJob:
    cancelled = row["state"] == JobState.CANCELLED.value
    return StateJob(row["id"], bool(row["active"]) or cancelled)


def _state_file_of(argv: list[str]) -> str | None:
    # From the end: the configured command comes first, and may contain the name of a repository
    # too.
    for argument in reversed(argv):
        if (match := _repository(argument)) is not None:
            return f"{match[1]}__{match[2]}.json"
    return None
