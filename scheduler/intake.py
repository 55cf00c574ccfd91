"""Intake: from a request for work to a job in the log, with its private part sealed beside
the log.
"""

import asyncio
import contextlib
import shlex
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from domain.entropy import uuid4
from domain.errors import JobNotFound, LogUnavailable, WrongState
from domain.job.commands import IdempotencyKey, Jobs, Submission
from domain.job.events import (
    JobSubmitted,
    Links,
)
from domain.log import Context
from domain.redaction import HIDDEN, Redactor
from scheduler.dispatch.sealed import Sealed, SealedSpecs

_TITLE_LENGTH = 120


@dataclass(frozen=True, slots=True)
class WorkRequest:
    """A request for work. `env` holds values: they are sealed and never reach the log."""

    kind: str
    label: str
    argv: tuple[str, ...]
    cwd: str
    timeout_ms: int
    title: str = ""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    labels: Sequence[str] = ()
    owner: str = ""
    """Empty: the actor."""


class Sealing:
    """Separates the public part of a command from its private part, and keeps the private part
    beside the log.
    """

    def __init__(self, specs: SealedSpecs, redactor: Redactor) -> None:
        self._specs = specs
        self._redactor = redactor

    def part(
        self, argv: Sequence[str], cwd: str, env: Mapping[str, str]
    ) -> tuple[list[str], str, Sealed | None]:
        """Arguments and working directory as the log may show them, and the private part if there
        is one. The process runs with the original values.
        """
        shown_argv, shown_cwd = self._shown(argv), self._redactor.text(cwd)
        given = list(argv)
        if not env and shown_argv == given and shown_cwd == cwd:
            return shown_argv, shown_cwd, None
        sealed_cwd = None if shown_cwd == cwd else cwd
        return shown_argv, shown_cwd, Sealed(tuple(given), dict(env), sealed_cwd)

    def _shown(self, argv: Sequence[str]) -> list[str]:
        """A flag and its value are also checked as one text."""
        given = list(argv)
        if self._redactor.is_clean("\n".join(given)):
            return given
        shown = [self._redactor.text(argument) for argument in given]
        for n, (flag, value) in enumerate(pairwise(given), 1):
            if (
                flag.startswith("--")
                and self._redactor.text(f"{flag} {value}") == f"{flag} {HIDDEN}"
            ):
                shown[n] = HIDDEN
        return shown

    @contextlib.asynccontextmanager
    async def kept(self, private: Mapping[str, Sealed]) -> AsyncIterator[None]:
        """Seal these parts, by job id, around the append that accepts the jobs. They are removed if
        it fails.

        Raises LogUnavailable if they cannot be written.
        """
        if not private:
            yield
            return
        try:
            await asyncio.to_thread(self._seal, private)
        except OSError as error:
            self._discard(private)
            raise LogUnavailable(f"The private part of a job cannot be written: {error}") from error
        try:
            yield
        except asyncio.CancelledError:
            # Unknown here whether the jobs were accepted: the dispatcher's sweep finds out.
            raise
        except BaseException:
            self._discard(private)
            raise

    def _seal(self, private: Mapping[str, Sealed]) -> None:
        for job_id, sealed in private.items():
            self._specs.seal(job_id, sealed)

    def _discard(self, private: Mapping[str, Sealed]) -> None:
        for job_id in private:
            self._specs.discard(job_id)


class Intake:
    """Accepts work. Once `submit` returns, the job is queued, even if this process dies then."""

    def __init__(self, jobs: Jobs, sealing: Sealing) -> None:
        self._jobs = jobs
        self._sealing = sealing

    async def submit(
        self, work: WorkRequest, context: Context, idempotency: IdempotencyKey | None = None
    ) -> Submission:
        """Seal the private part, then append. Raises IdempotencyMismatch, LogUnavailable."""
        job_id = uuid4()
        argv, cwd, sealed = self._sealing.part(work.argv, work.cwd, work.env)
        submitted = JobSubmitted(
            kind=work.kind,
            label=work.label,
            title=work.title or abridged(shlex.join(argv)),
            owner=work.owner or context.actor,
            argv=argv,
            cwd=cwd,
            env_names=sorted(work.env),
            sealed=sealed is not None,
            timeout_ms=work.timeout_ms,
            labels=list(work.labels),
            links=Links(request=context.request_id),
        )
        if sealed is None:
            return await self._jobs.submit(job_id, submitted, context, idempotency)
        try:
            async with self._sealing.kept({job_id: sealed}):
                submission = await self._jobs.submit(job_id, submitted, context, idempotency)
                if submission.replayed:
                    raise _Replayed(submission)
        except _Replayed as replayed:
            return replayed.submission
        return submission

    async def rerun(
        self,
        job_id: str,
        sees: Callable[[str], bool],
        owner: str,
        context: Context,
        idempotency: IdempotencyKey | None = None,
    ) -> Submission:
        """A new job of `owner` with the same command. Raises JobNotFound, also if `owner` may not
        see the job; WrongState for a job of a crew, or if a part of the command is not in the log.
        """
        submitted = await self._jobs.submitted(job_id)
        if not sees(submitted.owner):
            raise JobNotFound(job_id)
        if submitted.plan is not None:
            raise WrongState("It is a job of a crew: redo it, or run the crew again.")
        if submitted.sealed:
            raise WrongState("Its private values are not in the log: submit it again with them.")
        again = submitted.model_copy(
            update={"owner": owner, "links": Links(parent=job_id, request=context.request_id)}
        )
        return await self._jobs.submit(uuid4(), again, context, idempotency)


class _Replayed(Exception):
    """The job existed already, so what was sealed for this request belongs to no job."""

    def __init__(self, submission: Submission) -> None:
        self.submission = submission


def limit_ms(seconds: float | None) -> int:
    """A time limit in milliseconds. None and 0 mean no limit, which is 0. Every other limit is at
    least 1, so that rounding never removes it.
    """
    return max(1, round(seconds * 1000)) if seconds else 0


def abridged(text: str) -> str:
    """A title, made of a longer text."""
    return text if len(text) <= _TITLE_LENGTH else text[: _TITLE_LENGTH - 1] + "…"
