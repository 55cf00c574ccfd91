"""From a job to what a node is told of one attempt of it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from domain.job.aggregate import Job
from domain.job.result import ParentResult, parent_results
from scheduler.dispatch.sealed import Sealed, SealedSpecs
from scheduler.workspaces.contract import Assignment, CannotLaunch


@dataclass(frozen=True)
class Assignments:
    """Makes assignments of what only this server knows.

    `parents` gives the jobs that a job waited for, and `server_env` what lets an attempt talk to
    this server.
    """

    sealed: SealedSpecs
    output_limit: int
    parents: Callable[[Job], list[Job]]
    server_env: Callable[[str, int], dict[str, str]]

    async def of(self, job: Job, attempt: int) -> Assignment:
        """CannotLaunch when a part of the job is gone; LogUnavailable."""
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
                "The private part of this job (its arguments and environment) is gone."
            )
        return private

    async def _parents(self, job: Job) -> list[ParentResult]:
        if not job.terms.parents:
            return []
        return parent_results(await asyncio.to_thread(self.parents, job))
