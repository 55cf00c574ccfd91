"""A template file is valid, or each of its mistakes is named with its line and path."""

import json
import tempfile
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.templates import BadTemplate, TemplateFault
from scheduler.templates.check import read_template
from scheduler.templates.format import Template

JOBS = """\
jobs:
  - id: build
    title: Build
    argv: [make]
"""


def read(folder: Path, text: str) -> Template:
    file = folder / "crew.job_workflow.yaml"
    file.write_text(text)
    return read_template(file, folder, "crew")


def faults(folder: Path, text: str) -> list[TemplateFault]:
    with pytest.raises(BadTemplate) as bad:
        read(folder, text)
    return bad.value.faults


def fault(folder: Path, text: str) -> tuple[int, str, str]:
    """The only fault: line, path, reason."""
    (only,) = faults(folder, text)
    assert only.file == str(folder / "crew.job_workflow.yaml")
    return only.line, only.path, only.reason


def job(**keys: str) -> str:
    """A file with one job, which also has these keys from line 5 on."""
    return JOBS + "".join(f"    {key}: {value}\n" for key, value in keys.items())


def test_a_template_of_commands_needs_nothing_else(tmp_path: Path) -> None:
    template = read(tmp_path, JOBS)

    assert (template.id, template.name, template.description) == ("crew", "crew", None)
    (only,) = template.jobs
    assert (only.id, only.title.source, [a.source for a in only.argv]) == (
        *("build", "Build"),
        ["make"],
    )
    assert (only.max_retries, only.approval, only.on_reject) == (2, False, "answer")
    assert only.workspace == "scratch"


REFERENCE = "inputs.x.properties.a['$ref']"


def referring(reference: str, name: str) -> str:
    """A file whose input `x` refers to a definition with this name."""
    refers = {"type": "object", "properties": {"a": {"$ref": reference}}, "$defs": {name: {}}}
    return f"{JOBS}inputs: {json.dumps({'x': refers})}\n"


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("#/$defs/a", "a"),
        ("#/$defs/a~1b", "a/b"),
        ("#/$defs/a~0b", "a~b"),
        ("#/$defs/a~01", "a~1"),
        ("#/$defs/50%25", "50%"),
        ("#/$defs/%F0%9F%9A%80", "\U0001f680"),
        ("#/%24defs/a", "a"),
    ],
)
def test_a_reference_has_the_escapes_of_a_pointer_in_a_uri(
    tmp_path: Path, reference: str, name: str
) -> None:
    declared = read(tmp_path, referring(reference, name)).inputs["x"]
    assert declared.schema.violation({"a": 1}) is None
    assert declared.schema.violation(1) is not None


def test_every_key_is_read_in_both_spellings(tmp_path: Path) -> None:
    snake = job(
        timeout_s="1.5",
        max_retries="0",
        on_reject="fail",
        lease_s="9",
        result_schema="{type: object}",
    )
    camel = job(
        timeoutS="1.5", maxRetries="0", onReject="fail", leaseS="9", resultSchema="{type: object}"
    )

    for text in (snake, camel):
        (only,) = read(tmp_path, text).jobs
        assert (only.timeout_s, only.max_retries, only.on_reject, only.lease_s) == (
            1.5,
            0,
            "fail",
            9,
        )
        assert only.result_schema == {"type": "object"}


def test_snake_case_wins_where_both_spellings_stand(tmp_path: Path) -> None:
    text = job(resultSchema="{type: array}", result_schema="{type: object}", maxRetries="7")

    (only,) = read(tmp_path, text).jobs

    assert only.result_schema == {"type": "object"}
    assert only.max_retries == 7


def test_scalars_are_read_as_yaml_1_2_does(tmp_path: Path) -> None:
    text = job(env="{A: yes, B: 1.10, C: 2026-01-31, D: on, E: 0755, F: true}").replace(
        "[make]", "[make, 1.10, 0755, no]"
    )

    (only,) = read(tmp_path, text).jobs

    assert [item.source for item in only.argv] == ["make", "1.10", "0755", "no"]
    assert {name: value.source for name, value in only.env.items()} == {
        "A": "yes",
        "B": "1.10",
        "C": "2026-01-31",
        "D": "on",
        "E": "0755",
        "F": "true",
    }


def test_an_anchor_can_be_used_again(tmp_path: Path) -> None:
    text = job(result_schema="&s {type: object}") + (
        "  - {id: b, title: B, argv: [x], result_schema: *s}\n"
    )

    assert [j.result_schema for j in read(tmp_path, text).jobs] == [{"type": "object"}] * 2


def test_jobs_are_ordered_by_their_parents_and_else_as_in_the_file(tmp_path: Path) -> None:
    lines = ["d: [b, c]", "x: []", "b: [a]", "c: [a]", "a: []"]
    pairs = [line.split(": ") for line in lines]
    text = "jobs:\n" + "".join(
        f"  - {{id: {key}, title: T, argv: [x], parents: {parents}}}\n" for key, parents in pairs
    )

    template = read(tmp_path, text)

    assert [template.jobs[i].id for i in template.order] == ["x", "a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("text", "line", "path", "reason"),
    [
        ("", 1, "(file)", "empty"),
        ("jobs: [", 1, "(file)", "Not valid YAML"),
        ("a: 1\nb: x: y\n", 2, "(file)", "Not valid YAML"),
        ("- jobs\n", 1, "(file)", "must be a mapping"),
        ("name: x\n", 1, "jobs", "required"),
        ("jobs: []\n", 1, "jobs", "at least 1"),
        (JOBS + "jbos: 1\n", 5, "jbos", "mean 'jobs'"),
        (job(tilte="x"), 5, "jobs[0].tilte", "mean 'title'"),
        (job(title="Again"), 5, "(file)", "first on line 3"),
        (JOBS.replace("    title: Build\n", ""), 2, "jobs[0].title", "required"),
        (JOBS.replace("Build", "7"), 3, "jobs[0].title", "must be text"),
        (JOBS.replace("build", "a/b"), 2, "jobs[0].id", "An id must be"),
        (JOBS + "  - {id: build, title: T, argv: [x]}\n", 5, "jobs[1].id", "twice"),
        (JOBS.replace("[make]", "make"), 4, "jobs[0].argv", "must be a list"),
        (JOBS.replace("[make]", "[]"), 4, "jobs[0].argv", "at least 1"),
        (JOBS.replace("[make]", "[make, ~]"), 4, "jobs[0].argv[1]", "text or a number"),
        (JOBS.replace("[make]", "[' ']"), 4, "jobs[0].argv[0]", "names the program"),
        (JOBS.replace("    argv: [make]\n", ""), 2, "jobs[0]", "an assignee or an argv"),
        (job(parents="[nobody]"), 5, "jobs[0].parents[0]", "no job 'nobody'"),
        (job(parents="[build]"), 5, "jobs[0].parents[0]", "build ← build"),
        (job(env="{1A: x}"), 5, "jobs[0].env['1A']", "not a name"),
        (job(env="{CREWLOG_RESULT: x}"), 5, "jobs[0].env.CREWLOG_RESULT", "belongs to"),
        (job(timeout_s="0"), 5, "jobs[0].timeout_s", "greater than 0"),
        (job(timeoutS="soon"), 5, "jobs[0].timeoutS", "must be a number"),
        (job(maxRetries="-1"), 5, "jobs[0].maxRetries", "greater than or equal to 0"),
        (job(maxRetries="1.5"), 5, "jobs[0].maxRetries", "whole number"),
        (job(approval="maybe"), 5, "jobs[0].approval", "'required' or 'none'"),
        (job(onReject="shout"), 5, "jobs[0].onReject", "'answer' or 'fail'"),
        (job(approvers="[owner, bob]"), 5, "jobs[0].approvers[1]", "e-mail"),
        (job(labels="['']"), 5, "jobs[0].labels[0]", "at least 1 character"),
        (job(workspace="worktree"), 5, "jobs[0].workspace", "not available"),
        (job(workspace="dir:../other"), 5, "jobs[0].workspace", "below"),
        (job(workspace="dir:/etc"), 5, "jobs[0].workspace", "below"),
        (job(workspace="home"), 5, "jobs[0].workspace", "A workspace must be"),
        (JOBS + "workspace: worktree\n", 5, "workspace", "not available"),
        (
            job(result_schema="{type: objekt}"),
            5,
            "jobs[0].result_schema.type",
            "does not have this type",
        ),
        (job(resultSchema="{$ref: 'http://x/y'}"), 5, "jobs[0].resultSchema['$ref']", "$defs"),
        (referring("#/$defs/a~1b", "a~1b"), 5, REFERENCE, "as ~1"),
        (referring("#/$defs/a/b", "a/b"), 5, REFERENCE, "as ~1"),
        (referring("#/$defs/50%25", "50%25"), 5, REFERENCE, "as %25"),
        (referring("#/$defs/%F0%9F", "%F0%9F"), 5, REFERENCE, "as %25"),
        (referring("#/$defs/a~b/c", "a~b"), 5, REFERENCE, "#/$defs/NAME"),
        (referring("#$defs/a", "a"), 5, REFERENCE, "#/$defs/NAME"),
        (job(body=f"'{{{{ {'9' * 5_000} }}}}'"), 5, "jobs[0].body", "too many digits"),
        (
            job(body=f"|\n      one\n      {{{{ {'9' * 5_000} }}}}"),
            7,
            "jobs[0].body",
            "many digits",
        ),
        (job(body=f"'{{{{ today.{'9' * 5_000} }}}}'"), 5, "jobs[0].body", "too many digits"),
        (job(body=f"'{{{{ 0x{'f' * 9_000} }}}}'"), 5, "jobs[0].body", "too many digits"),
        (job(body="'{{ 1e999 }}'"), 5, "jobs[0].body", "too large"),
        (job(body="""'{{ "\\ud83d" }}'"""), 5, "jobs[0].body", "surrogate"),
        (job(body="""'{{ "\\u0000" }}'"""), 5, "jobs[0].body", "NUL"),
        (job(body="""'{{ today | replace("-", "\\x00") }}'"""), 5, "jobs[0].body", "NUL"),
        (job(body="""'{{ inputs["\\ud83d"] }}'"""), 5, "jobs[0].body", "surrogate"),
        (job(result_schema="{pattern: '('}"), 5, "jobs[0].result_schema.pattern", "regular"),
        (job(body="'{{ nothing }}'"), 5, "jobs[0].body", "no input 'nothing'"),
        (job(body="'{{ inputs.nothing }}'"), 5, "jobs[0].body", "no input 'nothing'"),
        (job(body="|\n      one\n      {{ 1 + }}"), 7, "jobs[0].body", "end of print"),
        (JOBS + "inputs: {1x: {}}\n", 5, "inputs['1x']", "A name must be"),
        (JOBS + "inputs: {today: {}}\n", 5, "inputs.today", "is reserved"),
        (JOBS + "inputs:\n  a:\n", 6, "inputs.a", "must be a mapping"),
        (JOBS + "inputs: {a: {type: text}}\n", 5, "inputs.a.type", "The type must be one of"),
        (JOBS + "inputs: {a: {defualt: 1}}\n", 5, "inputs.a.defualt", "no such key"),
        (JOBS + "inputs: {a: {minimum: x}}\n", 5, "inputs.a.minimum", "not JSON Schema"),
        (JOBS + "inputs: {a: {description: 3}}\n", 5, "inputs.a.description", "type string"),
        (
            JOBS + "inputs: {a: {type: integer, default: x}}\n",
            *(5, "inputs.a.default", "not of type integer"),
        ),
        (
            JOBS + "inputs: {a: {default: '{{ b }}'}, b: {}}\n",
            *(5, "inputs.a.default", "no input 'b' above it"),
        ),
    ],
)
def test_each_mistake_has_its_line_and_place(
    tmp_path: Path, text: str, line: int, path: str, reason: str
) -> None:
    mistake = fault(tmp_path, text)

    assert mistake[:2] == (line, path)
    assert reason in mistake[2]


def test_all_mistakes_of_a_file_are_said_at_once(tmp_path: Path) -> None:
    text = job(parents="[a, b]", workspace="worktree", body="'{{ c }}'")

    assert [(f.line, f.path) for f in faults(tmp_path, text)] == [
        *((5, "jobs[0].parents[0]"), (5, "jobs[0].parents[1]")),
        *((6, "jobs[0].workspace"), (7, "jobs[0].body")),
    ]


def test_a_circle_is_named_where_it_begins(tmp_path: Path) -> None:
    text = """\
jobs:
  - {id: e, title: T, argv: [x], parents: [c]}
  - {id: b, title: T, argv: [x], parents: [a, d]}
  - {id: c, title: T, argv: [x], parents: [b]}
  - {id: d, title: T, argv: [x], parents: [c]}
  - {id: a, title: T, argv: [x]}
"""
    line, path, reason = fault(tmp_path, text)

    assert (line, path) == (3, "jobs[1].parents[1]")
    assert "b ← d ← c ← b" in reason


def test_more_than_a_hundred_jobs_are_refused(tmp_path: Path) -> None:
    text = "jobs:\n" + "".join(f"  - {{id: j{i}, title: T, argv: [x]}}\n" for i in range(101))

    assert "at most 100" in fault(tmp_path, text)[2]


# Agents

AGENTS = """\
skillet: crew.skilled_crew.yaml
jobs:
  - {id: a, assignee: writer, title: T, body: Write.}
"""


def test_an_agent_comes_from_the_skillet(tmp_path: Path) -> None:
    (tmp_path / "crew.skilled_crew.yaml").write_text("agents: {writer: {model: x}}\n")

    (only,) = read(tmp_path, AGENTS).jobs

    assert (only.assignee, only.argv, only.body.source) == ("writer", (), "Write.")


@pytest.mark.parametrize(
    ("skillet", "line", "path", "reason"),
    [
        (None, 1, "skillet", "regular file"),
        ("agents: {reader: {}}", 3, "jobs[0].assignee", "no such agent"),
        ("tools: {}", 1, "skillet", "no mapping 'agents'"),
        ("[]", 1, "skillet", "no mapping 'agents'"),
        ("agents: {", 1, "skillet", "Not valid YAML"),
    ],
)
def test_a_skillet_must_be_there_and_know_the_agent(
    tmp_path: Path, skillet: str | None, line: int, path: str, reason: str
) -> None:
    if skillet is not None:
        (tmp_path / "crew.skilled_crew.yaml").write_text(skillet)

    mistake = fault(tmp_path, AGENTS)

    assert mistake[:2] == (line, path)
    assert reason in mistake[2]


def test_a_skillet_outside_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "outside.yaml").write_text("agents: {writer: {}}\n")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link.yaml").symlink_to(tmp_path / "outside.yaml")

    for named in ("../outside.yaml", "link.yaml", str(tmp_path / "outside.yaml")):
        mistake = fault(inside, AGENTS.replace("crew.skilled_crew.yaml", named))
        assert mistake[1:] == ("skillet", "This leads out of the template directory.")


def test_agents_need_a_skillet_and_a_body_and_no_argv(tmp_path: Path) -> None:
    assert "skillet" in fault(tmp_path, AGENTS.partition("\n")[2])[2]
    (tmp_path / "crew.skilled_crew.yaml").write_text("agents: {writer: {}}\n")
    assert "needs a body" in fault(tmp_path, AGENTS.replace(", body: Write.", ""))[2]
    assert "not both" in fault(tmp_path, AGENTS.replace("body:", "argv: [x], body:"))[2]


# Hostile files


def test_an_alias_bomb_is_refused(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
    )

    assert "aliases included" in fault(tmp_path, bomb)[2]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &a [*a]\n", "levels deep"),
        ("a: " + "[" * 5_000, "levels deep"),
        ("a: " + "{a: " * 5_000, "levels deep"),
        ("a: [" + "x," * 30_000 + "]", "More than"),
        ("a: !!python/object/apply:os.system [id]\n", "Custom tags"),
        ("a: !own 1\n", "Custom tags"),
        ("a: !!binary aGk=\n", "Custom tags"),
        ("a: &a {b: 1}\nc:\n  <<: *a\n", "Merge keys"),
        ("? [a]\n: 1\n", "A key must be text"),
        ("1: a\n", "A key must be text"),
        ("a: 1e999\n", "not a number"),
        ("a: !!int x\n", "not a number"),
        ("a: \x07\n", "control character"),
        ("a: 1\n---\nb: 1\n", "another document"),
        ("# " + "x" * 1024 * 1024, "larger than 1024 KiB"),
    ],
)
def test_yaml_that_is_more_than_data_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    assert reason in fault(tmp_path, text)[2]


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "crew.job_workflow.yaml"
    file.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(BadTemplate) as bad:
        read_template(file, tmp_path, "crew")
    assert (bad.value.faults[0].line, bad.value.faults[0].reason) == (2, "The text is not UTF-8.")


TWO_ESCAPES = "\\ud83d\\ude80"
ROCKET = "\U0001f680"


def as_json(**keys: Any) -> str:
    """A file in JSON, which is YAML; characters beyond ASCII are escaped."""
    work = {"id": "a", "title": "A", "argv": ["echo"]}
    return json.dumps({"jobs": [work], **keys})


def test_two_escapes_of_json_are_one_character(tmp_path: Path) -> None:
    default = {"x": {"description": ROCKET, "enum": [ROCKET], "default": ROCKET}}
    text = as_json(name=ROCKET, inputs=default)
    assert TWO_ESCAPES in text
    template = read(tmp_path, text)
    assert template.name == ROCKET
    assert template.inputs["x"].declared == default["x"]


@pytest.mark.parametrize("wrong", ["\\ud83d", "\\ude80\\ud83d", "\\u0000", "x\\0y"])
@pytest.mark.parametrize(
    "place",
    [
        'description: "X"',
        'skillet: "X"',
        'workspace: "dir:X"',
        'inputs: {x: {description: "X"}}',
        'inputs: {x: {enum: ["X"]}}',
        'inputs: {x: {"X": 1}}',
        'inputs: {x: {default: {"X": 1}}}',
    ],
)
def test_what_is_no_character_is_a_mistake_with_its_line(
    tmp_path: Path, wrong: str, place: str
) -> None:
    line, path, reason = fault(tmp_path, JOBS + place.replace("X", wrong) + "\n")
    assert (line, path) == (5, "(file)")
    assert "surrogate" in reason or "NUL" in reason


@pytest.mark.parametrize(
    ("text", "line", "path"),
    [
        ("inputs: {n: {default: 9223372036854775808}}", 5, "inputs.n.default"),
        ("inputs: {n: {default: [1, 123456789012345678901]}}", 5, "inputs.n.default[1]"),
        ("inputs:\n  n:\n    enum: [-123456789012345678901]", 7, "inputs.n.enum[0]"),
        ("inputs: {n: {type: integer, default: 1e22}}", 5, "inputs.n.default"),
        (f"inputs: {{n: {{default: {'9' * 500}}}}}", 5, "(file)"),
        ("inputs: {n: {default: 1e999}}", 5, "(file)"),
    ],
)
def test_a_number_that_is_not_exact_is_a_mistake_at_its_place(
    tmp_path: Path, text: str, line: int, path: str
) -> None:
    assert fault(tmp_path, JOBS + text + "\n")[:2] == (line, path)


def test_a_large_number_in_argv_is_as_it_was_written(tmp_path: Path) -> None:
    template = read(tmp_path, JOBS.replace("[make]", "[make, 123456789012345678901]"))
    assert template.jobs[0].argv[1].source == "123456789012345678901"


ODD = st.sampled_from(
    [
        *("{", "}", "[", "]", ":", ",", "-", "?", "!", "&a", "*a", "|", ">", "%", "@", "`", "#"),
        *("'", '"', '"\\ud800"', '"\\U00110000"', '"\\0"', '"\\x"', "!!binary x", "!!set {a}"),
        *("<<", "~", "1e999", "0x1", ".nan", "-.inf", "9" * 30, "2026-01-01", "\t", "\r", "\x85"),
        *("\u2028", "\ufeff", "%YAML 1.1\n", "---\n", "...\n", "\n", "  ", " ", "jobs", "inputs"),
        *("{{ x }}", "{% if", "{# ", "default", "type", "path", "$ref", "enum", "pattern", "("),
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(ODD, st.text(max_size=3)), max_size=12), st.sampled_from(["", JOBS]))
def test_no_text_makes_the_reader_fail(parts: list[str], begin: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "crew.job_workflow.yaml")
        file.write_text(begin + "".join(parts), encoding="utf-8", errors="ignore")
        try:
            template = read_template(file, Path(folder), "crew")
        except BadTemplate as bad:
            shown: Any = [[fault.path, fault.line, fault.reason] for fault in bad.faults]
            assert shown
        else:
            shown = [template.name, {name: i.declared for name, i in template.inputs.items()}]
        orjson.dumps(shown)
