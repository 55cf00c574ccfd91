"""From a job to what an executor needs to run one attempt of it."""

import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from domain.errors import CrewlogError
from domain.job import Job
from scheduler.environment import child_environment
from scheduler.executor import AttemptSpec
from scheduler.sealed import SealedSpecs


class CannotLaunch(CrewlogError):
    """The job cannot be run here; the text says what is missing and what to do."""


@dataclass(frozen=True)
class Launch:
    """Makes attempt specs. `base_env` is the server's environment; `hints` say what to do where a
    program is absent.
    """

    sealed: SealedSpecs
    base_env: Mapping[str, str]
    keep_env: Collection[str]
    secret_env: Collection[str]
    default_cwd: str
    output_limit: int
    hints: Mapping[str, str]

    def spec(self, job: Job, attempt: int) -> AttemptSpec:
        """The spec of one attempt. CannotLaunch when a part of the job is gone or its program is
        known absent.
        """
        argv, extra = job.argv, {}
        if job.sealed:
            private = self.sealed.open(job.id)
            if private is None:
                raise CannotLaunch(
                    "The private part of this job (its arguments and environment) is gone."
                )
            argv, extra = private.argv, private.env
        env = child_environment(self.base_env, extra, self.keep_env, self.secret_env)
        env |= {"CREWLOG_JOB_ID": job.id, "CREWLOG_ATTEMPT": str(attempt)}
        hint = self.hints.get(argv[0]) if argv else None
        if hint is not None and shutil.which(argv[0], path=env.get("PATH")) is None:
            raise CannotLaunch(hint)
        try:
            return AttemptSpec(
                job_id=job.id,
                attempt=attempt,
                argv=argv,
                cwd=job.cwd or self.default_cwd,
                env=env,
                timeout_ms=job.timeout_ms,
                output_limit=self.output_limit,
            )
        except ValueError as error:
            raise CannotLaunch(str(error)) from error
