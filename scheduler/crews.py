"""From a plan to a crew in the log: the crew and all its jobs in one append, or nothing."""

import asyncio
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, Protocol

from domain.clock import Clock, format_time, system_clock
from domain.crew.commands import Crews
from domain.crew.events import CrewCommitted, CrewMember, CrewNotFound, crew_stream
from domain.draft import Draft
from domain.entropy import uuid4
from domain.errors import BadInput, CrewlogError, VersionConflict
from domain.idempotency import RequestAccepted, idempotency_stream
from domain.job.aggregate import Job
from domain.job.commands import IdempotencyKey, Jobs, replay_of
from domain.job.events import JobPlan, JobSubmitted, Links, job_stream
from domain.log import Context, EventLog, NewEvent, Recorded
from domain.redaction import HIDDEN
from domain.schedule.wall_clock import zone_of
from scheduler.dispatch.sealed import Sealed
from scheduler.intake import Sealing, limit_ms
from scheduler.templates.catalog import TemplateNotFound
from scheduler.templates.plan import CrewPlan, PlannedJob

_NOT_SLUG = re.compile(r"[^a-z0-9]+")
_SLUG_LENGTH = 40


class Templates(Protocol):
    """Makes plans."""

    def render(
        self, template_id: str, inputs: dict[str, Any], *, at: datetime, nominal: datetime
    ) -> CrewPlan:
        """Raises NotFound, or BadInput with the path of the mistake."""
        ...


@dataclass(frozen=True, slots=True)
class Occasion:
    """Why a crew is made, and for whom."""

    owner: str
    context: Context
    schedule: str | None = None
    nominal: str | None = None
    not_before: str | None = None
    crew_id: str = ""
    """The id, if it follows from something else; otherwise a new one is made."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A crew that is ready to be appended. Seal `private` around the append."""

    crew_id: str
    job_ids: list[str]
    events: Sequence[NewEvent]
    expected: dict[str, int]
    private: dict[str, Sealed] = field(repr=False)


@dataclass(frozen=True, slots=True)
class CrewSubmission:
    """The answer to a committed crew. `job_ids` are in dependency order."""

    crew_id: str
    job_ids: list[str]
    position: int
    events: Sequence[Recorded] = ()
    """Its append, as it is in the log; none if it was `replayed`."""
    replayed: bool = False


class CrewIntake:
    """Commits crews."""

    def __init__(
        self,
        log: EventLog,
        jobs: Jobs,
        crews: Crews,
        templates: Templates,
        sealing: Sealing,
        *,
        agent_command: Callable[[str], tuple[str, ...]],
        clock: Clock = system_clock,
    ) -> None:
        self._log = log
        self._jobs = jobs
        self._crews = crews
        self._templates = templates
        self._sealing = sealing
        self._agent_command = agent_command
        self._clock = clock

    def plan(
        self,
        template_id: str,
        inputs: dict[str, Any],
        *,
        timezone: str = "UTC",
        nominal: datetime | None = None,
    ) -> CrewPlan:
        """Render a template now. `nominal` is the time that the crew is for, if that is another
        time; dates are in `timezone`. Raises NotFound, BadInput. Blocks.
        """
        now = self._clock()
        meant = (nominal or now).astimezone(zone_of(timezone))
        plan = self._templates.render(template_id, inputs, at=now, nominal=meant)
        for index, job in enumerate(plan.jobs):
            if not self._argv(job):
                raise BadInput(
                    f"jobs[{index}].assignee",
                    "No agent can run here: set CREWLOG_AGENT_COMMAND to the program that runs it.",
                )
        return replace(plan, timezone=timezone)

    def _argv(self, job: PlannedJob) -> tuple[str, ...]:
        return job.argv or self._agent_command(job.assignee or "")

    def prepare(self, plan: CrewPlan, occasion: Occasion) -> Prepared:
        """The events of a crew. The same crew id always gives the same job ids."""
        crew_id = occasion.crew_id or uuid4()
        ids = {job.key: job_id(crew_id, job) for job in plan.jobs}
        draft = Draft(occasion.context, self._clock)
        members = [
            CrewMember(
                id=ids[job.key],
                local=job.key,
                title=job.title,
                parents=[ids[p] for p in job.parents],
            )
            for job in plan.jobs
        ]
        committed = CrewCommitted(
            template=plan.template,
            name=plan.name,
            inputs=plan.inputs,
            owner=occasion.owner,
            schedule=occasion.schedule,
            nominal=occasion.nominal,
            not_before=occasion.not_before,
            jobs=members,
            rendered=list(plan.rendered),
            timezone=plan.timezone,
        )
        draft.add(crew_stream(crew_id), 0, [committed])
        private: dict[str, Sealed] = {}
        for job, member in zip(plan.jobs, members, strict=True):
            submitted, sealed = self._submitted(job, member, plan, crew_id, occasion)
            if sealed is not None:
                private[member.id] = sealed
            if member.parents:
                draft.add(job_stream(member.id), 0, [submitted])
            else:
                self._crews.release(draft.job(Job(member.id), [submitted]), draft)
        return Prepared(crew_id, list(ids.values()), draft.events, draft.expected, private)

    def _submitted(
        self,
        job: PlannedJob,
        member: CrewMember,
        plan: CrewPlan,
        crew_id: str,
        occasion: Occasion,
    ) -> tuple[JobSubmitted, Sealed | None]:
        given = job.cwd or ("" if job.workspace == "scratch" else job.workspace)
        argv, cwd, sealed = self._sealing.part(self._argv(job), given, job.env)
        submitted = JobSubmitted(
            kind="command" if job.argv else "agent",
            label=plan.template,
            title=job.title,
            owner=occasion.owner,
            argv=argv,
            cwd=cwd,
            env_names=sorted(job.env),
            sealed=sealed is not None,
            timeout_ms=limit_ms(job.timeout_s),
            labels=list(job.labels),
            links=Links(
                crew=crew_id,
                schedule=occasion.schedule,
                request=occasion.context.request_id,
            ),
            plan=JobPlan(
                local=job.key,
                template=plan.template,
                body=job.body,
                assignee=job.assignee,
                parents=member.parents,
                workspace=job.workspace,
                max_retries=job.max_retries,
                approval=job.approval,
                on_reject=job.on_reject,
                approvers=list(job.approvers),
                lease_ms=limit_ms(job.lease_s),
                result_schema=job.result_schema,
                not_before=occasion.not_before,
            ),
        )
        return submitted, sealed

    async def commit(
        self, plan: CrewPlan, occasion: Occasion, idempotency: IdempotencyKey | None = None
    ) -> CrewSubmission:
        """Append the crew. Raises IdempotencyMismatch, LogUnavailable."""
        prepared = self.prepare(plan, occasion)
        events, expected = list(prepared.events), dict(prepared.expected)
        if idempotency is not None:
            draft = Draft(occasion.context, self._clock)
            accepted = RequestAccepted(fingerprint=idempotency.fingerprint, result=prepared.crew_id)
            draft.add(idempotency_stream(idempotency.principal, idempotency.key), 0, [accepted])
            events += draft.events
            expected |= draft.expected
        try:
            async with self.sealed(prepared):
                recorded = await self._log.append(events, expected)
        except VersionConflict as conflict:
            if idempotency is None or not conflict.stream.startswith("request-"):
                raise
            earlier = await self.replayed(idempotency)
            assert earlier is not None
            return earlier
        return CrewSubmission(prepared.crew_id, prepared.job_ids, recorded[-1].position, recorded)

    def sealed(self, prepared: Prepared) -> Any:
        """The context for the append of `prepared.events`: inside it the private parts are durable.
        They are removed if the append fails.
        """
        return self._sealing.kept(prepared.private)

    async def replayed(self, key: IdempotencyKey) -> CrewSubmission | None:
        """The crew that an earlier request with this key made; None if there was none. Raises
        IdempotencyMismatch if that was another request.
        """
        if await self._log.first_of_stream(idempotency_stream(key.principal, key.key)) is None:
            return None
        crew_id = await self._log.apart(partial(replay_of, self._log, key))
        first = await self._log.stream(crew_stream(crew_id))
        if not first:
            raise CrewlogError("The Idempotency-Key was used for something else.")
        crew = await self._log.apart(partial(self._crews.load, crew_id))
        members = [member.id for member in crew.members]
        return CrewSubmission(crew_id, members, first[0].position, replayed=True)

    # For the schedules

    def crew_active(self, crew_id: str) -> bool:
        """Whether a job of the crew may still go on."""
        return self._crews.active(crew_id)

    async def cancel_crew(self, crew_id: str, reason: str, context: Context) -> int | None:
        """Ask for the end of every job that has not ended. Returns the position of the newest
        event; None if all have ended.
        """
        crew = await self._log.apart(partial(self._crews.load, crew_id))
        position: int | None = None
        for member in crew.members:
            if not (await self._log.apart(partial(self._crews.job, member.id))).ended:
                try:
                    changed = await self._jobs.execute(
                        member.id,
                        lambda job: [] if job.ended else job.request_cancel(reason),
                        context,
                    )
                except VersionConflict:  # it changes right now: the dispatcher looks again
                    position = position or 0
                else:
                    position = max(position or 0, changed.position)
        return position

    async def rerun(
        self, crew_id: str, inputs: Mapping[str, Any], occasion: Occasion, timezone: str | None
    ) -> CrewSubmission:
        """Run the present version of the template again with the inputs of the crew; `inputs`
        replace some of them, and defaults with expressions are rendered anew. Without `timezone`
        its dates are in the zone of the crew, or in UTC if that is not known. Raises BadInput for
        an input that is redacted in the log, and as `plan`.
        """
        first = await self._log.first_of_stream(crew_stream(crew_id))
        if first is None:
            raise CrewNotFound(crew_id)
        rendered = first.data.get("rendered", ())
        had = {name: value for name, value in first.data["inputs"].items() if name not in rendered}
        had |= inputs
        zone = timezone or first.data.get("timezone") or "UTC"
        for name, value in had.items():
            if name not in inputs and HIDDEN in json.dumps(value, ensure_ascii=False):
                raise BadInput(
                    f"inputs.{name}", "The log has only a part of this input: give it again."
                )
        template: str = first.data["template"]
        try:
            plan = await asyncio.to_thread(self.plan, template, had, timezone=zone)
        except TemplateNotFound as missing:
            raise TemplateNotFound(missing.near, template) from None
        return await self.commit(plan, occasion)

    def not_before(self, text: str | None) -> str | None:
        """A start time in the log's form. Raises BadInput unless it is ISO 8601 with an offset."""
        if not text:
            return None
        try:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                given = "The time needs an offset, as in 2026-01-01T09:00:00Z."
                raise BadInput("scheduledAt", given)
            return format_time(moment)
        except ValueError:
            raise BadInput("scheduledAt", "This is not an ISO 8601 time.") from None
        except OverflowError:
            raise BadInput("scheduledAt", "This time is before year 1 or after 9999.") from None


def job_id(crew_id: str, job: PlannedJob) -> str:
    """A readable id: first a random part, so that a few characters identify the job, then a slug of
    its agent or command.
    """
    slug = _NOT_SLUG.sub("-", (job.assignee or job.key).lower()).strip("-")[:_SLUG_LENGTH]
    digest = hashlib.sha256(f"{crew_id}\0{job.key}".encode()).hexdigest()[:16]
    return f"{digest}-{slug or 'job'}"
