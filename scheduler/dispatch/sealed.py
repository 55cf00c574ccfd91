"""Sealed specs: what a job needs to run and the log must not know.

The log is kept for ever, so it has only the names of a job's environment variables, a redacted argv
and a redacted directory. The rest is in a file of mode 0600, which is durable before the job is
accepted. It is removed when the job has ended or, if the job could be redone, when it is archived.
"""

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import orjson

from scheduler.executors.shim.regular_file import NotRegular, open_regular, read_regular

_LARGEST = 64 * 1_048_576
"""Far more bytes than a request may have."""


@dataclass(frozen=True, slots=True, repr=False)
class Sealed:
    """The private part of a job: the original argv, and the environment's values by name.

    Its representation shows nothing of it.
    """

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str | None = None
    """The original working directory; None if the log shows it unchanged."""


class SealedSpecs:
    """One file for each job under `root`. Methods block on the disk, and raise OSError if it cannot
    be written.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._opened = time.time()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def seal(self, job_id: str, sealed: Sealed) -> None:
        """Write and sync the file and its directory, so that an accepted job cannot lose it."""
        path = self._path(job_id)
        draft = path.with_suffix(".draft")
        private = {"argv": sealed.argv, "env": sealed.env, "cwd": sealed.cwd}
        file = open_regular(str(draft), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            # A file object continues after a short write, which an almost full disk can cause.
            with open(file, "wb") as stream:
                stream.write(orjson.dumps(private))
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
        """The private part; None if there is no file (any more), or only an incomplete one."""
        try:
            private = orjson.loads(read_regular(str(self._path(job_id)), _LARGEST))
            return Sealed(tuple(private["argv"]), dict(private["env"]), private.get("cwd"))
        except (FileNotFoundError, NotRegular, ValueError, KeyError, TypeError, AttributeError):
            return None

    def has(self, job_id: str) -> bool:
        return os.path.lexists(self._path(job_id))

    def discard(self, job_id: str) -> None:
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            self._path(job_id).unlink()

    def sweep(self, wanted: Callable[[str], bool]) -> None:
        """Remove the files of all jobs that are not `wanted`: left by a crash between sealing and
        accepting, or between the end of a job and the removal.

        Files that were sealed since this object was made stay: their jobs may be just being
        accepted.
        """
        for path in list(self._root.iterdir()):
            # What cannot be removed, such as a directory that somebody made, must not hold up the
            # start.
            with contextlib.suppress(OSError):
                if path.lstat().st_mtime < self._opened and not wanted(path.stem):
                    path.unlink()

    def _path(self, job_id: str) -> Path:
        return self._root / f"{job_id}.json"
