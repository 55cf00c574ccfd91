"""Intake: from a request for work to a job in the log, with what the log must not know sealed
beside it.
"""

import asyncio
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from domain.errors import LogUnavailable
from domain.job import JobSubmitted, Links
from domain.jobs import IdempotencyKey, Jobs, Submission
from domain.log import Context, uuid7
from domain.redaction import HIDDEN, Redactor
from scheduler.sealed import Sealed, SealedSpecs

_TITLE_LENGTH = 120


@dataclass(frozen=True, slots=True)
class WorkRequest:
    """What somebody wants run. `env` holds values: they are sealed and never reach the log."""

    kind: str
    label: str
    argv: tuple[str, ...]
    cwd: str
    timeout_ms: int
    title: str = ""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    labels: Sequence[str] = ()


class Intake:
    """Accepts work. A job is queued once `submit` returns, whatever happens to
    this process then.
    """

    def __init__(self, jobs: Jobs, sealed: SealedSpecs, redactor: Redactor) -> None:
        self._jobs = jobs
        self._sealed = sealed
        self._redactor = redactor

    async def submit(
        self, work: WorkRequest, context: Context, idempotency: IdempotencyKey | None = None
    ) -> Submission:
        """Seal what is private, then append. Raises IdempotencyMismatch, LogUnavailable."""
        job_id = uuid7()
        given = list(work.argv)
        shown = given if self._redactor.is_clean("\n".join(given)) else self._redacted(given)
        private = bool(work.env) or shown != given
        submitted = JobSubmitted(
            kind=work.kind,
            label=work.label,
            title=work.title or _abridged(shlex.join(shown)),
            owner=context.actor,
            argv=shown,
            cwd=work.cwd,
            env_names=sorted(work.env),
            sealed=private,
            timeout_ms=work.timeout_ms,
            labels=list(work.labels),
            links=Links(request=context.request_id),
        )
        if not private:
            return await self._jobs.submit(job_id, submitted, context, idempotency)
        try:
            await asyncio.to_thread(self._sealed.seal, job_id, Sealed(work.argv, dict(work.env)))
        except OSError as error:
            raise LogUnavailable(f"The private part of a job cannot be written: {error}") from error
        kept = False
        try:
            submission = await self._jobs.submit(job_id, submitted, context, idempotency)
            kept = not submission.replayed
        except asyncio.CancelledError:
            # Whether the job was accepted is not known here: the dispatcher's sweep knows.
            kept = True
            raise
        finally:
            if not kept:
                self._sealed.discard(job_id)
        return submission

    def _redacted(self, argv: list[str]) -> list[str]:
        """Each argument as the log may show it; a flag and its value are also looked at as one
        text.
        """
        shown = [self._redactor.text(argument) for argument in argv]
        for n, (flag, value) in enumerate(pairwise(argv), 1):
            if (
                flag.startswith("--")
                and self._redactor.text(f"{flag} {value}") == f"{flag} {HIDDEN}"
            ):
                shown[n] = HIDDEN
        return shown


def _abridged(text: str) -> str:
    return text if len(text) <= _TITLE_LENGTH else text[: _TITLE_LENGTH - 1] + "…"
