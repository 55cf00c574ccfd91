"""The places that a job may work in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from domain.job.aggregate import Job

SCRATCH = "scratch"


class Place(Protocol):
    """Where an attempt works."""

    def enter(self, folder: Path) -> str:
        """Make it, where it is made for the attempt that has this folder; again changes nothing.
        The working directory: empty is wherever the node lets work that names no place.
        """
        ...


class Scratch:
    """An empty directory, which goes with the attempt."""

    def enter(self, folder: Path) -> str:
        path = folder / SCRATCH
        path.mkdir(mode=0o700, exist_ok=True)
        return str(path)


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory that was there before, and stays as the attempt leaves it."""

    path: str

    def enter(self, folder: Path) -> str:
        return self.path


def place_of(job: Job) -> Place:
    """What the job itself names comes before what its template says."""
    if not job.cwd and job.terms.workspace == SCRATCH:
        return Scratch()
    return Directory(job.cwd or job.terms.workspace)
