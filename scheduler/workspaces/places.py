"""The places in which a job may work."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from domain.job.aggregate import Job

SCRATCH = "scratch"


class Place(Protocol):
    """Where an attempt works."""

    def enter(self, folder: Path) -> str:
        """Make the place, if it is made for the attempt that has this folder; repeating it changes
        nothing. Returns the working directory; empty: the node's default.
        """
        ...


class Scratch:
    """An empty directory, which is removed with the attempt."""

    def enter(self, folder: Path) -> str:
        path = folder / SCRATCH
        path.mkdir(mode=0o700, exist_ok=True)
        return str(path)


@dataclass(frozen=True, slots=True)
class Directory:
    """An existing directory, which stays as the attempt leaves it."""

    path: str

    def enter(self, folder: Path) -> str:
        return self.path


def place_of(job: Job) -> Place:
    """The job's own directory comes before the one of its template."""
    if not job.cwd and job.terms.workspace == SCRATCH:
        return Scratch()
    return Directory(job.cwd or job.terms.workspace)
