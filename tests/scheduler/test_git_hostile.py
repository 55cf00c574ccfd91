"""Repositories that try to run something: nothing of theirs runs, whatever is asked about them."""

import asyncio
import os
from pathlib import Path

import pytest

from scheduler.git.command import Git, GitFailed, Identity
from scheduler.git.repositories import Repositories
from tests.scheduler.git_world import enter, make_repository, sh

HOOKS = (
    "post-checkout",
    "post-index-change",
    "pre-commit",
    "post-commit",
    "reference-transaction",
    "post-merge",
    "pre-auto-gc",
    "fsmonitor-watchman",
)


def set_traps(path: Path, marks: Path) -> None:
    """Let the repository's configuration, attributes and hooks name programs that leave a mark."""
    marks.mkdir()
    for name in HOOKS:
        hook = path / ".git" / "hooks" / name
        hook.write_text(f"#!/bin/sh\ntouch {marks}/hook-{name}\n")
        hook.chmod(0o755)
    traps = {
        "core.fsmonitor": "fsmonitor",
        "core.sshCommand": "ssh",
        "core.askPass": "askpass",
        "core.editor": "editor",
        "core.pager": "pager",
        "core.alternateRefsCommand": "alternates",
        "pager.diff": "pager-diff",
        "sequence.editor": "sequence",
        "diff.external": "external",
        "diff.trap.command": "diff-command",
        "diff.trap.textconv": "textconv",
        "filter.trap.clean": "clean",
        "filter.trap.smudge": "smudge",
        "filter.process.process": "process",
        "merge.trap.driver": "merge-driver",
        "merge.default": "trap",
        "credential.helper": "!credential",
        "gpg.program": "gpg",
        "interactive.diffFilter": "interactive",
    }
    for key, mark in traps.items():
        value = mark
        if key != "merge.default":
            value = f"{'!' if mark.startswith('!') else ''}touch {marks}/{mark.lstrip('!')};cat;#"
        sh(path, f"git config {key} '{value}'")
    for verb in ("rev-parse", "diff-tree", "ls-files", "worktree", "update-ref", "read-tree"):
        sh(path, f"git config alias.{verb} '!touch {marks}/alias-{verb}'")
    for key in ("commit.gpgSign", "tag.gpgSign", "log.showSignature", "filter.process.required"):
        sh(path, f"git config {key} true")
    (path / ".git" / "info").mkdir(exist_ok=True)
    (path / ".git" / "info" / "attributes").write_text("* filter=trap diff=trap merge=trap\n")


BEFORE = """
echo '* filter=trap diff=trap merge=trap' > .gitattributes; seq 20 > file; mkdir sub
echo '* filter=process' > sub/.gitattributes; echo x > sub/other
"""


def test_the_traps_are_real(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo", BEFORE)
    set_traps(path, tmp_path / "marks")
    sh(
        path,
        "git config filter.process.required false; git config --unset filter.process.process;"
        "git config commit.gpgSign false; git config --unset diff.trap.command;"
        "echo 21 >> file; git status; git diff; git commit -q -a -m x; git log -p --textconv;"
        "rm file; git checkout file; git checkout -q -b other HEAD~1; echo 0 > file;"
        "git commit -q -a -m y; git merge main || true",
    )
    assert {"fsmonitor", "textconv", "clean", "smudge", "merge-driver"} <= set(
        os.listdir(tmp_path / "marks")
    )
    assert {"hook-post-checkout", "hook-reference-transaction"} <= set(
        os.listdir(tmp_path / "marks")
    )


def test_nothing_of_a_hostile_repository_runs(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo", BEFORE)
    set_traps(path, tmp_path / "marks")
    author = Identity("A", "a@example.org")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        repositories = Repositories(Git(), [str(tmp_path)])
        await repositories.branches(world.repository)
        base = await repositories.base(world.repository)
        first = await world.worktrees.add("job-1", branch="job-1", base=base.commit)
        assert Path(first.path, "file").read_text().startswith("1\n2\n")
        Path(first.path, "file").write_text("0\n1\n")
        Path(first.path, "sub", "new").write_text("x")
        one = await world.checkpoints.take(first)
        Path(first.path, "file").write_text("2\n1\n")
        two = await world.checkpoints.take(first)
        for change in (await world.diffs.files(base.commit, two.tree)).files:
            await world.diffs.hunks(base.commit, two.tree, change.path)
        await world.checkpoints.restore(first, one.number)
        assert (await world.merges.predict("main", two.commit)).clean
        second = await world.worktrees.add("job-2", branch="target", base=base.commit)
        await world.worktrees.remove("job-2", dirty=True)
        merged = await world.merges.merge(
            "job-2", second.branch, two.commit, message="m", author=author
        )
        # Both sides change the file: a driver of the repository would be asked.
        other = await world.merges.predict("target", one.commit)
        assert not other.clean
        assert merged.commit != base.commit
        await world.worktrees.checkouts()
        await world.worktrees.remove("job-1", dirty=True)

    asyncio.run(life())
    assert os.listdir(tmp_path / "marks") == []


def test_a_checkout_with_traps_moves_on_without_them_or_not_at_all(tmp_path: Path) -> None:
    path = make_repository(
        tmp_path / "repo", "seq 20 > file; echo 'doc diff=trap' > .gitattributes"
    )
    sh(
        path,
        "git checkout -q -b job; echo 21 >> file; git commit -q -a -m job; git checkout -q main",
    )
    set_traps(path, tmp_path / "marks")
    (path / ".git" / "info" / "attributes").unlink()

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        os.utime(path / "file")  # git must look into the file
        merged = await world.merges.merge(
            "job-1", "main", "job", message="m", author=Identity("A", "a@example.org")
        )
        assert merged.checkout == str(path)

    asyncio.run(life())
    assert os.listdir(tmp_path / "marks") == []
    assert (path / "file").read_text().endswith("21\n")


def test_a_missing_object_of_a_partial_clone_is_not_fetched_by_a_program(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo")
    set_traps(path, tmp_path / "marks")
    blob = sh(path, "git rev-parse HEAD:file")
    sh(path, f"rm -f .git/objects/{blob[:2]}/{blob[2:]}")
    for url in (f"ext::touch {tmp_path}/marks/ext", "ssh://host.example/x"):
        sh(path, f"git config remote.origin.url '{url}'; git config remote.origin.promisor true")
        sh(path, "git config extensions.partialClone origin; git config protocol.allow always")
        sh(path, "git config core.repositoryformatversion 1")

        async def life() -> None:
            world = await enter(path, tmp_path / "root")
            base = (await Repositories(Git(), [str(path)]).base(world.repository)).commit
            with pytest.raises(GitFailed):
                await world.worktrees.add("job-1", branch="x", base=base)

        asyncio.run(life())
    assert os.listdir(tmp_path / "marks") == []


def test_replaced_objects_are_not_believed(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo")
    sh(path, "git replace HEAD:file $(echo other | git hash-object -w --stdin)")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        worktree = await world.add()
        assert Path(worktree.path, "file").read_text() == "one\n"

    asyncio.run(life())


def test_submodules_run_nothing_when_a_checkpoint_is_taken(tmp_path: Path) -> None:
    make_repository(tmp_path / "sub")
    path = make_repository(tmp_path / "repo")
    sh(path, "git -c protocol.file.allow=always submodule add -q ../sub; git commit -q -m sub")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        worktree = await world.add()
        sub = Path(worktree.path, "sub")
        sh(worktree.path, "git -c protocol.file.allow=always submodule update -q --init")
        sh(sub, f"git config core.fsmonitor 'touch {tmp_path}/mark'")
        sh(
            sub,
            f"git config filter.x.clean 'touch {tmp_path}/mark; cat';"
            "echo '* filter=x' > .gitattributes",
        )
        sh(tmp_path, "rm -f mark")
        (sub / "file").write_text("changed")
        await world.checkpoints.take(worktree)
        assert not (tmp_path / "mark").exists()

    asyncio.run(life())
