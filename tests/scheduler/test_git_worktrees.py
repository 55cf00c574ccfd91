"""Worktrees of jobs: outside the user's repository, on new branches, and never in the way."""

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest

from scheduler.git.worktrees import WorktreeDirty, WorktreeLost, safe_branch
from tests.scheduler.git_world import enter, make_repository, sh


def test_a_worktree_is_made_outside_the_repository_which_stays_as_it_was(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo", "echo one > file; mkdir -p a/b; echo x > a/b/c")
    sh(path, "echo dirty >> file; touch untracked")
    before = sh(path, "git status --porcelain; cat .git/index | sha256sum; cat .git/config")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        seen: list[tuple[int, int]] = []
        worktree = await world.worktrees.add(
            "job-1",
            branch="fix the bug",
            base=sh(path, "git rev-parse main"),
            progress=lambda done, total: seen.append((done, total)),
        )
        assert worktree.path.startswith(str(tmp_path / "root"))
        assert worktree.branch == "fix-the-bug"
        assert sh(worktree.path, "git status --porcelain; cat file; git branch --show-current") == (
            "one\nfix-the-bug"
        )
        assert seen[-1] == (2, 2)
        assert await world.worktrees.of("job-1") == worktree
        assert await world.worktrees.of("job-2") is None

    asyncio.run(life())
    after = sh(path, "git status --porcelain; cat .git/index | sha256sum; cat .git/config")
    assert after == before


def test_a_name_that_exists_gets_a_number_and_what_has_it_stays(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo")
    sh(path, "git branch work; git branch work-2; git branch dir/leaf; git pack-refs --all")
    refs = set(sh(path, "git for-each-ref").splitlines())

    async def life() -> list[str]:
        world = await enter(path, tmp_path / "root")
        wishes = ["work", "work", "WORK", "work/below", "dir", "main"]
        return [
            (await world.add(f"job-{number}", wish)).branch for number, wish in enumerate(wishes)
        ]

    branches = asyncio.run(life())
    assert branches == ["work-3", "work-4", "WORK-5", "work-below", "dir-2", "main-2"]
    assert refs < set(sh(path, "git for-each-ref").splitlines())


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("a/b_c.d-1", "a/b_c.d-1"),
        ("-rf", "rf"),
        ("..", "job"),
        ("a..b//c/.d/", "a.b/c/d"),
        ("x.lock", "x"),
        ("x.lock/y.lock", "x/y"),
        ("HEAD", "job"),
        ("", "job"),
        ("@{-1}", "1"),
        ("müll\n'$(x)'", "m-ll-x"),
        ("x" * 300, "x" * 100),
        ("\udce9", "job"),
    ],
)
def test_names_of_branches_are_made_safe(tmp_path: Path, wanted: str, name: str) -> None:
    assert safe_branch(wanted) == name
    sh(tmp_path, f"git check-ref-format --branch {name}")


@pytest.mark.parametrize("job", ["", "-x", "../x", "a/b", "a\n", "x.lock", "a..b", ".a", "a."])
def test_a_job_without_a_safe_id_gets_none(tmp_path: Path, job: str) -> None:
    path = make_repository(tmp_path / "repo")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        with pytest.raises(ValueError, match="id of a job"):
            await world.add(job, "x")

    asyncio.run(life())


def test_the_same_job_gets_the_same_worktree(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        first = await world.add()
        sh(first.path, "echo work > new; echo changed > file")
        assert await world.add() == first
        assert sh(first.path, "cat new file") == "work\nchanged"
        again = await enter(path, tmp_path / "root")
        assert await again.add(branch="other") == first
        assert len(await world.worktrees.checkouts()) == 2

    asyncio.run(life())


def test_several_are_made_at_once(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        jobs = [f"job-{number}" for number in range(4)]
        made = await asyncio.gather(*(world.add(job, "same") for job in [*jobs, *jobs]))
        assert len({each.path for each in made}) == 4
        assert {each.branch for each in made} == {"same", "same-2", "same-3", "same-4"}

    asyncio.run(life())


def test_a_deleted_worktree_is_made_again_from_its_branch(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        first = await world.add()
        sh(first.path, "echo two > file; git commit -q -a -m two")
        shutil.rmtree(first.path)
        assert [each.prunable != "" for each in await world.worktrees.checkouts()] == [False, True]
        assert await world.add() == first
        assert sh(first.path, "cat file; git status --porcelain") == "two"

    asyncio.run(life())


def test_a_deleted_branch_is_a_sentence(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        first = await world.add()
        sh(path, f"rm -r {first.path}; git worktree prune; git branch -D -q job-1")
        with pytest.raises(WorktreeLost, match="'job-1' of job job-1 was deleted"):
            await world.add()
        sh(path, "git branch job-1")  # by somebody else
        with pytest.raises(WorktreeLost, match="made anew by somebody"):
            await world.add()

    asyncio.run(life())


def half_made(world_root: Path) -> None:
    """Take back that the worktree is ready, as after a kill during the checkout."""
    record = world_root / "worktrees" / "state" / "job-1" / "record"
    record.write_text(json.dumps({**json.loads(record.read_text()), "git_dir": ""}))


def test_a_half_made_checkout_is_finished(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo", "seq 9000 > long; ln -s long link; touch a b -- -c")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        first = await world.add()
        half_made(tmp_path / "root")
        sh(first.path, "truncate -s 5000 long; rm a link; rm $(git rev-parse --git-dir)/index")
        assert await world.add() == first
        assert sh(first.path, "git status --porcelain; wc -l < long; readlink link") == "9000\nlong"

    asyncio.run(life())


@pytest.mark.parametrize(
    "change",
    ["echo mine > new", "echo mine > file", "rm file; ln -s x file", "rm file; mkfifo file"],
)
def test_a_half_made_checkout_with_something_else_in_it_is_left(
    tmp_path: Path, change: str
) -> None:
    path = make_repository(tmp_path / "repo", "echo one > file; touch other")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        first = await world.add()
        half_made(tmp_path / "root")
        sh(first.path, change + "; rm other")
        listing = "ls -l; [ ! -f new ] || cat new; [ ! -f file ] || cat file"
        before = sh(first.path, listing)
        with pytest.raises(WorktreeLost, match="is none of its files"):
            await world.add()
        assert sh(first.path, listing) == before

    # A pipe is listed as changed, and never opened.
    asyncio.run(life())


def test_a_branch_that_somebody_made_between_two_steps_is_not_taken(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo")
    state = tmp_path / "root" / "worktrees" / "state" / "job-1"
    state.mkdir(parents=True)
    base = sh(path, "git rev-parse HEAD")
    record = {"repository": str(path / ".git"), "branch": "job-1", "base": base, "git_dir": ""}
    (state / "record").write_text(json.dumps(record))
    sh(path, "git branch job-1")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        assert (await world.add()).branch == "job-1-2"

    asyncio.run(life())


def test_checkouts_are_listed_with_those_that_are_gone(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo")
    sh(path, "git worktree add -q ../gone -b gone; rm -r ../gone")
    sh(path, "git worktree add -q --detach $'../new\\nline'; git worktree lock $'../new\\nline'")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        main, *others = await world.worktrees.checkouts()
        assert (main.path, main.branch, main.prunable) == (str(path), "main", "")
        by_name = {os.path.basename(each.path): each for each in others}
        assert by_name["gone"].prunable
        assert by_name["new\nline"].locked
        assert by_name["new\nline"].branch == ""

    asyncio.run(life())


def test_a_clean_worktree_is_removed_and_its_branch_stays(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo", "echo '*.log' > .gitignore")
    sh(path, "git worktree add -q ../users -b users; mv ../users ../away")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        worktree = await world.add()
        sh(worktree.path, "touch x.log")
        assert await world.worktrees.remove("job-1")
        assert not os.path.exists(worktree.path)
        assert not await world.worktrees.remove("job-1")
        assert not await world.worktrees.remove("never")
        assert await world.worktrees.of("job-1") is None
        assert len(await world.worktrees.checkouts()) == 2  # the user's own, which may come back

    asyncio.run(life())
    assert "job-1" in sh(path, "git branch")


@pytest.mark.parametrize("change", ["touch new", "echo x >> file", "rm file", "rm .git"])
def test_a_dirty_worktree_is_removed_only_when_asked(tmp_path: Path, change: str) -> None:
    path = make_repository(tmp_path / "repo")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        worktree = await world.add()
        sh(worktree.path, change)
        dirty = change != "rm .git"
        if dirty:
            with pytest.raises(WorktreeDirty, match="are in no commit"):
                await world.worktrees.remove("job-1")
            assert os.path.exists(worktree.path)
        assert await world.worktrees.remove("job-1", dirty=dirty)
        assert not os.path.exists(worktree.path)
        assert len(await world.worktrees.checkouts()) == 1

    asyncio.run(life())


def test_a_worktree_that_is_gone_already_is_forgotten(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        worktree = await world.add()
        shutil.rmtree(worktree.path)
        assert await world.worktrees.remove("job-1")
        assert len(await world.worktrees.checkouts()) == 1

    asyncio.run(life())


def test_submodules_and_bare_repositories_are_no_hindrance(tmp_path: Path) -> None:
    make_repository(tmp_path / "sub")
    path = make_repository(tmp_path / "repo")
    sh(path, "git -c protocol.file.allow=always submodule add -q ../sub; git commit -q -m sub")
    sh(tmp_path, "git clone -q --bare repo bare.git")

    async def life() -> None:
        for name in ("repo", "bare.git"):
            world = await enter(tmp_path / name, tmp_path / "root" / name)
            worktree = await world.add()
            assert sh(worktree.path, "git status --porcelain; ls sub") == ""
            assert await world.worktrees.remove("job-1")

    asyncio.run(life())


def test_line_ends_and_modes_are_those_that_the_repository_sets(tmp_path: Path) -> None:
    path = make_repository(
        tmp_path / "repo", "echo one > file; echo '*.txt eol=crlf' > .gitattributes; echo a > a.txt"
    )
    sh(path, "git config core.autocrlf true; git config core.filemode false")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        worktree = await world.add()
        assert Path(worktree.path, "file").read_bytes() == b"one\r\n"
        assert Path(worktree.path, "a.txt").read_bytes() == b"a\r\n"
        sh(worktree.path, "chmod +x file")
        assert sh(worktree.path, "git status --porcelain") == ""
        first = await world.checkpoints.take(worktree)
        assert first.tree == sh(path, "git rev-parse 'HEAD^{tree}'")

    asyncio.run(life())
