"""The workspaces of the node that this process runs on."""

import asyncio
import os
import shutil
import sys
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from secrets import token_hex

from domain.errors import DamagedFile
from domain.job.aggregate import Job
from scheduler.executors.contract import AttemptSpec
from scheduler.executors.removals import Removals
from scheduler.executors.shim.regular_file import read_regular
from scheduler.workspaces.artifacts import ArtifactStore
from scheduler.workspaces.attempt_folder import AttemptFolders
from scheduler.workspaces.contract import Assignment, CannotLaunch, Leavings
from scheduler.workspaces.environment import child_environment

_LONGEST_NAME = 4_096  # bytes


def node_name(root: Path, host: str) -> str:
    """The name of the node whose spools are in `root`. It is stored beside the spools at the first
    start.

    Raises DamagedFile if something else is there.

    A copy of the log on another machine finds another name there. So attempts in that log are not
    taken for attempts that run on that machine. A renamed host stays the same node.
    """
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = root / "node"
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return _read_node(path)
    with open(file, "w") as stream:
        stream.write(f"{host}-{token_hex(4)}")
        stream.flush()
        os.fsync(file)
    return _read_node(path)


def _read_node(path: Path) -> str:
    try:
        return read_regular(str(path), _LONGEST_NAME).decode()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise DamagedFile(
            f"{path}, the name of this node, cannot be read: {why}. Put it back from a backup. If "
            "it is removed, a new one is made, and the jobs that run are lost."
        ) from error


class LocalWorkspaces:
    """Folders below one root, and the environment with which this process was started.

    `env` is that environment. `hints` say what to do if a program is missing, by its name.
    `default_cwd` is the directory of jobs that name none.
    """

    def __init__(
        self,
        node: str,
        folders: AttemptFolders,
        artifacts: ArtifactStore,
        *,
        env: Mapping[str, str],
        keep_env: Collection[str],
        secret_env: Collection[str] = (),
        default_cwd: str,
        hints: Mapping[str, str],
    ) -> None:
        self.node = node
        self._folders = folders
        self._artifacts = artifacts
        self._env = env
        self._keep_env = keep_env
        self._secret_env = secret_env
        self._default_cwd = default_cwd
        self._hints = hints
        self._removals = Removals()

    async def prepare(self, assignment: Assignment) -> AttemptSpec:
        if not assignment.job.planned:  # two folders, and no file
            return self._prepare(assignment)
        return await asyncio.to_thread(self._prepare, assignment)

    def left_nothing(self, job: Job, attempt: int) -> bool:
        return self._folders.left_nothing(job, attempt)

    async def gather(self, job: Job, attempt: int) -> Leavings:
        return await asyncio.to_thread(self._folders.gather, job, attempt, self._artifacts)

    async def discard(self, job_id: str, attempt: int) -> None:
        self._removals.put(partial(self._folders.discard, job_id, attempt))

    async def sweep(self, keep: Collection[tuple[str, int]]) -> None:
        await asyncio.to_thread(self._folders.sweep, keep)

    def _prepare(self, assignment: Assignment) -> AttemptSpec:
        job, attempt, argv = assignment.job, assignment.attempt, assignment.argv
        env = child_environment(self._env, assignment.env, self._keep_env, self._secret_env)
        prepared = self._folders.prepare(job, attempt, assignment.parents)
        env |= {**prepared.env, **assignment.server_env}
        env["PATH"] = os.pathsep.join(filter(None, (env.get("PATH"), _BIN)))
        hint = self._hints.get(argv[0]) if argv else None
        if hint is not None and shutil.which(argv[0], path=env.get("PATH")) is None:
            raise CannotLaunch(hint)
        try:
            return AttemptSpec(
                job_id=job.id,
                attempt=attempt,
                argv=argv,
                cwd=assignment.cwd or prepared.cwd or self._default_cwd,
                env=env,
                timeout_ms=job.timeout_ms,
                output_limit=assignment.output_limit,
            )
        except ValueError as error:
            raise CannotLaunch(str(error)) from error


_BIN = str(Path(sys.executable).parent)
"""The folder of this node's crewlog command, so that its jobs find it."""
