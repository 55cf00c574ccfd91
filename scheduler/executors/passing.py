"""Errors of the disk that may pass."""

import errno

PASSING = frozenset(
    (
        errno.EAGAIN,
        errno.EBUSY,
        errno.EDQUOT,
        errno.EINTR,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.EROFS,
    )
)
"""Errors of the disk that may pass by themselves. After other errors, trying again does not
help.
"""
