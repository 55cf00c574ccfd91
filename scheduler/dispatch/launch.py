"""From a job to what an executor needs to run one attempt of it."""

import os
import shutil
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from domain.errors import CrewlogError
from domain.job.aggregate import Job
from domain.job.result import parent_results
from scheduler.dispatch.sealed import SealedSpecs
from scheduler.drivers.command import Leavings
from scheduler.executors.contract import AttemptSpec
from scheduler.workspaces.artifacts import ArtifactStore
from scheduler.workspaces.attempt_folder import AttemptFolders
from scheduler.workspaces.environment import child_environment


class CannotLaunch(CrewlogError):
    """The job cannot be run here; the text says what is missing and what to do."""


@dataclass(frozen=True)
class Launch:
    """Makes attempt specs, and reads what attempts left.

    `base_env` is the server's environment; `hints` say what to do where a program is absent;
    `parents` gives the jobs that a job waited for, and `worker_env` what lets an attempt talk to
    this server.
    """

    sealed: SealedSpecs
    base_env: Mapping[str, str]
    keep_env: Collection[str]
    secret_env: Collection[str]
    default_cwd: str
    output_limit: int
    hints: Mapping[str, str]
    folders: AttemptFolders
    artifacts: ArtifactStore
    parents: Callable[[Job], list[Job]]
    worker_env: Callable[[str, int], dict[str, str]]

    def spec(self, job: Job, attempt: int) -> AttemptSpec:
        """The spec of one attempt. CannotLaunch when a part of the job is gone or its program is
        known absent. OSError when its folder cannot be made.
        """
        argv, extra, given_cwd = job.argv, {}, None
        if job.sealed:
            private = self.sealed.open(job.id)
            if private is None:
                raise CannotLaunch(
                    "The private part of this job (its arguments and environment) is gone."
                )
            argv, extra, given_cwd = private.argv, private.env, private.cwd
        env = child_environment(self.base_env, extra, self.keep_env, self.secret_env)
        prepared = self.folders.prepare(job, attempt, parent_results(self.parents(job)))
        env |= prepared.env | self.worker_env(job.id, attempt)
        env["PATH"] = os.pathsep.join(filter(None, (env.get("PATH"), _BIN)))
        cwd = given_cwd or prepared.cwd or self.default_cwd
        hint = self.hints.get(argv[0]) if argv else None
        if hint is not None and shutil.which(argv[0], path=env.get("PATH")) is None:
            raise CannotLaunch(hint)
        try:
            return AttemptSpec(
                job_id=job.id,
                attempt=attempt,
                argv=argv,
                cwd=cwd,
                env=env,
                timeout_ms=job.timeout_ms,
                output_limit=self.output_limit,
            )
        except ValueError as error:
            raise CannotLaunch(str(error)) from error

    def left_nothing(self, job: Job, attempt: int) -> bool:
        """Whether there is nothing to gather; at once."""
        return self.folders.left_nothing(job, attempt)

    def gather(self, job: Job, attempt: int) -> Leavings:
        """What an ended attempt left. Blocks on the disk."""
        found = self.folders.gather(job, attempt, self.artifacts)
        return Leavings(found.events, found.result, found.problem)

    def discard_empty(self, job_id: str, attempt: int) -> bool:
        """Remove the folder of an attempt whose end is in the log, if that is done at once."""
        return self.folders.discard_empty(job_id, attempt)

    def discard(self, job_id: str, attempt: int) -> None:
        """Remove the folder of an attempt whose end is in the log."""
        self.folders.discard(job_id, attempt)

    def sweep(self, keep: Collection[tuple[str, int]]) -> None:
        """Remove the folders of all attempts but these."""
        self.folders.sweep(keep)


_BIN = str(Path(sys.executable).parent)
"""Where the crewlog command of this server is, so that its jobs find it."""
