"""Merges beside every checkout: all or nothing, and no work of a person is touched."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from scheduler.git.command import Git, Identity
from scheduler.git.merges import MergeConflict, Merged, MergeRefused, Method, Settled
from tests.scheduler.git_world import World, enter, make_repository, sh

AUTHOR = Identity("Ärger, Ann", "ann@example.org")
BEFORE = "seq 20 > file; echo x > gone; mkdir dir; echo y > dir/deep; ln -s file link"
JOB = """
sed -i 's/^3$/three/' file; git rm -q gone; echo new > dir/new; git mv dir/deep top; chmod +x top
"""


def with_job(tmp_path: Path, script: str = JOB, before: str = BEFORE) -> Path:
    """A repository whose branch job has one commit more than main, which is checked out."""
    path = make_repository(tmp_path / "repo", before)
    sh(path, f"git checkout -q -b job; {script}\ngit add -A; git commit -q -m job")
    sh(path, "git checkout -q main")
    return path


async def merge(world: World, method: Method = Method.MERGE) -> Merged:
    return await world.merges.merge(
        "job-1", "main", "job", message="Subject\n\nBody — ü", author=AUTHOR, method=method
    )


def state(path: Path) -> str:
    """Everything of a checkout that a merge could change."""
    return sh(
        path,
        "git for-each-ref; git rev-parse HEAD; sha256sum .git/index || true;"
        "ls -lR --time-style=full-iso;"
        "find . -path ./.git -prune -o -type f -print0 | sort -z | xargs -0 sha256sum; "
        "find .git -name '*.lock' -o -name '*crewlog*'",
    )


def test_a_clean_merge_is_predicted_and_nothing_changes(tmp_path: Path) -> None:
    path = with_job(tmp_path)
    before, objects = state(path), sh(path, "git count-objects")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        found = await world.merges.predict("main", "job")
        assert (found.clean, found.nothing_new) == (True, False)
        assert found.tree == sh(path, "git rev-parse job^{tree}")
        assert (await world.merges.predict("job", "main")).nothing_new
        for target, source in (("nothing", "job"), ("main", "nothing"), ("main", "--all")):
            with pytest.raises(MergeRefused, match="does not exist"):
                await world.merges.predict(target, source)

    asyncio.run(life())
    assert (state(path), sh(path, "git count-objects")) == (before, objects)


def test_conflicts_name_files_and_their_hunks(tmp_path: Path) -> None:
    path = with_job(
        tmp_path,
        "sed -i -e 's/^3$/job/' -e '20d' file; echo job > 'a\nb'; git rm -q gone; echo j > both;"
        "printf 'j\\0' > binary",
    )
    sh(path, "sed -i -e 's/^3$/main/' -e 's/^20$/end/' file; echo main > 'a\nb'; echo z > gone")
    sh(path, "echo m > both; printf 'm\\0' > binary; git add -A; git commit -q -m main")
    before, objects = state(path), sh(path, "git count-objects")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        found = await world.merges.predict("main", "job")
        by_name = {each.path: each for each in found.conflicts}
        assert set(by_name) == {"file", "a\nb", "gone", "both", "binary"}
        first, second = by_name["file"].hunks
        assert (first.line, first.ours, first.theirs) == (3, "main\n", "job\n")
        assert (second.ours, second.theirs) == ("end\n", "")
        assert by_name["file"].kind == "CONFLICT (contents)"
        assert by_name["gone"].kind == "CONFLICT (modify/delete)"
        assert (by_name["gone"].hunks, by_name["binary"].hunks) == ((), ())
        assert by_name["both"].hunks[0].theirs == "j\n"
        with pytest.raises(
            MergeConflict, match=r"conflicts in a\nb, binary, both and 2 more\.$"
        ) as no:
            await merge(world)
        assert no.value.prediction == found

    asyncio.run(life())
    assert (state(path), sh(path, "git count-objects")) == (before, objects)


@pytest.mark.parametrize("method", Method)
def test_a_branch_that_is_not_checked_out_is_moved_beside_all_files(
    tmp_path: Path, method: Method
) -> None:
    path = with_job(tmp_path)
    sh(path, "git checkout -q --detach; echo dirty >> file; touch .git/MERGE_HEAD")
    old = sh(path, "git rev-parse main")
    files = sh(path, "sha256sum .git/index file link")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        merged = await merge(world, method)
        assert (merged.before, merged.checkout) == (old, None)
        assert sh(path, "git rev-parse main 'main^{tree}'").split("\n") == [
            merged.commit,
            sh(path, "git rev-parse job^{tree}"),
        ]

    asyncio.run(life())
    assert sh(path, "sha256sum .git/index file link") == files
    parents = sh(path, "git show -s --format=%P main").split()
    assert parents == [old, sh(path, "git rev-parse job")][: 2 if method is Method.MERGE else 1]
    assert sh(path, "git show -s --format='%an %ae %cn %B' main") == (
        "Ärger, Ann ann@example.org crewlog Subject\n\nBody — ü"
    )
    assert "crewlog: merge of job job-1" in sh(path, "git reflog main")


@pytest.mark.parametrize("method", Method)
def test_a_clean_checkout_moves_on_with_its_branch(tmp_path: Path, method: Method) -> None:
    path = with_job(tmp_path)
    sh(path, "echo '*.log' > .git/info/exclude; touch untracked dir/x.log; touch -d yesterday link")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        merged = await merge(world, method)
        assert merged.checkout == str(path)
        assert sh(path, "git status --porcelain; git rev-parse HEAD") == (
            f"?? untracked\n{merged.commit}"
        )
        assert sh(path, "ls dir; ls; sed -n 3p file; test -x top") == (
            "new\nx.log\ndir\nfile\nlink\ntop\nuntracked\nthree"
        )
        assert await merge(world, method) == Merged(merged.commit, merged.commit)
        assert await world.merges.settle("job-1") is Settled.NOTHING
        assert os.listdir(world.objects.folder / "jobs") == []
        assert sh(path, "find .git -name '*.lock' -o -name '*crewlog*'") == ""

    asyncio.run(life())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("echo mine >> file", "changes that are not committed, such as file"),
        ("echo mine >> dir/deep", "such as dir/deep"),
        ("rm link", "such as link"),
        ("echo mine > staged; git add staged", "changes that are not committed"),
        ("git rm -q --cached file", "changes that are not committed"),
        ("echo mine > dir/new", "dir/new in .* is in the way"),
        ("echo dir/new > .git/info/exclude; echo mine > dir/new", "is in the way"),
        ("touch dir/new", "is in the way"),
        ("mkdir dir/new", "is in the way"),
        ("ln -s /nowhere top", "top in .* is in the way"),
        ("git update-index --assume-unchanged file; echo mine > file", "marked so that git"),
        ("git update-index --skip-worktree file; echo mine > file", "marked so that git"),
        ("touch .git/index.lock", "Git is at work"),
        ("touch .git/MERGE_HEAD", "in the middle of a merge"),
        ("mkdir .git/rebase-merge", "in the middle of a rebase"),
        ("echo '* filter=lfs' > .git/info/attributes; echo '* filter=x' > .gitattributes;"
         "git add .; git commit -q -m a", "kept through a filter"),
        ("rm .git/index", "has no index"),
        ("echo x > .git/index", "could not be moved on"),
        ("git worktree add -q -f ../second main", "checked out in 2 folders"),
        ("git checkout -q --detach; git worktree add -q ../second main; rm -r ../second",
         "which is not there"),
        ("touch .git/refs/heads/main.lock", "locked by another process"),
    ],
)  # fmt: skip
def test_a_checkout_that_cannot_move_safely_is_left_with_its_branch(
    tmp_path: Path, change: str, sentence: str
) -> None:
    path = with_job(tmp_path)
    sh(path, change)
    # Git asks again about files whose times it cannot trust.
    before = state(path)

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        for _ in range(2):
            with pytest.raises(MergeRefused, match=sentence):
                await merge(world)
        assert os.listdir(world.objects.folder / "jobs") == []

    asyncio.run(life())
    assert state(path) == before


def test_attributes_that_come_with_the_merge_are_seen(tmp_path: Path) -> None:
    path = with_job(tmp_path, "echo '*.bin filter=lfs' > .gitattributes; echo x > a.bin")
    before = state(path)

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        with pytest.raises(MergeRefused, match=r"\.gitattributes is kept through a filter"):
            await merge(world)
        sh(path, "git checkout -q --detach")
        assert (await merge(world)).checkout is None

    asyncio.run(life())
    assert state(path) != before


def test_a_linked_worktree_moves_on_too(tmp_path: Path) -> None:
    path = with_job(tmp_path)
    sh(path, "git checkout -q --detach; git worktree add -q '../the tree' main")
    tree = tmp_path / "the tree"

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        merged = await merge(world)
        assert merged.checkout == str(tree)
        assert sh(tree, "git status --porcelain; git rev-parse HEAD") == merged.commit

    asyncio.run(life())


def test_a_bare_repository_has_branches_that_merge(tmp_path: Path) -> None:
    with_job(tmp_path)
    sh(tmp_path, "git clone -q --bare repo bare.git")

    async def life() -> None:
        world = await enter(tmp_path / "bare.git", tmp_path / "root")
        merged = await merge(world)
        assert sh(tmp_path / "bare.git", "git rev-parse main") == merged.commit

    asyncio.run(life())


def test_a_checkpoint_merges_like_a_branch(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo", BEFORE)

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        worktree = await world.add()
        sh(worktree.path, "echo uncommitted > new")
        taken = await world.checkpoints.take(worktree)
        await world.merges.merge(
            "job-1", "main", taken.commit, message="m", author=AUTHOR, method=Method.SQUASH
        )
        assert sh(path, "cat new; git status --porcelain; git log --format=%s") == (
            "uncommitted\nm\nfirst"
        )

    asyncio.run(life())


def test_attributes_of_the_branch_decide_how_files_merge(tmp_path: Path) -> None:
    attributes = (
        "echo 'log merge=union' > .gitattributes; echo '*.lock -merge' > sub/.gitattributes"
    )
    path = with_job(
        tmp_path,
        "echo job >> log; sed -i 's/^3$/three/' sub/a.lock",
        f"mkdir sub; {attributes}; echo one > log; seq 20 > sub/a.lock",
    )
    sh(path, "echo main >> log; git commit -q -a -m main")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        await merge(world)
        assert sorted(sh(path, "cat log").split("\n")) == ["job", "main", "one"]
        sh(path, "git reset -q --hard HEAD~1; sed -i 's/^18$/x/' sub/a.lock; git commit -qam lock")
        with pytest.raises(MergeConflict, match=r"sub/a\.lock"):
            await merge(world)

    asyncio.run(life())


def test_two_merges_at_once_are_both_in(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo", BEFORE)
    for number in range(4):
        sh(path, f"git checkout -q -b job{number} main; echo x > n{number}; git add -A")
        sh(path, f"git commit -q -m {number}; git checkout -q main")

    async def life() -> None:
        worlds = [await enter(path, tmp_path / "root") for _ in range(2)]
        await asyncio.gather(
            *(
                worlds[number % 2].merges.merge(
                    f"job-{number}", "main", f"job{number}", message="m", author=AUTHOR
                )
                for number in range(4)
            )
        )

    asyncio.run(life())
    assert sh(path, "git status --porcelain; ls n?; git log --merges --oneline | wc -l") == (
        "n0\nn1\nn2\nn3\n4"
    )


def pushing_git(folder: Path, path: Path, times: int) -> str:
    """A search path on which git pushes to main just before it is to move that branch."""
    real = shutil.which("git")
    folder.mkdir()
    (folder / "left").write_text(f"{times}\n")
    (folder / "git").write_text(f"""#!/bin/sh
case " $* " in *" update-ref "*)
  read left < {folder}/left
  if [ $left -gt 0 ]; then
    echo $((left - 1)) > {folder}/left
    tree=$({real} -C {path} rev-parse 'main^{{tree}}')
    new=$({real} -C {path} commit-tree $tree -p main -m pushed < /dev/null)
    {real} -C {path} update-ref refs/heads/main $new
  fi;;
esac
exec {real} "$@"
""")
    (folder / "git").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.mark.parametrize("checked_out", [False, True])
def test_a_push_in_between_is_merged_with(tmp_path: Path, checked_out: bool) -> None:
    path = with_job(tmp_path)
    if not checked_out:
        sh(path, "git checkout -q --detach")

    async def life() -> None:
        git = Git(pushing_git(tmp_path / "bin", path, 2))
        world = await enter(path, tmp_path / "root", git)
        merged = await merge(world)
        log = sh(path, "git log --format=%s --first-parent main")
        assert log == "Subject\npushed\npushed\nfirst"
        if checked_out:
            assert sh(path, "git status --porcelain; git rev-parse HEAD") == merged.commit

    asyncio.run(life())


@pytest.mark.parametrize("checked_out", [False, True])
def test_a_branch_that_moves_all_the_time_is_given_up(tmp_path: Path, checked_out: bool) -> None:
    path = with_job(tmp_path)
    if not checked_out:
        sh(path, "git checkout -q --detach")

    async def life() -> None:
        git = Git(pushing_git(tmp_path / "bin", path, 99))
        world = await enter(path, tmp_path / "root", git)
        with pytest.raises(MergeRefused, match="moves all the time"):
            await merge(world)

    asyncio.run(life())
    assert sh(path, "git log -3 --format=%s main") == "pushed\npushed\npushed"
    assert sh(path, "git diff --stat HEAD; find .git -name '*.lock'") == ""


def test_a_job_without_a_safe_id_merges_nothing(tmp_path: Path) -> None:
    path = with_job(tmp_path)

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        with pytest.raises(ValueError, match="id of a job"):
            await world.merges.merge("../x", "main", "job", message="m", author=AUTHOR)

    asyncio.run(life())


@pytest.mark.parametrize("kind", ["sha256", "shallow", "packed", "alternates"])
def test_repositories_of_every_kind_can_be_worked_in(tmp_path: Path, kind: str) -> None:
    make_repository(tmp_path / "first", BEFORE)
    path = tmp_path / 'repo: "x"'
    if kind == "sha256":
        path.mkdir()
        sh(path, f"git init -q -b main --object-format=sha256; {BEFORE}; git add -A")
        sh(path, "git commit -q -m first")
    else:
        sh(tmp_path / "first", "echo 21 >> file; git commit -q -a -m second")
        how = {"shallow": "--depth=1", "packed": "", "alternates": "--shared"}[kind]
        sh(tmp_path, f"git clone -q {how} \"file://$PWD/first\" '{path}'")
        sh(path, "git repack -q -a -d; git pack-refs --all")

    async def life() -> None:
        world = await enter(path, tmp_path / "root")
        worktree = await world.add()
        sh(worktree.path, "echo two > file")
        taken = await world.checkpoints.take(worktree)
        assert (await world.diffs.hunks(worktree.base, taken.tree, "file")).hunks
        merged = await world.merges.merge("job-1", "main", taken.commit, message="m", author=AUTHOR)
        assert merged.checkout == str(path)
        assert sh(path, "cat file; git status --porcelain") == "two"
        assert await world.worktrees.remove("job-1", dirty=True)

    asyncio.run(life())
