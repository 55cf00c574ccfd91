"""Locks between processes, which end with everything that worked under them.

A killed server leaves git at work for a moment. Git inherits the lock, so the next server waits
until the work has ended.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path

_AGAIN = 0.02  # seconds; the kernel tells nobody who does not block that a lock is free

HELD: ContextVar[tuple[int, ...]] = ContextVar("HELD", default=())
"""The descriptors of the locks that the running task holds. Every git that it starts inherits them:
a call that was forgotten would go on after a kill without anybody waiting for it.
"""


@asynccontextmanager
async def locked(path: Path) -> AsyncIterator[None]:
    """Hold the lock at `path`, with every git that is started meanwhile. Waits until it is free.
    Raises OSError.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_AGAIN)
        token = HELD.set((*HELD.get(), descriptor))
        try:
            yield
        finally:
            HELD.reset(token)
    finally:
        os.close(descriptor)
