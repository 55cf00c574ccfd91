"""Open files of this process: how many there may be, and how many of them may be connections."""

import resource

ENOUGH = 65_536
"""Descriptors that this process asks for, if the system lets it have so many."""

_OWN = 96
"""Descriptors that the log, the views, the loop and work in threads need."""

_OF_A_JOB = 6
"""Descriptors that a running job needs here: its spool, its bell, its process, and files read."""


def raise_limit() -> int:
    """Raise the soft limit as far as that needs no right, and give it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return ENOUGH if soft == resource.RLIM_INFINITY else soft


def for_connections(limit: int, capacity: int) -> int:
    """How many connections there may be, so that jobs and the log still get their descriptors."""
    return max(16, limit - max(_OWN + _OF_A_JOB * capacity, limit // 8))
