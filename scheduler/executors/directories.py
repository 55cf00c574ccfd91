"""The directories of attempts, `ROOT/JOB/ATTEMPT/`, as the server makes, locks and removes them.

`scheduler/executors/shim/` says what is in one.
"""

import errno
import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path
from threading import Lock

from scheduler.executors.contract import OUTPUT, AttemptSpec
from scheduler.executors.inbox import make
from scheduler.executors.shim.channels import spool_of
from scheduler.executors.shim.regular_file import NotRegular, open_regular
from scheduler.executors.trees import remove_tree

INBOX = "inbox"
REMOVED = "~"
"""Begins the names of directories to be removed. No job id begins so."""


def prepare(directory: Path, spec: AttemptSpec, job_folders: Lock) -> None:
    """Make all that a shim needs. Repeating it changes nothing that an attempt has written.
    `job_folders` is held while the folder of the job changes. Raises OSError.
    """
    directory.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    make_directory(directory, job_folders)
    for fifo in ("bell", "control"):
        with suppress(FileExistsError):
            os.mkfifo(directory / fifo, 0o600)
    for channel in (OUTPUT, *spec.channels):
        (directory / spool_of(channel)).touch(0o600)
    if spec.inbox:
        make(directory / INBOX)
    fresh = directory / "spec.new"
    with open(open_regular(str(fresh), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
        file.write(_encode(spec, _environment(directory, spec)))
    fresh.rename(directory / "spec")


def make_directory(directory: Path, job_folders: Lock) -> None:
    """Make an attempt's directory, in the job's folder or with it."""
    with job_folders:
        directory.parent.mkdir(mode=0o700, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)


def _environment(directory: Path, spec: AttemptSpec) -> dict[str, str]:
    """The process's environment, with the paths of this attempt."""
    env = dict(spec.env)
    if spec.channels:
        others = (channel for channel in spec.channels if channel != "stderr")
        descriptors = [f"{channel}:{fd}" for fd, channel in enumerate(others, 3)]
        if "stderr" in spec.channels:
            descriptors.insert(0, "stderr:2")
        env["CREWLOG_CHANNELS"] = " ".join(descriptors)
    if spec.inbox:
        env["CREWLOG_INBOX"] = str(directory / INBOX)
    return env


def _encode(spec: AttemptSpec, env: dict[str, str]) -> bytes:
    """The form that `scheduler/executors/shim/` reads."""
    numbers = (spec.timeout_ms, spec.output_limit, spec.grace_ms)
    variables = (f"{name}={value}" for name, value in env.items())
    fields = (*map(str, numbers), spec.cwd, str(len(spec.argv)), *spec.argv, *variables)
    return b"\0".join(map(os.fsencode, fields))


def open_bell(directory: Path) -> int | None:
    """None if there is no bell: then nothing wakes the caller."""
    try:
        return os.open(directory / "bell", os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return None


def take_lock(directory: Path, *, make: bool = True) -> int | None:
    """The lock of an attempt that is not alive, for the caller to close; None if it is alive.
    Raises FileNotFoundError if there is none and it is not to be made.
    """
    lock = open_regular(str(directory / "lock"), os.O_RDWR | (os.O_CREAT if make else 0))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def withdraw(directory: Path) -> bool:
    """Prevents an attempt that has not begun from beginning later. False: it is just beginning."""
    try:
        lock = take_lock(directory)
    except FileNotFoundError:
        return True
    if lock is None:
        return False
    try:
        if (directory / "started").exists():
            return False
        # A shim that is just starting finds no spec, and leaves.
        (directory / "spec").unlink(missing_ok=True)
        return True
    finally:
        os.close(lock)


def remove_directory(removed: Path, job: Path, job_folders: Lock) -> None:
    """Remove an attempt's directory, which was renamed before, and the job's if that is empty."""
    with suppress(OSError), job_folders:
        job.rmdir()  # fails if it holds another attempt
    try:
        for name in os.listdir(removed):
            os.unlink(removed / name)
        os.rmdir(removed)
    except OSError:
        with suppress(OSError):
            remove_tree(removed)


def remove_left(root: Path) -> None:
    """Remove what an earlier server was about to remove."""
    with suppress(OSError):
        for left in list(root.iterdir()):
            if left.name.startswith(REMOVED):
                with suppress(OSError):
                    remove_tree(left)


def folders(parent: Path) -> list[Path]:
    try:
        return sorted(path for path in parent.iterdir() if path.is_dir())
    except OSError:
        return []


def check_spools(directory: Path) -> None:
    """Raises NotRegular if another thing is in the place of a spool."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.partition(".")[0] == "spool" and not entry.is_file(follow_symlinks=False):
                raise NotRegular(entry.name)


def check_control(directory: Path) -> None:
    """Raises OSError if nobody can tell the shim anything any more."""
    if not stat.S_ISFIFO(os.lstat(directory / "control").st_mode):
        raise OSError(errno.EINVAL, "control is not a pipe")
