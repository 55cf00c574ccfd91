"""Whenever the server is killed, what it was doing with git is whole afterwards, or never was."""

import asyncio
import fcntl
import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

from scheduler.git.merges import MergeRefused, Settled, _Intent
from tests.scheduler import git_process
from tests.scheduler.git_process import AUTHOR, killed, killing_git
from tests.scheduler.git_world import World, enter, make_repository, sh

BEFORE = "seq 3000 > file; ln -s file link; mkdir dir; touch dir/x dir/y; echo z > becomes"
JOB = """
sed -i 's/^3$/three/' file; git rm -q dir/x; echo n > new; mkdir more; echo m > more/deep; rm link
ln -s new link; chmod +x dir/y; rm becomes; mkdir becomes; echo b > becomes/file
"""


def with_job(folder: Path) -> Path:
    path = make_repository(folder / "repo", BEFORE)
    sh(
        path,
        f"git checkout -q -b job; {JOB}\ngit add -A; git commit -q -m job; git checkout -q main",
    )
    return path


@pytest.mark.parametrize("ran", [False, True])
def test_a_worktree_that_was_cut_off_is_the_same_one_afterwards(tmp_path: Path, ran: bool) -> None:
    calls = 0
    for at in range(1, 100):
        folder = tmp_path / str(at)
        path = make_repository(folder / "repo", BEFORE)
        sh(path, "git branch work")
        before = sh(path, "git rev-parse work; git status --porcelain")
        if not killed(git_process.add, path, folder / "root", killing_git(folder / "bin", at, ran)):
            break

        async def life(path: Path = path, folder: Path = folder) -> None:
            world = await enter(path, folder / "root")
            worktree = await world.add("job-1", "work")
            assert worktree.branch == "work-2"
            assert sh(worktree.path, "git status --porcelain; git branch --show-current") == (
                "work-2"
            )
            assert len(await world.worktrees.checkouts()) == 2
            assert sh(path, "git for-each-ref --format='%(refname:short)'") == "main\nwork\nwork-2"
            assert await world.add("job-1", "work") == worktree
            assert sorted(os.listdir(world.worktrees.index("job-1").parent)) == [
                "index",
                "lock",
                "record",
            ]

        asyncio.run(life())
        assert sh(path, "git rev-parse work; git status --porcelain") == before
        calls += 1
    assert calls > 10


def test_the_next_server_waits_for_a_git_that_is_still_at_work(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "repo", BEFORE)
    search = killing_git(tmp_path / "bin", 10, ran=True)
    gate, script = tmp_path / "gate", tmp_path / "bin" / "git"
    os.mkfifo(gate)
    script.write_text(script.read_text().replace("  true\n", f"  read go < {gate}\n"))
    assert killed(git_process.add, path, tmp_path / "root", search)
    lock = os.open(tmp_path / "root" / "worktrees" / "state" / "job-1" / "lock", os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    gate.write_text("go\n")
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.close(lock)


def files(path: Path) -> str:
    return sh(
        path, "git status --porcelain; git rev-parse HEAD^{tree}; ls -R; find .git -name '*.lock'"
    )


@pytest.mark.parametrize("ran", [False, True])
@pytest.mark.parametrize("checked_out", [True, False])
def test_a_merge_that_was_cut_off_has_happened_or_has_not(
    tmp_path: Path, checked_out: bool, ran: bool
) -> None:
    seen = set()
    for at in range(1, 100):
        folder = tmp_path / str(at)
        path = with_job(folder)
        if not checked_out:
            sh(path, "git checkout -q --detach")
        old, old_files = sh(path, "git rev-parse main"), files(path)
        bin_path = killing_git(folder / "bin", at, ran)
        if not killed(git_process.merge, path, folder / "root", bin_path):
            break

        async def life(path: Path = path, folder: Path = folder) -> Settled:
            world = await enter(path, folder / "root")
            settled = await world.merges.settle("job-1")
            assert await world.merges.settle("job-1") is Settled.NOTHING
            assert os.listdir(world.objects.folder / "jobs") in ([], [*_temporary(world)])
            return settled

        settled = asyncio.run(life())
        seen.add(settled)
        new = sh(path, "git rev-parse main")
        if new == old:
            assert settled in (Settled.NOTHING, Settled.UNDONE)
            assert files(path) == old_files
        else:
            assert settled in (Settled.NOTHING, Settled.FINISHED)
            assert sh(path, "git rev-parse 'main^{tree}'") == sh(path, "git rev-parse job^{tree}")
            assert sh(path, "git status --porcelain; find .git -name '*.lock'") == ""
        git_process.merge(str(path), str(folder / "root"), os.environ["PATH"])
        assert sh(path, "git rev-parse 'main^{tree}'") == sh(path, "git rev-parse job^{tree}")
        assert sh(path, "git status --porcelain; git log --merges --oneline main | wc -l") == "1"
    assert at > 10
    assert seen == ({Settled.NOTHING, Settled.UNDONE} if checked_out else {Settled.NOTHING})


def _temporary(world: World) -> list[str]:
    """Folders of attributes that a killed process has left."""
    return [name for name in os.listdir(world.objects.folder / "jobs") if name.startswith("tmp")]


async def cut_off(path: Path, root: Path, script: str) -> World:
    """What a merge leaves if all its processes are killed while its files move."""
    world = await enter(path, root)
    old = sh(path, "git rev-parse main")
    new = sh(path, "git commit-tree job^{tree} -p main -p job -m m")
    intent = _Intent("job-1", "main", old, new, str(path), str(path / ".git"))
    jobs = world.objects.folder / "jobs"
    (jobs / "job-1.merge").write_text(json.dumps(asdict(intent)))
    intent.lock.write_bytes(intent.mark)
    sh(path, f"cp -p .git/index {jobs}/job-1.before; {script}")
    return world


@pytest.mark.parametrize(
    "script",
    [
        "true",
        "git show job:file > file; rm dir/x",
        "git show job:file | head -c 5000 > file; rm link; git show job:new > new",
        "rm becomes; mkdir becomes more; echo b > becomes/file; touch more/deep; ln -sf new link",
        "export GIT_INDEX_FILE=.git/i; cp .git/index .git/i; git read-tree -m -u main job; "
        "mv .git/i .git/index",
        "export GIT_INDEX_FILE=.git/i; cp .git/index .git/i; git read-tree -m -u main job",
    ],
)
def test_files_on_their_way_are_put_back(tmp_path: Path, script: str) -> None:
    path = with_job(tmp_path)
    sh(path, "echo mine > untracked; echo '.git/i' > .git/info/exclude")
    before = files(path)

    async def life() -> None:
        world = await cut_off(path, tmp_path / "root", script)
        assert await world.merges.settle("job-1") is Settled.UNDONE
        assert files(path) == before
        await world.merges.merge("job-1", "main", "job", message="m", author=AUTHOR)
        assert sh(path, "git status --porcelain; cat untracked") == "?? untracked\nmine"

    asyncio.run(life())


@pytest.mark.parametrize(
    "change",
    [
        "echo mine > file",
        "echo mine > new",
        "rm link; echo x > link",
        "rm becomes; mkdir becomes; echo x > becomes/x",
    ],
)
def test_a_file_that_was_changed_since_is_not_touched(tmp_path: Path, change: str) -> None:
    path = with_job(tmp_path)

    async def life() -> None:
        world = await cut_off(path, tmp_path / "root", f"rm dir/x; {change}")
        listing = "ls -lR --time-style=full-iso; cat file"
        before = sh(path, listing)
        for _ in range(2):
            with pytest.raises(MergeRefused, match=r"was cut off, and .* was changed since"):
                await world.merges.settle("job-1")
            assert sh(path, listing) == before
            assert not (path / ".git" / "index.lock").exists()
        sh(path, "rm -rf becomes new; git checkout -q -- file link becomes")
        assert await world.merges.settle("job-1") is Settled.UNDONE
        assert sh(path, "git status --porcelain; ls dir") == "x\ny"

    asyncio.run(life())


def test_a_checkout_in_which_somebody_has_worked_since_is_left(tmp_path: Path) -> None:
    path = with_job(tmp_path)

    async def life() -> None:
        world = await cut_off(path, tmp_path / "root", "rm dir/x")
        sh(path, "rm .git/index.lock; echo mine > mine; git add -A; git commit -q -m mine")
        assert await world.merges.settle("job-1") is Settled.LEFT
        assert sh(path, "git status --porcelain; ls dir; cat mine") == "y\nmine"

    asyncio.run(life())


def test_a_lock_of_another_git_is_not_taken_away(tmp_path: Path) -> None:
    path = with_job(tmp_path)

    async def life() -> None:
        world = await cut_off(path, tmp_path / "root", "rm dir/x; echo theirs > .git/index.lock")
        with pytest.raises(MergeRefused, match="Git is at work"):
            await world.merges.settle("job-1")
        assert (path / ".git" / "index.lock").read_text() == "theirs\n"

    asyncio.run(life())


@pytest.mark.parametrize("ran", [False, True])
def test_a_restore_that_was_cut_off_has_lost_nothing(tmp_path: Path, ran: bool) -> None:
    for at in range(1, 100):
        folder = tmp_path / str(at)
        path = make_repository(folder / "repo", BEFORE)

        async def prepare(path: Path = path, folder: Path = folder) -> str:
            world = await enter(path, folder / "root")
            worktree = await world.add()
            await world.checkpoints.take(worktree)
            sh(worktree.path, "echo changed > file; echo new > new; rm dir/x")
            return worktree.path

        tree = asyncio.run(prepare())
        bin_path = killing_git(folder / "bin", at, ran)
        if not killed(git_process.restore, path, folder / "root", bin_path):
            break

        async def life(path: Path = path, folder: Path = folder, tree: str = tree) -> None:
            world = await enter(path, folder / "root")
            worktree = await world.add()
            await world.checkpoints.restore(worktree, 1)
            assert sh(tree, "git status --porcelain") == ""
            await world.checkpoints.restore(worktree, 2)
            assert sh(tree, "cat file new; ls dir") == "changed\nnew\ny"

        asyncio.run(life())
    assert at > 8
