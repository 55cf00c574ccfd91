"""``/run``, ``/fix-ci``, ``/analyze``, ``/review``: each dispatch is a job (`contracts/gitoma.md`
§5).
"""

from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request, Response

from api.dialects.gitoma.job_json import JobResponse
from api.dialects.gitoma.job_requests import AnalyzeRequest, ReviewRequest, RunRequest
from api.edge.errors import documented
from api.edge.idempotency import IdempotencyHeader, key_of
from api.edge.rate_limit import SlidingWindow
from api.edge.security import Authenticated, Principal
from scheduler.intake import Intake, WorkRequest


@dataclass(frozen=True, slots=True)
class Asked:
    """One dispatch: gitoma's arguments, and the answer for the client."""

    label: str
    arguments: list[str]
    message: str


@dataclass(frozen=True)
class Dispatches:
    """Makes jobs of dispatches. `command` runs gitoma in `workdir` for at most `timeout_s`."""

    intake: Intake
    limiter: SlidingWindow
    command: tuple[str, ...]
    workdir: Path
    timeout_s: int

    def admit(self, principal: Principal) -> None:
        """Raises HTTPException 429 if this person has dispatched too often."""
        wait = self.limiter.hit(principal.owner)
        if wait is not None:
            raise HTTPException(
                429,
                f"Dispatch rate limit reached: try again in {wait} s.",
                {"Retry-After": str(wait)},
            )

    async def dispatch(
        self,
        dispatch: Asked,
        request: Request,
        response: Response,
        principal: Principal,
        key: str | None,
    ) -> JobResponse:
        work = WorkRequest(
            kind="gitoma",
            label=dispatch.label,
            argv=(*self.command, *dispatch.arguments),
            cwd=str(self.workdir),
            timeout_ms=self.timeout_s * 1000,
            owner=principal.owner,
        )
        parts = [dispatch.label.encode(), *(argument.encode() for argument in dispatch.arguments)]
        submission = await self.intake.submit(
            work, principal.context(request), key_of(principal.actor, key, *parts)
        )
        response.headers["x-event-position"] = str(submission.events[1].position)
        if submission.replayed:
            response.headers["Idempotency-Replayed"] = "true"
        return JobResponse(job_id=submission.job_id, status="started", message=dispatch.message)


def dispatch_routes(dispatches: Dispatches) -> APIRouter:
    router = APIRouter(tags=["jobs"], responses=documented(413, 429))

    @router.post("/run", status_code=202)
    async def run(
        body: RunRequest,
        request: Request,
        response: Response,
        principal: Authenticated,
        key: IdempotencyHeader = None,
    ) -> JobResponse:
        dispatches.admit(principal)
        return await dispatches.dispatch(_run(body), request, response, principal, key)

    @router.post("/fix-ci", status_code=202)
    async def fix_ci(
        body: RunRequest,
        request: Request,
        response: Response,
        principal: Authenticated,
        key: IdempotencyHeader = None,
    ) -> JobResponse:
        dispatches.admit(principal)
        return await dispatches.dispatch(_fix_ci(body), request, response, principal, key)

    @router.post("/analyze", status_code=202)
    async def analyze(
        body: AnalyzeRequest,
        request: Request,
        response: Response,
        principal: Authenticated,
        key: IdempotencyHeader = None,
    ) -> JobResponse:
        dispatches.admit(principal)
        dispatch = Asked(
            "analyze", ["analyze", body.repo_url], "Analysis dispatched in background."
        )
        return await dispatches.dispatch(dispatch, request, response, principal, key)

    @router.post("/review", status_code=202)
    async def review(
        body: ReviewRequest,
        request: Request,
        response: Response,
        principal: Authenticated,
        key: IdempotencyHeader = None,
    ) -> JobResponse:
        dispatches.admit(principal)
        return await dispatches.dispatch(_review(body), request, response, principal, key)

    return router


def _run(body: RunRequest) -> Asked:
    arguments = ["run", body.repo_url, "--yes"]
    if body.branch:
        arguments += ["--branch", body.branch]
    flags = {"--dry-run": body.dry_run, "--resume": body.resume, "--reset": body.reset}
    arguments += [flag for flag, given in flags.items() if given]
    label, how = "run", "Autonomous run"
    if body.resume:
        label, how = "run-resume", "Resuming run"
    elif body.reset:
        label, how = "run-reset", "Fresh run"
    return Asked(label, arguments, f"{how} dispatched in background.")


def _fix_ci(body: RunRequest) -> Asked:
    if not body.branch:
        raise HTTPException(400, "branch is required for fix-ci")
    # gitoma looks the repository up by the last part of its URL, and finds none behind these.
    url = body.repo_url.removesuffix("/").removesuffix(".git")
    arguments = ["fix-ci", url, "--branch", body.branch]
    return Asked("fix-ci", arguments, "CI fix dispatched in background.")


def _review(body: ReviewRequest) -> Asked:
    arguments = ["review", body.repo_url, *(["--integrate"] if body.integrate else [])]
    how = "Review integration" if body.integrate else "Review fetch"
    return Asked("review", arguments, f"{how} dispatched in background.")
