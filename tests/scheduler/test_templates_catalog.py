"""The catalog shows the current files, and nothing from outside its folders."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from domain.errors import BadInput, NotFound
from scheduler.templates import Catalog, TemplateNotFound

GOOD = "name: {}\njobs:\n  - {{id: a, title: T, argv: [x]}}\n"
BAD = "name: {}\njobs:\n  - {{id: a, title: T, argv: [x], parents: [b]}}\n"


def put(folder: Path, template_id: str, text: str = GOOD, name: str = "first") -> Path:
    file = folder / f"{template_id}.job_workflow.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text.format(name))
    return file


def ids(catalog: Catalog) -> list[str]:
    return [template.id for template in catalog.list()]


def test_templates_are_found_below_every_root(tmp_path: Path) -> None:
    put(tmp_path / "one", "b")
    put(tmp_path / "one", "team/a")
    put(tmp_path / "two", "c")
    (tmp_path / "one/notes.yaml").write_text("x: 1")
    put(tmp_path / "one", ".hidden/d")

    catalog = Catalog([tmp_path / "one", tmp_path / "none", tmp_path / "two"])

    assert ids(catalog) == ["b", "c", "team/a"]
    assert catalog.get("team/a").id == "team/a"
    assert catalog.get("team/a.job_workflow.yaml") is catalog.get("team/a")


def test_the_earlier_root_counts(tmp_path: Path) -> None:
    put(tmp_path / "one", "a", name="mine")
    put(tmp_path / "two", "a", name="shipped")
    put(tmp_path / "two", "b", name="shipped")
    catalog = Catalog([tmp_path / "one", tmp_path / "two"])

    assert [(t.id, t.name) for t in catalog.list()] == [("a", "mine"), ("b", "shipped")]
    assert catalog.get("a").name == "mine"


def test_a_mistake_in_the_earlier_root_is_not_passed_over(tmp_path: Path) -> None:
    bad = put(tmp_path / "one", "a", BAD)
    put(tmp_path / "two", "a")
    catalog = Catalog([tmp_path / "one", tmp_path / "two"])

    assert ids(catalog) == []
    (fault,) = catalog.faults()
    assert (fault.file, fault.line, fault.path) == (str(bad), 3, "jobs[0].parents[0]")
    with pytest.raises(BadInput) as refusal:
        catalog.render("a", {}, at=datetime.now(UTC))
    assert refusal.value.path == "jobs[0].parents[0]"
    assert "There is no job 'b'." in refusal.value.reason


def test_a_change_is_seen_and_what_has_not_changed_is_not_read_again(tmp_path: Path) -> None:
    put(tmp_path, "a")
    file = put(tmp_path, "b")
    catalog = Catalog([tmp_path])
    a, b = catalog.list()

    put(tmp_path, "b", name="the second")
    put(tmp_path, "c")
    same, changed, _ = catalog.list()
    assert same is a
    assert changed is not b
    assert catalog.get("b").name == "the second"

    put(tmp_path, "b", BAD)
    assert ids(catalog) == ["a", "c"]
    file.unlink()
    assert (ids(catalog), list(catalog.faults())) == (["a", "c"], [])
    with pytest.raises(TemplateNotFound):
        catalog.get("b")


def test_a_template_heals_when_its_skillet_comes(tmp_path: Path) -> None:
    text = "skillet: agents.yaml\njobs:\n  - {{id: a, title: T, body: B, assignee: writer}}\n"
    put(tmp_path, "a", text)
    catalog = Catalog([tmp_path])
    assert (ids(catalog), len(catalog.faults())) == ([], 1)

    (tmp_path / "agents.yaml").write_text("agents: {writer: {}}")
    assert ids(catalog) == ["a"]
    (tmp_path / "agents.yaml").write_text("agents: {somebody else: {}}")
    assert ids(catalog) == []


@pytest.mark.parametrize(
    "template_id",
    [
        *("", "a/", "none", "../outside", "/etc/passwd", "a/../a", "./a/b", ".hidden/d", "a\0"),
        *("x" * 5_000, "folder", "linked/outside", "link"),
    ],
)
def test_nothing_outside_a_root_has_an_id(tmp_path: Path, template_id: str) -> None:
    root = tmp_path / "root"
    put(root, ".hidden/d")
    outside = put(tmp_path, "outside")
    (root / "link.job_workflow.yaml").symlink_to(outside)
    (root / "linked").symlink_to(tmp_path)
    (root / "folder.job_workflow.yaml").mkdir()
    catalog = Catalog([root])

    assert ids(catalog) == []
    with pytest.raises(NotFound):
        catalog.get(template_id)


def test_a_folder_that_is_a_link_is_not_walked(tmp_path: Path) -> None:
    put(tmp_path, "team/a")
    (tmp_path / "also").symlink_to(tmp_path / "team")
    catalog = Catalog([tmp_path])

    assert ids(catalog) == ["team/a"]
    with pytest.raises(TemplateNotFound):
        catalog.get("also/a")


def test_what_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.job_workflow.yaml")
    (tmp_path / "away.job_workflow.yaml").symlink_to("/dev/null")
    (tmp_path / "gone.job_workflow.yaml").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.job_workflow.yaml").symlink_to("loop.job_workflow.yaml")
    catalog = Catalog([tmp_path])

    assert ids(catalog) == []
    faulty = {Path(fault.file).name.partition(".")[0] for fault in catalog.faults()}
    assert faulty == {"pipe", "away", "gone", "loop"}


def test_a_link_within_a_root_is_followed(tmp_path: Path) -> None:
    (tmp_path / "b.job_workflow.yaml").symlink_to(put(tmp_path, "a"))
    (tmp_path / "root").symlink_to(tmp_path)

    assert ids(Catalog([tmp_path])) == ["a", "b"]
    assert ids(Catalog([tmp_path / "root"])) == ["a", "b"]
