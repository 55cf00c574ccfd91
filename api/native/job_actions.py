"""Actions of people on existing jobs: on one, and on many at once."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from fastapi.concurrency import run_in_threadpool

from api.edge.access import guarded, loaded_job
from api.edge.errors import status_of
from api.edge.security import Principal
from domain.crew.commands import Crews
from domain.errors import CrewlogError, Unavailable
from domain.event import Event
from domain.job.aggregate import Job
from domain.job.commands import Changed, Jobs
from domain.log import Context


class JobActions:
    """Commands on jobs that the principal may see. For other jobs they raise JobNotFound."""

    def __init__(self, jobs: Jobs, crews: Crews) -> None:
        self._jobs = jobs
        self._crews = crews
        self.of_many: Mapping[str, Callable[[str, Principal, Context], Awaitable[Changed]]] = {
            "cancel": self.cancel,
            "archive": self.archive,
            "delete": self.delete,
            "retry": self.retry,
        }

    async def loaded(self, job_id: str, principal: Principal) -> Job:
        return await run_in_threadpool(loaded_job, self._jobs, job_id, principal)

    async def _decided(
        self,
        job_id: str,
        decide: Callable[[Job], list[Event]],
        principal: Principal,
        context: Context,
        version: int | None,
    ) -> Changed:
        return await self._jobs.execute(
            job_id, guarded(principal, decide), context, if_match=version
        )

    async def cancel(
        self, job_id: str, principal: Principal, context: Context, version: int | None = None
    ) -> Changed:
        def decide(job: Job) -> list[Event]:
            return job.request_cancel("By request.")

        return await self._decided(job_id, decide, principal, context, version)

    async def archive(
        self, job_id: str, principal: Principal, context: Context, version: int | None = None
    ) -> Changed:
        return await self._decided(job_id, Job.archive, principal, context, version)

    async def unarchive(
        self, job_id: str, principal: Principal, context: Context, version: int | None = None
    ) -> Changed:
        return await self._decided(job_id, Job.unarchive, principal, context, version)

    async def delete(
        self, job_id: str, principal: Principal, context: Context, version: int | None = None
    ) -> Changed:
        return await self._decided(job_id, Job.delete, principal, context, version)

    async def comment(
        self, job_id: str, principal: Principal, context: Context, text: str
    ) -> Changed:
        def decide(job: Job) -> list[Event]:
            return job.comment(text)

        return await self._decided(job_id, decide, principal, context, None)

    async def retry(
        self, job_id: str, principal: Principal, context: Context, version: int | None = None
    ) -> Changed:
        await self.loaded(job_id, principal)
        return await self._crews.retry(job_id, context, if_match=version)

    async def unblock(
        self, job_id: str, principal: Principal, context: Context, version: int | None = None
    ) -> Changed:
        await self.loaded(job_id, principal)
        return await self._crews.unblock(job_id, context, if_match=version)

    async def redo(
        self,
        job_id: str,
        principal: Principal,
        context: Context,
        version: int | None,
        feedback: str,
    ) -> Changed:
        await self.loaded(job_id, principal)
        return await self._crews.redo(job_id, feedback, context, if_match=version)

    async def to_each(
        self, action: str, ids: Sequence[str], principal: Principal, context: Context
    ) -> tuple[list[dict[str, Any]], int]:
        """The result for each job, and the position of the newest change. A refused job does not
        stop the others; a log that cannot be written does (Unavailable).
        """
        act = self.of_many[action]
        results: list[dict[str, Any]] = []
        position = 0
        for job_id in dict.fromkeys(ids):
            try:
                changed = await act(job_id, principal, context)
            except Unavailable:
                raise
            except CrewlogError as error:
                refused = {"ok": False, "status": status_of(error), "detail": str(error)}
                results.append({"id": job_id, **refused})
            else:
                position = max(position, changed.position)
                results.append({"id": job_id, "ok": True, "status": 200, "detail": None})
        return results, position
