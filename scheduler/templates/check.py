"""From a file to a template, or to all its mistakes. Checks that its parts agree with each other
and with the files that it refers to.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from domain.numbers import NOT_EXACT, wrong_numbers
from scheduler.templates.expressions import BadExpression, Text
from scheduler.templates.faults import SUFFIX, BadTemplate, TemplateFault
from scheduler.templates.format import (
    Input,
    JobForm,
    Template,
    TemplateForm,
    TemplateJob,
    form_of,
)
from scheduler.templates.schemas import BadSchema, Schema
from scheduler.templates.source import Place, Source, Unreadable, parse, place_text, read_file
from scheduler.workspaces.environment import valid_name

_RESERVED = frozenset({"inputs", "today", "now", "template_dir", "python"})
BUILT_IN = _RESERVED | {"nominal"}
"""Variables of every text, beside the inputs. An input may be called ``nominal``, as before this
variable existed. The name then means the input.
"""

_INPUT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_TYPES = ("string", "integer", "number", "boolean", "array", "object", "path")
_LITERALS = frozenset({"true", "false", "none", "True", "False", "None"})
_ANNOTATIONS = frozenset(
    {"title", "description", "default", "examples", "deprecated", "format", "$defs", "$comment"}
)
_KEYWORDS = (frozenset(Draft202012Validator.VALIDATORS) | _ANNOTATIONS) - {"$dynamicRef"}


def read_template(file: Path, root: Path, template_id: str) -> Template:
    """The template in `file`, which may refer to other files below `root`. Raises BadTemplate."""
    try:
        text = read_file(file)
        source = parse(text)
    except Unreadable as error:
        raise BadTemplate([TemplateFault(str(file), error.line, "(file)", error.reason)]) from error
    form = form_of(source, file)
    checker = _Checker(form, source, file, root)
    inputs = checker.inputs()
    jobs = tuple(checker.job(i, job) for i, job in enumerate(form.jobs))
    order = checker.order()
    depends = checker.skillet()
    if checker.faults:
        raise BadTemplate(checker.faults, depends)
    return Template(
        id=template_id,
        name=form.name or file.name.removesuffix(SUFFIX),
        description=form.description,
        inputs=inputs,
        jobs=jobs,
        order=order,
        file=file,
        source=text,
        depends=depends,
    )


class _Checker:
    """Goes through a form once, collects faults, and builds the parts of the template."""

    def __init__(self, form: TemplateForm, source: Source, file: Path, root: Path) -> None:
        self.faults: list[TemplateFault] = []
        self._form = form
        self._source = source
        self._file = file
        self._root = root

    def _fault(self, place: Place, reason: str, line: int | None = None) -> None:
        self.faults.append(
            TemplateFault(
                str(self._file), line or self._source.line(place), place_text(place), reason
            )
        )

    def inputs(self) -> dict[str, Input]:
        found: dict[str, Input] = {}
        for name, declared in self._form.inputs.items():
            place: Place = ("inputs", name)
            if not _INPUT_NAME.fullmatch(name):
                self._fault(
                    place, "A name must be 1 to 64 letters, digits and '_', no digit first."
                )
            elif name in _RESERVED or name in _LITERALS:
                self._fault(place, "This name is reserved; choose another.")
            for key in declared:
                if key not in _KEYWORDS:
                    self._fault((*place, key), "There is no such key here.")
            made = self._input(name, declared, place, known=list(found))
            if made is not None:
                found[name] = made
        return found

    def _input(
        self, name: str, declared: dict[str, Any], place: Place, known: Sequence[str]
    ) -> Input | None:
        if self._numbers(declared, place):
            return None
        kind = declared.get("type")
        if kind is not None and kind not in _TYPES:
            self._fault((*place, "type"), f"The type must be one of {', '.join(_TYPES)}.")
            return None
        try:
            schema = Schema(json_schema(declared))
        except BadSchema as error:
            self._fault((*place, *error.place), error.reason)
            return None
        before = len(self.faults)
        default = self._default(declared.get("default"), (*place, "default"), known)
        if len(self.faults) == before and declared.get("default") is not None:
            self._check_default(schema, declared["default"], (*place, "default"))
        return Input(
            name=name,
            declared=declared,
            schema=schema,
            required="default" not in declared,
            default=default,
        )

    def _default(self, value: Any, place: Place, known: Sequence[str]) -> Any:
        """A default with compiled texts. They may use the inputs above it."""
        if isinstance(value, str):
            return self._text(value, place, known)
        if isinstance(value, list):
            return [self._default(item, (*place, i), known) for i, item in enumerate(value)]
        if isinstance(value, dict):
            return {k: self._default(item, (*place, k), known) for k, item in value.items()}
        return value

    def _numbers(self, value: Any, place: Place) -> bool:
        """Whether it has numbers that cannot be kept exactly. Each of them is a fault. A bound in a
        schema is compared with only, so it may be any number.
        """
        wrong = [
            (where, reason)
            for where, reason in wrong_numbers(value, place)
            if reason != NOT_EXACT or where[2:3] == ("default",)
        ]
        for where, reason in wrong:
            self._fault(where, reason)
        return bool(wrong)

    def _check_default(self, schema: Schema, value: Any, place: Place) -> None:
        """A default with expressions is checked when it is rendered."""
        if all(Text(text).is_constant for text in _texts(value)):
            wrong = schema.violation(value)
            if wrong is not None:
                self._fault((*place, *wrong.place), f"The default {wrong.reason}.")

    def _text(self, text: str, place: Place, known: Iterable[str]) -> Text:
        inputs = frozenset(known)
        try:
            compiled = Text(text)
        except BadExpression as error:
            self._fault(place, error.reason, self._source.text_line(place) + error.line - 1)
            return Text("")
        unknown = (compiled.names - BUILT_IN - inputs) | (compiled.inputs - inputs)
        for name in sorted(unknown):
            what = "above it" if place[0] == "inputs" else "of this template"
            self._fault(place, f"There is no input {name!r} {what}.")
        return compiled

    def job(self, i: int, job: JobForm) -> TemplateJob:
        place: Place = ("jobs", i)
        inputs = self._form.inputs
        self._check_work(job, place)
        self._check_result_schema(job, place)
        for name in job.env:
            if not valid_name(name):
                self._fault((*place, "env", name), "This is not a name of an environment variable.")
            elif name.upper().startswith("CREWLOG_") or name.upper() == "GITOMA_API_TOKEN":
                self._fault((*place, "env", name), "This variable belongs to the server.")
        return TemplateJob(
            id=job.id,
            title=self._text(job.title, (*place, "title"), inputs),
            body=self._text(job.body or "", (*place, "body"), inputs),
            argv=tuple(
                self._text(item, (*place, "argv", n), inputs)
                for n, item in enumerate(job.argv or ())
            ),
            assignee=job.assignee,
            parents=tuple(job.parents),
            cwd=None if job.cwd is None else self._text(job.cwd, (*place, "cwd"), inputs),
            workspace=self._workspace(job, place),
            env={n: self._text(v, (*place, "env", n), inputs) for n, v in job.env.items()},
            timeout_s=job.timeout_s,
            max_retries=job.max_retries,
            approval=job.approval == "required",
            on_reject=job.on_reject,
            approvers=tuple(job.approvers),
            lease_s=job.lease_s,
            labels=tuple(job.labels),
            result_schema=job.result_schema,
        )

    def _check_work(self, job: JobForm, place: Place) -> None:
        if (job.assignee is None) is (job.argv is None):
            both = job.argv is not None
            wanted = "one of assignee and argv, not both" if both else "an assignee or an argv"
            self._fault((*place, "argv") if both else place, f"A job has {wanted}.")
        if job.assignee is not None and not (job.body or "").strip():
            self._fault(place, "A job of an agent needs a body: what it is to do.")
        if job.argv is not None and not job.argv[0].strip():
            self._fault((*place, "argv", 0), "The first item names the program to run.")

    def _check_result_schema(self, job: JobForm, place: Place) -> None:
        if job.result_schema is None:
            return
        written = self._source.value["jobs"][place[1]]
        key = "result_schema" if "result_schema" in written else "resultSchema"
        if self._numbers(job.result_schema, (*place, key)):
            return
        try:
            Schema(job.result_schema)
        except BadSchema as error:
            self._fault((*place, key, *error.place), error.reason)

    def _workspace(self, job: JobForm, place: Place) -> str:
        own = job.workspace is not None
        workspace = job.workspace if job.workspace is not None else self._form.workspace
        kind, colon, below = workspace.partition(":")
        if workspace == "scratch":
            return workspace
        where = (*place, "workspace") if own else ("workspace",)
        if kind == "worktree":
            self._fault(where, "Worktrees are not available; use scratch or dir:NAME.")
        elif kind != "dir" or not colon or not below.strip():
            self._fault(
                where, "A workspace must be scratch, or dir:NAME for a folder beside this file."
            )
        else:
            folder = self._file.parent.resolve()
            meant = (folder / below).resolve()
            if Path(below).is_absolute() or not meant.is_relative_to(folder):
                self._fault(where, "The folder must be below the folder of this file.")
            return str(meant)
        return "scratch"

    def order(self) -> tuple[int, ...]:
        """Indices of the jobs: parents before children, otherwise as in the file."""
        jobs = self._form.jobs
        first: dict[str, int] = {}
        for i, job in enumerate(jobs):
            if first.setdefault(job.id, i) != i:
                self._fault(("jobs", i, "id"), f"The id {job.id!r} is used twice.")
        for i, job in enumerate(jobs):
            for n, parent in enumerate(job.parents):
                if parent not in first:
                    self._fault(("jobs", i, "parents", n), f"There is no job {parent!r}.")
                elif parent in job.parents[:n]:
                    self._fault(("jobs", i, "parents", n), f"{parent!r} is listed twice.")
        placed: list[int] = []
        while ready := _first_ready(jobs, placed, first):
            placed.append(ready[0])
        if len(placed) < len(jobs):
            self._fault_of_cycle(set(range(len(jobs))) - set(placed), first)
        return tuple(placed)

    def _fault_of_cycle(self, left: set[int], first: dict[str, int]) -> None:
        """Each job that is left waits for another one that is left: following them ends in a
        circle.
        """
        jobs = self._form.jobs
        walked: list[int] = []
        i = min(left)
        while i not in walked:
            walked.append(i)
            i = next(first[p] for p in jobs[i].parents if first.get(p) in left)
        cycle = walked[walked.index(i) :]
        start = min(cycle)
        turn = cycle.index(start)
        cycle = [*cycle[turn:], *cycle[:turn], start]
        ids = [jobs[k].id for k in cycle]
        n = jobs[start].parents.index(ids[1])
        self._fault(("jobs", start, "parents", n), f"These wait for each other: {' ← '.join(ids)}.")

    def skillet(self) -> tuple[Path, ...]:
        """The skillet file. It must exist and know the template's agents."""
        named = self._form.skillet
        assigned = [(i, job.assignee) for i, job in enumerate(self._form.jobs) if job.assignee]
        if named is None:
            if assigned:
                where = ("jobs", assigned[0][0], "assignee")
                self._fault(where, "A template with agents must name their file as its 'skillet'.")
            return ()
        meant = (self._file.parent / named).resolve()
        if not meant.is_relative_to(self._root.resolve()):
            self._fault(("skillet",), "This leads out of the template directory.")
            return ()
        try:
            document = parse(read_file(meant)).value
        except Unreadable as error:
            self._fault(("skillet",), f"This file cannot be used: {error.reason}")
            return (meant,)
        agents = document.get("agents") if isinstance(document, dict) else None
        if not isinstance(agents, dict):
            self._fault(("skillet",), "This file has no mapping 'agents'.")
            return (meant,)
        for i, assignee in assigned:
            if assignee not in agents:
                self._fault(("jobs", i, "assignee"), "There is no such agent in the skillet.")
        return (meant,)


def json_schema(declared: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of an input. A ``path`` is a text that begins with ``/``."""
    schema = {key: value for key, value in declared.items() if key != "default"}
    if schema.get("type") == "path":
        schema["type"] = "string"
        also = schema.get("allOf", [])
        if isinstance(also, list):
            schema["allOf"] = [*also, {"pattern": "^/"}]
    return schema


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _first_ready(
    jobs: Sequence[JobForm], placed: Sequence[int], first: dict[str, int]
) -> list[int]:
    """The first job whose parents are all placed. Parents that do not exist do not count."""
    done = set(placed)
    for i, job in enumerate(jobs):
        waits = any(first.get(parent, i) not in done for parent in job.parents if parent in first)
        if i not in done and not waits:
            return [i]
    return []
