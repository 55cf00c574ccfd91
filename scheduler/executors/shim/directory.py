"""The attempt's directory, which is this process's working directory."""

# ruff: noqa: SIM105

import fcntl
import os

READ_SIZE = 262_144


def take_lock(name: str) -> int | None:
    """Holds the lock until it is closed or this process ends in any way. None: another
    process holds it.
    """
    # Even a pipe can be locked, so it does not matter what it is; but opening must not wait.
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def mark_started(first: bytes) -> None:
    """From now on the attempt has begun. `first` is what is known of its first process, for as
    long as the system runs.
    """
    fd = os.open("started", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(fd, first)
    except OSError:
        pass  # a full disk: it is known by its environment alone then
    os.close(fd)
    sync_directory()


def sync_directory() -> None:
    fd = os.open(".", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def read_file(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY)
    try:
        whole = b""
        while data := os.read(fd, READ_SIZE):
            whole += data
        return whole
    finally:
        os.close(fd)
