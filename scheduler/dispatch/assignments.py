"""Makes the assignment of an attempt: everything that its node is told."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from domain.job.aggregate import Job
from domain.job.result import ParentResult, parent_results
from scheduler.dispatch.sealed import Sealed, SealedSpecs
from scheduler.workspaces.contract import Assignment, CannotLaunch


@dataclass(frozen=True)
class Assignments:
    """Adds to a job what only this server knows.

    `parents` returns the jobs that a job waited for, and `server_env` the variables with which an
    attempt can talk to this server.
    """

    sealed: SealedSpecs
    output_limit: int
    parents: Callable[[Job], list[Job]]
    server_env: Callable[[str, int], dict[str, str]]

    async def of(self, job: Job, attempt: int) -> Assignment:
        """Raises CannotLaunch if a part of the job is gone, LogUnavailable."""
        private = self._private(job)
        return Assignment(
            job=job,
            attempt=attempt,
            argv=private.argv,
            env=private.env,
            cwd=private.cwd or "",
            parents=await self._parents(job),
            server_env=self.server_env(job.id, attempt),
            output_limit=self.output_limit,
        )

    def _private(self, job: Job) -> Sealed:
        if not job.sealed:
            return Sealed(job.argv, {})
        private = self.sealed.open(job.id)
        if private is None:
            raise CannotLaunch(
                "The private part of the job (arguments, environment) is gone: submit it again."
            )
        return private

    async def _parents(self, job: Job) -> list[ParentResult]:
        if not job.terms.parents:
            return []
        return parent_results(await asyncio.to_thread(self.parents, job))
