"""The requests and filters of ``/jobs``, and their meaning."""

import os
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel

from api.edge.security import Principal
from api.edge.texts import CARRIABLE, Body
from api.native.job_json import FIELDS, SHORT
from domain.clock import format_time
from domain.errors import BadInput
from domain.job.aggregate import LONGEST_TEXT
from domain.job.board import ARCHIVED, COLUMNS
from domain.job.events import Outcome
from projections.job_filters import STANDINGS, JobFilter
from scheduler.intake import WorkRequest, limit_ms
from scheduler.workspaces.environment import valid_name

MOST_IDS = 500
"""Most jobs of one bulk action."""

MOST_LISTED = 100
"""Most jobs of one page."""

OwnerOf = Callable[[str], str]
"""The owner that a filter names: ``me``, an id, or a person's e-mail address."""

Text = Annotated[str, Field(max_length=LONGEST_TEXT), CARRIABLE]
JobId = Annotated[str, Field(min_length=1, max_length=200), CARRIABLE]
Word = Annotated[str, Field(max_length=200), CARRIABLE]


class NewJob(Body):
    """A command to run, without a shell."""

    kind: Annotated[str, Field(pattern="^command$")] = "command"
    argv: Annotated[
        list[Annotated[str, Field(max_length=65_536), CARRIABLE]],
        Field(
            min_length=1,
            max_length=4_096,
            description="The program and its arguments.",
            json_schema_extra={
                "prefixItems": [{"type": "string", "pattern": r"^[^\x00]*[!-~][^\x00]*$"}]
            },
        ),
    ]
    cwd: Annotated[str, Field(min_length=1, max_length=4_096), CARRIABLE] | None = None
    env: (
        Annotated[
            dict[str, Annotated[str, Field(max_length=65_536), CARRIABLE]], Field(max_length=256)
        ]
        | None
    ) = Field(
        None,
        description="Environment variables. The log keeps only their names.",
        json_schema_extra={
            "propertyNames": {"pattern": "^(?!CREWLOG_)[A-Z_a-z][0-9A-Z_a-z]{0,254}$"}
        },
    )
    timeout_s: Annotated[float, Field(gt=0, le=31_536_000)] | None = None
    title: Annotated[str, Field(max_length=200), CARRIABLE] | None = None
    labels: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=64), CARRIABLE]], Field(max_length=20)
    ] = Field(default_factory=list)

    @field_validator("argv")
    @classmethod
    def _program(cls, argv: list[str]) -> list[str]:
        if not argv[0].strip():
            raise ValueError("The first item names the program to run.")
        return argv

    @field_validator("env")
    @classmethod
    def _names(cls, env: dict[str, str] | None) -> dict[str, str] | None:
        for name in env or {}:
            if not valid_name(name):
                raise ValueError("The name of an environment variable is not valid.")
            if name.upper().startswith("CREWLOG_") or name.upper() == "GITOMA_API_TOKEN":
                raise ValueError("The server's own environment variables cannot be given.")
        return env


class Comment(Body):
    """A comment for the workers of the job."""

    body: Annotated[Text, Field(min_length=1)]


class Redo(Body):
    """The feedback: what was wrong."""

    feedback: Text = ""


class JobQuery(BaseModel):
    """Which jobs. A job must pass every filter."""

    ids: Annotated[str, Field(max_length=20_000), CARRIABLE] | None = Field(
        None, description=f"Ids, by comma: at most {MOST_LISTED}."
    )
    state: Word | None = Field(None, description=f"By comma: {', '.join(STANDINGS)}.")
    outcome: Word | None = Field(None, description=f"By comma: {', '.join(Outcome)}.")
    column: Word | None = Field(
        None, description=f"Its column on the board: {', '.join((*COLUMNS, ARCHIVED))}."
    )
    owner: Word | None = Field(None, description="`me`, an owner's id or a person's address.")
    label: Annotated[str, Field(max_length=64), CARRIABLE] | None = None
    crew: Word | None = Field(None, description="The id of its crew.")
    template: Word | None = Field(None, description="The template of its crew.")
    schedule: Word | None = Field(None, description="The id of the schedule that made its crew.")
    kind: Word | None = None
    text: Word | None = Field(
        None,
        description="Text at the beginning of the id, or in the title, a label, the command, the "
        "instructions, the directory, the template or the crew's name.",
    )
    archived: bool | None = None
    created_after: Word | None = Field(None, description="ISO 8601 with an offset, like all times.")
    created_before: Word | None = None
    ended_after: Word | None = None
    ended_before: Word | None = None

    def filter(self, owner_of: OwnerOf) -> JobFilter:
        """Raises BadInput, with the name of the filter, for an unknown word."""
        return JobFilter(
            ids=_ids(self.ids),
            states=words_of("state", self.state, STANDINGS),
            outcomes=words_of("outcome", self.outcome, tuple(Outcome)),
            column=_one_of("column", self.column, (*COLUMNS, ARCHIVED)),
            owner=None if self.owner is None else owner_of(self.owner),
            label=self.label,
            crew=self.crew,
            template=self.template,
            schedule=self.schedule,
            kind=self.kind,
            text=self.text,
            archived=self.archived,
            created_after=moment_of("created_after", self.created_after),
            created_before=moment_of("created_before", self.created_before),
            ended_after=moment_of("ended_after", self.ended_after),
            ended_before=moment_of("ended_before", self.ended_before),
        )


class JobListQuery(JobQuery):
    """Which jobs, how many, and which of their fields."""

    limit: int = Field(50, ge=1, le=MOST_LISTED)
    cursor: Word | None = Field(None, description="From the page before.")
    fields: Annotated[str, Field(max_length=2_000), CARRIABLE] | None = Field(
        None, description="Fields to show instead of the short form, by comma."
    )


class JobSelection(JobQuery):
    """The filters of the list of jobs, in a body."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


class JobsAction(Body):
    """An action for many jobs: those in `ids`, or the newest ones that `filter` selects."""

    action: Literal["cancel", "archive", "delete", "retry"]
    ids: Annotated[list[JobId], Field(min_length=1, max_length=MOST_IDS)] | None = None
    filter: JobSelection | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> "JobsAction":
        if (self.ids is None) == (self.filter is None):
            raise ValueError("Give either ids or a filter.")
        return self


def owner_named(principal: Principal, user_by_email: OwnerOf) -> OwnerOf:
    """The owner that a filter of this principal means."""

    def owner_of(named: str) -> str:
        if named == "me":
            return principal.owner
        return user_by_email(named) if "@" in named else named

    return owner_of


def words_of(name: str, given: str | None, known: tuple[str, ...]) -> frozenset[str]:
    """The words of a comma-separated list. Raises BadInput for an unknown one."""
    words = _split(given or "")
    if not words.issubset(known):
        raise BadInput(name, f"It must be one or more of {', '.join(known)}.")
    return words


def _split(listed: str) -> frozenset[str]:
    """The words of a comma-separated list."""
    return frozenset(word.strip() for word in listed.split(",") if word.strip())


def _ids(given: str | None) -> frozenset[str]:
    """The ids of a comma-separated list. Raises BadInput if there are none or too many."""
    if given is None:
        return frozenset()
    ids = _split(given)
    if not 0 < len(ids) <= MOST_LISTED:
        raise BadInput("ids", f"It must have from 1 to {MOST_LISTED} ids.")
    return ids


def _one_of(name: str, given: str | None, known: tuple[str, ...]) -> str | None:
    if given is not None and given not in known:
        raise BadInput(name, f"It must be one or more of {', '.join(known)}.")
    return given


def moment_of(name: str, given: str | None) -> str | None:
    """A time in the log's form. Raises BadInput for text that is not a time."""
    if not given:
        return None
    try:
        moment = datetime.fromisoformat(given)
        if moment.tzinfo is None:
            raise BadInput(name, "The time needs an offset, as in 2026-01-01T09:00:00Z.")
        return format_time(moment)
    except ValueError:
        raise BadInput(name, "This is not an ISO 8601 time.") from None
    except OverflowError:
        raise BadInput(name, "This time is before year 1 or after 9999.") from None


def fields_of(given: str | None) -> tuple[str, ...]:
    """The fields that a list shows. Default: the short form."""
    if given is None:
        return SHORT
    words = words_of("fields", given, FIELDS)
    return tuple(field for field in FIELDS if field in words or field == "id")


def work_of(body: NewJob, workdir: str, default_timeout_s: int, owner: str) -> WorkRequest:
    """The request in the terms of the intake. A relative `cwd` is below the server's working
    directory.
    """
    timeout_s = body.timeout_s if body.timeout_s is not None else default_timeout_s
    return WorkRequest(
        kind=body.kind,
        label=body.labels[0] if body.labels else body.kind,
        argv=tuple(body.argv),
        cwd=os.path.join(workdir, body.cwd) if body.cwd else workdir,
        timeout_ms=limit_ms(timeout_s),
        title=body.title or "",
        env=body.env or {},
        labels=body.labels,
        owner=owner,
    )
