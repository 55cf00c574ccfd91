"""Worktrees of jobs: each a folder of ours on a branch that did not exist before.

A worktree is made in steps, and each can be repeated after a kill. What makes that safe:

* The record names the branch before the branch is made, and the first entry of the branch's reflog
  names the job, so a branch of this name that somebody else made is not taken for ours.
* The folder is ours alone, and the record says when it is ready. A folder that is not ready is
  finished only if each of its files is one that git was about to write there.
* Git inherits the lock of the job, so a call that a killed server left at work has ended before the
  next server looks.
"""

import asyncio
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from domain.errors import CrewlogError
from scheduler.git.command import Answer, Git, GitFailed
from scheduler.git.leftovers import foreign, unfinished
from scheduler.git.locks import locked
from scheduler.git.objects import Objects
from scheduler.git.repositories import Repository

_HEADS = "refs/heads/"
_JOB = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?=[A-Za-z0-9_-])){0,127}")
_UNSAFE = re.compile(r"[^A-Za-z0-9._/-]+")
_LONGEST = 100  # characters of a branch's name
_PROGRESS = re.compile(r"Updating files:\s+\d+% \((\d+)/(\d+)\)")

Progress = Callable[[int, int], None]
"""Gets the files that are written, and how many there are."""


class WorktreeLost(CrewlogError):
    """Something of the worktree is gone or changed, so it cannot be used; the text says what."""


class WorktreeDirty(CrewlogError):
    """The worktree has changes that no commit holds."""


@dataclass(frozen=True, slots=True)
class Worktree:
    """The worktree of one job."""

    job: str
    path: str
    branch: str
    base: str
    """The commit that it began from."""
    git_dir: str
    """Where git keeps its HEAD and index. An agent can change the `.git` file in the worktree, so
    nothing follows that file.
    """


@dataclass(frozen=True, slots=True)
class Checkout:
    """A folder in which files of a repository are checked out, whoever made it."""

    path: str
    commit: str
    branch: str
    """Empty if HEAD is detached."""
    bare: bool = False
    locked: bool = False
    prunable: str = ""
    """Why git would forget it, such as a missing folder; empty if it would not."""


@dataclass(frozen=True, slots=True)
class _Record:
    """What the server wrote down before it made something."""

    repository: str
    branch: str
    base: str
    git_dir: str = ""
    """Empty until the worktree is ready."""

    @property
    def ready(self) -> bool:
        return bool(self.git_dir)


class Worktrees:
    """The worktrees of one repository's jobs, in `folder`, which is the server's."""

    def __init__(self, objects: Objects, folder: Path) -> None:
        self._objects = objects
        self._git = objects.git
        self._repository = objects.repository
        self._folder = folder

    def index(self, job: str) -> Path:
        """The index that belongs to crewlog: as the files were written, or last recorded."""
        return self._folder / "state" / checked_job(job) / "index"

    def lock(self, job: str) -> Path:
        """The lock that whoever writes into the worktree for crewlog holds."""
        return self._folder / "state" / checked_job(job) / "lock"

    async def add(
        self, job: str, *, branch: str, base: str, progress: Progress | None = None
    ) -> Worktree:
        """Make the worktree of a job, or finish it, or return the one that it has.

        `branch` is the name that is wished for, `base` the whole hash of a commit. Raises
        WorktreeLost if what is left of an earlier worktree must not be touched, GitFailed, OSError;
        ValueError if `job` is not an id.
        """
        state = self.index(job).parent
        await asyncio.to_thread(state.mkdir, mode=0o700, parents=True, exist_ok=True)
        async with locked(self.lock(job)):
            record = await self._branch(job, branch, base)
            worktree = self._worktree(job, record)
            if record.ready and await self._stands(worktree):
                return worktree
            git_dir = await self._check_out(worktree, progress)
            await self._write(job, replace(record, git_dir=git_dir))
            return replace(worktree, git_dir=git_dir)

    async def of(self, job: str) -> Worktree | None:
        """The worktree that was made for the job; None if none was, or it is removed."""
        record = await asyncio.to_thread(self._read, job)
        return self._worktree(job, record) if record is not None and record.ready else None

    async def remove(self, job: str, *, dirty: bool = False) -> bool:
        """Remove the worktree of a job; its branch stays. False: it is gone already.

        Raises WorktreeDirty if it has changes that are in no commit, unless `dirty`; GitFailed.
        """
        if not self.index(job).parent.is_dir():
            return False
        async with locked(self.lock(job)):
            path = self._path(job)
            known = any(each.path == str(path) for each in await self.checkouts())
            exists = await asyncio.to_thread(os.path.lexists, path)
            if exists and not dirty and await self._is_dirty(job):
                raise WorktreeDirty(
                    f"{path} has changes that are in no commit. Commit them, or remove it with "
                    "what it has."
                )
            if exists:
                await asyncio.to_thread(shutil.rmtree, path)
            if known:
                await self._forget(path)
            record = await asyncio.to_thread(self._read, job)
            if record is not None:
                for name in ("record", "index"):
                    await asyncio.to_thread((self.index(job).parent / name).unlink, True)
            return exists or known or record is not None

    async def checkouts(self) -> tuple[Checkout, ...]:
        """All checkouts of the repository, its own first, those included whose folder is gone."""
        return await checkouts(self._git, self._repository)

    async def _branch(self, job: str, wanted: str, base: str) -> _Record:
        """The record of a job whose branch exists."""
        record = await asyncio.to_thread(self._read, job)
        if record is not None and record.repository != self._repository.git_dir:
            raise WorktreeLost(f"Job {job} has a worktree of {record.repository} already.")
        if record is not None and await self._is_ours(job, record.branch):
            return record
        if record is not None and record.ready:
            raise WorktreeLost(
                f"The branch '{record.branch}' of job {job} was deleted or made anew by somebody."
            )
        taken = await self._taken()
        for name in _names(safe_branch(wanted), taken):
            record = _Record(self._repository.git_dir, name, base)
            await self._write(job, record)
            try:
                await self._git.run(
                    "update-ref",
                    "--create-reflog",
                    "-m",
                    _reason(job),
                    _HEADS + name,
                    base,
                    "0" * len(base),
                    git_dir=self._repository.git_dir,
                )
            except GitFailed:
                if _HEADS + name not in await self._taken():
                    raise
            else:
                return record
        raise AssertionError("there is always another number")

    async def _taken(self) -> frozenset[str]:
        told = await self._git.run(
            "for-each-ref", "--format=%(refname)", _HEADS, git_dir=self._repository.git_dir
        )
        # A branch without a commit yet, as in a new repository, has no ref.
        unborn = {_HEADS + each.branch for each in await self.checkouts() if each.branch}
        return frozenset(told.text.split("\n")) | unborn

    async def _is_ours(self, job: str, branch: str) -> bool:
        """Whether the branch exists, and was made for this job."""
        told = await self._git.run(
            "log",
            "--walk-reflogs",
            "--no-patch",
            "--format=%gs",
            _HEADS + branch,
            "--",
            git_dir=self._repository.git_dir,
            ok=(0, 128),
        )
        # The oldest entry is the last line; an expired reflog leaves nothing to prove it by.
        return told.code == 0 and told.text.split("\n")[-1] == _reason(job)

    async def _stands(self, worktree: Worktree) -> bool:
        """Whether git knows the worktree, and its folder is there."""
        return any(
            each.path == worktree.path and not each.prunable for each in await self.checkouts()
        ) and await asyncio.to_thread(os.path.lexists, os.path.join(worktree.path, ".git"))

    async def _check_out(self, worktree: Worktree, progress: Progress | None) -> str:
        """Returns the git directory of the worktree."""
        path = Path(worktree.path)
        fresh = self.index(worktree.job).with_name("index.new")
        commit = await self._git.run(
            "rev-parse", "--verify", _HEADS + worktree.branch, git_dir=self._repository.git_dir
        )
        tree = await self._objects.tree(commit.text)
        await asyncio.to_thread(_remove_files, fresh, fresh.with_name("index.new.lock"))
        begun = await self._begin(worktree, fresh, tree)
        if begun:
            await self._finish(path, fresh)
        else:
            await self._fill(path, fresh, tree, progress)
        git_dir = await self._git.run("rev-parse", "--absolute-git-dir", cwd=path)
        await asyncio.to_thread(_place, fresh, Path(git_dir.text), self.index(worktree.job))
        return git_dir.text

    async def _begin(self, worktree: Worktree, index: Path, tree: str) -> bool:
        """Let the folder be a worktree of the branch. True: it has files already, all ours."""
        path = Path(worktree.path)
        if await asyncio.to_thread(_holds_files, path):
            await self._objects.run("read-tree", tree, index=index)
            other = await foreign(self._objects, index, path)
            if other is not None:
                raise WorktreeLost(
                    f"{path} was left half made, and {other} in it is none of its files. Move it "
                    "away, then try again."
                )
            if await self._stands(worktree):
                return True
        # What is left has no file that the commit does not have.
        await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
        await asyncio.to_thread(_remove_files, index)
        await self._forget(path)
        await asyncio.to_thread(path.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
        await self._git.run(
            "worktree",
            "add",
            "--no-checkout",
            "--quiet",
            "--",
            str(path),
            worktree.branch,
            git_dir=self._repository.git_dir,
        )
        return False

    async def _fill(self, path: Path, index: Path, tree: str, progress: Progress | None) -> None:
        await self._objects.run(
            "read-tree",
            *(("-v",) if progress is not None else ()),
            "-m",
            "-u",
            tree,
            index=index,
            work_tree=path,
            seconds=3_600,
            progress=None if progress is None else lambda line: _tell(progress, line),
        )

    async def _finish(self, path: Path, index: Path) -> None:
        """Write the files that are not there, or only in part."""
        missing = await unfinished(self._objects, index, path)
        await self._objects.run(
            "checkout-index",
            "--force",
            "--index",
            "-z",
            "--stdin",
            index=index,
            work_tree=path,
            data=b"".join(name + b"\0" for name in missing),
            seconds=3_600,
        )

    async def _is_dirty(self, job: str) -> bool:
        """Whether a file differs from HEAD, or is in no commit and not ignored."""
        path = self._path(job)
        record = await asyncio.to_thread(self._read, job)
        if record is None or not record.ready:
            return False  # nobody has worked in it
        try:
            head = await self._git.run(
                "rev-parse", "--verify", "HEAD^{tree}", git_dir=record.git_dir
            )
        except GitFailed:
            return True  # it is no worktree any more, so nothing can tell
        index = self.index(job).with_name("index.look")
        await asyncio.to_thread(_remove_files, index, index.with_name("index.look.lock"))
        await self._objects.run("read-tree", head.text, index=index)
        found = await self._objects.run(*_LOOK, index=index, work_tree=path)
        await asyncio.to_thread(_remove_files, index)
        return bool(found.out)

    async def _forget(self, path: Path) -> Answer | None:
        """Let git forget a worktree of ours whose folder is gone."""
        if all(each.path != str(path) for each in await self.checkouts()):
            return None
        return await self._git.run(
            "worktree",
            "remove",
            "--force",
            "--force",
            "--",
            str(path),
            git_dir=self._repository.git_dir,
        )

    def _path(self, job: str) -> Path:
        return Path(os.path.realpath(self._folder)) / "trees" / checked_job(job)

    def _worktree(self, job: str, record: _Record) -> Worktree:
        return Worktree(job, str(self._path(job)), record.branch, record.base, record.git_dir)

    def _read(self, job: str) -> _Record | None:
        try:
            return _Record(**json.loads((self.index(job).parent / "record").read_bytes()))
        except FileNotFoundError:
            return None

    async def _write(self, job: str, record: _Record) -> None:
        await asyncio.to_thread(_write, self.index(job).parent / "record", asdict(record))


_LOOK = ("ls-files", "-z", "--modified", "--deleted", "--others", "--exclude-standard")


async def checkouts(git: Git, repository: Repository) -> tuple[Checkout, ...]:
    """All checkouts of a repository, its own first. Raises GitFailed."""
    told = await git.run("worktree", "list", "--porcelain", "-z", git_dir=repository.git_dir)
    return tuple(
        _checkout(entry.split("\0")) for entry in os.fsdecode(told.out).split("\0\0") if entry
    )


def _checkout(lines: list[str]) -> Checkout:
    facts = {name: value for name, _, value in (line.partition(" ") for line in lines)}
    return Checkout(
        path=facts["worktree"],
        commit=facts.get("HEAD", ""),
        branch=facts.get("branch", "").removeprefix(_HEADS),
        bare="bare" in facts,
        locked="locked" in facts,
        prunable=facts.get("prunable", ""),
    )


def safe_branch(wanted: str) -> str:
    """A name that git and every shell accept for a branch, as near to `wanted` as can be."""
    parts = []
    for part in _UNSAFE.sub("-", wanted[: 4 * _LONGEST]).split("/"):
        part = re.sub(r"-{2,}", "-", re.sub(r"\.{2,}", ".", part)).strip("-.")
        while part.endswith(".lock"):
            part = part.removesuffix(".lock").rstrip("-.")
        if part:
            parts.append(part)
    name = "/".join(parts)[:_LONGEST].rstrip("/-.")
    return "job" if name in ("", "HEAD") else name.removesuffix(".lock")


def _names(wanted: str, taken: frozenset[str]) -> Iterator[str]:
    """The names that are free, the one that is wished for first."""
    lower = {
        name.lower() for name in taken
    }  # where names of files have no case, branches have none
    parts = wanted.split("/")
    if any(f"{_HEADS}{'/'.join(parts[:end])}".lower() in lower for end in range(1, len(parts))):
        wanted = "-".join(parts)  # a branch cannot be in another one
    number = 1
    while True:
        name = wanted if number == 1 else f"{wanted}-{number}"
        ref = (_HEADS + name).lower()
        if ref not in lower and not any(other.startswith(ref + "/") for other in lower):
            yield name
        number += 1


def checked_job(job: str) -> str:
    """The id, if it can be the name of a file and of a ref. Raises ValueError."""
    if not _JOB.fullmatch(job) or job.endswith(".lock"):
        raise ValueError("The id of a job has letters, digits, '.', '_' and '-' only.")
    return job


def _reason(job: str) -> str:
    return f"crewlog: made for job {checked_job(job)}"


def _tell(progress: Progress, line: str) -> None:
    if found := _PROGRESS.search(line):
        progress(int(found[1]), int(found[2]))


def _holds_files(path: Path) -> bool:
    try:
        return bool(set(os.listdir(path)) - {".git"})
    except FileNotFoundError:
        return False


def _remove_files(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _place(index: Path, git_dir: Path, ours: Path) -> None:
    """Give the worktree its index, and keep one. The times of the files decide whether git looks
    into them again, so the copy has the time of the original.
    """
    copy = git_dir / "index.crewlog"
    shutil.copy2(index, copy)
    copy.replace(git_dir / "index")
    index.replace(ours)


def _write(path: Path, record: dict[str, object]) -> None:
    fresh = path.with_name("record.new")
    with open(fresh, "w") as file:
        json.dump(record, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
