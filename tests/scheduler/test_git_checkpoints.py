"""Checkpoints hold everything that a worktree has, and touch nothing of the agent's."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from scheduler.git.worktrees import WorktreeLost
from tests.scheduler.git_world import World, enter, make_repository, sh

EVERYTHING = """
echo new > 'with space'; printf 'a\\0b' > binary; rm gone; mv moved elsewhere; chmod +x mode
ln -s nowhere link; rm was-link; echo file > was-link; echo changed >> file
mkdir -p dir/sub; echo x > dir/sub/file; echo x > -- ; echo x > -rf; echo x > $'new\\nline'
echo x > "quo'te\\""; echo x > $'latin\\351'; echo x > ':(top)x'; rm -r folder; echo x > folder
rm becomes; mkdir becomes; echo x > becomes/file; mkfifo pipe; echo x > ignored.log
"""
BEFORE = """
echo one > file; echo x > gone; seq 50 > moved; touch mode; ln -s file was-link; echo y > becomes
mkdir folder; echo y > folder/file; echo '*.log' > .gitignore
"""


def listing(world: World, tree: str) -> set[str]:
    """The names of a tree with modes, as git writes them."""
    out = sh(world.repository.path, f"git ls-tree -r -z {tree} | tr '\\0\\n' '\\n?'")
    return {line.split("\t")[1] for line in out.split("\n") if line}


def test_everything_is_in_a_checkpoint_and_comes_back_from_it(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo", BEFORE)

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        worktree = await world.add()
        first = await world.checkpoints.take(worktree)
        assert first.tree == sh(path, "git rev-parse 'HEAD^{tree}'")
        sh(worktree.path, EVERYTHING)
        second = await world.checkpoints.take(worktree)
        names = listing(world, second.tree)
        assert {"with space", "binary", "elsewhere", "link", "-rf", "--", "new?line"} < names
        assert {"quo'te\"", "latin\udce9", ":(top)x", "folder", "becomes/file"} < names
        assert not {"gone", "moved", "pipe", "ignored.log", "becomes"} & names
        # Git itself makes the same tree of the same files.
        sh(worktree.path, "git add -A 2>/dev/null")
        assert sh(worktree.path, "git write-tree") == second.tree
        sh(worktree.path, "git reset -q")

        assert (await world.checkpoints.restore(worktree, 1)).number == 2
        assert sh(worktree.path, "git status --porcelain") == ""
        assert sh(worktree.path, "cat ignored.log; ls pipe") == "x\npipe"
        await world.checkpoints.restore(worktree, 2)
        assert (await world.checkpoints.take(worktree)).tree == second.tree
        assert [each.number for each in await world.checkpoints.all("job-1")] == [1, 2, 3, 4]

    asyncio.run(life())


def test_the_index_and_head_of_the_agent_are_not_touched(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo", "echo one > file; echo two > other")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        worktree = await world.add()
        sh(worktree.path, "echo staged > file; git add file; echo more > file; rm other")
        state = "cd $(git rev-parse --git-dir); sha256sum index HEAD; ls; stat -c %y index"
        before = sh(worktree.path, state)
        await world.checkpoints.take(worktree)
        sh(worktree.path, "echo again > file")
        await world.checkpoints.restore(worktree, 1)
        assert sh(worktree.path, state) == before
        assert sh(worktree.path, "cat file") == "more"

    asyncio.run(life())


def test_nothing_new_is_made_if_nothing_changed(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        worktree = await world.add()
        first = await world.checkpoints.take(worktree)
        assert first.new
        sh(worktree.path, "touch file; git commit -q --allow-empty -m empty")
        again = await world.checkpoints.take(worktree)
        assert (again.number, again.new) == (1, False)
        assert await world.checkpoints.all("job-2") == ()

    asyncio.run(life())


def test_a_change_in_the_same_second_and_of_the_same_size_is_seen(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo", "echo 1 > file")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        worktree = await world.add()
        trees = set()
        for number in range(10, 40):
            Path(worktree.path, "file").write_text(f"{number}")
            trees.add((await world.checkpoints.take(worktree)).tree)
        assert len(trees) == 30

    asyncio.run(life())


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_a_file_that_the_agent_hides_from_git_is_seen(tmp_path: Path, flag: str) -> None:
    path = make_repository(tmp_path / "repo")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        worktree = await world.add()
        sh(worktree.path, f"git update-index {flag} file; echo hidden > file")
        assert sh(worktree.path, "git status --porcelain") == ""
        taken = await world.checkpoints.take(worktree)
        assert sh(path, f"git show {taken.tree}:file") == "hidden"

    asyncio.run(life())


@pytest.mark.parametrize(
    "damage",
    ["rm $G/index", "echo x > $G/index", "rm $G/HEAD; echo x > $G/HEAD", "echo gitdir: / > .git"],
)
def test_a_damaged_index_head_or_git_file_of_the_agent_is_no_hindrance(
    tmp_path: Path, damage: str
) -> None:
    path = make_repository(tmp_path / "repo")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        worktree = await world.add()
        sh(worktree.path, f"echo two > file; G=$(git rev-parse --git-dir); {damage}")
        taken = await world.checkpoints.take(worktree)
        assert sh(path, f"git show {taken.tree}:file") == "two"

    asyncio.run(life())


def test_a_merge_with_conflicts_in_the_worktree_is_recorded_as_its_files_are(
    tmp_path: Path,
) -> None:
    path = make_repository(tmp_path / "repo")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        worktree = await world.add()
        sh(path, "echo main > file; git commit -q -a -m main")
        sh(worktree.path, "echo job > file; git commit -q -a -m job; git merge -q main || true")
        taken = await world.checkpoints.take(worktree)
        assert sh(path, f"git show {taken.tree}:file").startswith("<<<<<<<")

    asyncio.run(life())


def test_an_ignored_file_that_the_agent_added_is_recorded(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo", "echo '*.log' > .gitignore")
    sh(path, "echo '*.tmp' > .git/info/exclude")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        worktree = await world.add()
        sh(worktree.path, "touch a.log b.log a.tmp b.tmp; git add -f a.log a.tmp")
        taken = await world.checkpoints.take(worktree)
        assert listing(world, taken.tree) == {".gitignore", "a.log", "a.tmp"}

    asyncio.run(life())


def test_repositories_inside_the_worktree_are_recorded_by_their_commit(tmp_path: Path) -> None:
    make_repository(tmp_path / "sub")
    path = make_repository(tmp_path / "repo")
    sh(path, "git -c protocol.file.allow=always submodule add -q ../sub; git commit -q -m sub")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        worktree = await world.add()
        sh(worktree.path, "git init -q empty; git init -q inner; touch empty/x inner/x")
        sh(worktree.path + "/inner", "git add x; git commit -q -m inner")
        taken = await world.checkpoints.take(worktree)
        kinds = sh(path, f"git ls-tree {taken.tree} | cut -d' ' -f2,3 | cut -f2- | cut -d' ' -f2")
        assert kinds.split("\n") == [".gitmodules", "file", "inner", "sub"]
        await world.checkpoints.restore(worktree, 1)
        assert sh(worktree.path, "ls empty inner") == "empty:\nx\n\ninner:\nx"

    asyncio.run(life())


def test_checkpoints_survive_the_collector_and_keep_the_commits_of_the_agent(
    tmp_path: Path,
) -> None:
    path = make_repository(tmp_path / "repo")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        worktree = await world.add()
        sh(worktree.path, "echo two > file; git commit -q -a -m two; touch new")
        lost = sh(worktree.path, "git rev-parse HEAD")
        taken = await world.checkpoints.take(worktree)
        sh(worktree.path, "git reset -q --hard HEAD~1; git clean -qdf")
        sh(path, "git reflog expire --expire=now --all; git gc -q --prune=now")
        assert sh(path, f"git cat-file -t {taken.tree}; git cat-file -t {lost}") == "tree\ncommit"
        await world.checkpoints.restore(worktree, taken.number)
        assert sh(worktree.path, "cat file; ls") == "two\nfile\nnew"

    asyncio.run(life())


def test_a_restore_loses_nothing_not_even_an_ignored_file_in_the_way(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        worktree = await world.add()
        sh(worktree.path, "echo recorded > notes")
        await world.checkpoints.take(worktree)
        sh(worktree.path, "echo precious > notes; echo notes > .gitignore; echo only-now > x")
        before = await world.checkpoints.restore(worktree, 1)
        assert sh(worktree.path, "cat notes; ls -A") == "recorded\n.git\nfile\nnotes"
        assert sh(path, f"git show {before.tree}:notes {before.tree}:x") == "precious\nonly-now"
        await world.checkpoints.restore(worktree, before.number)
        assert sh(worktree.path, "cat notes x") == "precious\nonly-now"

    asyncio.run(life())


@pytest.mark.parametrize(
    "obstacle", ["ln -s /nowhere a", "echo x > a", "mkdir -p a/b/c; echo x > a/b/c/d"]
)
def test_whatever_is_in_the_way_of_a_restore_comes_back(tmp_path: Path, obstacle: str) -> None:
    path = make_repository(tmp_path / "repo", "mkdir a; echo recorded > a/b")
    sh(path, "echo a > .git/info/exclude")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        worktree = await world.add()
        await world.checkpoints.take(worktree)
        sh(worktree.path, f"rm -r a; {obstacle}")
        before = await world.checkpoints.restore(worktree, 1)
        assert sh(worktree.path, "cat a/b; ls -A . a") == "recorded\n.:\n.git\na\n\na:\nb"
        await world.checkpoints.restore(worktree, before.number)
        assert sh(worktree.path, "readlink a || cat a/b/c/d || cat a") in ("/nowhere", "x")

    asyncio.run(life())


def test_a_lost_worktree_or_checkpoint_is_a_sentence(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        worktree = await world.add()
        with pytest.raises(WorktreeLost, match="no checkpoint 7"):
            await world.checkpoints.restore(worktree, 7)
        shutil.rmtree(worktree.path)
        with pytest.raises(WorktreeLost, match="is gone"):
            await world.checkpoints.take(worktree)

    asyncio.run(life())


def test_two_at_once_are_one_after_the_other(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        worktree = await world.add()
        taken = await asyncio.gather(*(world.checkpoints.take(worktree) for _ in range(4)))
        assert sorted(each.new for each in taken) == [False, False, False, True]

    asyncio.run(life())


def test_a_symlink_to_a_folder_is_a_link_and_nothing_behind_it_is_touched(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo", "mkdir dir; echo x > dir/file")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        worktree = await world.add()
        await world.checkpoints.take(worktree)
        sh(worktree.path, f"rm -r dir; ln -s {outside} dir")
        taken = await world.checkpoints.take(worktree)
        assert listing(world, taken.tree) == {"dir"}
        await world.checkpoints.restore(worktree, 1)
        assert sh(worktree.path, "cat dir/file") == "x"
        assert (outside / "file").read_text() == "precious"
        assert not os.path.islink(os.path.join(worktree.path, "dir"))

    asyncio.run(life())
