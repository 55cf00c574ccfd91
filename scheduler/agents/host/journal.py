"""The journal: numbered lines in the channel of that name."""

import json
import os
from datetime import UTC, datetime
from typing import Any, Literal

Direction = Literal["in", "out"]


class Journal:
    """Writes one line at a time, and returns when the channel has all of it.

    Raises OSError (BrokenPipeError) if nobody keeps the channel any more.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._last = 0

    def message(self, direction: Direction, raw: bytes, replay: bool = False) -> int:
        """Write a message: `raw` is one JSON object without a line feed. Returns its number."""
        mark = b'"replay":true,' if replay else b""
        return self._write(b'"dir":"%s",%s"message":%s' % (direction.encode(), mark, raw))

    def note(self, name: str, **fields: Any) -> int:
        """Write a note of the host. Returns its number."""
        return self._write(json.dumps({"note": name, **fields})[1:-1].encode())

    def _write(self, inner: bytes) -> int:
        self._last += 1
        now = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
        line = memoryview(b'{"n":%d,"at":"%s",%s}\n' % (self._last, now.encode(), inner))
        while line:
            line = line[os.write(self._fd, line) :]
        return self._last
