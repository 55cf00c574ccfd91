"""The objects of a repository, behind a git directory of our own.

Configuration and attributes of a repository choose filters and merge drivers, which are programs,
and an agent can change both at any moment. Here git sees the repository's objects, but reads a
configuration that crewlog has written: attributes then name nothing that could run. Only settings
that change how bytes and modes are stored are taken over.
"""

import asyncio
import os
from collections.abc import Callable, Collection
from hashlib import sha256
from pathlib import Path

from scheduler.git.command import Answer, Git, Identity
from scheduler.git.repositories import Repository

_TAKEN_OVER = {
    "core.autocrlf": ("true", "false", "input"),
    "core.eol": ("lf", "crlf", "native"),
    "core.filemode": ("true", "false"),
    "core.symlinks": ("true", "false"),
    "core.ignorecase": ("true", "false"),
}

REFRESH = ("update-index", "-q", "--refresh")
"""Learn the times of files whose content is that of the index. Ends with 1 if others differ."""


class Objects:
    """The objects of one repository. Made by `open_objects`."""

    def __init__(self, git: Git, repository: Repository, folder: Path, config: list[str]) -> None:
        self.git = git
        self.repository = repository
        self.folder = folder
        self._config = config

    async def run(
        self,
        *args: str | bytes,
        index: Path | None = None,
        work_tree: str | Path | None = None,
        keep_objects: bool = True,
        durable: bool = False,
        author: Identity | None = None,
        data: bytes = b"",
        ok: Collection[int] = (0,),
        limit: int = 64 * 1024 * 1024,
        seconds: float | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> Answer:
        """Run git on the objects, with this index and these files.

        New objects go into the repository, or, without `keep_objects`, into a folder that is ours
        and may be emptied. `durable` ones are on the disk before the call ends. Raises GitFailed.
        """
        objects = os.path.join(self.repository.git_dir, "objects")
        env = {"GIT_OBJECT_DIRECTORY": objects}
        if not keep_objects:
            env["GIT_OBJECT_DIRECTORY"] = str(self.folder / "objects")
            env["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = _quoted(objects)
        shallow = os.path.join(self.repository.git_dir, "shallow")
        if await asyncio.to_thread(os.path.exists, shallow):
            env["GIT_SHALLOW_FILE"] = shallow
        if index is not None:
            env["GIT_INDEX_FILE"] = str(index)
        if work_tree is not None:
            env["GIT_WORK_TREE"] = os.fspath(work_tree)
        if author is not None:
            env |= author.variables("AUTHOR")
        return await self.git.run(
            *args,
            git_dir=self.folder,
            cwd=self.folder if work_tree is None else work_tree,
            env=env,
            config=[*self._config, *(["core.fsync=committed"] if durable else [])],
            data=data,
            ok=ok,
            limit=limit,
            seconds=seconds,
            progress=progress,
        )

    async def tree(self, revision: str) -> str:
        """The tree of a commit or tree that is named by its whole hash. Raises GitFailed."""
        told = await self.run("rev-parse", "--verify", "--end-of-options", revision + "^{tree}")
        return told.text


async def open_objects(git: Git, repository: Repository, root: Path) -> Objects:
    """The objects of a repository. `root` is a folder of the server, in which the git directories
    of all repositories are made. Raises GitFailed, OSError.
    """
    name = sha256(os.fsencode(repository.git_dir)).hexdigest()[:24]
    folder = root / f"{name}.git"
    await asyncio.to_thread(_make, folder, repository.sha)
    told = await git.run(
        "config", "--null", "--get-regexp", r"^core\.", git_dir=repository.git_dir, ok=(0, 1)
    )
    pairs = (os.fsdecode(field).partition("\n") for field in told.fields)
    config = [
        f"{name}={value}" for name, _, value in pairs if value in _TAKEN_OVER.get(name.lower(), ())
    ]
    return Objects(git, repository, folder, config)


def _make(folder: Path, sha: str) -> None:
    for part in ("refs", "objects", "jobs"):
        (folder / part).mkdir(mode=0o700, parents=True, exist_ok=True)
    version, extension = ("1", f"[extensions]\n\tobjectFormat = {sha}\n")
    if sha == "sha1":
        version, extension = "0", ""
    for name, text in (
        ("HEAD", "ref: refs/heads/none\n"),
        ("config", f"[core]\n\trepositoryformatversion = {version}\n\tbare = true\n{extension}"),
    ):
        fresh = folder / f"{name}.{os.getpid()}"
        fresh.write_text(text)
        fresh.replace(folder / name)


def _quoted(path: str) -> str:
    """The path as git reads it from a list of paths."""
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
