"""From a template and inputs to a crew that can be committed."""

import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from domain.clock import format_time
from domain.errors import BadInput
from domain.numbers import wrong_number
from scheduler.templates.expressions import CannotRender, Text
from scheduler.templates.format import Input, Template, TemplateJob
from scheduler.templates.plan import CrewPlan, PlannedJob
from scheduler.templates.schemas import MAX_DEPTH, Violation, definition_of
from scheduler.templates.source import Place, place_text

MAX_INPUT = 256 * 1024
"""Most characters of all inputs of one crew."""
MAX_PLAN = 4 * 1024 * 1024
"""Most characters of all texts of one crew."""

_MAX_DEPTH = 32
_LONGEST = {"title": 200, "cwd": 4_096, "argv": 65_536, "env": 65_536}


@lru_cache(maxsize=1_000)
def _folder_of(file: Path) -> str:
    """The folder of a template. It does not change, so the disk is asked only once."""
    return str(file.parent.resolve())


def render(
    template: Template,
    inputs: Mapping[str, Any],
    *,
    at: datetime,
    nominal: datetime | None = None,
) -> CrewPlan:
    """The crew for these inputs. `at` is now, and `nominal` the time that the crew is for (default:
    now). `today` is its date in its own zone.

    Raises BadInput with the path of the mistake in the inputs or in the template, ValueError for a
    naive `at`.
    """
    nominal = at if nominal is None else nominal
    variables: dict[str, Any] = {
        "now": format_time(at),
        "nominal": nominal.isoformat(timespec="seconds"),
        "today": nominal.date().isoformat(),
        "template_dir": _folder_of(template.file),
        "python": sys.executable,
    }
    values = _values(template, inputs, variables)
    variables |= {**values, "inputs": values}
    rendering = _Rendering(variables)
    jobs = tuple(rendering.job(i, template.jobs[i]) for i in template.order)
    return CrewPlan(
        template=template.id,
        name=template.name,
        jobs=jobs,
        inputs=values,
        rendered=tuple(_rendered(template, inputs)),
    )


def _values(
    template: Template, given: Mapping[str, Any], variables: Mapping[str, Any]
) -> dict[str, Any]:
    """Every input of the template: the given ones and the defaults, checked."""
    for name in given:
        if name not in template.inputs:
            known = ", ".join(template.inputs) or "none"
            raise BadInput(place_text(("inputs", name)), f"There is no such input. Known: {known}.")
    values: dict[str, Any] = {}
    room = MAX_INPUT
    for name, wanted in template.inputs.items():
        place: Place = ("inputs", name)
        optional = not wanted.required and wanted.default is None
        if name in given and not (optional and given[name] is None):
            value = given[name]
        elif wanted.required:
            raise BadInput(place_text(place), "This input is required.")
        else:
            value = _default(wanted.default, place, {**variables, **values, "inputs": values})
        for text in _carriable(value, place):
            room -= len(text)
        if room < 0:
            raise BadInput(
                place_text(place), f"All inputs together may have {MAX_INPUT} characters."
            )
        values[name] = _checked(wanted, value, place)
    return values


def _checked(wanted: Input, value: Any, place: Place) -> Any:
    if value is None and wanted.default is None and not wanted.required:
        return None
    wrong: Violation | None = wanted.schema.violation(value)
    if wrong is not None:
        raise BadInput(place_text((*place, *wrong.place)), f"This {wrong.reason}.")
    return _as_declared(wanted.declared, value, wanted.declared)


def _as_declared(schema: Any, value: Any, root: Mapping[str, Any]) -> Any:
    """JSON Schema counts 3.0 as an integer, so what must be one must also look like one, at every
    depth. The value agrees with the schema.
    """
    for _ in range(MAX_DEPTH):
        if not isinstance(schema, Mapping) or "$ref" not in schema:
            break
        schema = root["$defs"][definition_of(schema["$ref"])]
    if not isinstance(schema, Mapping):
        return value
    if isinstance(value, float):
        return int(value) if schema.get("type") == "integer" else value
    if isinstance(value, dict):
        members, others = schema.get("properties", {}), schema.get("additionalProperties")
        return {k: _as_declared(members.get(k, others), v, root) for k, v in value.items()}
    if isinstance(value, list):
        first, rest = schema.get("prefixItems", []), schema.get("items")
        return [
            _as_declared(first[i] if i < len(first) else rest, item, root)
            for i, item in enumerate(value)
        ]
    return value


def _default(value: Any, place: Place, variables: Mapping[str, Any]) -> Any:
    if isinstance(value, Text):
        try:
            return value.render(variables)
        except CannotRender as error:
            raise BadInput(place_text((*place, "default")), str(error)) from error
    if isinstance(value, list):
        return [_default(item, place, variables) for item in value]
    if isinstance(value, dict):
        return {key: _default(item, place, variables) for key, item in value.items()}
    return value


def _rendered(template: Template, given: Mapping[str, Any]) -> Iterator[str]:
    """The inputs that have defaults with expressions now."""
    for name, wanted in template.inputs.items():
        if name not in given and not wanted.required and _is_computed(wanted.default):
            yield name


def _is_computed(default: Any) -> bool:
    if isinstance(default, list):
        return any(map(_is_computed, default))
    if isinstance(default, dict):
        return any(map(_is_computed, default.values()))
    return isinstance(default, Text) and not default.is_constant


def _carriable(value: Any, place: Place) -> Iterator[str]:
    """The texts in a JSON value, if every store and process can carry them. Raises BadInput
    otherwise.
    """
    if len(place) > _MAX_DEPTH:
        raise BadInput(place_text(place[:2]), "This is nested too deeply.")
    if isinstance(value, str):
        yield _sound(value, place)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield _sound(key, place)
            yield from _carriable(item, (*place, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _carriable(item, (*place, i))
            yield " "
    elif (wrong := wrong_number(value)) is not None:
        raise BadInput(place_text(place), wrong)


def _sound(text: Any, place: Place) -> str:
    if not isinstance(text, str):
        raise BadInput(place_text(place), "A key must be text.")
    if "\0" in text:
        raise BadInput(place_text(place), "A NUL character is not allowed here.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadInput(place_text(place), "A lone surrogate is not a character.") from None
    return text


class _Rendering:
    """Renders the jobs of one crew, and counts their characters together."""

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self._variables = variables
        self._room = MAX_PLAN

    def _text(self, text: Text, place: Place) -> str:
        try:
            rendered = text.render(self._variables)
        except CannotRender as error:
            raise BadInput(place_text(place), str(error)) from error
        _sound(rendered, place)
        longest = _LONGEST.get(str(place[2]))
        if longest is not None and len(rendered) > longest:
            raise BadInput(place_text(place), f"This is longer than {longest} characters.")
        self._room -= len(rendered)
        if self._room < 0:
            raise BadInput(place_text(place), f"The crew has more than {MAX_PLAN} characters.")
        return rendered

    def job(self, i: int, job: TemplateJob) -> PlannedJob:
        place: Place = ("jobs", i)
        title = self._text(job.title, (*place, "title")).strip()
        if not title:
            raise BadInput(place_text((*place, "title")), "The title is empty.")
        argv = tuple(self._text(item, (*place, "argv", n)) for n, item in enumerate(job.argv))
        if argv and not argv[0].strip():
            raise BadInput(place_text((*place, "argv", 0)), "This names no program.")
        return PlannedJob(
            key=job.id,
            title=title,
            body=self._text(job.body, (*place, "body")),
            argv=argv,
            assignee=job.assignee,
            parents=job.parents,
            cwd=self._cwd(job, place),
            workspace=job.workspace,
            env={n: self._text(v, (*place, "env", n)) for n, v in job.env.items()},
            timeout_s=job.timeout_s,
            max_retries=job.max_retries,
            approval=job.approval,
            on_reject=job.on_reject,
            approvers=job.approvers,
            lease_s=job.lease_s,
            result_schema=job.result_schema,
            labels=job.labels,
        )

    def _cwd(self, job: TemplateJob, place: Place) -> str | None:
        if job.cwd is None:
            return None
        cwd = self._text(job.cwd, (*place, "cwd"))
        if cwd and not cwd.startswith("/"):
            raise BadInput(place_text((*place, "cwd")), "This is not an absolute path.")
        return cwd or None
