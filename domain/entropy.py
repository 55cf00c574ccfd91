"""Random bytes of the system, fetched many at a time.

Each call of `os.urandom` gives up the interpreter's lock, and in a busy process waits some 80 µs to
get it back: more than all else that making an id costs. For identifiers; secrets are made by the
`secrets` module.
"""

import os
import threading

_FETCH = 8_192
_lock = threading.Lock()
_held = b""
_used = 0


def random_bytes(count: int) -> bytes:
    """`count` (at most 8,192) bytes that no other call is given. Thread-safe;
    forks share nothing.
    """
    global _held, _used
    with _lock:
        if _used + count > len(_held):
            _held, _used = os.urandom(_FETCH), 0
        start, _used = _used, _used + count
        return _held[start:_used]


def _forget() -> None:
    global _held, _used, _lock
    _held, _used, _lock = b"", 0, threading.Lock()


os.register_at_fork(after_in_child=_forget)
