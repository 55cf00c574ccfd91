"""The leaf hash of an event: SHA-256 of a zero byte and its canonical envelope, as RFC 9162 section
2.1.1 hashes the leaves of a tree.

The canonical envelope is the event's own line: one JSON object with the fields in the order of the
wire and the stored bytes unchanged, but without the position. The order of the leaves says which
position an event has (docs/log-format.md).
"""

from hashlib import sha256


def canonical_envelope(stream: str, version: int, type_name: str, state: bytes) -> bytes:
    """The bytes to hash. Stream and type names hold no character that JSON escapes."""
    return (
        b'{"stream":"%s","version":%d,"type":"%s",' % (stream.encode(), version, type_name.encode())
        + state[1:]
    )


def leaf_hash(stream: str, version: int, type_name: str, state: bytes) -> bytes:
    """The 32 bytes that are stored beside the event."""
    return sha256(b"\0" + canonical_envelope(stream, version, type_name, state)).digest()
