"""Errors of the disk, and which of them are worth waiting for."""

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
"""Errors of the disk that may pass by themselves. After any other, trying again is no use."""
