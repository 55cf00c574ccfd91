"""What can be asked of ``/api/jobs``: bodies and filters, and what they mean."""

import os
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, field_validator
from pydantic.json_schema import SkipJsonSchema

from api.edge.texts import CARRIABLE, Body
from domain.errors import Invalid
from projections.jobs import STATES
from scheduler.intake import WorkRequest, limit_ms
from scheduler.workspaces.environment import valid_name

_SPELLINGS = {**{state: state for state in STATES}, "canceled": "cancelled"}
"""What a filter takes, and which state it means: CodePlane spells one of them in its own way."""


STATE_LIST = rf"^[ ,]*$|(?:^|,) *(?:{'|'.join(sorted(_SPELLINGS))}) *(?:,|$)"


class JobRequest(Body):
    """A command to run, without a shell."""

    kind: Annotated[str, Field(pattern="^command$")] = "command"
    template_id: SkipJsonSchema[None] = Field(None, exclude=True)
    argv: Annotated[
        list[Annotated[str, Field(max_length=65_536), CARRIABLE]],
        Field(
            min_length=1,
            max_length=4_096,
            description="The program and its arguments.",
            json_schema_extra={"prefixItems": [{"type": "string", "pattern": r"^[^\x00]*[!-~]"}]},
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
        description="Environment variables; only their names are kept in the log.",
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
                raise ValueError("A name of an environment variable is not valid.")
            if name.upper().startswith("CREWLOG_") or name.upper() == "GITOMA_API_TOKEN":
                raise ValueError("The server's own environment variables cannot be given.")
        return env


class CrewRequest(Body):
    """A template to become a crew."""

    template_id: Annotated[str, Field(min_length=1, max_length=500), CARRIABLE]
    inputs: dict[str, Any] = Field(default_factory=dict)
    timezone: Annotated[str, Field(max_length=64), CARRIABLE] | None = Field(
        None, description="Whose date `today` is, and of `nominal`; else UTC."
    )
    scheduled_at: Annotated[str, Field(max_length=64), CARRIABLE] | None = Field(
        None, description="Nothing starts before this time (ISO 8601 with an offset)."
    )


CREW_TAG, JOB_TAG = "crew-request", "job-request"


def _kind(body: Any) -> str:
    """A body is told apart by its fields: ``templateId`` is a crew (`contracts/board.md`)."""
    if isinstance(body, CrewRequest):
        return CREW_TAG
    if not isinstance(body, dict):
        return JOB_TAG
    named = body.get("templateId", body.get("template_id"))
    return JOB_TAG if named is None else CREW_TAG


Submitted = Annotated[
    Annotated[JobRequest, Tag(JOB_TAG)] | Annotated[CrewRequest, Tag(CREW_TAG)],
    Discriminator(_kind),
]
"""The body of ``POST /api/jobs``."""


def work_of(body: JobRequest, workdir: str, default_timeout_s: int, owner: str) -> WorkRequest:
    """The request in the terms of the intake; a relative `cwd` is below the server's working
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


def states_of(given: str | None) -> frozenset[str]:
    """The states that a comma list selects, in either spelling. Unknown names select nothing, as
    CodePlane's page relies on (`contracts/codeplane.md` §3); Invalid if all are unknown.
    """
    if not given:
        return frozenset()
    names = [name.strip() for name in given.split(",") if name.strip()]
    selected = frozenset(_SPELLINGS[name] for name in names if name in _SPELLINGS)
    if names and not selected:
        raise Invalid(f"No such state. States are {', '.join(STATES)}.")
    return selected
