"""Repositories that jobs may work in: which are allowed, their branches, and where work begins."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from domain.errors import CrewlogError
from scheduler.git.command import Git, GitFailed

_HEADS = "refs/heads/"
_ORIGIN = "refs/remotes/origin/"


class RepositoryNotAllowed(CrewlogError):
    """The settings do not allow this path, or it leads to one that they do not allow."""


class NotARepository(CrewlogError):
    """There is no git repository at this path."""


class EmptyRepository(CrewlogError):
    """The repository has no commit, so no work can begin from one."""


class UnknownRevision(CrewlogError):
    """The repository has no such branch, tag or commit."""


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository on this node; all paths are absolute and resolved."""

    path: str
    """The top folder of its files, or the repository itself if it is bare."""
    git_dir: str
    """The folder that its worktrees share, with objects and branches."""
    bare: bool
    sha: str
    """The hash of its objects: ``sha1`` or ``sha256``."""


@dataclass(frozen=True, slots=True)
class Branch:
    name: str
    commit: str
    at: int
    """When its commit was made: Unix time in seconds."""


@dataclass(frozen=True, slots=True)
class Base:
    """Where work begins. `branch` is the local branch that it can be merged into; empty if there is
    none, as with a tag or a detached HEAD.
    """

    branch: str
    commit: str


class Repositories:
    """The repositories that `allowed` allows: absolute paths, in which ``*``, ``?`` and ``[]``
    stand for parts of a name and ``**`` for any number of folders. A path allows what is below it.
    """

    def __init__(self, git: Git, allowed: Sequence[str]) -> None:
        self._git = git
        self._allowed = allowed

    async def find(self, path: str) -> Repository:
        """The repository at `path`, which may be a folder inside it.

        Raises RepositoryNotAllowed before anything at the path is read, NotARepository, GitFailed.
        """
        if not os.path.isabs(path) or "\0" in path:
            raise NotARepository(f"{path}: the path of a repository must be absolute.")
        place, patterns = await asyncio.to_thread(self._resolve, path)
        if not _allows(patterns, place):
            raise RepositoryNotAllowed(
                f"{path} is not allowed. Add it to the setting 'repositories' to work there."
            )
        if not await asyncio.to_thread(place.is_dir):
            raise NotARepository(f"{path} is not a folder.")
        repository = await self._read(path, place)
        for part in (repository.path, repository.git_dir):
            if not _allows(patterns, Path(part)):
                raise RepositoryNotAllowed(
                    f"{path} belongs to a repository at {part}, which is not allowed. Add that to "
                    "the setting 'repositories' to work there."
                )
        return repository

    async def _read(self, path: str, place: Path) -> Repository:
        try:
            told = await self._git.run(
                "rev-parse",
                "--path-format=absolute",
                "--is-bare-repository",
                "--show-object-format",
                "--is-inside-git-dir",
                cwd=place,
            )
            bare, sha, inside = told.text.split("\n")
            git_dir = await self._line("--git-common-dir", place)
            if bare == "true":
                top = git_dir
            elif inside == "true":
                raise NotARepository(f"{path} is inside the '.git' folder of a repository.")
            else:
                top = await self._line("--show-toplevel", place)
        except GitFailed as failure:
            if "dubious ownership" in str(failure):
                raise RepositoryNotAllowed(
                    f"{path} belongs to another user of this machine than the server."
                ) from failure
            if "not a git repository" in str(failure):
                raise NotARepository(f"{path} is not a git repository.") from failure
            raise
        top, git_dir = await asyncio.to_thread(lambda: tuple(map(os.path.realpath, (top, git_dir))))
        return Repository(top, git_dir, bare == "true", sha)

    async def _line(self, question: str, place: Path) -> str:
        """One path an answer: a path may have line breaks."""
        told = await self._git.run("rev-parse", "--path-format=absolute", question, cwd=place)
        return told.text

    def _resolve(self, path: str) -> tuple[Path, list[tuple[str, ...]]]:
        return Path(os.path.realpath(path)), [_pattern(each) for each in self._allowed]

    async def branches(self, repository: Repository) -> tuple[Branch, ...]:
        """The local branches, by name. Raises GitFailed."""
        told = await self._git.run(
            "for-each-ref",
            "--format=%(refname)%00%(objectname)%00%(committerdate:unix)",
            _HEADS,
            git_dir=repository.git_dir,
        )
        rows = (line.split("\0") for line in told.text.split("\n") if line)
        return tuple(
            Branch(name.removeprefix(_HEADS), commit, int(at or 0)) for name, commit, at in rows
        )

    async def base(self, repository: Repository, wanted: str = "") -> Base:
        """Where work begins: at `wanted`, a branch, tag or commit; else at the branch that HEAD of
        origin names, at main, at master, or at the present branch or commit.

        Raises EmptyRepository, UnknownRevision, GitFailed.
        """
        if wanted:
            return await self._wanted(repository, wanted)
        origin = await self._symbolic(repository, f"{_ORIGIN}HEAD", _ORIGIN)
        for branch in (*((origin,) if origin else ()), "main", "master"):
            if commit := await self._commit(repository, _HEADS + branch):
                return Base(branch, commit)
            if branch == origin and (commit := await self._commit(repository, _ORIGIN + branch)):
                return Base("", commit)  # there is no local branch to merge into
        commit = await self._commit(repository, "HEAD")
        if not commit:
            raise EmptyRepository(
                f"{repository.path} has no commit on main, master or its present branch. Make a "
                "first commit, or name the branch to begin from."
            )
        return Base(await self._symbolic(repository, "HEAD", _HEADS), commit)

    async def _wanted(self, repository: Repository, wanted: str) -> Base:
        short = wanted.removeprefix(_HEADS)
        if commit := await self._commit(repository, _HEADS + short):
            return Base(short, commit)
        if commit := await self._commit(repository, wanted):
            return Base("", commit)
        raise UnknownRevision(f"{repository.path} has no branch, tag or commit '{wanted}'.")

    async def _commit(self, repository: Repository, revision: str) -> str:
        """Empty if there is no such commit."""
        if "\0" in revision:
            return ""
        told = await self._git.run(
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            revision + "^{commit}",
            git_dir=repository.git_dir,
            ok=(0, 1, 128),
        )
        return told.text if told.code == 0 else ""

    async def _symbolic(self, repository: Repository, name: str, below: str) -> str:
        """The name, without `below`, that a symbolic ref points to; empty if it is none."""
        told = await self._git.run(
            "symbolic-ref", "--quiet", name, git_dir=repository.git_dir, ok=(0, 1, 128)
        )
        return told.text.removeprefix(below) if told.text.startswith(below) else ""


def _pattern(allowed: str) -> tuple[str, ...]:
    """The parts of an allowed path. Those before the first glob are resolved, as the paths are that
    it is compared with.
    """
    parts = Path(allowed).parts
    plain = 0
    while plain < len(parts) and not set("*?[") & set(parts[plain]):
        plain += 1
    fixed = os.path.realpath(os.path.join("/", *parts[:plain]))
    return (*Path(fixed).parts, *parts[plain:])


def _allows(patterns: Sequence[tuple[str, ...]], path: Path) -> bool:
    return any(_matches(pattern, path.parts) for pattern in patterns)


def _matches(pattern: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether the pattern matches the path or a folder that it is in."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_matches(pattern[1:], parts[start:]) for start in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(pattern[1:], parts[1:])
