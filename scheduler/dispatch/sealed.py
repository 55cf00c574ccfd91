"""Sealed specs: what a job needs to run and the log must not know, until it cannot run again.

The log is for ever, so it keeps the names of a job's environment variables, a redacted argv and a
redacted directory. The rest lies in a file of mode 0600 that is durable before the job is accepted
and is removed when the job has ended, or, where it could be redone, when it is taken off the board.
"""

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import orjson


@dataclass(frozen=True, slots=True, repr=False)
class Sealed:
    """The private part of a job: the argv as it was given and the environment's values by name.

    Nothing of it is in its representation.
    """

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str | None = None
    """The working directory as it was given; None where the log shows it as it is."""


class SealedSpecs:
    """One file a job under `root`. Methods block on the disk; OSError when it cannot be written."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._opened = time.time()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def seal(self, job_id: str, sealed: Sealed) -> None:
        """Write and fsync, file and directory, so that an accepted job cannot lose it."""
        path = self._path(job_id)
        draft = path.with_suffix(".draft")
        said = {"argv": sealed.argv, "env": sealed.env, "cwd": sealed.cwd}
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            # A file object goes on after a short write, as one to an almost full disk is.
            with open(file, "wb") as stream:
                stream.write(orjson.dumps(said))
                stream.flush()
                os.fsync(file)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        draft.replace(path)
        directory = os.open(self._root, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def open(self, job_id: str) -> Sealed | None:
        """The private part, or None when there is no such file (any more), or only half of one."""
        try:
            said = orjson.loads(self._path(job_id).read_bytes())
            return Sealed(tuple(said["argv"]), dict(said["env"]), said.get("cwd"))
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def has(self, job_id: str) -> bool:
        return self._path(job_id).exists()

    def discard(self, job_id: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._path(job_id).unlink()

    def sweep(self, wanted: Callable[[str], bool]) -> None:
        """Remove what belongs to no job that is `wanted`: left by a crash between sealing and
        accepting, or between the end and its removal.

        What was sealed since this object was made is of jobs that are just being accepted, and
        stays.
        """
        for path in self._root.iterdir():
            if path.stat().st_mtime < self._opened and not wanted(path.stem):
                path.unlink(missing_ok=True)

    def _path(self, job_id: str) -> Path:
        return self._root / f"{job_id}.json"
