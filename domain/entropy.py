"""Random bytes of the system, fetched many at a time.

Each call of `os.urandom` releases the interpreter's lock, and in a busy process waits some 80 µs to
get it back: longer than all other work for an id. Use these bytes for identifiers; for secrets use
the `secrets` module.
"""

import os
import threading

_FETCH = 8_192
_lock = threading.Lock()
_held = b""
_used = 0


def random_bytes(count: int) -> bytes:
    """`count` random bytes, never returned twice. Thread-safe. A forked process does not share
    them.
    """
    global _held, _used
    with _lock:
        if _used + count > len(_held):
            _held, _used = os.urandom(max(_FETCH, count)), 0
        start, _used = _used, _used + count
        return _held[start:_used]


def uuid4() -> str:
    """A random UUID (RFC 9562 section 5.4) for things that people name: its first few characters
    tell it from others. Those of a time-ordered UUID would not.
    """
    raw = bytearray(random_bytes(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _forget() -> None:
    global _held, _used, _lock
    _held, _used, _lock = b"", 0, threading.Lock()


os.register_at_fork(after_in_child=_forget)
