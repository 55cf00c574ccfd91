"""The mistakes in a template file."""

from dataclasses import dataclass
from pathlib import Path

SUFFIX = ".job_workflow.yaml"
_MOST_FAULTS = 50


@dataclass(frozen=True, slots=True)
class TemplateFault:
    """One mistake in a file."""

    file: str
    line: int
    """From 1."""
    path: str
    """``jobs[1].argv[2]``, or ``(file)``."""
    reason: str


class BadTemplate(Exception):
    """The file is not a valid template. Holds all mistakes, in the order of lines."""

    def __init__(self, faults: list[TemplateFault], depends: tuple[Path, ...] = ()) -> None:
        super().__init__(f"{len(faults)} mistakes")
        self.faults = sorted(faults, key=lambda fault: fault.line)[:_MOST_FAULTS]
        self.depends = depends
        """Other files that were read."""
