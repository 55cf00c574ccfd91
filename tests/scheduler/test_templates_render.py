"""A template and inputs give a crew, or the path of the mistake; inputs only ever become text."""

import json
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from domain.errors import BadInput
from scheduler.templates import Catalog
from scheduler.templates.check import read_template
from scheduler.templates.expressions import FILTERS, MAX_TEXT, BadExpression, CannotRender, Text
from scheduler.templates.plan import CrewPlan
from scheduler.templates.render import render
from scheduler.templates.schemas import Schema

AT = datetime(2026, 3, 31, 23, 30, tzinfo=UTC)


def crew(folder: Path, text: str, /, **inputs: Any) -> CrewPlan:
    file = folder / "crew.job_workflow.yaml"
    file.write_text(text)
    return render(read_template(file, folder, "crew"), inputs, at=AT)


def refused(folder: Path, text: str, /, **inputs: Any) -> tuple[str, str]:
    with pytest.raises(BadInput) as refusal:
        crew(folder, text, **inputs)
    return refusal.value.path, refusal.value.reason


def echo(item: str, inputs: str = "{}") -> str:
    return f"inputs: {inputs}\njobs:\n  - {{id: a, title: T, argv: [echo, {item!r}]}}\n"


def test_every_text_of_a_job_is_rendered(tmp_path: Path) -> None:
    text = """\
name: Deploy
inputs:
  service: {type: string}
  force: {type: boolean, default: false}
jobs:
  - id: second
    title: Deploy {{ service }}
    body: "{{ service|upper }} on {{ today }}{% if force %}, by force{% endif %}"
    argv: [deploy, "--name={{ inputs.service }}", "{{ 'force' if force else 'gently' }}"]
    env: {SERVICE: "{{ service }}"}
    cwd: /srv/{{ service }}
    parents: [first]
    workspace: dir:work
    approval: required
    onReject: fail
    approvers: [owner, ann@example.org]
    timeout_s: 60
    lease_s: 5
    labels: [deploy]
  - {id: first, title: "First", argv: [test, -d, "{{ template_dir }}"]}
"""
    plan = crew(tmp_path, text, service="web", force=True)

    first, second = plan.jobs
    assert (plan.template, plan.name) == ("crew", "Deploy")
    assert plan.inputs == {"service": "web", "force": True}
    assert first.argv == ("test", "-d", str(tmp_path))
    assert (second.key, second.title, second.parents) == ("second", "Deploy web", ("first",))
    assert second.body == "WEB on 2026-03-31, by force"
    assert second.argv == ("deploy", "--name=web", "force")
    assert (second.env, second.cwd) == ({"SERVICE": "web"}, "/srv/web")
    assert second.workspace == str(tmp_path / "work")
    assert (second.approval, second.on_reject) == (True, "fail")
    assert second.approvers == ("owner", "ann@example.org")
    assert (second.timeout_s, second.lease_s, second.labels) == (60, 5, ("deploy",))


def test_one_item_is_one_argument_whatever_is_in_it(tmp_path: Path) -> None:
    hostile = "a b; $(touch /tmp/x) `id` 'q' \"{{ today }}\"\n--flag"

    plan = crew(tmp_path, echo("{{ x }}", "{x: {}}"), x=hostile)

    assert plan.jobs[0].argv == ("echo", hostile)


def test_today_is_the_date_in_the_zone_of_the_moment(tmp_path: Path) -> None:
    file = tmp_path / "crew.job_workflow.yaml"
    file.write_text(echo("{{ today }} {{ now }} {{ python }}"))
    template = read_template(file, tmp_path, "crew")
    later = AT.astimezone(timezone(timedelta(hours=2)))

    assert render(template, {}, at=later).jobs[0].argv[1] == (
        f"2026-04-01 2026-03-31T23:30:00.000000Z {sys.executable}"
    )
    with pytest.raises(ValueError, match="zone"):
        render(template, {}, at=AT.replace(tzinfo=None))


def test_today_is_the_date_of_what_the_crew_is_for(tmp_path: Path) -> None:
    file = tmp_path / "crew.job_workflow.yaml"
    file.write_text(echo("{{ today }} {{ nominal }} {{ now }}"))
    template = read_template(file, tmp_path, "crew")
    nominal = datetime(2026, 3, 1, 2, 30, tzinfo=timezone(timedelta(hours=-5)))

    assert render(template, {}, at=AT, nominal=nominal).jobs[0].argv[1] == (
        "2026-03-01 2026-03-01T02:30:00-05:00 2026-03-31T23:30:00.000000Z"
    )
    assert render(template, {}, at=AT).jobs[0].argv[1] == (
        "2026-03-31 2026-03-31T23:30:00+00:00 2026-03-31T23:30:00.000000Z"
    )


def test_an_input_that_is_called_nominal_is_what_the_name_means(tmp_path: Path) -> None:
    plan = crew(tmp_path, echo("{{ nominal }}", "{nominal: {type: string}}"), nominal="mine")
    assert plan.jobs[0].argv[1] == "mine"


@pytest.mark.parametrize("given", [1e22, 2.0**53 + 2, 2.0**53, -1e300])
def test_a_whole_number_that_is_not_exact_is_refused(tmp_path: Path, given: float) -> None:
    path, reason = refused(tmp_path, echo("{{ n }}", "{n: {type: integer}}"), n=given)
    assert (path, "exact" in reason) == ("inputs.n", True)


DEEP = "{o: {properties: {i: {type: integer}, l: {items: {type: number}}}}}"


@pytest.mark.parametrize("given", [1e22, 2.0**53, -9007199254740993.0, 12345678901234567890.0])
@pytest.mark.parametrize(
    ("inputs", "name", "shape", "place"),
    [
        ("{o: {type: number}}", "o", "{}", "inputs.o"),
        ("{o: {}}", "o", "{}", "inputs.o"),
        ("{o: {type: object}}", "o", '{"a": [{"b": {}}]}', "inputs.o.a[0].b"),
        (DEEP, "o", '{"i": {}}', "inputs.o.i"),
        (DEEP, "o", '{"l": [0.5, {}]}', "inputs.o.l[1]"),
    ],
)
def test_a_number_that_was_rounded_is_refused_at_any_depth(
    tmp_path: Path, given: float, inputs: str, name: str, shape: str, place: str
) -> None:
    value = json.loads(shape.replace("{}", repr(given)))
    path, reason = refused(tmp_path, echo("x", inputs), **{name: value})
    assert (path, "exact" in reason) == (place, True)


@pytest.mark.parametrize(
    "inputs",
    [
        "{o: {properties: {i: {type: integer}, x: {type: number}}, additionalProperties: {}}}",
        "{o: {properties: {x: {}}, additionalProperties: {type: integer}}}",
        "{o: {properties: {i: {$ref: '#/$defs/n'}}, $defs: {n: {type: integer}}}}",
        "{o: {properties: {i: {$ref: '#/$defs/a~1b~0%25'}}, $defs: {'a/b~%': {type: integer}}}}",
        "{o: {properties: {i: {type: integer}}}}",
    ],
)
def test_a_nested_integer_looks_like_one(tmp_path: Path, inputs: str) -> None:
    plan = crew(tmp_path, echo("{{ o.i }} {{ o.x }}", inputs), o={"i": 3.0, "x": 1.0})
    assert plan.jobs[0].argv[1] == "3 1.0"
    assert plan.inputs == {"o": {"i": 3, "x": 1.0}}


def test_the_items_of_a_list_look_like_integers(tmp_path: Path) -> None:
    inputs = "{l: {type: array, prefixItems: [{type: number}], items: {type: integer}}}"
    plan = crew(tmp_path, echo("{{ l|join(' ') }}", inputs), l=[1.0, 2.0, 3])
    assert plan.jobs[0].argv[1] == "1.0 2 3"


def test_a_bound_in_a_schema_may_be_any_number(tmp_path: Path) -> None:
    plan = crew(tmp_path, echo("{{ n }}", "{n: {type: number, maximum: 1.0e+300}}"), n=0.1)
    assert plan.jobs[0].argv[1] == "0.1"


@pytest.mark.parametrize("given", [2**53 + 1, -(2**63), 2**63 - 1])
def test_whole_numbers_of_64_bits_are_exact(tmp_path: Path, given: int) -> None:
    plan = crew(tmp_path, echo("{{ n }}", "{n: {type: integer}}"), n=given)
    assert (plan.inputs, plan.jobs[0].argv[1]) == ({"n": given}, str(given))
    plan = crew(tmp_path, echo("{{ n }}", f"{{n: {{enum: [{given}], default: {given}}}}}"))
    assert (plan.inputs, plan.jobs[0].argv[1]) == ({"n": given}, str(given))


def test_a_default_may_use_the_inputs_above_it(tmp_path: Path) -> None:
    inputs = "{name: {}, file: {default: '{{ name }}-{{ today }}'}, all: {default: ['{{ file }}']}}"

    plan = crew(tmp_path, echo("{{ all|join(' ') }}", inputs), name="x")

    assert plan.inputs == {"name": "x", "file": "x-2026-03-31", "all": ["x-2026-03-31"]}
    assert plan.jobs[0].argv[1] == "x-2026-03-31"


def test_a_default_that_is_rendered_is_checked_then(tmp_path: Path) -> None:
    inputs = "{n: {}, m: {type: string, maxLength: 3, default: '{{ n }}{{ n }}'}}"

    assert refused(tmp_path, echo("x", inputs), n="ab") == (
        *("inputs.m", "This is longer than 3 characters."),
    )


def test_a_null_default_makes_an_input_optional(tmp_path: Path) -> None:
    text = echo("{{ x|default('none') }}", "{x: {type: string, default: null}}")

    assert crew(tmp_path, text).jobs[0].argv[1] == "none"
    assert crew(tmp_path, text, x=None).jobs[0].argv[1] == "none"
    assert crew(tmp_path, text, x="y").jobs[0].argv[1] == "y"
    assert refused(tmp_path, text, x=3)[0] == "inputs.x"


@pytest.mark.parametrize(
    ("declared", "value", "path", "reason"),
    [
        ("{type: string}", 3, "inputs.x", "type string"),
        ("{type: integer}", "3", "inputs.x", "type integer"),
        ("{type: integer}", 3.5, "inputs.x", "type integer"),
        ("{type: integer}", True, "inputs.x", "type integer"),
        ("{type: number}", "3", "inputs.x", "type number"),
        ("{type: boolean}", "true", "inputs.x", "type boolean"),
        ("{type: array, items: {type: string}}", ["a", 1], "inputs.x[1]", "type string"),
        ("{type: object, required: [a]}", {}, "inputs.x", "lacks 'a'"),
        ("{type: path}", "etc/passwd", "inputs.x", "does not match ^/"),
        ("{type: path}", 3, "inputs.x", "type string"),
        ("{enum: [a, b]}", "c", "inputs.x", "not one of 'a', 'b'"),
        ("{pattern: '^[a-z]+$'}", "a\n", "inputs.x", "does not match"),
        ("{minimum: 3}", 2, "inputs.x", "less than 3"),
        ("{type: string}", None, "inputs.x", "type string"),
        ("{type: string}", "a\0b", "inputs.x", "NUL"),
        ("{type: string}", "\ud800", "inputs.x", "surrogate"),
        ("{}", float("nan"), "inputs.x", "JSON numbers"),
        ("{}", 2**63, "inputs.x", "too large"),
        ("{}", {"a": {"\0": 1}}, "inputs.x.a", "NUL"),
        ("{}", "x" * 300_000, "inputs.x", "All inputs"),
    ],
)
def test_inputs_are_what_they_are_declared_to_be(
    tmp_path: Path, declared: str, value: Any, path: str, reason: str
) -> None:
    refusal = refused(tmp_path, echo("-", f"{{x: {declared}}}"), x=value)

    assert refusal[0] == path
    assert reason in refusal[1]


def test_a_value_is_never_said_again(tmp_path: Path) -> None:
    secret = "hunter2-hunter2"
    for declared in ("{type: integer}", "{enum: [a]}", "{pattern: '^x$'}", "{maxLength: 3}"):
        assert secret not in str(refused(tmp_path, echo("-", f"{{x: {declared}}}"), x=secret))


def test_an_integer_may_be_written_with_a_point(tmp_path: Path) -> None:
    assert crew(tmp_path, echo("{{ x }}", "{x: {type: integer}}"), x=3.0).jobs[0].argv[1] == "3"


def test_missing_and_unknown_inputs_are_named(tmp_path: Path) -> None:
    text = echo("{{ x }}", "{x: {type: string}}")

    assert refused(tmp_path, text) == ("inputs.x", "This input is required.")
    assert refused(tmp_path, text, x="1", y="2") == (
        *("inputs.y", "There is no such input. Known: x."),
    )


def test_nested_beyond_measure_is_refused(tmp_path: Path) -> None:
    deep: Any = []
    for _ in range(500):
        deep = [deep]

    assert refused(tmp_path, echo("-", "{x: {}}"), x=deep) == (
        *("inputs.x", "This is nested too deeply."),
    )


def test_the_place_of_a_text_that_cannot_be_rendered_is_named(tmp_path: Path) -> None:
    inputs = "{x: {}}"
    assert refused(tmp_path, echo("{{ x }}", inputs), x=["a"]) == (
        "jobs[0].argv[1]",
        "The value is a list or a mapping; use the filter join(' ') or tojson.",
    )
    assert refused(tmp_path, echo("{{ x.y }}", inputs), x={})[0] == "jobs[0].argv[1]"
    assert refused(tmp_path, echo("{{ 1 / x }}", inputs), x=0)[1] == "This divides by zero."
    for key in ("title: '{{ x }}'", "title: '{{ x * 3 }}'"):
        text = f"inputs: {inputs}\njobs:\n  - {{id: a, {key}, argv: [x]}}\n"
        assert refused(tmp_path, text, x=" ")[0] == "jobs[0].title"
    text = f"inputs: {inputs}\njobs:\n  - {{id: a, title: T, argv: ['{{{{ x }}}}']}}\n"
    assert refused(tmp_path, text, x="")[0] == "jobs[0].argv[0]"
    text = f"inputs: {inputs}\njobs:\n  - {{id: a, title: T, argv: [x], cwd: '{{{{ x }}}}'}}\n"
    assert refused(tmp_path, text, x="here") == ("jobs[0].cwd", "This is not an absolute path.")
    assert crew(tmp_path, text, x="").jobs[0].cwd is None


def test_a_crew_is_bounded_as_a_whole(tmp_path: Path) -> None:
    body = "{{ x ~ x ~ x ~ x }}"
    text = "inputs: {x: {}}\njobs:\n" + "".join(
        f"  - {{id: j{i}, title: T, argv: [x], body: '{body}'}}\n" for i in range(30)
    )

    assert "The crew has more than" in refused(tmp_path, text, x="x" * 50_000)[1]


# Expressions


@pytest.mark.parametrize(
    ("source", "variables", "rendered"),
    [
        ("plain { text } $HOME\n", {}, "plain { text } $HOME\n"),
        ("{{ x }}", {"x": True}, "true"),
        ("{{ x }}", {"x": 1.5}, "1.5"),
        ("{{ 'a' ~ x ~ 1 }}", {"x": False}, "afalse1"),
        ("{{ 'a' + 1 }}", {}, "a1"),
        ("{{ 2 * 3 - 1 }}", {}, "5"),
        ("{{ x|default('d') }}", {}, "d"),
        ("{{ x|default('d') }}", {"x": ""}, ""),
        ("{{ x|default('d', true) }}", {"x": ""}, "d"),
        ("{{ 'y' if x > 1 else 'n' }}", {"x": 2}, "y"),
        ("{% if x %}a{% elif y %}b{% else %}c{% endif %}", {"x": 0, "y": 1}, "b"),
        ("{{ x.items }}", {"x": {"items": "own"}}, "own"),
        ("{{ x[0][:2] }}", {"x": ["abc"]}, "ab"),
        ("{{ x|split('/')|last|upper }}", {"x": "a/b"}, "B"),
        ("{{ x|basename }}", {"x": "/a/b/"}, "b"),
        ("{{ x|tojson }}", {"x": {"a": ["é", None]}}, '{"a": ["é", null]}'),
        ("{{ x|urlencode }}", {"x": "a/b c"}, "a%2Fb%20c"),
        ("{{ x|sort|unique|join('-') }}", {"x": [2, 1, 2]}, "1-2"),
        ("{% raw %}{{ x }}{% endraw %}", {}, "{{ x }}"),
        ("{{ x }}", {"x": "{{ y }}"}, "{{ y }}"),
        ("{{ '<&>' }}", {}, "<&>"),
    ],
)
def test_expressions(source: str, variables: dict[str, Any], rendered: str) -> None:
    assert Text(source).render(variables) == rendered


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}",
        "{{ x['__class__'].__mro__ }}",
        "{{ range(10) }}",
        "{{ x.upper() }}",
        "{{ cycler('a').next() }}",
        "{{ 9 ** 9 ** 9 }}",
        "{% for i in x %}{% endfor %}",
        "{% for i in x recursive %}{{ loop(i) }}{% endfor %}",
        "{% set x = 1 %}",
        "{% set x %}{% endset %}",
        "{% macro f() %}{% endmacro %}",
        "{% call f() %}{% endcall %}",
        "{% filter upper %}{% endfilter %}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% from 'x' import y %}",
        "{% extends 'x' %}",
        "{% block b %}{% endblock %}",
        "{% with a = 1 %}{% endwith %}",
        "{% autoescape true %}{% endautoescape %}",
        "{{ x|center(1000000000) }}",
        "{{ x|indent(1000000000) }}",
        "{{ x|format(1) }}",
        "{{ 1.5|round(1000000000) }}",
        "{{ x|attr('__class__') }}",
        "{{ x|map('upper') }}",
        "{{ x|pprint }}",
        "{{ x is divisibleby 0 }}",
        "{{ " + "(" * 50_000 + " }}",
        "{{ " + "not " * 200 + "x }}",
        "{{ x" + " ~ x" * 5_000 + " }}",
        "{{ x" + "|upper" * 100 + " }}",
        "${#array}",
        "{{ x",
        "{% if x %}",
        "{" * 300_000,
    ],
)
def test_what_could_reach_or_grow_too_far_is_refused_before_it_is_rendered(source: str) -> None:
    with pytest.raises(BadExpression):
        Text(source)


@pytest.mark.parametrize(
    ("source", "variables"),
    [
        ("{{ x }}", {}),
        ("{{ x }}", {"x": None}),
        ("{{ x }}", {"x": []}),
        ("{{ 'a' if x }}", {"x": False}),
        ("{{ x.upper }}", {"x": "a"}),
        ("{{ x['__class__'] }}", {"x": "a"}),
        ("{{ x|sort(attribute='__class__') }}", {"x": [{}, {}]}),
        ("{{ 'a' * 1000000000 }}", {}),
        ("{{ [1] * 1000000000 }}", {}),
        ("{{ '%1000000000d' % 1 }}", {}),
        ("{{ x * x * x }}", {"x": 10**9}),
        ("{{ x + 1 }}", {"x": 10**15}),
        ("{{ 1 // 0 }}", {}),
        ("{{ -x }}", {"x": "a"}),
        ("{{ x < 1 }}", {"x": "a"}),
        ("{{ x|join }}", {"x": "abc"}),
        ("{{ x ~ x }}", {"x": "a" * (MAX_TEXT // 2 + 1)}),
        ("{{ x }}{{ x }}", {"x": "a" * (MAX_TEXT // 2 + 1)}),
        ("{{ x|replace('', x) }}", {"x": "a" * 10_000}),
        ("{{ y|join(x) }}", {"x": "a" * 10_000, "y": [1] * 1_000}),
        ("{{ x" + "|tojson" * 16 + " }}", {"x": '"' * 100}),
        ("{{ x|urlencode }}", {"x": " " * MAX_TEXT}),
        ("{{ x|urlencode|length }}", {"x": " " * MAX_TEXT}),
        ("{{ (x ~ x)|length }}", {"x": "a" * (MAX_TEXT // 2 + 1)}),
    ],
)
def test_what_has_no_bounded_text_is_refused_when_it_is_rendered(
    source: str, variables: dict[str, Any]
) -> None:
    with pytest.raises(CannotRender):
        Text(source).render(variables)


def test_the_filters_are_those_of_the_docs() -> None:
    page = Path(__file__).resolve().parents[2] / "docs/templates.md"
    row = next(line for line in page.read_text().splitlines() if line.startswith("| filters |"))

    assert {word for word in row.split("`") if word.isidentifier()} == set(FILTERS)


def test_a_schema_without_an_end_only_fails() -> None:
    schema = Schema({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}})

    violation = schema.violation({"b": 1})

    assert violation is not None
    assert "nested" in violation.reason


def test_a_template_is_rendered_by_its_id(tmp_path: Path) -> None:
    (tmp_path / "a.job_workflow.yaml").write_text(echo("{{ x }}", "{x: {}}"))

    plan = Catalog([tmp_path]).render("a", {"x": 1}, at=AT)

    assert plan.jobs[0].argv == ("echo", "1")
