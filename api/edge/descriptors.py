"""Descriptors of this process: how many it may open, and how many of them may be connections."""

import resource

ENOUGH = 65_536
"""Descriptors that this process asks for, if the system allows that many."""

_OWN = 96
"""Descriptors that the log, the views, the loop and work in threads need."""

_OF_A_JOB = 6
"""Descriptors that a running job needs here: its spool, its bell, its process, and files read."""


def raise_limit() -> int:
    """Raise the soft limit as far as that needs no privilege. Returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return ENOUGH if soft == resource.RLIM_INFINITY else soft


def for_connections(limit: int, capacity: int) -> int:
    """The number of connections that leaves enough descriptors for jobs and the log."""
    return max(16, limit - max(_OWN + _OF_A_JOB * capacity, limit // 8))
