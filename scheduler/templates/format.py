"""The template format (`contracts/board.md` §7): the content of a `*.job_workflow.yaml`, once
checked.

This module checks what each key may hold; `check.py` checks what they must agree on. The reference
of the format is `docs/templates.md`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from scheduler.templates.expressions import Text
from scheduler.templates.faults import BadTemplate, TemplateFault
from scheduler.templates.plan import OnReject
from scheduler.templates.schemas import Schema
from scheduler.templates.source import Place, Source, place_text

MAX_JOBS = 100


@dataclass(frozen=True, slots=True)
class Input:
    """An input of a template."""

    name: str
    declared: Mapping[str, Any]
    """As in the file: type, description, default, and keywords of JSON Schema."""
    schema: Schema
    required: bool
    default: Any
    """JSON, in which each text is a `Text`. None also if there is no default."""


@dataclass(frozen=True, slots=True)
class TemplateJob:
    """One job of a template, checked but not rendered."""

    id: str
    title: Text
    body: Text
    argv: tuple[Text, ...]
    assignee: str | None
    parents: tuple[str, ...]
    cwd: Text | None
    workspace: str
    """``scratch`` or an absolute path."""
    env: Mapping[str, Text]
    timeout_s: float | None
    max_retries: int
    approval: bool
    on_reject: OnReject
    approvers: tuple[str, ...]
    lease_s: float | None
    labels: tuple[str, ...]
    result_schema: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Template:
    """A template that can be rendered."""

    id: str
    name: str
    description: str | None
    inputs: Mapping[str, Input]
    jobs: tuple[TemplateJob, ...]
    """In the order of the file."""
    order: tuple[int, ...]
    """Indices of `jobs`, parents before children."""
    file: Path
    source: str
    depends: tuple[Path, ...]
    """Other files that it was checked against."""


def _either(snake: str, camel: str) -> Any:
    return AliasChoices(snake, camel)


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


_Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
_Seconds = Annotated[float, Field(gt=0, le=31_536_000)]


class JobForm(_Form):
    """A job as written. Names of two words may be camelCase or snake_case; snake_case wins."""

    id: _Key
    title: Annotated[str, Field(min_length=1)]
    body: str | None = None
    assignee: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    argv: Annotated[list[str], Field(min_length=1, max_length=4_096)] | None = None
    parents: Annotated[list[str], Field(max_length=MAX_JOBS)] = Field(default_factory=list)
    cwd: str | None = None
    workspace: str | None = None
    env: Annotated[dict[str, str], Field(max_length=256)] = Field(default_factory=dict)
    timeout_s: _Seconds | None = Field(None, validation_alias=_either("timeout_s", "timeoutS"))
    max_retries: Annotated[int, Field(ge=0, le=100)] = Field(
        2, validation_alias=_either("max_retries", "maxRetries")
    )
    approval: Literal["required", "none"] = "none"
    on_reject: OnReject = Field("answer", validation_alias=_either("on_reject", "onReject"))
    approvers: Annotated[
        list[Annotated[str, Field(pattern=r"^(?:owner|admin|[^@\s]{1,64}@[^@\s]{1,250})$")]],
        Field(max_length=50),
    ] = Field(default_factory=list)
    lease_s: _Seconds | None = Field(None, validation_alias=_either("lease_s", "leaseS"))
    labels: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=20)
    ] = Field(default_factory=list)
    result_schema: dict[str, Any] | None = Field(
        None, validation_alias=_either("result_schema", "resultSchema")
    )


class TemplateForm(_Form):
    """A file as written."""

    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    description: Annotated[str, Field(max_length=10_000)] | None = None
    skillet: Annotated[str, Field(min_length=1, max_length=4_096)] | None = None
    workspace: str = "scratch"
    inputs: Annotated[dict[str, dict[str, Any]], Field(max_length=100)] = Field(
        default_factory=dict
    )
    jobs: Annotated[list[JobForm], Field(min_length=1, max_length=MAX_JOBS)]


def form_of(source: Source, file: Path) -> TemplateForm:
    """The document, checked by the models. Raises BadTemplate."""
    try:
        return TemplateForm.model_validate(_normal(source))
    except ValidationError as error:
        faults = []
        for problem in error.errors():
            place = tuple(step for step in problem["loc"] if step != "[key]")
            reason = _reason(problem["type"], problem["msg"], place)
            faults.append(TemplateFault(str(file), source.line(place), place_text(place), reason))
        raise BadTemplate(faults) from error


def _normal(source: Source) -> Any:
    """The document with the numbers in argv and env as they were written, and one spelling
    for each key.
    """
    document = source.value
    if not isinstance(document, dict) or not isinstance(document.get("jobs"), list):
        return document
    jobs = [
        _normal_job(job, ("jobs", i), source) if isinstance(job, dict) else job
        for i, job in enumerate(document["jobs"])
    ]
    return {**document, "jobs": jobs}


def _normal_job(job: dict[str, Any], place: Place, source: Source) -> dict[str, Any]:
    def written(value: Any, at: Place) -> Any:
        plain = isinstance(value, (bool, int, float))
        return source.marks[at].text if plain else value

    normal = dict(job)
    for snake, camel in _SPELLINGS.items():
        if snake in normal:
            normal.pop(camel, None)
    if isinstance(job.get("argv"), list):
        normal["argv"] = [written(v, (*place, "argv", i)) for i, v in enumerate(job["argv"])]
    if isinstance(job.get("env"), dict):
        normal["env"] = {n: written(v, (*place, "env", n)) for n, v in job["env"].items()}
    return normal


_SPELLINGS = {
    name: str(field.validation_alias.choices[1])
    for name, field in JobForm.model_fields.items()
    if isinstance(field.validation_alias, AliasChoices)
}
_JOB_KEYS = (*JobForm.model_fields, *_SPELLINGS.values())
_TOP_KEYS = tuple(TemplateForm.model_fields)

_REASONS = {
    "missing": "This is required.",
    "string_type": "This must be text; put it in quotes if it looks like something else.",
    "list_type": "This must be a list.",
    "dict_type": "This must be a mapping.",
    "model_type": "This must be a mapping.",
    "int_type": "This must be a whole number.",
    "float_type": "This must be a number.",
}


def _reason(kind: str, message: str, place: Place) -> str:
    if kind == "extra_forbidden":
        known = _JOB_KEYS if place[0] == "jobs" else _TOP_KEYS
        near = get_close_matches(str(place[-1]), known, 1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        return f"There is no such key here.{meant}"
    if kind == "string_pattern_mismatch" and place[-1] == "id":
        return (
            "An id must be 1 to 64 letters, digits, '.', '_' and '-', with a letter or digit first."
        )
    if kind == "string_pattern_mismatch":
        return "This must be 'owner', 'admin' or an e-mail address."
    if kind == "string_type" and place[-2:-1] == ("argv",):
        return "An argument must be text or a number; write '' for an empty one."
    return _REASONS.get(kind, f"{message.removeprefix('Value error, ').rstrip('.')}.")
