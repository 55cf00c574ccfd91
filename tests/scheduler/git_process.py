"""Steps in a process of their own, which is killed between two calls of git."""

import asyncio
import os
import shutil
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

from scheduler.git.command import Git, Identity
from tests.scheduler.git_world import enter

AUTHOR = Identity("A", "a@example.org")
_FORKS = get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.scheduler.git_process"])


def killing_git(folder: Path, at: int, ran: bool) -> str:
    """A search path whose git kills the process that starts the call with number `at`, before the
    call (with both) or, if `ran`, without stopping the call itself. Counts the calls in `count`.
    """
    folder.mkdir()
    (folder / "count").write_text("0\n")
    (folder / "git").write_text(f"""#!/bin/sh
[ "$*" = version ] && exec {shutil.which("git")} version
read n < {folder}/count
n=$((n + 1))
echo $n > {folder}/count
if [ $n = {at} ]; then
  kill -9 $PPID
  {"true" if ran else "exit 1"}
fi
exec {shutil.which("git")} "$@"
""")
    (folder / "git").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def killed(step: Callable[[str, str, str], None], repository: Path, root: Path, path: str) -> bool:
    """Run the step in a process of its own. Whether that was killed."""
    process = _FORKS.Process(target=step, args=(str(repository), str(root), path))
    process.start()
    process.join()
    assert process.exitcode in (0, -9)
    return process.exitcode == -9


def add(repository: str, root: str, path: str) -> None:
    async def life() -> None:
        world = await enter(Path(repository), Path(root), Git(path))
        base = (await world.git.run("rev-parse", "HEAD", cwd=repository)).text
        await world.worktrees.add("job-1", branch="work", base=base)

    asyncio.run(life())


def merge(repository: str, root: str, path: str) -> None:
    async def life() -> None:
        world = await enter(Path(repository), Path(root), Git(path))
        await world.merges.merge("job-1", "main", "job", message="m", author=AUTHOR)

    asyncio.run(life())


def restore(repository: str, root: str, path: str) -> None:
    async def life() -> None:
        world = await enter(Path(repository), Path(root), Git(path))
        worktree = await world.worktrees.of("job-1")
        assert worktree is not None
        await world.checkpoints.restore(worktree, 1)

    asyncio.run(life())
