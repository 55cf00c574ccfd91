"""Real repositories, and everything of `scheduler/git/` for one of them."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from scheduler.git.checkpoints import Checkpoints
from scheduler.git.command import Git
from scheduler.git.diffs import Diffs
from scheduler.git.merges import Merges
from scheduler.git.objects import Objects, open_objects
from scheduler.git.repositories import Repositories, Repository
from scheduler.git.worktrees import Worktree, Worktrees

ENV = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "A User",
    "GIT_AUTHOR_EMAIL": "user@example.org",
    "GIT_COMMITTER_NAME": "A User",
    "GIT_COMMITTER_EMAIL": "user@example.org",
    "LC_ALL": "C",
}


def sh(folder: str | Path, script: str) -> str:
    """Run a script as a user would, and return its output without the line break at its end."""
    done = subprocess.run(["bash", "-ec", script], cwd=folder, env=ENV, capture_output=True)
    assert done.returncode == 0, done.stderr
    return os.fsdecode(done.stdout).removesuffix("\n")


def make_repository(folder: Path, script: str = "echo one > file") -> Path:
    """A repository with one commit, of what the script makes, on main."""
    folder.mkdir(parents=True)
    sh(folder, f"git init -q -b main; {script}\ngit add -A; git commit -q -m first --allow-empty")
    return folder


@dataclass(frozen=True, slots=True)
class World:
    git: Git
    repository: Repository
    objects: Objects
    worktrees: Worktrees
    checkpoints: Checkpoints
    diffs: Diffs
    merges: Merges

    async def add(self, job: str = "job-1", branch: str = "") -> Worktree:
        """A worktree of the commit that HEAD is at."""
        base = sh(self.repository.path, "git rev-parse HEAD")
        return await self.worktrees.add(job, branch=branch or job, base=base)


async def enter(repository: Path, root: Path, git: Git | None = None) -> World:
    """`root` is the folder of the server."""
    git = git or Git()
    found = await Repositories(git, [str(repository.parent)]).find(str(repository))
    objects = await open_objects(git, found, root / "objects")
    worktrees = Worktrees(objects, root / "worktrees")
    return World(
        git,
        found,
        objects,
        worktrees,
        Checkpoints(objects, worktrees),
        Diffs(objects),
        Merges(objects),
    )
