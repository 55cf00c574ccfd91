"""Checkpoints: the files of a worktree as they were, each a tree that a ref of ours keeps.

The agent's index and HEAD are not touched. The index here is crewlog's own: an agent can mark files
in its index as unchanged, which would hide them from whoever looks at the diff.
"""

import asyncio
import os
import shutil
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from scheduler.git.command import GitFailed
from scheduler.git.locks import locked
from scheduler.git.objects import REFRESH, Objects
from scheduler.git.worktrees import Worktree, WorktreeLost, Worktrees, checked_job

_CHANGED = ("ls-files", "-z", "-t", "--modified", "--deleted", "--others", "--exclude-standard")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    number: int
    """From 1, without gaps unless somebody deletes a ref."""
    ref: str
    commit: str
    tree: str
    new: bool = False
    """Whether this call made it."""


class Checkpoints:
    """The checkpoints of the worktrees in one repository."""

    def __init__(self, objects: Objects, worktrees: Worktrees) -> None:
        self._objects = objects
        self._git = objects.git
        self._worktrees = worktrees

    async def take(self, worktree: Worktree, message: str = "") -> Checkpoint:
        """Record the files as they are: also new, binary and deleted ones, modes and symlinks;
        without ignored ones, unless the agent's index has them. If nothing changed since the last
        checkpoint, that one is returned.

        Another repository inside the worktree is recorded by its commit only. Raises WorktreeLost
        if the worktree is gone, GitFailed if a file cannot be read.
        """
        async with self._held(worktree):
            return await self._take(worktree, message, ())

    async def all(self, job: str) -> tuple[Checkpoint, ...]:
        """The checkpoints of a job, oldest first. Raises GitFailed."""
        told = await self._git.run(
            "for-each-ref",
            "--format=%(refname) %(objectname) %(tree)",
            _refs(job),
            git_dir=self._objects.repository.git_dir,
        )
        found = []
        for line in told.text.split("\n"):
            ref, _, rest = line.partition(" ")
            number = ref.removeprefix(_refs(job))
            if number.isascii() and number.isdecimal():
                commit, _, tree = rest.partition(" ")
                found.append(Checkpoint(int(number), ref, commit, tree))
        return tuple(sorted(found, key=lambda each: each.number))

    async def restore(self, worktree: Worktree, number: int) -> Checkpoint:
        """Give the worktree the files of a checkpoint. Returns the checkpoint of its files until
        now. Ignored files stay, and one that is in the way is in that checkpoint.

        Raises WorktreeLost if there is no such checkpoint, GitFailed if a file was changed in the
        meantime: then nothing is changed here, and the call can be repeated.
        """
        async with self._held(worktree):
            wanted = [each for each in await self.all(worktree.job) if each.number == number]
            if not wanted:
                raise WorktreeLost(f"Job {worktree.job} has no checkpoint {number}.")
            message = f"Before checkpoint {number} is restored"
            before = await self._take(worktree, message, ())
            if in_the_way := await self._in_the_way(worktree, before.tree, wanted[0].tree):
                before = await self._take(worktree, message, in_the_way)
            index = await self._copy_of_index(worktree)
            await self._objects.run(
                "read-tree",
                "-m",
                "-u",
                before.tree,
                wanted[0].tree,
                index=index,
                work_tree=worktree.path,
            )
            await asyncio.to_thread(index.replace, self._worktrees.index(worktree.job))
            return before

    def _held(self, worktree: Worktree) -> AbstractAsyncContextManager[None]:
        if not os.path.lexists(os.path.join(worktree.path, ".git")):
            raise WorktreeLost(f"The worktree {worktree.path} is gone.")
        return locked(self._worktrees.lock(worktree.job))

    async def _take(self, worktree: Worktree, message: str, also: Sequence[bytes]) -> Checkpoint:
        index = await self._copy_of_index(worktree)
        await self._update(worktree, index, also)
        tree = (await self._objects.run("write-tree", index=index)).text
        await asyncio.to_thread(index.replace, self._worktrees.index(worktree.job))
        earlier = await self.all(worktree.job)
        if earlier and earlier[-1].tree == tree:
            return earlier[-1]
        number = earlier[-1].number + 1 if earlier else 1
        parent = await self._head(worktree)
        commit = await self._objects.run(
            "commit-tree",
            tree,
            *(("-p", parent) if parent else ()),
            data=(message or f"Checkpoint {number} of job {worktree.job}").encode(errors="replace"),
        )
        ref = f"{_refs(worktree.job)}{number}"
        await self._git.run(
            "update-ref",
            ref,
            commit.text,
            "0" * len(commit.text),
            git_dir=self._objects.repository.git_dir,
        )
        return Checkpoint(number, ref, commit.text, tree, new=True)

    async def _copy_of_index(self, worktree: Worktree) -> Path:
        """A copy to work on, so that a kill leaves the index as it was. It has the index's time,
        by which git knows which files it must look into again.
        """
        ours = self._worktrees.index(worktree.job)
        copy = ours.with_name("index.take")
        try:
            await asyncio.to_thread(_copy, ours, copy)
        except FileNotFoundError:
            await self._objects.run("read-tree", worktree.base, index=copy)
        return copy

    async def _update(self, worktree: Worktree, index: Path, also: Sequence[bytes]) -> None:
        await self._objects.run(*REFRESH, index=index, work_tree=worktree.path, ok=(0, 1))
        changed = await self._objects.run(
            *_CHANGED, *self._excludes(), index=index, work_tree=worktree.path
        )
        entries = [(field[:1], field[2:]) for field in changed.fields]
        known = [name for kind, name in entries if kind != b"?"]
        others = [name for kind, name in entries if kind == b"?"]
        gone = await asyncio.to_thread(_beyond_links, worktree.path, known)
        removed = frozenset(gone)
        await self._put(worktree, index, gone, "--force-remove")
        # Files go before folders of the same name come, or git would take one for the other.
        names = dict.fromkeys((*known, *others, *also, *await self._forced(worktree)))
        whole = [name for name in names if not name.endswith(b"/") and name not in removed]
        await self._put(worktree, index, whole)
        for nested in (name.rstrip(b"/") for name in names if name.endswith(b"/")):
            await self._put(worktree, index, [nested], ok=(0, 128))  # it may have no commit

    async def _put(
        self,
        worktree: Worktree,
        index: Path,
        names: Sequence[bytes],
        *options: str,
        ok: Sequence[int] = (0,),
    ) -> None:
        if names:
            await self._objects.run(
                "update-index",
                "--add",
                "--remove",
                "--replace",
                *options,
                "-z",
                "--stdin",
                index=index,
                work_tree=worktree.path,
                data=b"".join(name + b"\0" for name in names),
                seconds=3_600,
                ok=ok,
            )

    async def _forced(self, worktree: Worktree) -> list[bytes]:
        """The ignored files that the agent's index has, because it was told to add them."""
        try:
            told = await self._objects.run(
                "ls-files",
                "-z",
                "--cached",
                "--ignored",
                "--exclude-standard",
                *self._excludes(),
                index=Path(worktree.git_dir) / "index",
                work_tree=worktree.path,
            )
        except GitFailed:  # its index may be anything
            return []
        return await asyncio.to_thread(_present, worktree.path, told.fields)

    async def _in_the_way(self, worktree: Worktree, now: str, then: str) -> list[bytes]:
        """The files, ignored ones too, where files of the checkpoint will be."""
        told = await self._objects.run(
            "diff-tree", "-r", "-z", "--name-only", "--no-renames", "--diff-filter=A", now, then
        )
        return await asyncio.to_thread(_obstacles, worktree.path, told.fields)

    async def _head(self, worktree: Worktree) -> str:
        """The commit that the worktree is at; empty if the agent left none."""
        told = await self._git.run(
            "rev-parse",
            "--verify",
            "--quiet",
            "HEAD^{commit}",
            git_dir=worktree.git_dir,
            ok=(0, 1, 128),
        )
        return told.text if told.code == 0 else ""

    def _excludes(self) -> tuple[str, ...]:
        path = os.path.join(self._objects.repository.git_dir, "info", "exclude")
        return (f"--exclude-from={path}",) if os.path.isfile(path) else ()


def _refs(job: str) -> str:
    return f"refs/crewlog/{checked_job(job)}/"


def _copy(index: Path, copy: Path) -> None:
    copy.with_name(copy.name + ".lock").unlink(missing_ok=True)
    copy.unlink(missing_ok=True)
    shutil.copy2(index, copy)


def _obstacles(folder: str, names: Sequence[bytes]) -> list[bytes]:
    """The files and symlinks in the places of these names and of their folders."""
    root = os.fsencode(folder)
    found: dict[bytes, None] = {}
    for name in names:
        parts = name.split(b"/")
        for end in range(1, len(parts) + 1):
            path = os.path.join(root, *parts[:end])
            if not os.path.lexists(path):
                break
            if os.path.islink(path) or not os.path.isdir(path):
                found[b"/".join(parts[:end])] = None
                break
        else:
            for above, _, files in os.walk(os.path.join(root, name)):
                found |= dict.fromkeys(
                    os.path.relpath(os.path.join(above, each), root) for each in files
                )
    return list(found)


def _present(folder: str, names: Sequence[bytes]) -> list[bytes]:
    """The names that are files or symlinks of the tree itself."""
    root = os.fsencode(folder)
    beyond = frozenset(_beyond_links(folder, names))
    paths = ((name, os.path.join(root, name)) for name in names if name not in beyond)
    return [name for name, path in paths if os.path.islink(path) or os.path.isfile(path)]


def _beyond_links(folder: str, names: Sequence[bytes]) -> list[bytes]:
    """The names that a symlink in place of one of their folders leads out of the tree."""
    root = os.fsencode(folder)
    links: dict[bytes, bool] = {b"": False}

    def is_beyond(parent: bytes) -> bool:
        if parent not in links:
            above = is_beyond(parent.rpartition(b"/")[0])
            links[parent] = above or os.path.islink(os.path.join(root, parent))
        return links[parent]

    return [name for name in names if is_beyond(name.rpartition(b"/")[0])]
