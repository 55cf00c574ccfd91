"""Opens files that a job may have replaced by something else."""

import errno
import os
import stat

from scheduler.executors.shim.directory import READ_SIZE

_FLAGS = os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC


class NotRegular(OSError):
    """A link, a pipe, a directory or another thing stands where a file should be."""

    def __init__(self, name: str) -> None:
        super().__init__(errno.EINVAL, f"{os.path.basename(name)} is not a regular file")


def open_regular(name: str, flags: int = os.O_RDONLY, dir_fd: int | None = None) -> int:
    """The open file; made with mode 0600 if `flags` say so. It never waits, as opening a pipe or a
    leased file would, and follows no link. Raises NotRegular, OSError.
    """
    try:
        # Cut only once it is known to be a file.
        fd = os.open(name, flags & ~os.O_TRUNC | _FLAGS, 0o600, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise NotRegular(name) from None
        raise
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise NotRegular(name)
        if flags & os.O_TRUNC:
            os.ftruncate(fd, 0)
    except OSError:
        os.close(fd)
        raise
    return fd


def read_regular(name: str, most: int) -> bytes:
    """The bytes of a file. Raises NotRegular, OSError; EFBIG if they are more than `most`."""
    fd = open_regular(name)
    try:
        whole = b""
        while len(whole) <= most and (data := os.read(fd, READ_SIZE)):
            whole += data
        if len(whole) > most:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return whole
    finally:
        os.close(fd)
